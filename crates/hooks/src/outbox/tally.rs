//! Counters, and the capacity of the outbox.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{OutboxError, batch::Size, breaker::Breaker, settings::OutboxSettings};

/// How an outbox stands, for metrics. The database is read every few seconds; on PostgreSQL its
/// counts are those of all nodes together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxStats {
    /// Each route.
    pub routes: Vec<RouteStats>,
    /// Deliveries of all routes that are prepared or pending.
    pub rows: usize,
    /// Deliveries at which creations are refused.
    pub limit: usize,
    /// Bytes of their messages.
    pub bytes: usize,
    /// Bytes at which creations are refused.
    pub max_bytes: usize,
    /// Requests that were refused because the outbox was full.
    pub refused: u64,
    /// Requests that failed because the database was away or slow.
    pub unkept: u64,
    /// Transactions of the writer.
    pub batches: u64,
    /// What they held together: prepared and emitted events, and results of deliveries.
    pub batched: u64,
    /// Transactions that failed and were tried again.
    pub failed_batches: u64,
    /// Commands that the database rejected while it accepted others.
    pub rejected: u64,
    /// Dead letters that were removed for their age.
    pub buried: u64,
}

/// How one route stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteStats {
    /// The transport's name.
    pub name: String,
    /// Prepared events, which may or may not happen.
    pub announced: u64,
    /// Pending events.
    pub waiting: u64,
    /// How long the longest of these has been due.
    pub oldest: Duration,
    /// Dead letters.
    pub dead: u64,
    /// Deliveries that arrived, by this process.
    pub delivered: u64,
    /// Deliveries that failed, by this process.
    pub failed: u64,
    /// Events that became dead letters, by this process.
    pub given_up: u64,
    /// Whether this process counts the receiver as down.
    pub is_down: bool,
    /// How often it has, so far.
    pub opened: u64,
}

/// What the database has for one route.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RouteCounts {
    pub(super) prepared: u64,
    pub(super) pending: u64,
    pub(super) oldest: Duration,
    pub(super) dead: u64,
}

#[derive(Debug, Default)]
pub(super) struct RouteTally {
    pub(super) delivered: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) given_up: AtomicU64,
    counts: Mutex<RouteCounts>,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) routes: Vec<RouteTally>,
    /// What is in the database, nearly: other processes' changes are read every few seconds.
    stored: AtomicSize,
    /// What is about to be written.
    reserved: AtomicSize,
    /// Locked while capacity is reserved.
    reserving: Mutex<()>,
    pub(super) refused: AtomicU64,
    pub(super) unkept: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) batched: AtomicU64,
    pub(super) failed_batches: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) buried: AtomicU64,
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
            let fewer = |there: usize| Some(there.saturating_sub(less));
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

impl Tally {
    pub(super) fn new(routes: usize) -> Self {
        Self {
            routes: (0..routes).map(|_| RouteTally::default()).collect(),
            ..Self::default()
        }
    }

    /// Reserves capacity, with the limits times `share`. Creations with no event of their own need
    /// an outbox that is not full.
    pub(super) fn reserve(
        &self,
        size: Size,
        settings: &OutboxSettings,
        share: usize,
    ) -> Result<(), OutboxError> {
        let _turn = self
            .reserving
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let there = self.total();
        let limit = settings.limit.saturating_mul(share);
        if there.rows >= limit || there.rows.saturating_add(size.rows) > limit {
            let rows = there.rows;
            return Err(OutboxError::Full { rows, limit });
        }
        let limit = settings.max_bytes.saturating_mul(share);
        if there.bytes >= limit || there.bytes.saturating_add(size.bytes) > limit {
            let bytes = there.bytes;
            return Err(OutboxError::FullOfBytes { bytes, limit });
        }
        self.reserved.add(size);
        Ok(())
    }

    /// What is stored and what is reserved.
    fn total(&self) -> Size {
        [self.stored.get(), self.reserved.get()].into_iter().sum()
    }

