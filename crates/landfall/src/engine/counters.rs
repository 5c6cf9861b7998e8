//! What happened so far, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers since the handler was built; they only grow, except for what the last sweep found. Read them with [`Counters::get`]'s
/// snapshots for metrics.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) created: AtomicU64,
    pub(crate) finished: AtomicU64,
    pub(crate) terminated: AtomicU64,
    pub(crate) expired: AtomicU64,
    /// What the last sweep found to belong to no upload and left where it is.
    pub(crate) reported_orphans: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) takeovers: AtomicU64,
    /// Transfers of silent clients that ended so that others could start.
    pub(crate) evictions: AtomicU64,
    pub(crate) checksum_mismatches: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

pub(crate) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
