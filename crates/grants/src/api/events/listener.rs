//! Somebody who listens.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, header, request::Parts};
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::super::{
    Api,
    problem::{Problem, fault},
    request_id,
};
use super::{frame, stream_limits::StreamPermit};
use crate::{
    Principal,
    auth::AuthError,
    queue::{EventReader, Query, QueueError, Scope, SharedEvent},
};

/// A connection that is told of events.
pub(super) struct Listener {
    api: Arc<Api>,
    /// The request without its body, for looking again whether its sender may listen.
    parts: Parts,
    principal: Principal,
    /// What is sent before anything else.
    preamble: Option<Bytes>,
    events: EventReader,
    beat: Interval,
    checked: Instant,
    shutdown: Option<watch::Receiver<bool>>,
    _seat: StreamPermit,
}

/// What ends a listener's wait.
enum Wake {
    Event(Result<Arc<SharedEvent>, QueueError>),
    Heartbeat,
    Shutdown,
}

impl Listener {
    /// Joins those who listen: after the event `last`, or from now on.
    ///
    /// # Errors
    /// What "now" is can't be found out.
    pub(super) async fn new(
        api: Arc<Api>,
        mut parts: Parts,
        principal: Principal,
        scope: Scope,
        last: Option<i64>,
        seat: StreamPermit,
    ) -> Result<Self, Problem> {
        let queue = &api.settings.queue;
        let numbers = async {
            Ok((
                queue.latest_event().await?,
                queue.last_event_number().await?,
            ))
        };
        let numbers: Result<_, QueueError> = numbers.await;
        let (newest, issued) = numbers.map_err(|error| fault(&error, request_id(&parts)))?;
        let cursor = last.filter(|last| *last <= issued).unwrap_or(newest);
        // Sent at once, so that a client that is cut off before the first event continues here, too.
        let events = api.settings.queue.read_events(scope.clone(), cursor);
        let mut preamble = format!("retry: 2000\nid: {cursor}\n\n");
        if last.is_some_and(|last| last > issued) {
            // The client's events are from a database that was replaced, by an older backup for
            // example: what it knows of its uploads may be wrong.
            preamble += &present(&api, &principal, &scope, cursor)
                .await
                .map_err(|error| fault(&error, request_id(&parts)))?;
        }
        let heartbeat = api.settings.heartbeat;
        let mut beat = interval_at(Instant::now() + heartbeat, heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        keep_what_identifies(&mut parts.headers);
        Ok(Self {
            parts,
            principal,
            preamble: Some(preamble.into()),
            events,
            beat,
            checked: Instant::now(),
            shutdown: api.settings.shutdown.clone(),
            _seat: seat,
            api,
        })
    }

    /// Returns what is sent next; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        if let Some(preamble) = self.preamble.take() {
            return Some(preamble);
        }
        match self.wake().await {
            Wake::Shutdown => None,
            Wake::Heartbeat => {
                let reauthorize = self.reauthorize().await;
                reauthorize.then(|| Bytes::from_static(b":\n\n"))
            }
            Wake::Event(Ok(event)) => {
                let style = self.api.settings.style;
                Some(frame::frame(&event, style, self.principal.is_admin))
            }
            Wake::Event(Err(error)) => {
                if !matches!(error, QueueError::Closed) {
                    let request_id = request_id(&self.parts);
                    tracing::warn!(%error, requestId = request_id, "events cannot be read");
                }
                None
            }
        }
    }

    /// Waits for something to send. Nothing is lost if it is dropped.
    async fn wake(&mut self) -> Wake {
        let shutdown = async {
            let is_on = match &mut self.shutdown {
                Some(shutdown) => shutdown.wait_for(|is_on| *is_on).await.is_ok(),
                None => false,
            };
            // Without another end there is none.
            if !is_on {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = shutdown => Wake::Shutdown,
            _ = self.beat.tick() => Wake::Heartbeat,
            event = self.events.next() => Wake::Event(event),
        }
    }

    /// Whether it still may listen, looked at now and then: a key may have been revoked.
    async fn reauthorize(&mut self) -> bool {
        if self.checked.elapsed() < self.api.settings.recheck {
            return true;
        }
        self.checked = Instant::now();
        let client = self.api.client(&self.parts);
        match self
            .api
            .settings
            .authenticator
            .authenticate(&self.parts, client)
            .await
        {
            Ok(now) => {
                now.subject == self.principal.subject && now.is_admin == self.principal.is_admin
            }
            Err(AuthError::Unavailable) => true,
            Err(_) => false,
        }
    }
}

/// The event that resets a client: the newest uploads as they are at an event.
async fn present(
    api: &Api,
    principal: &Principal,
    scope: &Scope,
    number: i64,
) -> Result<String, QueueError> {
    let settings = &api.settings;
    let _permit = api.reading.acquire().await;
    let mut query = Query::new(scope.clone());
    query.newest_first = true;
    let page = settings.queue.list(&query).await?;
    let now = settings.queue.now();
    Ok(frame::reset(
        number,
        now,
        &page,
        settings.style,
        principal.is_admin,
    ))
}

/// A thousand listeners shouldn't keep a thousand times what browsers send besides.
fn keep_what_identifies(headers: &mut HeaderMap) {
    const NOT_NEEDED: [header::HeaderName; 4] = [
        header::ACCEPT,
        header::ACCEPT_ENCODING,
        header::ACCEPT_LANGUAGE,
        header::USER_AGENT,
    ];
    for name in NOT_NEEDED {
        headers.remove(name);
    }
}
