//! Counters of the outbox, and the check of its limits before an event is stored.
//!
//! Capacity is reserved before a command is sent to the writer, and released when it is stored or has failed. Rows of
//! other nodes are read every few seconds, so nodes together may exceed the limits a little.

use std::time::Duration;

use super::{OutboxError, batch::Size, settings::OutboxSettings};

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
    /// The longest time until the next attempt, while this process tries one delivery at a time.
    pub next_attempt: Option<Duration>,
    /// The number of times this process has considered it down.
    pub opened: u64,
}

#[derive(Debug)]
pub(super) struct Counters {
    /// The size of all rows is approximate: changes of other nodes are read every few seconds.
    pub(super) stats: OutboxStats,
    reserved: Size,
}

impl Counters {
    pub(super) fn new<'a>(
        settings: &OutboxSettings,
        routes: impl Iterator<Item = &'a str>,
    ) -> Self {
        let route = |name: &str| RouteStats {
            name: name.to_owned(),
            ..RouteStats::default()
        };
        Self {
            stats: OutboxStats {
                routes: routes.map(route).collect(),
                max_queued: settings.max_queued,
                max_bytes: settings.max_bytes,
                ..OutboxStats::default()
            },
            reserved: Size::default(),
        }
    }

    /// The limits are multiplied by `factor`, which is 1 for a creation: it needs capacity even if it stores no event.
    pub(super) fn reserve(&mut self, size: Size, factor: usize) -> Result<(), OutboxError> {
        if size.rows == 0 && factor > 1 {
            return Ok(());
        }
        let total = self.total();
        let limit = self.stats.max_queued.saturating_mul(factor);
        if total.rows >= limit || total.rows.saturating_add(size.rows) > limit {
            let rows = total.rows;
            return Err(OutboxError::Full { rows, limit });
        }
        let limit = self.stats.max_bytes.saturating_mul(factor);
        if total.bytes >= limit || total.bytes.saturating_add(size.bytes) > limit {
            let bytes = total.bytes;
            return Err(OutboxError::FullOfBytes { bytes, limit });
        }
        self.reserved = self.reserved.plus(size);
        Ok(())
    }

    fn stored(&self) -> Size {
        let (rows, bytes) = (self.stats.queued, self.stats.bytes);
        Size { rows, bytes }
    }

    fn total(&self) -> Size {
        self.stored().plus(self.reserved)
    }

    pub(super) fn is_full(&self) -> bool {
        let total = self.total();
        total.rows >= self.stats.max_queued || total.bytes >= self.stats.max_bytes
    }

    pub(super) fn release(&mut self, reserved: Size, stored: Size) {
        self.set_stored(self.stored().plus(stored));
        self.reserved = self.reserved.minus(reserved);
    }

    pub(super) fn subtract(&mut self, size: Size) {
        self.set_stored(self.stored().minus(size));
    }

    pub(super) fn set_stored(&mut self, size: Size) {
        (self.stats.queued, self.stats.bytes) = (size.rows, size.bytes);
    }

    pub(super) fn is_reserved(&self) -> bool {
        self.reserved.rows > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Database;

    fn size(rows: usize, bytes: usize) -> Size {
        Size { rows, bytes }
    }

    #[test]
    fn capacity_is_reserved_up_to_the_limits() {
        let mut settings = OutboxSettings::new(Database::Sqlite("x".into()));
        (settings.max_queued, settings.max_bytes) = (3, 100);
        let mut counters = Counters::new(&settings, std::iter::empty());
        let rows = |counters: &mut Counters, rows| counters.reserve(size(rows, rows), 1);
        let is_full = |reserved| match reserved {
            Err(OutboxError::Full { rows, limit: 3 }) => rows,
            other => panic!("{other:?}"),
        };
        rows(&mut counters, 2).unwrap();
        assert_eq!(is_full(rows(&mut counters, 2)), 2);
        assert!(!counters.is_full());
        rows(&mut counters, 1).unwrap();
        assert!(counters.is_full());
        assert_eq!(is_full(rows(&mut counters, 0)), 3, "full is full");
        counters.reserve(size(1, 1), 2).unwrap();
        counters.release(size(3, 3), size(3, 3));
        counters.release(size(1, 1), Size::default());
        assert_eq!(is_full(rows(&mut counters, 1)), 3);
        counters.subtract(size(2, 2));
        rows(&mut counters, 2).unwrap();
        counters.subtract(size(9, 9));
        assert_eq!(counters.stored(), Size::default());
    }

    #[test]
    fn bytes_are_limited_like_rows() {
        let mut settings = OutboxSettings::new(Database::Sqlite("x".into()));
        settings.max_bytes = 100;
        let mut counters = Counters::new(&settings, std::iter::empty());
        counters.reserve(size(1, 60), 1).unwrap();
        let full = counters.reserve(size(1, 60), 1).unwrap_err();
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
        counters.reserve(size(1, 60), 2).unwrap();
        assert!(counters.is_full());
    }
}
