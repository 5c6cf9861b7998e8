//! Counters, and the capacity of the outbox.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use super::{OutboxError, batch::Size, breaker::Breaker, settings::OutboxSettings};

/// Counters of an outbox, for metrics.
///
/// The database is read every few seconds; on PostgreSQL its counts include all nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxStats {
    /// The routes.
    pub routes: Vec<RouteStats>,
    /// Prepared and pending deliveries of all routes.
    pub queued: usize,
    /// The number of deliveries at which creations are rejected.
    pub max_queued: usize,
    /// Bytes of their messages.
    pub bytes: usize,
    /// The bytes at which creations are rejected.
    pub max_bytes: usize,
    /// Requests rejected because the outbox was full.
    pub rejected_requests: u64,
    /// Requests that failed because the database was unavailable or slow.
    pub persist_failures: u64,
    /// Transactions of the writer.
    pub batches: u64,
    /// Events and delivery results in these transactions.
    pub batched: u64,
    /// Transactions that failed and were retried.
    pub failed_batches: u64,
    /// Commands that the database rejected while it accepted others.
    pub rejected_commands: u64,
    /// Dead letters removed after their retention.
    pub dead_purged: u64,
}

/// Counters of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteStats {
    /// The transport's name.
    pub name: String,
    /// Prepared events.
    pub prepared: u64,
    /// Pending events.
    pub pending: u64,
    /// The time for which the oldest pending event has been due.
    pub oldest: Duration,
    /// Dead letters.
    pub dead: u64,
    /// Successful deliveries of this process.
    pub delivered: u64,
    /// Failed deliveries of this process.
    pub failed: u64,
    /// Deliveries of this process that became dead letters.
    pub dead_lettered: u64,
    /// True if this process considers the receiver down.
    pub is_down: bool,
    /// The number of times this process has considered it down.
    pub opened: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RouteCounts {
    pub(super) prepared: u64,
    pub(super) pending: u64,
    pub(super) oldest: Duration,
    pub(super) dead: u64,
}

#[derive(Debug, Default)]
pub(super) struct RouteCounters {
    pub(super) delivered: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) dead_lettered: AtomicU64,
    counts: Mutex<RouteCounts>,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) routes: Vec<RouteCounters>,
    /// The size of all rows, approximately: changes of other nodes are read every few seconds.
    stored: AtomicSize,
    /// Capacity reserved for rows to be written.
    reserved: AtomicSize,
    reserving: Mutex<()>,
    pub(super) rejected_requests: AtomicU64,
    pub(super) persist_failures: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) batched: AtomicU64,
    pub(super) failed_batches: AtomicU64,
    pub(super) rejected_commands: AtomicU64,
    pub(super) dead_purged: AtomicU64,
}

#[derive(Debug, Default)]
struct AtomicSize {
    rows: AtomicUsize,
    bytes: AtomicUsize,
}

