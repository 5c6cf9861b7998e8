//! The commands of the writer, and a batch of them for one transaction.

use std::{collections::HashSet, sync::Arc, time::Duration};

use landfall::upload::Snapshot;
use landfall_messages::Message;
use tokio::sync::oneshot;

use super::{
    OutboxError,
    event::{ImpliedEvent, OutboxEvent},
};

pub(super) type Done = oneshot::Sender<Result<(), OutboxError>>;

#[derive(Debug)]
pub(super) enum Command {
    /// Store events that may happen.
    Prepare(PrepareCommand),
    /// An event happened.
    Emit {
        event: OutboxEvent,
        implied: Vec<ImpliedEvent>,
    },
    Delivered {
        route: usize,
        key: Arc<str>,
        event: Arc<str>,
        /// Set if the delivery had failed before.
        is_retry: bool,
    },
    Failed(FailedDelivery),
    /// A route has recovered; it was down since this time.
    Recovered {
        route: usize,
        since: i64,
    },
    /// Claim deliveries that are due.
    Claim {
        limits: Vec<ClaimLimits>,
        done: oneshot::Sender<usize>,
    },
    /// Claim at most this many prepared events to be resolved.
    ClaimInDoubt {
        limit: usize,
        done: oneshot::Sender<Vec<InDoubt>>,
    },
    /// The outcome of a prepared event in doubt.
    Resolved(Resolved),
    /// Release prepared events that could not be resolved.
    Requeue(Vec<String>),
    /// Abandon old prepared events of this node.
    Abandon(Vec<Arc<str>>),
    /// Evict dead nodes, and if `thorough` purge old rows.
    Maintain {
        thorough: bool,
        done: oneshot::Sender<()>,
    },
    /// Write the remaining commands, release everything and end.
    Close(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(super) struct PrepareCommand {
    pub(super) events: Vec<OutboxEvent>,
    pub(super) implied: Vec<ImpliedEvent>,
    pub(super) reserved: Size,
    pub(super) done: Done,
}

/// Rows, and the bytes of their messages.
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

/// The numbers of deliveries of a route to claim.
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
    pub(super) retry_after: Option<Duration>,
    /// Set if the receiver rejected the event itself.
    pub(super) is_permanent: bool,
}

/// A prepared event whose outcome is unknown.
#[derive(Debug, Clone)]
pub(super) struct InDoubt {
    pub(super) event: String,
    pub(super) route: String,
    pub(super) message: Message,
}

#[derive(Debug, Clone)]
pub(super) enum Resolved {
    /// The event happened. The snapshot is the upload's current state, if it exists.
    Happened(Box<(InDoubt, Option<Snapshot>)>),
    DidNotHappen(String),
}

/// The commands of one transaction, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) commands: Vec<Command>,
}

impl Batch {
    /// Returns the number of prepared and emitted events and of delivery results.
    pub(super) fn events(&self) -> usize {
        let events = |command: &Command| match command {
            Command::Prepare(_)
            | Command::Emit { .. }
            | Command::Delivered { .. }
            | Command::Failed(_) => 1,
            _ => 0,
        };
        self.commands.iter().map(events).sum()
    }

    /// Splits the batch into two halves. Neither is empty if there are at least two commands.
    pub(super) fn split(mut self) -> (Self, Self) {
        let commands = self.commands.split_off(self.commands.len().div_ceil(2));
        (self, Self { commands })
    }

    /// Returns the emitted events without duplicates.
    pub(super) fn emitted(&self) -> Vec<&OutboxEvent> {
        let mut seen = HashSet::new();
        let emitted = self.commands.iter().filter_map(|command| match command {
            Command::Emit { event, .. } => Some(event),
            _ => None,
        });
        emitted.filter(|event| seen.insert(&event.id)).collect()
    }

    /// Returns the prepared events without duplicates.
    pub(super) fn prepared(&self) -> Vec<&OutboxEvent> {
        let mut seen = HashSet::new();
        let events = self.commands.iter().flat_map(|command| match command {
            Command::Prepare(stored) => stored.events.as_slice(),
            _ => &[],
        });
        events.filter(|event| seen.insert(&event.id)).collect()
    }

    pub(super) fn implied(&self) -> impl Iterator<Item = &ImpliedEvent> {
        self.commands.iter().flat_map(|command| match command {
            Command::Prepare(stored) => stored.implied.as_slice(),
            Command::Emit { implied, .. } => implied.as_slice(),
            _ => &[],
        })
    }

    /// Returns whether maintenance was requested, and whether a thorough one.
    pub(super) fn maintenance(&self) -> Option<bool> {
        let requested = self.commands.iter().filter_map(|command| match command {
            Command::Maintain { thorough, .. } => Some(*thorough),
            _ => None,
        });
        requested.reduce(|one, other| one | other)
    }

    pub(super) fn is_closing(&self) -> bool {
        let mut commands = self.commands.iter();
        commands.any(|command| matches!(command, Command::Close(_)))
    }
}
