//! Events, which are emitted after an effect: created, progress, completed, terminated, expired.

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
    error::HandlerError,
    hook::{ClientResponse, RequestInfo},
    upload::Upload,
};

/// The acknowledgement of one sink.
#[async_trait]
pub(crate) trait Receipt: fmt::Debug + Send + Sync {
    /// Returns the receipt of another sink of the same event.
    fn of_another_sink(&self) -> Arc<dyn Receipt>;

    /// May be repeated after an error.
    async fn acknowledge(&self) -> Result<(), HandlerError>;
}

#[derive(Clone)]
pub(crate) struct StopHandle(pub(crate) Arc<dyn Fn(ClientResponse) + Send + Sync>);

impl fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StopHandle")
    }
}

macro_rules! event_kinds {
    ($($(#[$doc:meta])* $kind:ident $name:ident;)*) => {
        /// The kind of an event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventKind {
            $($(#[$doc])* $kind,)*
        }

        impl EventKind {
            /// Returns the name in lower case, such as `created`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($name),)*
                }
            }
        }

        /// A set of [`EventKind`]s.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[allow(missing_docs, reason = "each is the kind of that name")]
        pub struct EventKinds {
            $(pub $name: bool,)*
        }

        impl EventKinds {
            /// The empty set.
            pub const NONE: Self = Self { $($name: false,)* };

            /// All kinds.
            pub const ALL: Self = Self { $($name: true,)* };

            /// Returns the kinds in either set.
            #[must_use]
            pub const fn union(self, other: Self) -> Self {
                Self { $($name: self.$name || other.$name,)* }
            }

            /// Returns whether `kind` is in the set.
            #[must_use]
            pub const fn contains(self, kind: EventKind) -> bool {
                match kind {
                    $(EventKind::$kind => self.$name,)*
                }
            }
        }
    };
}

event_kinds! {
    /// An upload was created; none of its bytes are stored yet.
    Created created;
    /// The offset changed.
    ///
    /// Emitted at most once per interval, and once more before [`Completed`](Self::Completed).
    Progress progress;
    /// All bytes are stored.
    ///
    /// Emitted once per upload, also for [partial](crate::upload::Upload::is_partial) ones.
    Completed completed;
    /// The upload was removed by its client, a hook or the application.
    Terminated terminated;
    /// The upload was removed because it expired.
    Expired expired;
}

/// Why an upload was terminated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TerminationReason {
    /// Its client removed it.
    Client,
    /// A hook denied or stopped it.
    Hook,
    /// The application or an operator removed it: [`Handler::remove`](crate::Handler::remove).
    Application,
    /// The request that created it failed; its client does not know it.
    RolledBack,
}

static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// A fact about an upload.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Event {
    /// The kind.
    pub kind: EventKind,
    /// The sequence number: larger than those of earlier events of the upload. See [`Event::next_sequence`].
    pub sequence: u64,
    /// The time.
    pub at: SystemTime,
    /// The upload.
    pub upload: Arc<Upload>,
    /// The number of stored bytes.
    pub offset: u64,
    /// The request that caused it, if any.
    pub request: Option<Arc<RequestInfo>>,
    /// The reason of a [`EventKind::Terminated`], if known.
    pub reason: Option<TerminationReason>,
    /// The response to the client of the hook that denied or stopped it, if this process has it.
    pub denial: Option<Arc<ClientResponse>>,
    /// True if it is emitted again after a start, because a sink had not acknowledged it.
    pub redelivered: bool,
    pub(crate) stop_handle: Option<StopHandle>,
    pub(crate) receipt: Option<Arc<dyn Receipt>>,
}

impl Event {
    /// Creates an event with the current time and the next sequence number.
    #[must_use]
    pub fn new(
        kind: EventKind,
        upload: Arc<Upload>,
        offset: u64,
        request: Option<Arc<RequestInfo>>,
    ) -> Self {
        Self {
            kind,
            sequence: Self::next_sequence(),
            at: SystemTime::now(),
            upload,
            offset,
            request,
            reason: None,
            denial: None,
            redelivered: false,
            stop_handle: None,
            receipt: None,
        }
    }

    /// Returns the event's id, 32 hexadecimal digits.
    ///
    /// Creation, completion and removal of one upload have the same id however often they are emitted, also
    /// after a crash. Each progress event has its own.
    #[must_use]
    pub fn id(&self) -> String {
        match self.kind {
            EventKind::Progress => self.upload.event_id(&format!("progress {}", self.sequence)),
            kind => self.upload.event_id(kind.as_str()),
        }
    }

    /// Acknowledges a [`EventKind::Completed`]: it is not emitted again after a start.
    ///
    /// Call it when the application has done everything that follows the completion. Clones of the event share
    /// the acknowledgement. No effect on other events, or if the sink
    /// [does not acknowledge](Acknowledgement).
    ///
    /// # Errors
    /// Those of the store and the locker: the event is emitted again after a start. The call may be repeated.
    ///
    /// # Cancel safety
    /// If dropped, the event may be emitted again after a start.
    pub async fn acknowledge(&self) -> Result<(), HandlerError> {
        match &self.receipt {
            Some(receipt) => receipt.acknowledge().await,
            None => Ok(()),
        }
    }

