//! The channels in which readers of events wait.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, broadcast, watch};

use super::{JobEvent, Scope};

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

type Channels = HashMap<Scope, Channel>;

fn for_subject<'a>(
    channels: &'a Channels,
    subject: Option<&str>,
) -> impl Iterator<Item = &'a Channel> {
    let own = subject.and_then(|subject| channels.get(&Scope::Subject(subject.to_owned())));
    own.into_iter().chain(channels.get(&Scope::All))
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
        let mut channels = self.channels.lock();
        let channel = channels.get(&self.scope);
        if channel.is_some_and(|channel| channel.receiver_count() <= 1) {
            channels.remove(&self.scope);
        }
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
        let backlog = match scope {
            Scope::All => BACKLOG_OF_ALL,
            Scope::Subject(_) => BACKLOG,
        };
        let new_channel = || broadcast::Sender::new(backlog);
        let mut channels = self.channels.lock();
        let channel = channels.entry(scope.clone()).or_insert_with(new_channel);
        let events = channel.subscribe();
        drop(channels);
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

    /// Returns the scopes of the readers; at most `max`.
    #[cfg(feature = "postgres")]
    pub(super) fn scopes(&self, max: usize) -> Vec<Scope> {
        self.channels.lock().keys().take(max).cloned().collect()
    }

    pub(super) fn has_readers(&self, subject: Option<&str>) -> bool {
        for_subject(&self.channels.lock(), subject).next().is_some()
    }

    pub(super) fn send(&self, event: JobEvent) {
        let event = SharedEvent::new(event);
        for channel in for_subject(&self.channels.lock(), event.event.job.subject.as_deref()) {
            // Fails if the last reader has just left.
            let _ = channel.send(event.clone());
        }
    }
}
