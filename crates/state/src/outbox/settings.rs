//! Settings and errors of the outbox, with its retry policy and circuit breaker.
//!
//! Plain values; `failed` and `breaker` apply the policies.

use std::{path::PathBuf, time::Duration};

use landfall_hooks::{Creations, ProgressNotifier};

use super::header_key::HeaderKey;
use crate::sql::{Clock, Connections, Database, DatabaseError};

/// Settings of an [`Outbox`](super::Outbox).
#[derive(Debug, Clone)]
pub struct OutboxSettings {
    /// The database.
    pub database: Database,
    /// Shared connections to the database; opened if not set, and events then survive a power loss.
    pub connections: Option<Connections>,
    /// Maximum prepared and pending deliveries, one per event and route; a million by default.
    ///
    /// At the limit, creations are rejected. At twice the limit, other events of uploads are, too.
    pub max_queued: usize,
    /// Maximum bytes of their messages, with the same effects; 1 GiB by default.
    pub max_bytes: usize,
    /// Maximum concurrent deliveries per route; 32 by default. A quarter is reserved for retries and the rest
    /// for first attempts, so that neither waits for the other.
    pub max_concurrency: usize,
    /// Timeout of a delivery, in addition to the transport's own; 15 minutes by default.
    pub delivery_timeout: Duration,
    /// When failed deliveries are retried, and for how long.
    pub retry: RetryPolicy,
    /// A failing event holds later events of its ordering key until it is delivered or dead, and not only for
    /// [`max_hold`](Self::max_hold). `false` by default.
    pub strict_order: bool,
    /// The time after its first failed attempt for which an event holds later ones; 3 s by default.
    pub max_hold: Duration,
    /// When a route counts as down, and how it is then tried.
    pub circuit_breaker: CircuitBreaker,
    /// Retention of dead letters; 30 days by default.
    pub dead_letter_retention: Duration,
    /// Retention of delivered events, 24 hours by default; zero stores none. At most 100,000 are stored.
    pub history: Duration,
    /// The time after which a prepared event without outcome is resolved; 60 s by default.
    pub resolve_after: Duration,
    /// The lease of a node in the database; 13 s by default.
    ///
    /// A node renews it at least every 10/13 of this time. A node with a
    /// [presence directory](Self::presence_dir) in common is known to be dead at once.
    pub node_timeout: Duration,
    /// Timeout for storing prepared events, after which the request fails; 5 s by default.
    pub write_timeout: Duration,
    /// A directory in which this process locks a file to show that it is alive.
    ///
    /// Deliveries of an earlier process with the same directory are taken over at once instead of
    /// after `node_timeout`. By default it is next to an SQLite file; with PostgreSQL there is none.
    pub presence_dir: Option<PathBuf>,
    /// The notifier for progress, so that no event overtakes a running call for its upload.
    pub progress: Option<ProgressNotifier>,
    /// The creations whose events were not attempted yet, for which progress and hooks wait.
    pub creations: Creations,
    /// Encrypts the headers that transports name; a random key by default, which ends with this process.
    pub header_key: HeaderKey,
    /// The clock, for tests; the database's by default.
    pub clock: Option<Clock>,
}

/// When failed deliveries are retried, with exponential backoff and jitter, and when they become dead
/// letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first delay, which doubles with each attempt; 0.5 s by default.
    pub min_backoff: Duration,
    /// The maximum delay; 10 minutes by default.
    pub max_backoff: Duration,
    /// The time for which a delivery is retried after its first failure; 7 days by default. At least 20 attempts
    /// are made, as far as they fit into the time.
    pub retry_for: Duration,
}

const MIN_ATTEMPTS: u32 = 20;

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            min_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(600),
            retry_for: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