    /// Stops and removes the upload of a progress event, in the background.
    ///
    /// A client that is sending gets `reply`, by default 400; one between two requests gets 404 next. No
    /// effect on other events, or if the upload is complete by then.
    pub fn stop(&self, reply: ClientResponse) {
        if let Some(handle) = &self.stop_handle {
            (handle.0)(reply);
        }
    }

    /// Returns a sequence number for an event or a hook call, in microseconds since 1970.
    ///
    /// It is larger than all earlier numbers of this process, and than those of others as far as their clocks agree.
    #[must_use]
    pub fn next_sequence() -> u64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let after = |last: u64| now.max(last.saturating_add(1));
        match SEQUENCE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
            Some(after(last))
        }) {
            Ok(last) | Err(last) => after(last),
        }
    }

    /// Returns the sequence number that was assigned last, in this process or, as far as it is
    /// [known](Self::skip_sequence), before.
    #[doc(hidden)]
    #[must_use]
    pub fn last_sequence() -> u64 {
        SEQUENCE.load(Ordering::Relaxed)
    }

    /// Lets the next sequence numbers be larger than `used`, which an earlier process has assigned: its clock may
    /// have been ahead.
    #[doc(hidden)]
    pub fn skip_sequence(used: u64) {
        SEQUENCE.fetch_max(used, Ordering::Relaxed);
    }
}

/// Reserved capacity for one event in an [`EventSink`].
pub struct Reservation(Box<dyn FnOnce(Event) + Send>);

impl Reservation {
    /// Creates a reservation; `emit` must accept the event at once, and cannot fail.
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

/// When a sink has acknowledged a [`EventKind::Completed`].
///
/// An upload whose completion a sink has not acknowledged is recorded as such. Each handler lists the uploads
/// of its store once, in the background, when it is created (without a tokio runtime: with its first request),
/// and emits unacknowledged completions again, in any order. An event may thus arrive twice, with the same
/// [id](Event::id): also if processes share a store, and one starts while another is busy with the event.
///
/// A store that cannot [list](crate::store::Enumerate) uploads has no second emission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Acknowledgement {
    /// Never: the sink stores prepared events and resolves them itself, or may miss events. This saves a write
    /// per upload.
    NotNeeded,
    /// When [`emit`](EventSink::emit) returns, or the [`Reservation`] does.
    #[default]
    OnEmit,
    /// When [`Event::acknowledge`] is called.
    Explicit,
}

/// A receiver of events.
///
/// [Completions](EventKind::Completed) are emitted at least once: see [`Acknowledgement`]. For at-least-once
/// delivery of all kinds, a sink stores [prepared](Self::prepare) events, deletes them when they
/// are [emitted](Self::emit), and [resolves](crate::Handler::resolve) the rest after a crash.
#[async_trait]
pub trait EventSink: fmt::Debug + Send + Sync + 'static {
    /// Returns the kinds of events it receives. Read once, when the handler is created.
    fn event_kinds(&self) -> EventKinds;

    /// Returns when it has acknowledged a completion.
    fn acknowledgement(&self) -> Acknowledgement {
        Acknowledgement::default()
    }

    /// Prepares events of one upload: they are emitted if their effects happen.
    ///
    /// A prepared event may be emitted hours later, or never. Each request that may cause it prepares it again, with the
    /// same [id](Event::id): a sink that several processes share stores it again, because another one may have resolved
    /// it meanwhile. Events of other kinds than the sink receives may be among them: a creation is prepared for sinks
    /// of creations or completions.
    ///
    /// # Errors
    /// The request fails with 503, without effect: for a sink that is full.
    async fn prepare(&self, _events: &[Event]) -> Result<(), BoxError> {
        Ok(())
    }

    /// Reserves capacity for one event, right before its effect.
    ///
    /// The event is then emitted to the [`Reservation`]; with `None`, to [`emit`](Self::emit).
    ///
    /// # Errors
    /// The request fails with 503, without effect: for a sink that is full.
    ///
    /// # Cancel safety
    /// A dropped call, like a dropped reservation, must leave nothing reserved.
    async fn reserve(&self) -> Result<Option<Reservation>, BoxError> {
        Ok(None)
    }

    /// Records that an event has happened, before any sink gets it: for sinks that store state.
    ///
    /// It is called again, with the same [id](Event::id), when a prepared event is
    /// [resolved](crate::Handler::resolve) after a crash, so it must be idempotent. The upload of a resolved
    /// removal has nothing but its id.
    ///
    /// # Errors
    /// No sink gets the event now. This is retried for ten minutes, and every sink gets the event once it
    /// succeeds. A sink that stored the [prepared](Self::prepare) event can resolve it meanwhile, which
    /// calls this as well.
    async fn record(&self, _event: &Event) -> Result<(), BoxError> {
        Ok(())
    }

    /// Receives an event. The request waits for this, so it should hand the event on and return.
    ///
    /// It is called even if the request is dropped.
    async fn emit(&self, event: Event);

    /// Receives a progress event; drops it if the sink is busy.
    fn emit_progress(&self, event: Event);

    /// Records the offset of an unfinished upload at the end of a request. Must not block.
    ///
    /// For sinks that track offsets, since progress events are rate-limited.
    fn record_offset(&self, _upload: &Arc<Upload>, _offset: u64) {}
}
