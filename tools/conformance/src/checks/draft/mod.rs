//! Checks of the IETF draft "Resumable Uploads for HTTP".
//!
//! `requests` has the requests that they share. Sections are those of revision 12. Checks that only some interop versions require name these versions. Contents
//! respect the limits that the server reports.

mod append;
mod both;
mod cancellation;
mod completion;
mod concurrency;
mod creation;
mod digests;
mod discovery;
mod interim;
mod interruption;
mod length;
mod limits;
mod offsets;
mod problems;
mod requests;
mod retrieval;
mod syntax;
mod versions;

use self::requests::Draft;
use crate::check::{Check, Group};
use crate::requirement::Protocol;

pub(super) const GROUPS: &[Group] = &[
    group("Discovery", discovery::CHECKS),
    group("Interop versions", versions::CHECKS),
    group("Upload creation", creation::CHECKS),
    group("Structured fields", syntax::CHECKS),
    group("Interim responses", interim::CHECKS),
    group("Offset retrieval", retrieval::CHECKS),
    group("Upload append", append::CHECKS),
    group("Upload append: offsets", offsets::CHECKS),
    group("Completeness", completion::CHECKS),
    group("Length", length::CHECKS),
    group("Limits", limits::CHECKS),
    group("Upload cancellation", cancellation::CHECKS),
    group("Interruption", interruption::CHECKS),
    group("Concurrency", concurrency::CHECKS),
    group("Problem types", problems::CHECKS),
    group("Digests", digests::CHECKS),
    group("Two protocols", both::CHECKS),
];

const fn group(title: &'static str, checks: &'static [Check]) -> Group {
    Group {
        protocol: Protocol::Draft,
        title,
        needs: &[],
        is_chaos: false,
        checks,
    }
}

const OFFSET: &str = "4.1.1 Offset";
const COMPLETENESS: &str = "4.1.2 Completeness";
const LENGTH: &str = "4.1.3 Length";
const LIMITS: &str = "4.1.4 Limits";
const CREATION: &str = "4.2 Upload Creation";
const RETRIEVAL: &str = "4.3 Offset Retrieval";
const APPEND: &str = "4.4 Upload Append";
const CANCELLATION: &str = "4.5 Upload Cancellation";
const CONCURRENCY: &str = "4.6 Concurrency";
const STATUS_104: &str = "5 Status Code 104";
const PROBLEMS: &str = "7 Problem Types";
const TRANSFER_CODINGS: &str = "9 Transfer Codings";
const SECURITY: &str = "13 Security Considerations";
const VERSIONS: &str = "Appendix B Draft Version Identification";
const STRUCTURED_FIELDS: &str = "RFC 9651, 4.2 Parsing Structured Fields";

/// Declares the table `CHECKS` of a file.
///
/// A row is `Level "id", SECTION, "requirement" => function;`, with the interop versions in brackets before the
/// requirement if not all have it, and arguments after the function's name.
macro_rules! draft_checks {
    ($(
        $level:ident $id:literal, $section:expr, $([$versions:expr],)?
        $requirement:literal => $run:ident $(($($argument:expr),*))?;
    )*) => {
        pub(super) const CHECKS: &[$crate::check::Check] = &[$(
            $crate::check::Check::new(
                $crate::requirement::Level::$level, $id, $section, $requirement, &[],
                |context| Box::pin(async move {
                    let draft = $crate::checks::draft::Draft::new(context).await?;
                    $(draft.needs_version($versions)?;)?
                    $run(&draft $($(, $argument)*)?).await
                }),
            )
        ),*];
    };
}
use draft_checks;