    /// Returns whether creations are refused.
    pub(super) fn is_full(&self, settings: &OutboxSettings) -> bool {
        let there = self.total();
        there.rows >= settings.limit || there.bytes >= settings.max_bytes
    }

    /// Returns capacity that was reserved, of which so much is stored.
    pub(super) fn release(&self, reserved: Size, stored: Size) {
        self.stored.add(stored);
        self.reserved.subtract(reserved);
    }

    /// Subtracts what was deleted.
    pub(super) fn subtract(&self, size: Size) {
        self.stored.subtract(size);
    }

    /// Sets what is stored, as read from the database.
    pub(super) fn set_stored(&self, size: Size) {
        self.stored.set(size);
    }

    /// Whether capacity is reserved: something is about to be written.
    pub(super) fn is_reserved(&self) -> bool {
        self.reserved.get().rows > 0
    }

    /// Takes over what the database has for each route.
    pub(super) fn set_counts(&self, routes: &[RouteCounts]) {
        for (tally, counts) in self.routes.iter().zip(routes) {
            *tally.counts.lock().unwrap_or_else(PoisonError::into_inner) = *counts;
        }
    }

    pub(super) fn snapshot<'a>(
        &self,
        settings: &OutboxSettings,
        routes: impl Iterator<Item = (&'a str, &'a Breaker)>,
    ) -> OutboxStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let route = |(tally, (name, breaker)): (&RouteTally, (&str, &Breaker))| {
            let counts = *tally.counts.lock().unwrap_or_else(PoisonError::into_inner);
            RouteStats {
                name: name.to_owned(),
                announced: counts.prepared,
                waiting: counts.pending,
                oldest: counts.oldest,
                dead: counts.dead,
                delivered: get(&tally.delivered),
                failed: get(&tally.failed),
                given_up: get(&tally.given_up),
                is_down: breaker.is_down(),
                opened: breaker.opened(),
            }
        };
        let stored = self.stored.get();
        OutboxStats {
            routes: self.routes.iter().zip(routes).map(route).collect(),
            rows: stored.rows,
            limit: settings.limit,
            bytes: stored.bytes,
            max_bytes: settings.max_bytes,
            refused: get(&self.refused),
            unkept: get(&self.unkept),
            batches: get(&self.batches),
            batched: get(&self.batched),
            failed_batches: get(&self.failed_batches),
            rejected: get(&self.rejected),
            buried: get(&self.buried),
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
        (settings.limit, settings.max_bytes) = (3, 100);
        let tally = Tally::new(0);
        let rows = |rows| tally.reserve(size(rows, rows), &settings, 1);
        let is_full = |reserved| match reserved {
            Err(OutboxError::Full { rows, limit: 3 }) => rows,
            other => panic!("{other:?}"),
        };
        rows(2).unwrap();
        assert_eq!(is_full(rows(2)), 2);
        assert!(!tally.is_full(&settings));
        rows(1).unwrap();
        assert!(tally.is_full(&settings));
        assert_eq!(is_full(rows(0)), 3, "full is full");
        tally.reserve(size(1, 1), &settings, 2).unwrap();
        tally.release(size(3, 3), size(3, 3));
        tally.release(size(1, 1), Size::default());
        assert_eq!(is_full(rows(1)), 3);
        tally.subtract(size(2, 2));
        rows(2).unwrap();
        tally.subtract(size(9, 9));
        assert_eq!(tally.stored.get(), Size::default());
    }

    #[test]
    fn bytes_are_limited_like_rows() {
        let mut settings = OutboxSettings::new(Database::Sqlite("x".into()));
        settings.max_bytes = 100;
        let tally = Tally::new(0);
        tally.reserve(size(1, 60), &settings, 1).unwrap();
        let full = tally.reserve(size(1, 60), &settings, 1).unwrap_err();
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
        tally.reserve(size(1, 60), &settings, 2).unwrap();
        assert!(tally.is_full(&settings));
    }
}
