//! The commands of the writer, and a batch of them for one transaction.

use std::{collections::HashSet, sync::Arc};

use landfall::upload::Snapshot;
use landfall_hooks::Message;
use tokio::sync::oneshot;

use super::{
    OutboxError,
    event::{ImpliedEvent, OutboxEvent},
};

pub(super) type Done = oneshot::Sender<Result<(), OutboxError>>;

#[derive(Debug)]
pub(super) enum Command {
    Prepare(PrepareCommand),
    Emit {
        event: OutboxEvent,
        implied: Vec<ImpliedEvent>,
    },
    Delivered {
        route: usize,
        key: Arc<str>,
        event: Arc<str>,
        is_retry: bool,
    },
    Failed(FailedDelivery),
    /// The route was down since this time.
    Recovered {
        route: usize,
        since: i64,
    },
    Claim {
        limits: Vec<ClaimLimits>,
        done: oneshot::Sender<usize>,
    },
    ClaimInDoubt {
        limit: usize,
        done: oneshot::Sender<Vec<InDoubt>>,
    },
    Resolved(Resolved),
    Requeue(Vec<String>),
    Abandon(Vec<Arc<str>>),
    /// If `thorough`, purge old rows.
    Maintain {
        thorough: bool,
        done: oneshot::Sender<()>,
    },
}

#[derive(Debug)]
pub(super) struct PrepareCommand {
    pub(super) events: Vec<OutboxEvent>,
    pub(super) implied: Vec<ImpliedEvent>,
    pub(super) reserved: Size,
    pub(super) done: Done,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl Size {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            rows: self.rows.saturating_add(other.rows),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            rows: self.rows.saturating_sub(other.rows),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClaimLimits {
    pub(super) route: usize,
    pub(super) first: usize,
    pub(super) retries: usize,
}

#[derive(Debug, Clone)]
pub(super) struct FailedDelivery {
    pub(super) route: usize,
    pub(super) key: Arc<str>,
    pub(super) event: Arc<str>,
    pub(super) error: String,
    /// The time of the next attempt, in milliseconds since 1970; `None` if it becomes a dead letter.
    pub(super) due: Option<i64>,
}

#[derive(Debug, Clone)]
pub(super) struct InDoubt {
    pub(super) event: String,
    pub(super) route: String,
    pub(super) message: Message,
}

#[derive(Debug, Clone)]
pub(super) enum Resolved {
    /// The snapshot is the upload's current state, if it exists.
    Happened(Box<(InDoubt, Option<Snapshot>)>),
    DidNotHappen(String),
}

/// The commands of a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch<'a>(pub(super) &'a [Command]);

impl<'a> Batch<'a> {
    pub(super) fn emitted(self) -> Vec<&'a OutboxEvent> {
        let mut seen = HashSet::new();
        let emitted = self.0.iter().filter_map(|command| match command {
            Command::Emit { event, .. } => Some(event),
            _ => None,
        });
        emitted.filter(|event| seen.insert(&event.id)).collect()
    }

    pub(super) fn prepared(self) -> Vec<&'a OutboxEvent> {
        let mut seen = HashSet::new();
        let events = self.0.iter().flat_map(|command| match command {
            Command::Prepare(stored) => stored.events.as_slice(),
            _ => &[],
        });
        events.filter(|event| seen.insert(&event.id)).collect()
    }

    pub(super) fn implied(self) -> impl Iterator<Item = &'a ImpliedEvent> {
        self.0.iter().flat_map(|command| match command {
            Command::Prepare(stored) => stored.implied.as_slice(),
            Command::Emit { implied, .. } => implied.as_slice(),
            _ => &[],
        })
    }

    /// The value is whether a thorough one was requested.
    pub(super) fn maintenance(self) -> Option<bool> {
        let requested = self.0.iter().filter_map(|command| match command {
            Command::Maintain { thorough, .. } => Some(*thorough),
            _ => None,
        });
        requested.reduce(|one, other| one | other)
    }
}
