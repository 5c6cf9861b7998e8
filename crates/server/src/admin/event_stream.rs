//! Sends job events to the dashboard as server-sent events, from the last event that the client has seen.
//!
//! At most `MAX_STREAMS` streams are open. Each ends after `STREAM_LIFETIME`, when the server shuts down, or when the
//! database fails; the client then reconnects with its last event id. Reading events must not delay a shutdown.

use std::{
    convert::Infallible,
    time::{Duration, SystemTime},
};

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, StatusCode};
use landfall_access::Problem;
use landfall_hooks::rfc3339;
use landfall_state::queue::{EventReader, QueueError, Scope, SharedEvent};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::Instant,
};

use super::{Admin, invalid, job_json::job_json};

pub(super) const MAX_STREAMS: usize = 64;
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// A client that reconnects is authenticated again.
const STREAM_LIFETIME: Duration = Duration::from_secs(600);
/// Proxies close an idle stream.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamQuery {
    last_event_id: Option<i64>,
}

pub(super) async fn events(
    State(admin): State<Admin>,
    query: Result<Query<StreamQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| invalid(error.body_text()))?;
    let Ok(permit) = admin.0.streams.clone().try_acquire_owned() else {
        let detail = "Too many event streams are open.";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    };
    let newest = admin.0.parts.queue.latest_event().await?;
    let issued = admin.0.parts.queue.last_event_number().await?;
    let header = headers.get("last-event-id");
    let header = header.and_then(|id| id.to_str().ok()?.trim().parse().ok());
    let after = header.or(query.last_event_id);
    let is_unknown = after.is_some_and(|after| after > issued);
    let after = after.filter(|_| !is_unknown).unwrap_or(newest);
    let reader = EventStreamReader {
        events: admin.0.parts.queue.read_events(Scope::All, after),
        closing: admin.0.parts.closing.clone(),
        admin,
        until: Instant::now() + STREAM_LIFETIME,
        _permit: permit,
    };
    let retry = Event::default().retry(RETRY_DELAY);
    // The client's last event is unknown: the database was replaced, for example by an older backup. Its
    // page reloads everything.
    let reset = is_unknown.then(|| {
        let data = json!({ "type": "reset", "at": rfc3339::millis(SystemTime::now()) });
        let reset = Event::default().id(newest.to_string()).event("reset");
        reset.data(data.to_string())
    });
    let preamble = stream::iter([Some(retry), reset].into_iter().flatten());
    let events = stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((event, reader))
    });
    let events = preamble.chain(events).map(Ok::<_, Infallible>);
    let mut response = Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL))
        .into_response();
    // Disables buffering in nginx.
    let headers = response.headers_mut();
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

struct EventStreamReader {
    admin: Admin,
    events: EventReader,
    closing: watch::Receiver<bool>,
    until: Instant,
    _permit: OwnedSemaphorePermit,
}

impl EventStreamReader {
    /// `None` when the server or the database is closed. The client reconnects.
    async fn next(&mut self) -> Option<Event> {
        let closed = async {
            // The returned guard must not be held across an await point.
            let _ = self.closing.wait_for(|closing| *closing).await.is_ok();
        };
        tokio::select! {
            biased;
            () = closed => None,
            () = tokio::time::sleep_until(self.until) => None,
            event = self.events.next() => match event {
                Ok(event) => Some(encode(&self.admin, &event)),
                Err(QueueError::Closed) => None,
                Err(error) => {
                    tracing::warn!(%error, "failed to read events for a dashboard");
                    None
                }
            },
        }
    }
}

fn encode(admin: &Admin, shared: &SharedEvent) -> Event {
    let event = &shared.event;
    let kind = event.kind.as_str();
    let data = json!({ "type": kind, "at": rfc3339::millis(event.at), "upload": job_json(admin, &event.job) });
    let frame = Event::default().id(event.number.to_string()).event(kind);
    frame.data(data.to_string())
}
