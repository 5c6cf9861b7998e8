//! What an outbox is told at its start.

use std::{path::PathBuf, time::Duration};

use landfall_database::{Clock, Connections, Database, DatabaseError};

use crate::{message::EventHeaders, progress::Progress};

/// How an outbox works. What isn't said is usual.
#[derive(Debug, Clone)]
pub struct OutboxSettings {
    /// Where events are kept.
    pub database: Database,
    /// Connections to it that others use, too; opened if not set.
    pub connections: Option<Connections>,
    /// Whether a loss of power loses none either; otherwise only the end of the process is survived.
    pub survives_power_loss: bool,
    /// The most deliveries, one for each event and route, that are prepared or pending. At the limit
    /// creations are refused, at twice the limit other events of uploads are. A million if not set.
    pub limit: usize,
    /// The most bytes that their messages have together; 1 GiB if not set.
    pub max_bytes: usize,
    /// Deliveries at once, for each route; 32 if not set. A quarter of them is for events that have
    /// failed before, and the rest for others, so that neither waits for the other.
    pub parallel: usize,
    /// The longest that one delivery may take, whatever the transport says; 15 minutes if not set.
    pub longest_delivery: Duration,
    /// After this time from its first failed attempt, an event that cannot be delivered becomes a dead
    /// letter; 7 days if not set.
    pub give_up_after: Duration,
    /// It does so after no fewer attempts than these, or than fit into that time; 20 if not set.
    pub min_attempts: u32,
    /// Whether an event that fails holds later ones of its upload until it has arrived or is a dead
    /// letter; otherwise only for [`hold`](Self::hold). Not so if not set.
    pub strict_order: bool,
    /// How long an event that fails holds later ones of its upload, from its first failed attempt; a
    /// minute if not set.
    pub hold: Duration,
    /// When a route counts as down, and how it is then tried.
    pub circuit_breaker: CircuitBreaker,
    /// How long a dead letter is retained; 30 days if not set.
    pub keep_dead: Duration,
    /// The first wait after a failed delivery; they grow twofold from there. 0.5 s if not set.
    pub first_wait: Duration,
    /// The longest wait between two tries; 10 minutes if not set.
    pub longest_wait: Duration,
    /// How long an announcement may go unanswered before its outcome is looked up; 60 s if not set.
    pub settle_after: Duration,
    /// How long a node counts as alive that has not written to the database; 13 s if not set. A node
    /// writes at least every 10/13 of this time. One that shares the [folder](Self::presence) is known
    /// to be gone at once.
    pub node_timeout: Duration,
    /// How long an announcement may take before the request fails; 5 s if not set.
    pub patience: Duration,
    /// A folder in which this process shows that it lives, by a locked file. What an earlier process
    /// with the same folder left is then taken over at once, and not after `node_timeout`. Beside the
    /// file of an SQLite database if not set; none with PostgreSQL.
    pub presence: Option<PathBuf>,
    /// Where progress is told, so that nothing about an upload overtakes a call that is under way.
    pub progress: Option<Progress>,
    /// The request headers that stored and delivered events carry. A transport can forward no other
    /// header with an event.
    pub headers: EventHeaders,
    /// The clock, for tests; the database's if not set.
    pub clock: Option<Clock>,
}

/// When a route counts as down, and how it is then tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// First attempts that fail in a row until a route counts as down; 20 if not set.
    pub failures: u32,
    /// How long all first attempts must have failed until a route counts as down; 1 s if not set.
    /// Many attempts are made at once, so that a number alone says little.
    pub min_duration: Duration,
    /// The first delay between attempts while it is down; they double from there. 0.5 s if not set.
    pub min_delay: Duration,
    /// The longest delay between attempts; 30 s if not set.
    pub max_delay: Duration,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            failures: 20,
            min_duration: Duration::from_secs(1),
            min_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(30),
        }
    }
}

impl OutboxSettings {
    /// Attempts that an event needs to become a dead letter: as many as are set, or as fit into the
    /// time if their delays are the longest.
    pub(super) fn required_attempts(&self) -> i64 {
        let longest = self.longest_wait.max(self.first_wait);
        let mut wait = self.first_wait.max(Duration::from_millis(1));
        let mut spent = Duration::ZERO;
        let mut attempts = 1;
        while attempts < self.min_attempts {
            spent = spent.saturating_add(wait);
            if spent > self.give_up_after {
                break;
            }
            wait = wait.saturating_mul(2).min(longest);
            attempts += 1;
        }
        i64::from(attempts)
    }

    /// The usual ones.
    #[must_use]
    pub fn new(database: Database) -> Self {
        let presence = match &database {
            Database::Sqlite(file) => {
                let mut folder = file.clone().into_os_string();
                folder.push("-nodes");
                Some(PathBuf::from(folder))
            }
            #[allow(unreachable_patterns, reason = "PostgreSQL is a feature")]
            _ => None,
        };
        Self {
            database,
            connections: None,
            survives_power_loss: true,
            limit: 1_000_000,
            max_bytes: 1 << 30,
            parallel: 32,
            longest_delivery: Duration::from_secs(15 * 60),
            give_up_after: Duration::from_secs(7 * 24 * 3600),
            min_attempts: 20,
            strict_order: false,
            hold: Duration::from_secs(60),
            circuit_breaker: CircuitBreaker::default(),
            keep_dead: Duration::from_secs(30 * 24 * 3600),
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(600),
            settle_after: Duration::from_secs(60),
            node_timeout: Duration::from_secs(13),
            patience: Duration::from_secs(5),
            presence,
            progress: None,
            headers: EventHeaders::default(),
            clock: None,
        }
    }
}

/// Why an outbox can't do what it is asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// Two routes have transports of this name.
    #[error("two routes are called {0:?}")]
    SameName(String),
    /// The file by which this process shows that it lives can't be made.
    #[error("no file can be made in {folder}: {source}")]
    Presence {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// As many events are stored as are allowed.
    #[error("the outbox is full: {rows} events are stored, {limit} are allowed")]
    Full {
        /// What is kept.
        rows: usize,
        /// What is allowed for this.
        limit: usize,
    },
    /// The messages of the stored events have as many bytes as are allowed.
    #[error("the outbox is full: the stored events have {bytes} bytes, {limit} are allowed")]
    FullOfBytes {
        /// The bytes that are stored.
        bytes: usize,
        /// The bytes that are allowed for this.
        limit: usize,
    },
    /// The database accepts others, but not this event.
    #[error("the database rejects the event: {0}")]
    Rejected(String),
    /// The database didn't keep an announcement in time.
    #[error("the database didn't keep an announcement within {0:?}")]
    Slow(Duration),
    /// The outbox is closed.
    #[error("the outbox is closed")]
    Closed,
    /// A message can't be written or read.
    #[error("a message can't be written or read as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn giving_up_takes_as_many_attempts_as_fit_into_the_time() {
        let mut settings = OutboxSettings::new(Database::Sqlite("x".into()));
        assert_eq!(settings.required_attempts(), 20);
        settings.give_up_after = Duration::from_secs(1);
        assert_eq!(settings.required_attempts(), 2);
        settings.give_up_after = Duration::ZERO;
        assert_eq!(settings.required_attempts(), 1);
        settings.give_up_after = Duration::from_secs(3600);
        // 0.5 s, doubled up to 512 s, make 1023.5 s; then four times 600 s.
        assert_eq!(settings.required_attempts(), 1 + 11 + 4);
    }
}
