//! One event stream: where it starts, its events in the format of the API, its keep-alives, and its end.
//!
//! Authenticates again when a keep-alive is due and the interval has passed. A principal that has changed ends the
//! stream; unavailable authentication does not. So the stream keeps the headers of its request, without a few that
//! authentication does not need.

use std::sync::Arc;

use crate::{Problem, auth::AuthError, request_id};
use bytes::Bytes;
use http::{HeaderMap, header, request::Parts};
use landfall_hooks::rfc3339;
use landfall_state::queue::{EventReader, Principal, Query, QueueError, Scope, SharedEvent};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::super::{Api, ApiStyle, fault, job_json};
use super::stream_limits::StreamPermit;

pub(super) struct Listener {
    api: Arc<Api>,
    parts: Parts,
    principal: Principal,
    preamble: Option<Bytes>,
    events: EventReader,
    keep_alive: Interval,
    checked: Instant,
    shutdown: Option<watch::Receiver<bool>>,
    _permit: StreamPermit,
}

impl Listener {
    /// Starts after the event `last`, or with the next event.
    pub(super) async fn new(
        api: Arc<Api>,
        mut parts: Parts,
        principal: Principal,
        scope: Scope,
        last: Option<i64>,
        permit: StreamPermit,
    ) -> Result<Self, Problem> {
        let queue = &api.settings.queue;
        let newest = queue.latest_event().await.map_err(fault(&parts))?;
        let issued = queue.last_event_number().await.map_err(fault(&parts))?;
        let cursor = last.filter(|last| *last <= issued).unwrap_or(newest);
        let events = api.settings.queue.read_events(scope.clone(), cursor);
        // Sent at once, so that a client that is disconnected before the first event resumes here.
        let mut preamble = format!("retry: 2000\nid: {cursor}\n\n");
        if last.is_some_and(|last| last > issued) {
            // The database was replaced, for example by an older backup: the client's state may be
            // wrong.
            preamble += &reset(&api, &principal, &scope, cursor)
                .await
                .map_err(fault(&parts))?;
        }
        let interval = api.settings.keep_alive_interval;
        let mut keep_alive = interval_at(Instant::now() + interval, interval);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        keep_what_identifies(&mut parts.headers);
        Ok(Self {
            parts,
            principal,
            preamble: Some(preamble.into()),
            events,
            keep_alive,
            checked: Instant::now(),
            shutdown: api.settings.shutdown.clone(),
            _permit: permit,
            api,
        })
    }

    pub(super) async fn next(&mut self) -> Option<Bytes> {
        if let Some(preamble) = self.preamble.take() {
            return Some(preamble);
        }
        let shutdown = async {
            let is_on = match &mut self.shutdown {
                Some(shutdown) => shutdown.wait_for(|is_on| *is_on).await.is_ok(),
                None => false,
            };
            if !is_on {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = shutdown => None,
            _ = self.keep_alive.tick() => {
                let reauthorize = self.reauthorize().await;
                reauthorize.then(|| Bytes::from_static(b":\n\n"))
            }
            event = self.events.next() => match event {
                Ok(event) => {
                    let style = self.api.settings.style;
                    Some(frame(&event, style, self.principal.is_admin))
                }
                Err(QueueError::Closed) => None,
                Err(error) => {
                    let request_id = request_id(&self.parts);
                    tracing::warn!(%error, requestId = request_id, "failed to read events");
                    None
                }
            },
        }
    }

    /// An API key may have been revoked.
    async fn reauthorize(&mut self) -> bool {
        if self.checked.elapsed() < self.api.settings.reauthorize_interval {
            return true;
        }
        self.checked = Instant::now();
        let settings = &self.api.settings;
        let client = settings.client.of_request(&self.parts);
        match settings
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

/// Replaces the client's list of uploads by the newest ones at an event.
async fn reset(
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
    let rows = page.jobs.iter();
    let row = |job| job_json::job_json(job, settings.style, principal.is_admin);
    let rows: Vec<_> = rows.map(row).collect();
    let data = json!({
        "type": "reset",
        "at": rfc3339::millis(settings.queue.now()),
        "uploads": rows,
        "has_more": page.has_more,
    });
    Ok(format!("id: {number}\nevent: reset\ndata: {data}\n\n"))
}

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

fn frame(event: &SharedEvent, style: ApiStyle, with_subject: bool) -> Bytes {
    let at = usize::from(with_subject) + 2 * usize::from(style == ApiStyle::Laravel);
    event.encoding(at, || encode(event, style, with_subject).into())
}

/// JSON has no line breaks, so `data` is one line.
fn encode(shared: &SharedEvent, style: ApiStyle, with_subject: bool) -> String {
    let event = &shared.event;
    let name = event.kind.as_str();
    let data = json!({
        "type": name,
        "at": rfc3339::millis(event.at),
        "upload": job_json::job_json(&event.job, style, with_subject),
    });
    format!("id: {}\nevent: {name}\ndata: {data}\n\n", event.number)
}
