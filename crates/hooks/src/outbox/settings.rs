//! What an outbox is told at its start.

use std::{path::PathBuf, time::Duration};

use landfall_database::{Connections, Database, DatabaseError};

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
    /// Rows that are kept: one for each event and route that is announced, waits or is dead. At the
    /// limit creations are refused, at twice the limit everything is. A million if not set.
    pub limit: usize,
    /// Deliveries at once, for each route; 32 if not set.
    pub parallel: usize,
    /// The longest that one delivery may take, whatever the transport says; 15 minutes if not set.
    pub longest_delivery: Duration,
    /// After this time an event that can't be delivered is dead; 24 hours if not set.
    pub give_up_after: Duration,
    /// How long a dead event is kept; 30 days if not set.
    pub keep_dead: Duration,
    /// The first wait after a failed delivery; they grow twofold from there. 0.5 s if not set.
    pub first_wait: Duration,
    /// The longest wait between two tries; 10 minutes if not set.
    pub longest_wait: Duration,
    /// How long an announcement may go unanswered before its outcome is looked up; 60 s if not set.
    pub settle_after: Duration,
    /// How long a process that says nothing counts as alive; 30 s if not set. One that shares the
    /// [folder](Self::presence) is known to be gone at once.
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
}

impl OutboxSettings {
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
            parallel: 32,
            longest_delivery: Duration::from_secs(15 * 60),
            give_up_after: Duration::from_secs(24 * 3600),
            keep_dead: Duration::from_secs(30 * 24 * 3600),
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(600),
            settle_after: Duration::from_secs(60),
            node_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(5),
            presence,
            progress: None,
            headers: EventHeaders::default(),
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
    /// As many events wait as are allowed.
    #[error("the outbox is full: {rows} events are kept, {limit} are allowed")]
    Full {
        /// What is kept.
        rows: usize,
        /// What is allowed for this.
        limit: usize,
    },
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
