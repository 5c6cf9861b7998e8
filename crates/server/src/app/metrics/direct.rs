//! Metrics of direct uploads.

use std::sync::atomic::Ordering::Relaxed;

use landfall_direct::DirectStats;

use super::Page;

/// Adds the metrics of direct uploads.
pub(super) fn direct(page: &mut Page, stats: &DirectStats) {
    for (name, help, value) in [
        (
            "landfall_direct_opened_total",
            "Direct uploads created.",
            &stats.opened,
        ),
        (
            "landfall_direct_rejected_total",
            "Direct uploads rejected by a policy, a limit or a hook.",
            &stats.rejected,
        ),
        (
            "landfall_direct_completed_total",
            "Direct uploads completed.",
            &stats.completed,
        ),
        (
            "landfall_direct_failed_total",
            "Direct uploads that failed because of their object or a hook.",
            &stats.failed,
        ),
        (
            "landfall_direct_cancelled_total",
            "Direct uploads cancelled.",
            &stats.cancelled,
        ),
        (
            "landfall_direct_expired_total",
            "Direct uploads expired without activity.",
            &stats.expired,
        ),
        (
            "landfall_direct_parts_signed_total",
            "Presigned URLs of parts.",
            &stats.parts,
        ),
        (
            "landfall_direct_sweeps_total",
            "Sweeps of direct uploads.",
            &stats.sweeps,
        ),
        (
            "landfall_direct_checks_total",
            "Checks of direct uploads in the bucket.",
            &stats.checks,
        ),
        (
            "landfall_direct_check_failures_total",
            "Checks that failed because of the bucket.",
            &stats.check_failures,
        ),
    ] {
        page.single(name, "counter", help, value.load(Relaxed));
    }
}
