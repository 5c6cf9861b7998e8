//! What the writer is asked to do, and what of it goes into one transaction.

use std::{collections::HashSet, sync::Arc, time::Duration};

use landfall::upload::Snapshot;
use tokio::sync::oneshot;

use super::fact::{Fact, Implied};
use crate::Message;

/// Something for the writer.
#[derive(Debug)]
pub(super) enum Command {
    /// Keep what may happen; `done` hears when it is kept.
    Announce(Announcement),
    /// Something happened.
    Tell { fact: Fact, implied: Vec<Implied> },
    /// Something happened that nobody announced; `done` hears when it is kept.
    Post(Posting),
    /// A delivery arrived.
    Arrived { route: usize, event: Arc<str> },
    /// A delivery failed.
    Failed(Failure),
    /// Claim lanes that are due, at most so many.
    Claim {
        most: usize,
        done: oneshot::Sender<usize>,
    },
    /// Take announcements that are due for settling, at most so many.
    TakeUnsettled {
        most: usize,
        done: oneshot::Sender<Vec<Unsettled>>,
    },
    /// An announcement is settled.
    Settled(Settled),
    /// Settling of these is over; what isn't settled comes again.
    PutBack(Vec<String>),
    /// Announcements of this process that have been open for long.
    GiveUp(Vec<Arc<str>>),
    /// Look after nodes, and if `thoroughly` after what is old.
    Tend {
        thoroughly: bool,
        done: oneshot::Sender<()>,
    },
    /// Write what is left, let go of everything and end.
    Close(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(super) struct Announcement {
    pub(super) facts: Vec<Fact>,
    pub(super) implied: Vec<Implied>,
    /// Rows that there was room made for.
    pub(super) reserved: usize,
    pub(super) done: oneshot::Sender<()>,
}

#[derive(Debug)]
pub(super) struct Posting {
    pub(super) facts: Vec<Fact>,
    /// Rows that there was room made for.
    pub(super) reserved: usize,
    pub(super) done: oneshot::Sender<()>,
}

#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) route: usize,
    pub(super) upload: Arc<str>,
    pub(super) event: Arc<str>,
    pub(super) error: String,
    pub(super) retry_after: Option<Duration>,
}

/// An announcement of which nobody knows what became of it.
#[derive(Debug, Clone)]
pub(super) struct Unsettled {
    pub(super) event: String,
    pub(super) route: String,
    pub(super) message: Message,
}

#[derive(Debug, Clone)]
pub(super) enum Settled {
    /// It happened; the upload as it is, if it still is.
    Happened(Box<(Unsettled, Option<Snapshot>)>),
    /// It didn't.
    Not(String),
}

/// What goes into one transaction.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) announced: Vec<Announcement>,
    pub(super) told: Vec<Fact>,
    pub(super) posted: Vec<Posting>,
    pub(super) implied: Vec<Implied>,
    pub(super) arrived: Vec<(usize, Arc<str>)>,
    pub(super) failed: Vec<Failure>,
    pub(super) claim: Option<(usize, oneshot::Sender<usize>)>,
    pub(super) take: Option<(usize, oneshot::Sender<Vec<Unsettled>>)>,
    pub(super) settled: Vec<Settled>,
    pub(super) put_back: Vec<String>,
    pub(super) given_up: Vec<Arc<str>>,
    pub(super) tended: Vec<oneshot::Sender<()>>,
    pub(super) thoroughly: bool,
    pub(super) closed: Option<oneshot::Sender<()>>,
}

impl Batch {
    pub(super) fn add(&mut self, command: Command) {
        match command {
            Command::Announce(mut announcement) => {
                self.implied.append(&mut announcement.implied);
                self.announced.push(announcement);
            }
            Command::Tell { fact, implied } => {
                self.told.push(fact);
                self.implied.extend(implied);
            }
            Command::Post(posting) => self.posted.push(posting),
            Command::Arrived { route, event } => self.arrived.push((route, event)),
            Command::Failed(failure) => self.failed.push(failure),
            Command::Claim { most, done } => self.claim = Some((most, done)),
            Command::TakeUnsettled { most, done } => self.take = Some((most, done)),
            Command::Settled(settled) => self.settled.push(settled),
            Command::PutBack(events) => self.put_back.extend(events),
            Command::GiveUp(events) => self.given_up.extend(events),
            Command::Tend { thoroughly, done } => {
                self.thoroughly |= thoroughly;
                self.tended.push(done);
            }
            Command::Close(done) => self.closed = Some(done),
        }
    }

    /// Announcements, events and results of deliveries.
    pub(super) fn len(&self) -> usize {
        let posted: usize = self.posted.iter().map(|one| one.facts.len()).sum();
        self.announced.len() + self.told.len() + posted + self.arrived.len() + self.failed.len()
    }

    /// What is told, each event once.
    pub(super) fn told(&self) -> Vec<&Fact> {
        let mut seen = HashSet::new();
        let posted = self.posted.iter().flat_map(|one| &one.facts);
        let facts = self.told.iter().chain(posted);
        facts.filter(|fact| seen.insert(&fact.id)).collect()
    }

    /// What is announced, each event once.
    pub(super) fn facts(&self) -> Vec<&Fact> {
        let mut seen = HashSet::new();
        let facts = self.announced.iter().flat_map(|one| &one.facts);
        facts.filter(|fact| seen.insert(&fact.id)).collect()
    }
}
