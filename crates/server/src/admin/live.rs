//! What happens, as it happens: all events of the queue over SSE.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderValue, StatusCode};
use landfall_grants::queue::{EventReader, QueueError, Scope, SharedEvent};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::Instant,
};

use super::{
    Admin,
    problem::Problem,
    row::{Row, time},
};

/// Streams at a time.
pub(super) const STREAMS: usize = 64;
/// How long a client waits before it comes again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a stream lasts: who comes again is looked at again.
const LASTS: Duration = Duration::from_secs(600);
/// A sign of life in between, so that nobody in the middle takes a silent stream for a dead one.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    last_event_id: Option<i64>,
}

#[derive(Serialize)]
struct EventJson {
    r#type: &'static str,
    at: String,
    upload: Row,
}

/// `GET events`: those after `Last-Event-ID`, or those that come.
pub(super) async fn events(
    State(admin): State<Admin>,
    asked: Result<Query<Asked>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(asked) = asked.map_err(|wrong| Problem::invalid(wrong.body_text()))?;
    let Ok(permit) = admin.0.streams.clone().try_acquire_owned() else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many dashboards are open.",
        ));
    };
    let newest = admin.0.queue.latest_event().await?;
    let issued = admin.0.queue.last_event_number().await?;
    let said = headers.get("last-event-id");
    let after = said
        .and_then(|id| id.to_str().ok()?.trim().parse().ok())
        .or(asked.last_event_id);
    let is_unknown = after.is_some_and(|after| after > issued);
    let after = after.filter(|_| !is_unknown).unwrap_or(newest);
    let reader = EventStreamReader {
        events: admin.0.queue.read_events(Scope::All, after),
        closing: admin.0.closing.clone(),
        // The client's events are from a database that was replaced, by an older backup for example.
        reset_at: is_unknown.then_some(newest),
        until: Instant::now() + LASTS,
        admin,
        _permit: permit,
    };
    let mut response = Sse::new(reader.stream())
        .keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE))
        .into_response();
    // nginx would gather it.
    let headers = response.headers_mut();
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// One stream of events.
struct EventStreamReader {
    admin: Admin,
    events: EventReader,
    closing: watch::Receiver<bool>,
    /// The number of the event that tells the client to read everything again.
    reset_at: Option<i64>,
    until: Instant,
    _permit: OwnedSemaphorePermit,
}

impl EventStreamReader {
    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        let opening = stream::once(async { Ok(Event::default().retry(AGAIN)) });
        let rest = stream::unfold(self, |mut reader| async move {
            let event = reader.next().await?;
            Some((Ok(event), reader))
        });
        futures_util::StreamExt::chain(opening, rest)
    }

    /// Returns the next event; `None` at the end of the server or of the database, and the client comes
    /// again.
    async fn next(&mut self) -> Option<Event> {
        if let Some(number) = self.reset_at.take() {
            let data = json!({ "type": "reset", "at": time(self.admin.now()) });
            let reset = Event::default().id(number.to_string()).event("reset");
            return Some(reset.data(data.to_string()));
        }
        let closed = async {
            // What it returns can't be kept while something is waited for.
            let _ = self.closing.wait_for(|closing| *closing).await.is_ok();
        };
        tokio::select! {
            biased;
            () = closed => None,
            () = tokio::time::sleep_until(self.until) => None,
            event = self.events.next() => match event {
                Ok(event) => Some(encode(&event, &self.admin)),
                Err(QueueError::Closed) => None,
                Err(error) => {
                    tracing::warn!(%error, "events cannot be read for a dashboard");
                    None
                }
            },
        }
    }
}

fn encode(shared: &SharedEvent, admin: &Admin) -> Event {
    let event = &shared.event;
    let kind = event.kind.as_str();
    let json = EventJson {
        r#type: kind,
        at: time(event.at),
        upload: Row::of(event.job.clone(), admin.now()),
    };
    let shown = Event::default().id(event.number.to_string()).event(kind);
    match shown.clone().json_data(&json) {
        Ok(event) => event,
        Err(error) => {
            tracing::error!(%error, "an event can't be written");
            shown
        }
    }
}
