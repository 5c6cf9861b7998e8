//! Checks of tus 1.0.0.

/// Declares the table `CHECKS` of a file.
///
/// A row is `Level "id", SECTION, "requirement" => function;`, with capabilities in brackets before the requirement,
/// and arguments after the function's name.
macro_rules! checks {
    ($(
        $level:ident $id:literal, $section:expr, $([$($need:ident),+],)?
        $requirement:literal => $run:ident $(($($argument:expr),*))?;
    )*) => {
        pub(super) const CHECKS: &[$crate::check::Check] = &[$(
            $crate::check::Check::new(
                $crate::requirement::Level::$level, $id, $section, $requirement,
                &[$($($crate::requirement::Capability::$need),+)?],
                |context| Box::pin($run(context $($(, $argument)*)?)),
            )
        ),*];
    };
}

mod chaos;
mod checksum;
mod checksum_trailer;
mod concatenation;
mod concatenation_unfinished;
mod concurrency;
mod creation;
mod defer_length;
mod expiration;
mod head;
mod http;
mod interruption;
mod metadata;
mod method_override;
mod offset;
mod options;
mod patch;
mod recovery;
mod termination;
mod version;
mod with_upload;

use crate::check::{Check, Group};
use crate::requirement::{Capability, Protocol};

const CREATION: &[Capability] = &[Capability::Creation];
const WITH_UPLOAD: &[Capability] = &[Capability::Creation, Capability::CreationWithUpload];
const DEFER_LENGTH: &[Capability] = &[Capability::Creation, Capability::CreationDeferLength];
const EXPIRATION: &[Capability] = &[Capability::Creation, Capability::Expiration];
const CHECKSUM: &[Capability] = &[Capability::Creation, Capability::Checksum];
const TRAILER: &[Capability] = &[Capability::Creation, Capability::ChecksumTrailer];
const TERMINATION: &[Capability] = &[Capability::Creation, Capability::Termination];
const CONCATENATION: &[Capability] = &[Capability::Creation, Capability::Concatenation];
const UNFINISHED: &[Capability] = &[
    Capability::Creation,
    Capability::Concatenation,
    Capability::ConcatenationUnfinished,
];

pub(super) const GROUPS: &[Group] = &[
    group("Core: OPTIONS", options::CHECKS).needing(&[]),
    group("Core: Tus-Resumable", version::CHECKS),
    group("Core: HEAD", head::CHECKS),
    group("Core: PATCH", patch::CHECKS),
    group("Core: Upload-Offset", offset::CHECKS),
    group("Core: interruptions", interruption::CHECKS),
    group("Core: concurrency", concurrency::CHECKS),
    group("Core: X-HTTP-Method-Override", method_override::CHECKS),
    group("Creation", creation::CHECKS),
    group("Creation: Upload-Metadata", metadata::CHECKS),
    group("Creation With Upload", with_upload::CHECKS).needing(WITH_UPLOAD),
    group("Creation Defer Length", defer_length::CHECKS).needing(DEFER_LENGTH),
    group("Expiration", expiration::CHECKS).needing(EXPIRATION),
    group("Checksum", checksum::CHECKS).needing(CHECKSUM),
    group("Checksum Trailer", checksum_trailer::CHECKS).needing(TRAILER),
    group("Termination", termination::CHECKS).needing(TERMINATION),
    group("Concatenation", concatenation::CHECKS).needing(CONCATENATION),
    group("Concatenation Unfinished", concatenation_unfinished::CHECKS).needing(UNFINISHED),
    group("HTTP, downloads and CORS", http::CHECKS),
    Group {
        is_chaos: true,
        ..group("Chaos", chaos::CHECKS)
    },
];

const fn group(title: &'static str, checks: &'static [Check]) -> Group {
    Group {
        protocol: Protocol::Tus,
        title,
        needs: CREATION,
        is_chaos: false,
        checks,
    }
}
