//! Event streams: job events as server-sent events.
//!
//! One task per process reads new events and sends them to the listeners of their subjects. A
//! listener that resumes after its last event, or is slow, first reads stored events by number, so
//! that it receives every event once. Progress is not stored: a slow listener receives only the
//! latest.

mod listener;
mod stream_limits;

use std::{convert::Infallible, sync::Arc};

use crate::Problem;
use axum::{body::Body, extract::State, response::Response};
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};

use self::listener::Listener;
pub(super) use self::stream_limits::StreamLimiter;
pub use self::stream_limits::StreamLimits;
use super::{Api, list::ListParams, scope};

/// Disables response buffering in nginx.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) async fn listen(State(api): State<Arc<Api>>, parts: Parts) -> Result<Response, Problem> {
    let principal = api.authenticate(&parts).await?;
    let wanted = ListParams::read(parts.uri.query().unwrap_or_default())?;
    let scope = scope(&principal, wanted.subject.as_deref())?;
    let last = last_event_id(&parts.headers, wanted.last_event_id.as_deref())?;
    let permit = api.streams.acquire(&principal.subject)?;
    let listener = Listener::new(api, parts, principal, scope, last, permit).await?;
    let frames = stream::unfold(listener, |mut listener| async {
        let bytes = listener.next().await?;
        Some((Ok::<_, Infallible>(bytes), listener))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    let fixed = HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, fixed("text/event-stream"));
    headers.insert(X_ACCEL_BUFFERING, fixed("no"));
    Ok(response)
}

/// The header, which browsers send when they reconnect, takes precedence over the query parameter.
fn last_event_id(headers: &HeaderMap, query: Option<&str>) -> Result<Option<i64>, Problem> {
    let given = match headers.get("last-event-id") {
        Some(id) => Some(id.to_str().unwrap_or("?")),
        None => query,
    };
    match given.map(str::trim).filter(|id| !id.is_empty()) {
        None => Ok(None),
        Some(id) => match id.parse() {
            Ok(number @ 0..) => Ok(Some(number)),
            _ => Err(Problem::field("last_event_id", "invalid event id")),
        },
    }
}
