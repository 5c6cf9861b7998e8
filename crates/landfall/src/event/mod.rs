//! Telling after the effect: created, progress, completed, terminated.

mod channel;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;

pub use self::channel::{ChannelSink, EventStream, channel};
use crate::{
    BoxError,
    hook::{ClientResponse, RequestInfo},
    upload::Upload,
};

/// Stops the upload of an event.
#[derive(Clone)]
pub(crate) struct StopHandle(pub(crate) Arc<dyn Fn(ClientResponse) + Send + Sync>);

impl fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stopper")
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// An upload was created; none of its bytes are stored yet.
    Created,
    /// The offset moved; told once per interval in which it did, however many requests moved it, and
    /// once more before [`Completed`](Self::Completed).
    Progress,
    /// All bytes are stored. Told once per upload, also for
    /// [partial](crate::upload::Upload::is_partial) ones, which are no files.
    Completed,
    /// The upload was removed: by its client or by a hook.
    Terminated,
    /// The upload was removed because its time was over.
    Expired,
}

/// A set of [`EventKind`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "each is the kind of that name")]
pub struct EventKinds {
    pub created: bool,
    pub progress: bool,
    pub completed: bool,
    pub terminated: bool,
    pub expired: bool,
}

impl EventKinds {
    /// None of them.
    pub const NONE: Self = Self {
        created: false,
        progress: false,
        completed: false,
        terminated: false,
        expired: false,
    };

    /// All of them.
    pub const ALL: Self = Self {
        created: true,
        progress: true,
        completed: true,
        terminated: true,
        expired: true,
    };

    /// What is in one of the two sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self {
            created: self.created || other.created,
            progress: self.progress || other.progress,
            completed: self.completed || other.completed,
            terminated: self.terminated || other.terminated,
            expired: self.expired || other.expired,
        }
    }

    /// Whether `kind` is in the set.
    #[must_use]
    pub const fn contains(self, kind: EventKind) -> bool {
        match kind {
            EventKind::Created => self.created,
            EventKind::Progress => self.progress,
            EventKind::Completed => self.completed,
            EventKind::Terminated => self.terminated,
            EventKind::Expired => self.expired,
        }
    }
}

/// Why an upload was removed before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TerminationReason {
    /// Its client wanted it.
    Client,
    /// A hook refused or stopped it.
    Hook,
    /// The application or an operator wanted it: [`Handler::remove`](crate::Handler::remove).
    Application,
    /// The request that created it failed, and its client hears of no upload.
    RolledBack,
}

/// Something that happened to an upload.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// Of two events of one upload the later has the larger number: see [`next_sequence`].
    pub sequence: u64,
    /// When.
    pub at: SystemTime,
    /// Which.
    pub upload: Arc<Upload>,
    /// How many bytes are stored.
    pub offset: u64,
    /// The request in which it happened; `None` if no request caused it.
    pub request: Option<Arc<RequestInfo>>,
    /// Why, if it is [`EventKind::Terminated`] and that is known.
    pub reason: Option<TerminationReason>,
    pub(crate) stop_handle: Option<StopHandle>,
}

impl Event {
    /// An event of this moment.
    #[must_use]
    pub fn new(
        kind: EventKind,
        upload: Arc<Upload>,
        offset: u64,
        request: Option<Arc<RequestInfo>>,
    ) -> Self {
        Self {
            kind,
            sequence: next_sequence(),
            at: SystemTime::now(),
            upload,
            offset,
            request,
            reason: None,
            stop_handle: None,
        }
    }

    /// Names what happened, in 32 hexadecimal digits. Creation, completion and removal of one upload
    /// have the same id however often they are told, also after a crash; each progress has its own.
    #[must_use]
    pub fn id(&self) -> String {
        match self.kind {
            EventKind::Created => self.upload.event_id("created"),
            EventKind::Progress => self.upload.event_id(&format!("progress {}", self.sequence)),
            EventKind::Completed => self.upload.event_id("completed"),
            EventKind::Terminated => self.upload.event_id("terminated"),
            EventKind::Expired => self.upload.event_id("expired"),
        }
    }