impl RetryPolicy {
    pub(super) fn required_attempts(&self) -> i64 {
        let max = self.max_backoff.max(self.min_backoff);
        let mut delay = self.min_backoff.max(Duration::from_millis(1));
        let mut spent = Duration::ZERO;
        let mut attempts = 1;
        while attempts < MIN_ATTEMPTS {
            spent = spent.saturating_add(delay);
            if spent > self.retry_for {
                break;
            }
            delay = delay.saturating_mul(2).min(max);
            attempts += 1;
        }
        i64::from(attempts)
    }
}

/// When a route counts as down, and how it is then tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// Consecutive failed first attempts after which a route counts as down; 20 by default.
    pub failures: u32,
    /// The minimum duration of these failures, since deliveries are concurrent; 1 s by default.
    pub min_duration: Duration,
    /// The first delay between attempts while the route is down, which doubles; 0.5 s by default.
    pub min_delay: Duration,
    /// The maximum delay; 10 s by default.
    pub max_delay: Duration,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            failures: 20,
            min_duration: Duration::from_secs(1),
            min_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(10),
        }
    }
}

impl OutboxSettings {
    /// Creates default settings for a database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        let presence_dir = match &database {
            Database::Sqlite(file) => {
                let mut dir = file.clone().into_os_string();
                dir.push("-nodes");
                Some(PathBuf::from(dir))
            }
            #[allow(unreachable_patterns, reason = "PostgreSQL is a feature")]
            _ => None,
        };
        Self {
            database,
            connections: None,
            max_queued: 1_000_000,
            max_bytes: 1 << 30,
            max_concurrency: 32,
            delivery_timeout: Duration::from_secs(15 * 60),
            retry: RetryPolicy::default(),
            strict_order: false,
            max_hold: Duration::from_secs(3),
            circuit_breaker: CircuitBreaker::default(),
            dead_letter_retention: Duration::from_secs(30 * 24 * 3600),
            history: Duration::from_secs(24 * 3600),
            resolve_after: Duration::from_secs(60),
            node_timeout: Duration::from_secs(13),
            write_timeout: Duration::from_secs(5),
            presence_dir,
            progress: None,
            creations: Creations::default(),
            header_key: HeaderKey::random(),
            clock: None,
        }
    }
}

/// An error of the outbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// Two routes have transports with the same name.
    #[error("two routes have the name {0:?}")]
    DuplicateRoute(String),
    /// The presence file cannot be created.
    #[error("cannot create a file in {}: {source}", dir.display())]
    Presence {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The maximum number of deliveries is reached.
    #[error("the outbox is full: {rows} deliveries are queued, the limit is {limit}")]
    Full {
        /// Queued deliveries.
        rows: usize,
        /// The limit for this request.
        limit: usize,
    },
    /// The maximum size of all messages is reached.
    #[error("the outbox is full: queued events have {bytes} bytes, the limit is {limit}")]
    FullOfBytes {
        /// Bytes of the queued messages.
        bytes: usize,
        /// The limit for this request.
        limit: usize,
    },
    /// The database accepts other events, but not this one.
    #[error("the database rejects the event: {0}")]
    Rejected(String),
    /// The database did not store a prepared event in time.
    #[error("the database did not store the event within {0:?}")]
    Timeout(Duration),
    /// The outbox is closed.
    #[error("the outbox is closed")]
    Closed,
    /// A message cannot be serialized or parsed.
    #[error("cannot serialize or parse a message: {0}")]
    Json(#[from] serde_json::Error),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_attempts_are_limited_by_the_retry_time() {
        let mut policy = RetryPolicy::default();
        assert_eq!(policy.required_attempts(), 20);
        policy.retry_for = Duration::from_secs(1);
        assert_eq!(policy.required_attempts(), 2);
        policy.retry_for = Duration::ZERO;
        assert_eq!(policy.required_attempts(), 1);
        policy.retry_for = Duration::from_secs(3600);
        // 0.5 s, doubled up to 512 s, is 1023.5 s in total; then four times 600 s.
        assert_eq!(policy.required_attempts(), 1 + 11 + 4);
    }
}
