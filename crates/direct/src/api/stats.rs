//! What the API did, in numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since the process began. Plain numbers without order between them.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ApiStats {
    /// Uploads that were opened, or found again as they were asked for a second time.
    pub opened: AtomicU64,
    /// URLs of parts that were signed.
    pub signed_parts: AtomicU64,
    /// Requests of Uppy's signer mode that were signed.
    pub signed_requests: AtomicU64,
    /// Temporary credentials that were handed out.
    pub credentials: AtomicU64,
    /// Clients that were told that their upload is complete.
    pub completed: AtomicU64,
    /// Uploads that their clients dropped.
    pub cancelled: AtomicU64,
    /// Objects that the bucket told of.
    pub notified: AtomicU64,
    /// Requests that were refused, for whatever reason of the client's.
    pub refused: AtomicU64,
    /// Requests that failed for a reason of ours.
    pub failed: AtomicU64,
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// Counts several.
pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Relaxed);
}
