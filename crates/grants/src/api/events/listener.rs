//! Somebody who listens.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, header, request::Parts};
use tokio::{
    sync::{broadcast, watch},
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::super::{
    Api,
    problem::{Problem, fault},
    request_id,
};
use super::{
    feed::{Phase, Subscription},
    frame::{self, EventFrame},
    seats::Seat,
};
use crate::{
    Caller,
    caller::Denied,
    queue::{Query, QueueError, Scope},
};

/// How many events are read at a time by those who are behind.
const PAGE: usize = 100;

/// A connection that is told of events.
pub(super) struct Listener {
    api: Arc<Api>,
    /// The request without its body, for looking again whether its sender may listen.
    parts: Parts,
    caller: Caller,
    scope: Scope,
    /// The number of the last event that was told or passed over.
    cursor: i64,
    /// Whether older events than those that come in must be read first.
    is_behind: bool,
    /// What is said before anything else.
    hello: Option<Bytes>,
    subscription: Subscription,
    beat: Interval,
    checked: Instant,
    shutdown: Option<watch::Receiver<bool>>,
    _seat: Seat,
}

/// What makes a listener go on.
enum Turn {
    Event(Result<Arc<EventFrame>, broadcast::error::RecvError>),
    Phase(Phase),
    Beat,
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
        caller: Caller,
        scope: Scope,
        last: Option<i64>,
        seat: Seat,
    ) -> Result<Self, Problem> {
        let subscription = api.feed.subscribe(scope.clone());
        let newest = api.settings.queue.newest_now().await;
        let newest = newest.map_err(|error| fault(&error, request_id(&parts)))?;
        let cursor = last.unwrap_or(newest).min(newest);
        // Sent at once, so that a client that is cut off before the first event continues here, too.
        let mut hello = format!("retry: 2000\nid: {cursor}\n\n");
        if last.is_some_and(|last| last > newest) {
            // The client's events are from a database that was replaced, by an older backup for
            // example: what it knows of its uploads may be wrong.
            hello += &present(&api, &caller, &scope, cursor)
                .await
                .map_err(|error| fault(&error, request_id(&parts)))?;
        }
        let heartbeat = api.settings.heartbeat;
        let mut beat = interval_at(Instant::now() + heartbeat, heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        keep_what_identifies(&mut parts.headers);
        Ok(Self {
            parts,
            caller,
            scope,
            cursor,
            is_behind: true,
            hello: Some(hello.into()),
            subscription,
            beat,
            checked: Instant::now(),
            shutdown: api.settings.shutdown.clone(),
            _seat: seat,
            api,
        })
    }

    /// What goes out next; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        if let Some(hello) = self.hello.take() {
            return Some(hello);
        }
        loop {
            let phase = *self.subscription.phase.borrow_and_update();
            if self.is_behind && phase == Phase::Live {
                match self.catch_up().await? {
                    missed if missed.is_empty() => continue,
                    missed => return Some(missed),
                }
            }
            match self.turn().await {
                Turn::Shutdown | Turn::Phase(Phase::Over) => return None,
                Turn::Phase(_) => {}
                Turn::Beat => {
                    if !self.may_stay().await {
                        return None;
                    }
                    return Some(Bytes::from_static(b":\n\n"));
                }
                Turn::Event(Ok(frame)) => {
                    if frame.is_after(self.cursor) {
                        self.cursor = frame.number();
                        return Some(frame.frame(self.caller.is_admin));
                    }
                }
                Turn::Event(Err(broadcast::error::RecvError::Lagged(_))) => self.is_behind = true,
                Turn::Event(Err(broadcast::error::RecvError::Closed)) => return None,
            }
        }
    }

    /// Waits for what makes it go on. Nothing is lost if it is dropped.
    async fn turn(&mut self) -> Turn {
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
        let is_live = !self.is_behind;
        tokio::select! {
            biased;
            () = shutdown => Turn::Shutdown,
            changed = self.subscription.phase.changed() => match changed {
                Ok(()) => Turn::Phase(*self.subscription.phase.borrow_and_update()),
                Err(_) => Turn::Phase(Phase::Over),
            },
            _ = self.beat.tick() => Turn::Beat,
            event = self.subscription.events.recv(), if is_live => Turn::Event(event),
        }
    }

    /// Events that it missed, some at a time; `None` if they can't be read: then it comes back.
    async fn catch_up(&mut self) -> Option<Bytes> {
        let settings = &self.api.settings;
        let _turn = self.api.reading.acquire().await.ok()?;
        let missed = settings.queue.events(&self.scope, self.cursor, PAGE).await;
        let missed = missed.inspect_err(|error| {
            let request_id = request_id(&self.parts);
            tracing::warn!(%error, requestId = request_id, "events can't be read");
        });
        let missed = missed.ok()?;
        self.is_behind = missed.len() == PAGE;
        let mut frames = String::new();
        for event in missed {
            self.cursor = self.cursor.max(event.number);
            frames += &frame::write(&event, settings.style, self.caller.is_admin);
        }
        Some(frames.into())
    }

    /// Whether it still may listen, looked at now and then: a key may have been revoked.
    async fn may_stay(&mut self) -> bool {
        if self.checked.elapsed() < self.api.settings.recheck {
            return true;
        }
        self.checked = Instant::now();
        let client = self.api.client(&self.parts);
        match self
            .api
            .settings
            .callers
            .identify(&self.parts, client)
            .await
        {
            Ok(now) => now.subject == self.caller.subject && now.is_admin == self.caller.is_admin,
            Err(Denied::Unavailable) => true,
            Err(_) => false,
        }
    }
}

/// The event that resets a client: the newest uploads as they are at an event.
async fn present(
    api: &Api,
    caller: &Caller,
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
        caller.is_admin,
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
