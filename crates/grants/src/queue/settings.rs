//! How the queue behaves, and what keeps it from doing its work.

use std::{sync::Arc, time::Duration};

use landfall_database::{Connections, Database, DatabaseError};
use landfall_hooks::outbox::{Outbox, OutboxError};

use crate::Clock;

/// How the queue behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QueueSettings {
    /// Where it is kept.
    pub database: Database,
    /// Connections to it that others use, too; opened if not set.
    pub connections: Option<Connections>,
    /// Whether what was granted survives a loss of power.
    pub survives_power_loss: bool,
    /// How long a grant may wait for its upload to be created; an hour if not set.
    pub valid_for: Duration,
    /// How long jobs that have ended are kept; 30 days if not set.
    pub keep: Duration,
    /// How long events can be asked for again, at most; a day if not set.
    pub keep_events: Duration,
    /// Counts quotas anew in each such time since 1970; never if `None`.
    pub quota_period: Option<Duration>,
    /// Tells `UploadStarted` when an upload is granted instead of when it is created.
    pub started_at_grant: bool,
    /// The name of this node.
    pub node: String,
    /// Delivers events to the application. Its tables must be in the same database, since an event and
    /// its deliveries are written in one transaction. While it is full there are no new grants.
    pub outbox: Option<Outbox>,
    /// The clock; the database's if not set.
    pub clock: Clock,
}

impl QueueSettings {
    /// Defaults.
    #[must_use]
    pub fn new(database: Database) -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self {
            database,
            connections: None,
            survives_power_loss: true,
            valid_for: Duration::from_secs(3600),
            keep: 30 * day,
            keep_events: day,
            quota_period: None,
            started_at_grant: false,
            node: String::new(),
            outbox: None,
            clock: Clock::default(),
        }
    }
}

/// What keeps the queue from doing its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The database failed in the middle of what several asked for; it isn't known whether it was
    /// kept. All of it may be asked for again.
    #[error(transparent)]
    Write(Arc<Self>),
    /// It took too long.
    #[error("the database took longer than {0:?}")]
    Slow(Duration),
    /// The queue was closed.
    #[error("the queue is closed")]
    Closed,
    /// Longer than the database can find again.
    #[error("{0} is too long")]
    TooLong(&'static str),
    /// The outbox has no room for the events of further grants.
    #[error("the outbox of events is full; see `landfall events list`")]
    OutboxFull,
    /// The events of a transaction cannot be delivered.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// What the database holds makes no sense.
    #[error("a row of the database makes no sense: {0}")]
    Row(String),
}

impl QueueError {
    /// Whether another transaction was in the way, so that the same one may succeed at once.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_conflict())
    }

    /// Whether one order or row is the cause, so that others can be written without it.
    pub(super) fn is_statement_error(&self) -> bool {
        match self {
            Self::Database(error) => error.is_statement_error(),
            Self::Row(_) | Self::TooLong(_) => true,
            _ => false,
        }
    }
}
