//! What the API did, in numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since the process began. Plain numbers without order between them.
#[derive(Debug, Default)]
pub struct ApiStats {
    /// Grants that were given.
    pub granted: AtomicU64,
    /// Requests for a grant that had been given before.
    pub repeated: AtomicU64,
    /// Requests for a grant that were refused, for whatever reason of the caller's.
    pub refused: AtomicU64,
    /// Requests for a grant that failed for a reason of ours.
    pub failed: AtomicU64,
    /// Uploads that were cancelled.
    pub cancelled: AtomicU64,
    /// How many listen now.
    pub listening: AtomicU64,
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