    /// Stops the upload of a progress event, and removes it, in the background. A client that is sending
    /// bytes gets `reply`, or 400 without one; one that is between two requests gets 404 next. Does
    /// nothing to an upload that is complete by then, and to other events.
    pub fn stop(&self, reply: ClientResponse) {
        if let Some(stopper) = &self.stop_handle {
            (stopper.0)(reply);
        }
    }
}

/// Room for one event in an [`EventSink`].
pub struct Reservation(Box<dyn FnOnce(Event) + Send>);

impl Reservation {
    /// Makes a reservation; `emit` takes the event at once, and cannot fail.
    #[must_use]
    pub fn new(emit: impl FnOnce(Event) + Send + 'static) -> Self {
        Self(Box::new(emit))
    }

    pub(crate) fn emit(self, event: Event) {
        (self.0)(event);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reservation")
    }
}

/// Something that is told.
///
/// A sink that must not miss an event, whatever moment the process dies at, keeps what is
/// [announced](Self::announce), forgets it when it is [told](Self::tell), and
/// [settles](crate::Handler::resolve) what is left.
#[async_trait]
pub trait EventSink: fmt::Debug + Send + Sync + 'static {
    /// Which events it wants. Asked once, when the handler is built.
    fn event_kinds(&self) -> EventKinds;

    /// Hears what may happen next to one upload: these events are told if it does. What is announced
    /// before a body is taken in may take hours to come true, or never do; it can be announced again,
    /// with the same [id](Event::id). Events of kinds that the sink doesn't want are among them: a
    /// creation is announced to whoever wants creations or completions.
    ///
    /// # Errors
    /// The request fails with 503, and nothing has happened: for a sink that can keep no more.
    async fn prepare(&self, events: &[Event]) -> Result<(), BoxError> {
        let _ = events;
        Ok(())
    }

    /// Reserves room for one event, right before the effect that it tells of: the event then goes to
    /// the [`Reservation`]. `None`: it goes to [`tell`](Self::tell).
    ///
    /// # Errors
    /// The request fails with 503, and nothing has happened: for a sink that has no room.
    ///
    /// # Cancel safety
    /// A dropped call, like a dropped reservation, must leave nothing reserved.
    async fn reserve(&self) -> Result<Option<Reservation>, BoxError> {
        Ok(None)
    }

    /// Records that an event has happened, before any sink takes it: a sink that others depend on
    /// writes it down here. It is called again, with the same [id](Event::id), when a prepared event is
    /// [settled](crate::Handler::resolve) after a crash, so it must be idempotent. The upload of a
    /// removal that is settled has an id and nothing else.
    ///
    /// # Errors
    /// No sink takes the event now. This is called again for ten minutes, and every sink takes the
    /// event once it succeeds. A sink that stored the [prepared](Self::announce) event can settle it
    /// meanwhile, which calls this as well.
    async fn record(&self, event: &Event) -> Result<(), BoxError> {
        let _ = event;
        Ok(())
    }

    /// Takes an event. The request waits for this (progress excepted, which is left out when the
    /// sink isn't ready), so it should hand the event on and return.
    ///
    /// It is called even if the request is dropped: an effect and its event are one unit.
    async fn emit(&self, event: Event);

    /// Takes a progress event if it can do so at once.
    fn emit_progress(&self, event: Event);

    /// Hears that a request has ended and left the upload, unfinished, with so many bytes: whoever
    /// keeps how far uploads got needs that, since progress comes at intervals. Must not wait.
    fn record_offset(&self, upload: &Arc<Upload>, offset: u64) {
        let _ = (upload, offset);
    }
}

/// A number for an event or a question: larger than all that this process handed out before, and, as
/// far as clocks agree, than those of other and earlier processes (microseconds since 1970).
pub fn next_sequence() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
    let after = |last: u64| now.max(last.saturating_add(1));
    match LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
        Some(after(last))
    }) {
        Ok(last) | Err(last) => after(last),
    }
}
