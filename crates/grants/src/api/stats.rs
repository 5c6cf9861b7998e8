use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of this process, updated without ordering.
#[derive(Debug, Default)]
pub struct ApiStats {
    /// Grants created.
    pub granted: AtomicU64,
    /// Repeated requests for a grant.
    pub repeated: AtomicU64,
    /// Requests for a grant that were rejected.
    pub rejected: AtomicU64,
    /// Requests for a grant that failed because of the server.
    pub failed: AtomicU64,
    /// Uploads cancelled.
    pub cancelled: AtomicU64,
    /// Event streams open now.
    pub event_streams: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
