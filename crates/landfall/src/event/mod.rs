//! Telling after the effect: created, progress, completed, terminated.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::{
    hook::{Reply, RequestInfo},
    upload::Upload,
};

/// Stops the upload of an event.
#[derive(Clone)]
pub(crate) struct Stopper(pub(crate) Arc<dyn Fn(Reply) + Send + Sync>);

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stopper")
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// An upload was created; none of its bytes are stored yet.
    Created,
    /// Bytes are coming in; told at most once per interval and upload.
    Progress,
    /// All bytes are stored. Told once per upload.
    Completed,
    /// The upload was removed: by its client, by a hook, or because it expired.
    Terminated,
}

/// A set of [`EventKind`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "each is the kind of that name")]
pub struct EventKinds {
    pub created: bool,
    pub progress: bool,
    pub completed: bool,
    pub terminated: bool,
}

impl EventKinds {
    /// All of them.
    pub const ALL: Self = Self {
        created: true,
        progress: true,
        completed: true,
        terminated: true,
    };

    /// Whether `kind` is in the set.
    #[must_use]
    pub const fn has(self, kind: EventKind) -> bool {
        match kind {
            EventKind::Created => self.created,
            EventKind::Progress => self.progress,
            EventKind::Completed => self.completed,
            EventKind::Terminated => self.terminated,
        }
    }
}

/// Something that happened to an upload.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// Grows from event to event; of two events of one upload the later has the larger number, also
    /// when the process was restarted in between (it starts from the clock, in microseconds).
    pub sequence: u64,
    /// When.
    pub at: SystemTime,
    /// Which.
    pub upload: Arc<Upload>,
    /// How many bytes are stored.
    pub offset: u64,
    /// The request in which it happened; `None` if no request caused it.
    pub request: Option<Arc<RequestInfo>>,
    pub(crate) stopper: Option<Stopper>,
}

impl Event {
    /// Stops the upload while its bytes are coming in, and removes it: the client gets `reply`, or
    /// 400 without one. Does nothing if the request has ended.
    pub fn stop(&self, reply: Reply) {
        if let Some(stopper) = &self.stopper {
            (stopper.0)(reply);
        }
    }
}

/// Something that is told.
#[async_trait]
pub trait EventSink: fmt::Debug + Send + Sync + 'static {
    /// Which events it wants. Asked once, when the handler is built.
    fn wants(&self) -> EventKinds;

    /// Takes an event. The request waits for this (progress excepted, which is left out when the
    /// sink isn't ready), so it should hand the event on and return.
    async fn tell(&self, event: Event);

    /// Takes a progress event if it can do so at once.
    fn tell_progress(&self, event: Event);
}

/// A sink and the stream of what it is told; the stream holds `capacity` events, and a full one holds
/// requests back rather than losing an event.
#[must_use]
pub fn channel(wants: EventKinds, capacity: usize) -> (ChannelSink, EventStream) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    (ChannelSink { wants, sender }, EventStream(receiver))
}

/// See [`channel`].
#[derive(Debug, Clone)]
pub struct ChannelSink {
    wants: EventKinds,
    sender: mpsc::Sender<Event>,
}

#[async_trait]
impl EventSink for ChannelSink {
    fn wants(&self) -> EventKinds {
        self.wants
    }

    async fn tell(&self, event: Event) {
        // Nobody listens any more: then nobody needs to know.
        let _ = self.sender.send(event).await;
    }

    fn tell_progress(&self, event: Event) {
        let _ = self.sender.try_send(event);
    }
}

/// See [`channel`].
#[derive(Debug)]
pub struct EventStream(mpsc::Receiver<Event>);

impl EventStream {
    /// The next event; `None` once the handler is gone.
    ///
    /// # Cancel safety
    /// No event is lost by dropping it.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

impl futures_core::Stream for EventStream {
    type Item = Event;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Event>> {
        self.0.poll_recv(cx)
    }
}

/// Hands out sequence numbers.
#[derive(Debug)]
pub(crate) struct Sequence(AtomicU64);

impl Sequence {
    pub(crate) fn from_clock() -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(AtomicU64::new(
            u64::try_from(now.as_micros()).unwrap_or_default(),
        ))
    }

    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
