//! Checks whether the service honors conditional writes.

use landfall_s3::lease::probe_conditional_writes;

use super::{Doctor, Finding};
use crate::{diagnosis::error_line, settings::LeaseKind};

/// Leases in the bucket require both conditions, and direct uploads that are written once the first.
pub(super) async fn run(doctor: &mut Doctor<'_>) {
    const CHECK: &str = "conditional writes";
    let prefix = doctor.prefix;
    let honored = probe_conditional_writes(&doctor.client, doctor.bucket, prefix).await;
    let needed = matches!(doctor.settings.leases.kind, LeaseKind::Store);
    let (works, text) = match honored {
        Ok(honored) => {
            let word = |honored| if honored { "works" } else { "is ignored" };
            let text = format!(
                "If-None-Match {}, If-Match {}",
                word(honored.if_absent),
                word(honored.if_match)
            );
            (honored.all(), text)
        }
        Err(error) => (false, error_line(&error)),
    };
    doctor.report(match (works, needed) {
        (true, _) => {
            Finding::ok(CHECK, text).advise("leases can be stored in the bucket (--lease store)")
        }
        (false, true) => Finding::fail(CHECK, text).advise(
            "--lease store cannot work here: use --lease redis://… or --lease postgres://…, or a \
             single node with --lease memory",
        ),
        (false, false) => Finding::info(CHECK, text).advise(
            "several servers on this bucket need --lease redis://… or --lease postgres://…",
        ),
    });
}
