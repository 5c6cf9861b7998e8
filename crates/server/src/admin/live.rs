//! What happens, as it happens: all events of the queue over SSE.

use std::{collections::VecDeque, convert::Infallible, mem, time::Duration};

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderValue, StatusCode};
use landfall_grants::{
    job::JobEvent,
    queue::{Queue, QueueError, Scope},
};
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
/// Events that are read at once.
const BATCH: usize = 200;
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
struct Told {
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
    // Watched before it is read, so that nothing is missed in between.
    let watched = admin.0.queue.newest();
    let newest = admin.0.queue.newest_now().await?;
    let said = headers.get("last-event-id");
    let after = said
        .and_then(|id| id.to_str().ok()?.trim().parse().ok())
        .or(asked.last_event_id)
        .unwrap_or(newest);
    let news = News {
        admin: admin.clone(),
        newest: watched,
        closing: admin.0.closing.clone(),
        after: after.min(newest),
        // The client's events are from a database that was replaced, by an older backup for example.
        is_reset: after > newest,
        until: Instant::now() + LASTS,
        ready: VecDeque::new(),
        _permit: permit,
    };
    let mut response = Sse::new(news.stream())
        .keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE))
        .into_response();
    // nginx would gather it.
    let headers = response.headers_mut();
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Where one reader of the stream stands.
struct News {
    admin: Admin,
    newest: watch::Receiver<i64>,
    closing: watch::Receiver<bool>,
    after: i64,
    /// Whether to tell the client that what it knows may be wrong.
    is_reset: bool,
    until: Instant,
    ready: VecDeque<JobEvent>,
    _permit: OwnedSemaphorePermit,
}

impl News {
    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        let opening = stream::once(async { Ok(Event::default().retry(AGAIN)) });
        let rest = stream::unfold(self, |mut news| async move {
            let event = news.next().await?;
            Some((Ok(event), news))
        });
        futures_util::StreamExt::chain(opening, rest)
    }

    /// The next one; `None` at the end of the server or of the database, and the client comes again.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if *self.closing.borrow() || Instant::now() >= self.until {
                return None;
            }
            if mem::take(&mut self.is_reset) {
                let data = json!({ "type": "reset", "at": time(self.admin.now()) });
                let reset = Event::default().id(self.after.to_string()).event("reset");
                return Some(reset.data(data.to_string()));
            }
            if let Some(event) = self.ready.pop_front() {
                self.after = event.number;
                return Some(told(event, &self.admin));
            }
            match read(&self.admin.0.queue, self.after).await {
                Ok(found) if found.is_empty() => {}
                Ok(found) => {
                    self.ready = found.into();
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "events can't be read for a dashboard");
                    return None;
                }
            }
            let closed = async {
                // What it returns can't be kept while something is waited for.
                let _ = self.closing.wait_for(|closing| *closing).await.is_ok();
            };
            tokio::select! {
                changed = self.newest.changed() => changed.ok()?,
                () = closed => return None,
                () = tokio::time::sleep_until(self.until) => return None,
            }
        }
    }
}

async fn read(queue: &Queue, after: i64) -> Result<Vec<JobEvent>, QueueError> {
    queue.events(&Scope::All, after, BATCH).await
}

fn told(event: JobEvent, admin: &Admin) -> Event {
    let kind = event.kind.as_str();
    let told = Told {
        r#type: kind,
        at: time(event.at),
        upload: Row::of(event.job, admin.now()),
    };
    let number = event.number.to_string();
    let shown = Event::default().id(number).event(kind);
    match shown.clone().json_data(&told) {
        Ok(event) => event,
        Err(error) => {
            tracing::error!(%error, "an event can't be written");
            shown
        }
    }
}
