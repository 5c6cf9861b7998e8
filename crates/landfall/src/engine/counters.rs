//! Counters of the engine.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the handler was created. All but `reported_orphans` are monotonic.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) created: AtomicU64,
    pub(crate) finished: AtomicU64,
    pub(crate) terminated: AtomicU64,
    pub(crate) expired: AtomicU64,
    /// Orphans that the last sweep reported and kept.
    pub(crate) reported_orphans: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) takeovers: AtomicU64,
    /// Transfers of silent or slow clients that were evicted.
    pub(crate) evictions: AtomicU64,
    pub(crate) checksum_mismatches: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

pub(crate) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
