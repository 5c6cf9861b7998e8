//! What direct uploads have come to, in numbers since the start of the process.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters; see [`DirectSettings::stats`](crate::DirectSettings::stats).
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct DirectStats {
    /// Uploads that were opened.
    pub opened: AtomicU64,
    /// Those that a policy, a limit or a hook refused before they were opened.
    pub refused: AtomicU64,
    /// Complete ones.
    pub completed: AtomicU64,
    /// Those that ended because of what arrived, or because a hook refused it.
    pub failed: AtomicU64,
    /// Those that their clients, or the application, did not want any more.
    pub cancelled: AtomicU64,
    /// Those that were given up since nothing came.
    pub expired: AtomicU64,
    /// Signed URLs of parts.
    pub parts: AtomicU64,
    /// Rounds of the sweeper.
    pub sweeps: AtomicU64,
    /// Looks of the sweeper at an upload.
    pub looks: AtomicU64,
    /// Those at which nothing could be found out.
    pub unknown: AtomicU64,
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
