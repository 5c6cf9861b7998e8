//! Uploads that go straight to the bucket.

use super::Page;
use crate::app::direct::Counts;

/// What became of them, and what looking after them takes.
pub(super) fn direct(page: &mut Page, counts: &Counts) {
    for (name, help, value) in [
        (
            "landfall_direct_opened_total",
            "Direct uploads that were opened.",
            counts.opened,
        ),
        (
            "landfall_direct_rejected_total",
            "Direct uploads that a rule, a limit or a hook refused.",
            counts.rejected,
        ),
        (
            "landfall_direct_completed_total",
            "Direct uploads that are complete.",
            counts.completed,
        ),
        (
            "landfall_direct_failed_total",
            "Direct uploads that ended because of what arrived, or because a hook refused it.",
            counts.failed,
        ),
        (
            "landfall_direct_cancelled_total",
            "Direct uploads that were cancelled.",
            counts.cancelled,
        ),
        (
            "landfall_direct_expired_total",
            "Direct uploads that were given up since nothing came.",
            counts.expired,
        ),
        (
            "landfall_direct_parts_signed_total",
            "Signed URLs of parts.",
            counts.parts,
        ),
        (
            "landfall_direct_sweeps_total",
            "Rounds of looks at direct uploads.",
            counts.sweeps,
        ),
        (
            "landfall_direct_checks_total",
            "Looks at a direct upload in the bucket.",
            counts.checks,
        ),
        (
            "landfall_direct_check_failures_total",
            "Such looks at which the bucket failed.",
            counts.check_failures,
        ),
    ] {
        page.single(name, "counter", help, value);
    }
}
