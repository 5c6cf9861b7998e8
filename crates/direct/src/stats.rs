use std::sync::atomic::{AtomicU64, Ordering};

/// Counters; see [`DirectSettings::stats`](crate::DirectSettings::stats).
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct DirectStats {
    /// Uploads that were created.
    pub opened: AtomicU64,
    /// Uploads that a policy, a limit or a hook rejected.
    pub rejected: AtomicU64,
    /// Uploads that were completed.
    pub completed: AtomicU64,
    /// Uploads that ended because the object was invalid, or a completion hook denied it.
    pub failed: AtomicU64,
    /// Uploads that the client or the application cancelled.
    pub cancelled: AtomicU64,
    /// Uploads that expired without activity.
    pub expired: AtomicU64,
    /// Presigned URLs of parts.
    pub parts: AtomicU64,
    /// Passes of the sweeper.
    pub sweeps: AtomicU64,
    /// Checks of the sweeper.
    pub checks: AtomicU64,
    /// Checks that failed.
    pub check_failures: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