impl AtomicSize {
    fn get(&self) -> Size {
        Size {
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    fn add(&self, size: Size) {
        self.rows.fetch_add(size.rows, Ordering::Relaxed);
        self.bytes.fetch_add(size.bytes, Ordering::Relaxed);
    }

    fn subtract(&self, size: Size) {
        for (number, less) in [(&self.rows, size.rows), (&self.bytes, size.bytes)] {
            let fewer = |count: usize| Some(count.saturating_sub(less));
            let _ = number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        }
    }

    fn set(&self, size: Size) {
        self.rows.store(size.rows, Ordering::Relaxed);
        self.bytes.store(size.bytes, Ordering::Relaxed);
    }
}

pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn new(routes: usize) -> Self {
        Self {
            routes: (0..routes).map(|_| RouteCounters::default()).collect(),
            ..Self::default()
        }
    }

    /// Reserves capacity within `factor` times the limits.
    ///
    /// A creation needs capacity even if it stores no event.
    pub(super) fn reserve(
        &self,
        size: Size,
        settings: &OutboxSettings,
        factor: usize,
    ) -> Result<(), OutboxError> {
        let _guard = self.reserving.lock();
        let total = self.total();
        let limit = settings.max_queued.saturating_mul(factor);
        if total.rows >= limit || total.rows.saturating_add(size.rows) > limit {
            let rows = total.rows;
            return Err(OutboxError::Full { rows, limit });
        }
        let limit = settings.max_bytes.saturating_mul(factor);
        if total.bytes >= limit || total.bytes.saturating_add(size.bytes) > limit {
            let bytes = total.bytes;
            return Err(OutboxError::FullOfBytes { bytes, limit });
        }
        self.reserved.add(size);
        Ok(())
    }

    fn total(&self) -> Size {
        [self.stored.get(), self.reserved.get()].into_iter().sum()
    }

    pub(super) fn is_full(&self, settings: &OutboxSettings) -> bool {
        let total = self.total();
        total.rows >= settings.max_queued || total.bytes >= settings.max_bytes
    }

    /// Releases reserved capacity and counts the stored part of it.
    pub(super) fn release(&self, reserved: Size, stored: Size) {
        self.stored.add(stored);
        self.reserved.subtract(reserved);
    }

    pub(super) fn subtract(&self, size: Size) {
        self.stored.subtract(size);
    }

    /// Sets the size of all rows, as read from the database.
    pub(super) fn set_stored(&self, size: Size) {
        self.stored.set(size);
    }

    /// Returns whether capacity is reserved, that is, rows are about to be written.
    pub(super) fn is_reserved(&self) -> bool {
        self.reserved.get().rows > 0
    }

    pub(super) fn set_counts(&self, routes: &[RouteCounts]) {
        for (counters, counts) in self.routes.iter().zip(routes) {
            *counters.counts.lock() = *counts;
        }
    }

    pub(super) fn snapshot<'a>(
        &self,
        settings: &OutboxSettings,
        routes: impl Iterator<Item = (&'a str, &'a Breaker)>,
    ) -> OutboxStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let route = |(counters, (name, breaker)): (&RouteCounters, (&str, &Breaker))| {
            let counts = *counters.counts.lock();
            RouteStats {
                name: name.to_owned(),
                prepared: counts.prepared,
                pending: counts.pending,
                oldest: counts.oldest,
                dead: counts.dead,
                delivered: get(&counters.delivered),
                failed: get(&counters.failed),
                dead_lettered: get(&counters.dead_lettered),
                is_down: breaker.is_down(),
                opened: breaker.opened(),
            }
        };
        let stored = self.stored.get();
        OutboxStats {
            routes: self.routes.iter().zip(routes).map(route).collect(),
            queued: stored.rows,
            max_queued: settings.max_queued,
            bytes: stored.bytes,
            max_bytes: settings.max_bytes,
            rejected_requests: get(&self.rejected_requests),
            persist_failures: get(&self.persist_failures),
            batches: get(&self.batches),
            batched: get(&self.batched),
            failed_batches: get(&self.failed_batches),
            rejected_commands: get(&self.rejected_commands),
            dead_purged: get(&self.dead_purged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::Database;

    fn size(rows: usize, bytes: usize) -> Size {
        Size { rows, bytes }
    }

    #[test]
    fn capacity_is_reserved_up_to_the_limits() {
        let mut settings = OutboxSettings::new(Database::Sqlite("x".into()));
        (settings.max_queued, settings.max_bytes) = (3, 100);
        let counters = Counters::new(0);
        let rows = |rows| counters.reserve(size(rows, rows), &settings, 1);
        let is_full = |reserved| match reserved {
            Err(OutboxError::Full { rows, limit: 3 }) => rows,
            other => panic!("{other:?}"),
        };
        rows(2).unwrap();
        assert_eq!(is_full(rows(2)), 2);
        assert!(!counters.is_full(&settings));
        rows(1).unwrap();
        assert!(counters.is_full(&settings));
        assert_eq!(is_full(rows(0)), 3, "full is full");
        counters.reserve(size(1, 1), &settings, 2).unwrap();
        counters.release(size(3, 3), size(3, 3));
        counters.release(size(1, 1), Size::default());
        assert_eq!(is_full(rows(1)), 3);
        counters.subtract(size(2, 2));
        rows(2).unwrap();
        counters.subtract(size(9, 9));
        assert_eq!(counters.stored.get(), Size::default());
    }

    #[test]
    fn bytes_are_limited_like_rows() {
        let mut settings = OutboxSettings::new(Database::Sqlite("x".into()));
        settings.max_bytes = 100;
        let counters = Counters::new(0);
        counters.reserve(size(1, 60), &settings, 1).unwrap();
        let full = counters.reserve(size(1, 60), &settings, 1).unwrap_err();
        assert!(
            matches!(
                full,
                OutboxError::FullOfBytes {
                    bytes: 60,
                    limit: 100
                }
            ),
            "{full}"
        );
        counters.reserve(size(1, 60), &settings, 2).unwrap();
        assert!(counters.is_full(&settings));
    }
}
