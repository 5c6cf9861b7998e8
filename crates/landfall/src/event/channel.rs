//! Events as a stream.

use std::time::Duration;

use async_trait::async_trait;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::timeout,
};

use super::{Event, EventKinds, EventSink, Reservation};
use crate::BoxError;

/// How long a request waits for room unless something else was said.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Makes a sink and the stream of its events; the stream holds `capacity` events.
///
/// Room for an event is reserved before its effect, so no event of a running process is lost,
/// whether or not its request is dropped. While the stream is full, requests with an effect to emit
/// wait; after [10 seconds](ChannelSink::timeout) they fail with 503 and have changed nothing. A
/// stream that is kept must therefore be polled; once it is dropped, events are discarded.
/// Progress is left out while the stream is full.
///
/// The stream lives in memory: what it holds when the process dies is lost, and so is an event whose
/// effect the process had begun. After a restart only a completion that was not recorded is emitted
/// again. Use a sink that stores what is [announced](EventSink::prepare), like the outbox of
/// `landfall-hooks`, where that is not enough.
#[must_use]
pub fn channel(wants: EventKinds, capacity: usize) -> (ChannelSink, EventStream) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let sink = ChannelSink {
        wants,
        sender,
        timeout: TIMEOUT,
    };
    (sink, EventStream(receiver))
}

/// The sending half of a [`channel`].
#[derive(Debug, Clone)]
pub struct ChannelSink {
    wants: EventKinds,
    sender: mpsc::Sender<Event>,
    timeout: Duration,
}

impl ChannelSink {
    /// Sets how long a request waits for room before it fails with 503.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

#[async_trait]
impl EventSink for ChannelSink {
    fn event_kinds(&self) -> EventKinds {
        self.wants
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
    /// Receives the next event; `None` once the handler is gone.
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
