//! Settings and errors of the queue.
//!
//! The writer relies on the classification of errors: which ones a repetition resolves, and which ones a single command
//! of a batch causes.

use std::{sync::Arc, time::Duration};

use crate::{
    outbox::{Outbox, OutboxError},
    sql::{Clock, Connections, Database, DatabaseError},
    writer::BatchError,
};

/// Settings of the queue.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QueueSettings {
    /// The database.
    pub database: Database,
    /// Shared connections to the database; opened if not set, and committed grants then survive a
    /// power loss.
    pub connections: Option<Connections>,
    /// The time after a grant in which the upload may be created; default one hour.
    pub valid_for: Duration,
    /// The time for which ended jobs are retained; default 30 days.
    pub retention: Duration,
    /// The time for which events are retained; default one day.
    pub event_retention: Duration,
    /// Length of a quota period, counted since 1970; `None` for one unlimited period.
    pub quota_period: Option<Duration>,
    /// Emits `UploadStarted` with the grant instead of the creation of the upload.
    pub started_at_grant: bool,
    /// The name of this node.
    pub node: String,
    /// Delivers events to the application. It must use the same database, since an event and its
    /// deliveries are written in one transaction. While it is full, no grants are given.
    pub outbox: Option<Outbox>,
    /// The clock; default is the database's.
    pub clock: Clock,
}

impl QueueSettings {
    /// Creates settings with defaults.
    pub fn new(database: Database) -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self {
            database,
            connections: None,
            valid_for: Duration::from_secs(3600),
            retention: 30 * day,
            event_retention: day,
            quota_period: None,
            started_at_grant: false,
            node: String::new(),
            outbox: None,
            clock: Clock::default(),
        }
    }
}

/// An error of the queue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A batched transaction failed, and it is unknown whether it was committed. The call may be
    /// repeated.
    #[error(transparent)]
    Write(Arc<Self>),
    /// The database timed out.
    #[error("the database timed out after {0:?}")]
    Timeout(Duration),
    /// The queue is closed.
    #[error("the queue is closed")]
    Closed,
    /// A value is too long for an index.
    #[error("{0} is too long")]
    TooLong(&'static str),
    /// The outbox is full.
    #[error("the outbox is full; see `landfall events list`")]
    OutboxFull,
    /// The deliveries of an event cannot be stored.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// A row is invalid.
    #[error("invalid database row: {0}")]
    InvalidRow(String),
}

impl BatchError for QueueError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_conflict())
    }

    fn is_statement_error(&self) -> bool {
        match self {
            Self::Database(error) => error.is_statement_error(),
            Self::InvalidRow(_) | Self::TooLong(_) => true,
            _ => false,
        }
    }
}
