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

pub(super) const GROUPS: &[Group] = &[
    group("Core: OPTIONS", &[], options::CHECKS),
    group("Core: Tus-Resumable", CREATION, version::CHECKS),
    group("Core: HEAD", CREATION, head::CHECKS),
    group("Core: PATCH", CREATION, patch::CHECKS),
    group("Core: Upload-Offset", CREATION, offset::CHECKS),
    group("Core: interruptions", CREATION, interruption::CHECKS),
    group("Core: concurrency", CREATION, concurrency::CHECKS),
    group(
        "Core: X-HTTP-Method-Override",
        CREATION,
        method_override::CHECKS,
    ),
    group("Creation", CREATION, creation::CHECKS),
    group("Creation: Upload-Metadata", CREATION, metadata::CHECKS),
    group(
        "Creation With Upload",
        &[Capability::Creation, Capability::CreationWithUpload],
        with_upload::CHECKS,
    ),
    group(
        "Creation Defer Length",
        &[Capability::Creation, Capability::CreationDeferLength],
        defer_length::CHECKS,
    ),
    group(
        "Expiration",
        &[Capability::Creation, Capability::Expiration],
        expiration::CHECKS,
    ),
    group(
        "Checksum",
        &[Capability::Creation, Capability::Checksum],
        checksum::CHECKS,
    ),
    group(
        "Checksum Trailer",
        &[Capability::Creation, Capability::ChecksumTrailer],
        checksum_trailer::CHECKS,
    ),
    group(
        "Termination",
        &[Capability::Creation, Capability::Termination],
        termination::CHECKS,
    ),
    group(
        "Concatenation",
        &[Capability::Creation, Capability::Concatenation],
        concatenation::CHECKS,
    ),
    group(
        "Concatenation Unfinished",
        &[
            Capability::Creation,
            Capability::Concatenation,
            Capability::ConcatenationUnfinished,
        ],
        concatenation_unfinished::CHECKS,
    ),
    group("HTTP, downloads and CORS", CREATION, http::CHECKS),
    Group {
        is_chaos: true,
        ..group("Chaos", CREATION, chaos::CHECKS)
    },
];

const fn group(
    title: &'static str,
    needs: &'static [Capability],
    checks: &'static [Check],
) -> Group {
    Group {
        protocol: Protocol::Tus,
        title,
        needs,
        is_chaos: false,
        checks,
    }
}
