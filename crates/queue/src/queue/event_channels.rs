//! The channels in which readers of events wait.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, broadcast, watch};

use super::Scope;
use crate::JobEvent;

const MAX_READING: usize = 4;
/// Per subject; slower readers read from the database again.
const BACKLOG: usize = 64;
const BACKLOG_OF_ALL: usize = 512;

/// An event shared by its readers.
#[derive(Debug)]
pub struct SharedEvent {
    /// The event.
    pub event: JobEvent,
    encodings: [OnceLock<Bytes>; 4],
}

impl SharedEvent {
    pub(super) fn new(event: JobEvent) -> Arc<Self> {
        Arc::new(Self {
            event,
            encodings: Default::default(),
        })
    }

    /// Returns the encoding with this number, below 4. All readers of the event share it.
    pub fn encoding(&self, number: usize, encode: impl FnOnce() -> Bytes) -> Bytes {
        match self.encodings.get(number) {
            Some(encoding) => encoding.get_or_init(encode).clone(),
            None => encode(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    Live,
    Closed,
}

type Channel = broadcast::Sender<Arc<SharedEvent>>;

#[derive(Debug, Default)]
struct Channels {
    all: Option<Channel>,
    subjects: HashMap<String, Channel>,
}

impl Channels {
    fn subscribe(&mut self, scope: &Scope) -> broadcast::Receiver<Arc<SharedEvent>> {
        let channel = match scope {
            Scope::All => &mut self.all,
            Scope::Subject(subject) => {
                return match self.subjects.get(subject) {
                    Some(channel) => channel.subscribe(),
                    None => {
                        let (channel, events) = broadcast::channel(BACKLOG);
                        self.subjects.insert(subject.clone(), channel);
                        events
                    }
                };
            }
        };
        let channel = channel.get_or_insert_with(|| broadcast::Sender::new(BACKLOG_OF_ALL));
        channel.subscribe()
    }

    fn leave(&mut self, scope: &Scope) {
        let is_last = |channel: &Channel| channel.receiver_count() <= 1;
        match scope {
            Scope::All => self.all = self.all.take().filter(|channel| !is_last(channel)),
            Scope::Subject(subject) => {
                if self.subjects.get(subject).is_some_and(is_last) {
                    self.subjects.remove(subject);
                }
            }
        }
    }

    fn for_subject(&self, subject: Option<&str>) -> impl Iterator<Item = &Channel> {
        let own = subject.and_then(|subject| self.subjects.get(subject));
        own.into_iter().chain(&self.all)
    }

    fn is_empty(&self) -> bool {
        self.all.is_none() && self.subjects.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct Feed {
    /// Locked while a reader subscribes, and while the task checks whether it has readers.
    channels: Arc<Mutex<Channels>>,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) wake: Notify,
    pub(super) reading: Semaphore,
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) events: broadcast::Receiver<Arc<SharedEvent>>,
    /// Events are complete once this is [`Phase::Live`].
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) scope: Scope,
    channels: Arc<Mutex<Channels>>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.channels.lock().leave(&self.scope);
    }
}

impl Feed {
    pub(super) fn new() -> Self {
        Self {
            channels: Arc::default(),
            phase: watch::Sender::new(Phase::Idle),
            wake: Notify::new(),
            reading: Semaphore::new(MAX_READING),
        }
    }

    pub(super) fn subscribe(&self, scope: Scope) -> Subscription {
        let events = self.channels.lock().subscribe(&scope);
        self.wake.notify_one();
        Subscription {
            events,
            phase: self.phase.subscribe(),
            scope,
            channels: self.channels.clone(),
        }
    }

    pub(super) fn idle_without_readers(&self) -> bool {
        let channels = self.channels.lock();
        let is_idle = channels.is_empty();
        if is_idle {
            self.phase.send_replace(Phase::Idle);
        }
        is_idle
    }

    #[cfg(feature = "postgres")]
    pub(super) fn scopes(&self) -> Vec<Scope> {
        let channels = self.channels.lock();
        let subjects = channels.subjects.keys().cloned().map(Scope::Subject);
        subjects
            .chain(channels.all.iter().map(|_| Scope::All))
            .collect()
    }

    pub(super) fn has_readers(&self, subject: Option<&str>) -> bool {
        self.channels.lock().for_subject(subject).next().is_some()
    }

    pub(super) fn send(&self, event: JobEvent) {
        let event = SharedEvent::new(event);
        for channel in self
            .channels
            .lock()
            .for_subject(event.event.job.subject.as_deref())
        {
            // Fails if the last reader has just left.
            let _ = channel.send(event.clone());
        }
    }
}
