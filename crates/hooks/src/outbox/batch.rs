//! The commands of the writer, and a batch of them for one transaction.

use std::{collections::HashSet, sync::Arc, time::Duration};

use landfall::upload::Snapshot;
use tokio::sync::oneshot;

use super::{
    OutboxError,
    fact::{Fact, Implied},
};
use crate::Message;

/// The answer to a command whose sender waits.
pub(super) type Done = oneshot::Sender<Result<(), OutboxError>>;

/// A command for the writer.
#[derive(Debug)]
pub(super) enum Command {
    /// Store events that may happen.
    Prepare(Stored),
    /// An event happened.
    Emit { fact: Fact, implied: Vec<Implied> },
    /// A delivery arrived.
    Delivered {
        route: usize,
        key: Arc<str>,
        event: Arc<str>,
        /// It had failed before.
        is_retry: bool,
    },
    /// A delivery failed.
    Failed(Failure),
    /// A route works again; it was down since a time.
    Recovered { route: usize, since: i64 },
    /// Claim deliveries that are due.
    Claim {
        wanted: Vec<Wanted>,
        done: oneshot::Sender<usize>,
    },
    /// Claim prepared events to be resolved, at most so many.
    ClaimInDoubt {
        most: usize,
        done: oneshot::Sender<Vec<InDoubt>>,
    },
    /// It is known whether a prepared event happened.
    Resolved(Resolved),
    /// Release prepared events that could not be resolved.
    Requeue(Vec<String>),
    /// Abandon prepared events of this node that have been open for long.
    Abandon(Vec<Arc<str>>),
    /// Evict dead nodes, and if `thorough` purge what is old.
    Maintain {
        thorough: bool,
        done: oneshot::Sender<()>,
    },
    /// Write what is left, release everything and end.
    Close(oneshot::Sender<()>),
}

/// Events to be stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) facts: Vec<Fact>,
    pub(super) implied: Vec<Implied>,
    /// The capacity that was reserved for them.
    pub(super) reserved: Size,
    pub(super) done: Done,
}

/// Rows, and the bytes of their messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl std::iter::Sum for Size {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            rows: sum.rows.saturating_add(one.rows),
            bytes: sum.bytes.saturating_add(one.bytes),
        })
    }
}

/// How many deliveries of a route are to be claimed at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) route: usize,
    /// Ordering keys with deliveries that have not failed.
    pub(super) first: usize,
    /// Deliveries that have failed before.
    pub(super) retries: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) route: usize,
    pub(super) key: Arc<str>,
    pub(super) event: Arc<str>,
    pub(super) error: String,
    pub(super) retry_after: Option<Duration>,
    /// The receiver will not accept it, however often it is sent.
    pub(super) is_permanent: bool,
}

/// A prepared event whose outcome is not known.
#[derive(Debug, Clone)]
pub(super) struct InDoubt {
    pub(super) event: String,
    pub(super) route: String,
    pub(super) message: Message,
}

#[derive(Debug, Clone)]
pub(super) enum Resolved {
    /// It happened; the upload as it is, if it still is.
    Happened(Box<(InDoubt, Option<Snapshot>)>),
    /// It did not.
    Not(String),
}

/// The commands of one transaction, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) commands: Vec<Command>,
}

impl Batch {
    /// Prepared and emitted events, and results of deliveries.
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

    /// Divides it in two halves, each in order; neither is empty if there are two commands.
    pub(super) fn split(mut self) -> (Self, Self) {
        let commands = self.commands.split_off(self.commands.len().div_ceil(2));
        (self, Self { commands })
    }

    /// Events that happened, each once.
    pub(super) fn emitted(&self) -> Vec<&Fact> {
        let mut seen = HashSet::new();
        let emitted = self.commands.iter().filter_map(|command| match command {
            Command::Emit { fact, .. } => Some(fact),
            _ => None,
        });
        emitted.filter(|fact| seen.insert(&fact.id)).collect()
    }

    /// Events that may happen, each once.
    pub(super) fn prepared(&self) -> Vec<&Fact> {
        let mut seen = HashSet::new();
        let facts = self.commands.iter().flat_map(|command| match command {
            Command::Prepare(stored) => stored.facts.as_slice(),
            _ => &[],
        });
        facts.filter(|fact| seen.insert(&fact.id)).collect()
    }

    /// Events that must have happened.
    pub(super) fn implied(&self) -> impl Iterator<Item = &Implied> {
        self.commands.iter().flat_map(|command| match command {
            Command::Prepare(stored) => stored.implied.as_slice(),
            Command::Emit { implied, .. } => implied.as_slice(),
            _ => &[],
        })
    }

    /// Whether nodes are to be maintained, and whether thoroughly.
    pub(super) fn maintenance(&self) -> Option<bool> {
        let asked = self.commands.iter().filter_map(|command| match command {
            Command::Maintain { thorough, .. } => Some(*thorough),
            _ => None,
        });
        asked.reduce(|one, other| one | other)
    }

    pub(super) fn is_closing(&self) -> bool {
        let mut commands = self.commands.iter();
        commands.any(|command| matches!(command, Command::Close(_)))
    }
}
