use std::sync::atomic::Ordering::Relaxed;

use landfall_direct::DirectStats;

use super::{Page, metrics};

pub(super) fn direct(page: &mut Page, stats: &DirectStats) {
    metrics! { page;
        counter landfall_direct_opened_total = stats.opened.load(Relaxed),
            "Direct uploads created.";
        counter landfall_direct_rejected_total = stats.rejected.load(Relaxed),
            "Direct uploads rejected by a policy, a limit or a hook.";
        counter landfall_direct_completed_total = stats.completed.load(Relaxed),
            "Direct uploads completed.";
        counter landfall_direct_failed_total = stats.failed.load(Relaxed),
            "Direct uploads that failed because of their object or a hook.";
        counter landfall_direct_cancelled_total = stats.cancelled.load(Relaxed),
            "Direct uploads cancelled.";
        counter landfall_direct_expired_total = stats.expired.load(Relaxed),
            "Direct uploads expired without activity.";
        counter landfall_direct_parts_signed_total = stats.parts.load(Relaxed),
            "Presigned URLs of parts.";
        counter landfall_direct_sweeps_total = stats.sweeps.load(Relaxed),
            "Sweeps of direct uploads.";
        counter landfall_direct_checks_total = stats.checks.load(Relaxed),
            "Checks of direct uploads in the bucket.";
        counter landfall_direct_check_failures_total = stats.check_failures.load(Relaxed),
            "Checks that failed because of the bucket.";
    }
}
