//! A sink for embedders that handle events in their own process: a bounded channel of events.
//!
//! It stores nothing. After a crash, only completions are emitted again, because the description of the upload records
//! that they are unacknowledged.

use std::time::Duration;

use async_trait::async_trait;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::timeout,
};

use super::{Acknowledgement, Event, EventKinds, EventSink, Reservation};
use crate::BoxError;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Creates a sink and the stream of its events; the stream buffers `capacity` events.
///
/// Capacity for an event is reserved before its effect, so no event of a running process is lost, even if
/// its request is dropped. While the stream is full, requests that emit an event wait; after [10
/// seconds](ChannelSink::timeout) they fail with 503, without effect. A stream must therefore be polled;
/// after it is dropped, events are discarded. Progress events are dropped while the stream is full.
///
/// Each [`EventKind::Completed`](super::EventKind::Completed) must be [acknowledged](Event::acknowledge) when the
/// application has handled it. Those that were not when the process ended are emitted again after the next start
/// ([`Acknowledgement`](super::Acknowledgement)): none is lost in a crash, and one may arrive twice.
///
/// Events of other kinds are lost when the process dies. For at-least-once delivery of all kinds use a sink that
/// stores [prepared](EventSink::prepare) events, such as the outbox of `landfall-state`.
///
/// ```no_run
/// # async fn run(store: landfall::store::file::FileStore) -> Result<(), Box<dyn std::error::Error>> {
/// use landfall::{Config, Handler, event::{self, EventKinds}};
///
/// let kinds = EventKinds { completed: true, ..EventKinds::NONE };
/// let (sink, mut events) = event::channel(kinds, 64);
/// let uploads = Handler::new(Config::new(store.clone()).sink(sink))?;
/// while let Some(event) = events.next().await {
///     let id = &event.upload.id;
///     store.take(id, format!("library/{}", id.as_str())).await?;
///     event.acknowledge().await?;
/// }
/// # Ok(()) }
/// ```
#[must_use]
pub fn channel(kinds: EventKinds, capacity: usize) -> (ChannelSink, EventStream) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let sink = ChannelSink {
        kinds,
        sender,
        timeout: TIMEOUT,
        acknowledgement: Acknowledgement::Explicit,
    };
    (sink, EventStream(receiver))
}

/// The sending half of a [`channel`].
#[derive(Debug, Clone)]
pub struct ChannelSink {
    kinds: EventKinds,
    sender: mpsc::Sender<Event>,
    timeout: Duration,
    acknowledgement: Acknowledgement,
}

impl ChannelSink {
    /// Expects no acknowledgements: completions of a process that dies are lost. For displays and statistics.
    #[must_use]
    pub fn without_acknowledgement(mut self) -> Self {
        self.acknowledgement = Acknowledgement::NotNeeded;
        self
    }

    /// Sets how long a request waits for capacity before it fails with 503.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

#[async_trait]
impl EventSink for ChannelSink {
    fn event_kinds(&self) -> EventKinds {
        self.kinds
    }

    fn acknowledgement(&self) -> Acknowledgement {
        self.acknowledgement
    }

    async fn reserve(&self) -> Result<Option<Reservation>, BoxError> {
        let permit = match self.sender.clone().try_reserve_owned() {
            Ok(permit) => permit,
            // Without a receiver the event is discarded.
            Err(TrySendError::Closed(_)) => return Ok(None),
            Err(TrySendError::Full(sender)) => {
                match timeout(self.timeout, sender.reserve_owned()).await {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(_)) => return Ok(None),
                    Err(_) => {
                        let wait = self.timeout;
                        return Err(format!(
                            "the event stream has been full for {wait:?}; poll it"
                        )
                        .into());
                    }
                }
            }
        };
        Ok(Some(Reservation::new(move |event| {
            permit.send(event);
        })))
    }

    async fn emit(&self, event: Event) {
        // Without a receiver the event is discarded.
        let _ = self.sender.send(event).await;
    }

    fn emit_progress(&self, event: Event) {
        let _ = self.sender.try_send(event);
    }
}

/// The receiving half of a [`channel`].
#[derive(Debug)]
pub struct EventStream(mpsc::Receiver<Event>);

impl EventStream {
    /// Receives the next event; `None` after the handler was dropped.
    ///
    /// # Cancel safety
    /// May be dropped: no event is lost.
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
