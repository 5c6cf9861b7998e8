//! What is counted.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// How an outbox stands, for metrics. What is in the database is counted every few seconds; on
/// PostgreSQL it is what all nodes have there together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxStats {
    /// Each route.
    pub routes: Vec<RouteStats>,
    /// Rows in the database, of all routes.
    pub rows: usize,
    /// Rows at which creations are refused.
    pub limit: usize,
    /// Announcements that were refused because the outbox was full.
    pub refused: u64,
    /// Announcements that failed because the database was away or slow.
    pub unkept: u64,
    /// Transactions of the writer.
    pub batches: u64,
    /// What they held together: announcements, events, and results of deliveries.
    pub batched: u64,
    /// Transactions that failed and were tried again.
    pub failed_batches: u64,
    /// Dead events that were removed, for their age or because there were too many.
    pub buried: u64,
}

/// How one route stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteStats {
    /// The transport's name.
    pub name: String,
    /// Events announced, which may or may not happen.
    pub announced: u64,
    /// Events told that wait for their delivery.
    pub waiting: u64,
    /// How long the longest of these has been due.
    pub oldest: Duration,
    /// Events given up on.
    pub dead: u64,
    /// Deliveries that arrived, by this process.
    pub delivered: u64,
    /// Deliveries that failed, by this process.
    pub failed: u64,
    /// Events given up on, by this process.
    pub given_up: u64,
}

/// What was found in the database for one route.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Found {
    pub(super) announced: u64,
    pub(super) waiting: u64,
    pub(super) oldest: Duration,
    pub(super) dead: u64,
}

#[derive(Debug, Default)]
pub(super) struct RouteTally {
    pub(super) delivered: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) given_up: AtomicU64,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) routes: Vec<RouteTally>,
    /// Rows in the database, nearly: those of other processes are counted every minute.
    rows: AtomicUsize,
    /// Rows that are about to be written.
    coming: AtomicUsize,
    pub(super) refused: AtomicU64,
    pub(super) unkept: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) batched: AtomicU64,
    pub(super) failed_batches: AtomicU64,
    pub(super) buried: AtomicU64,
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

    /// Makes room for so many rows, or says how many there are.
    pub(super) fn reserve(&self, rows: usize, limit: usize) -> Result<(), usize> {
        let there = self.rows.load(Ordering::Relaxed);
        let room = |coming: usize| {
            let wanted = coming.saturating_add(rows);
            // Nothing more comes when it is full, even if this one brings no row.
            let is_full = there.saturating_add(coming) >= limit;
            (!is_full && there.saturating_add(wanted) <= limit).then_some(wanted)
        };
        let made = self
            .coming
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        made.map(drop)
            .map_err(|coming| there.saturating_add(coming))
    }

    /// Returns whether no more rows may come.
    pub(super) fn is_full(&self, limit: usize) -> bool {
        let coming = self.coming.load(Ordering::Relaxed);
        self.rows().saturating_add(coming) >= limit
    }

    /// So many that there was room for are there, or won't come.
    pub(super) fn came(&self, reserved: usize, rows: usize) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.coming.fetch_sub(reserved, Ordering::Relaxed);
    }

    /// So many are there that nobody made room for.
    pub(super) fn came_anyway(&self, rows: usize) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// So many are gone.
    pub(super) fn went(&self, rows: u64) {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        let fewer = |there: usize| Some(there.saturating_sub(rows));
        let _ = self
            .rows
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
    }

    /// So many are there, whatever was thought.
    pub(super) fn counted(&self, rows: usize) {
        self.rows.store(rows, Ordering::Relaxed);
    }

    /// Takes what was counted in the database.
    pub(super) fn found(&self, routes: &[Found]) {
        for (tally, found) in self.routes.iter().zip(routes) {
            *tally.found.lock().unwrap_or_else(PoisonError::into_inner) = *found;
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    pub(super) fn snapshot<'a>(
        &self,
        limit: usize,
        names: impl Iterator<Item = &'a str>,
    ) -> OutboxStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let route = |(tally, name): (&RouteTally, &str)| {
            let found = *tally.found.lock().unwrap_or_else(PoisonError::into_inner);
            RouteStats {
                name: name.to_owned(),
                announced: found.announced,
                waiting: found.waiting,
                oldest: found.oldest,
                dead: found.dead,
                delivered: get(&tally.delivered),
                failed: get(&tally.failed),
                given_up: get(&tally.given_up),
            }
        };
        OutboxStats {
            routes: self.routes.iter().zip(names).map(route).collect(),
            rows: self.rows(),
            limit,
            refused: get(&self.refused),
            unkept: get(&self.unkept),
            batches: get(&self.batches),
            batched: get(&self.batched),
            failed_batches: get(&self.failed_batches),
            buried: get(&self.buried),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_up_to_the_limit() {
        let tally = Tally::new(0);
        assert_eq!(tally.reserve(2, 3), Ok(()));
        assert_eq!(tally.reserve(2, 3), Err(2));
        assert_eq!(tally.reserve(1, 3), Ok(()));
        assert_eq!(tally.reserve(0, 3), Err(3), "full is full");
        assert_eq!(tally.reserve(1, 6), Ok(()), "another limit, more room");
        tally.came(3, 3);
        tally.came(1, 0);
        assert_eq!((tally.rows(), tally.reserve(1, 3)), (3, Err(3)));
        tally.went(2);
        assert_eq!(tally.reserve(2, 3), Ok(()));
        tally.went(9);
        assert_eq!(tally.rows(), 0);
    }
}
