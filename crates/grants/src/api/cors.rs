//! CORS, common response headers, and the request log.

use std::{error::Error as _, sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use landfall::service::Cors;
use serde_json::{Map, Value};

use super::{Api, problem::Problem};

/// CORS headers that an API allows in addition to those of uploads.
#[derive(Debug, Clone, Copy)]
pub struct CorsRules {
    /// Allowed methods.
    pub methods: &'static str,
    /// Allowed request headers.
    pub headers: &'static str,
    /// Exposed response headers.
    pub exposed: &'static str,
}

const CORS_RULES: CorsRules = CorsRules {
    methods: "GET, HEAD, POST, DELETE, OPTIONS",
    headers: "Last-Event-ID, X-CSRF-TOKEN, X-XSRF-TOKEN",
    exposed: "Link",
};

/// The CORS context of a request.
#[derive(Debug)]
pub struct CorsContext<'a> {
    rules: CorsRules,
    cors: Option<&'a Cors>,
    origin: Option<HeaderValue>,
    is_allowed: bool,
    is_preflight: bool,
}

impl<'a> CorsContext<'a> {
    /// Evaluates the origin of a request. Pages of this server are always allowed.
    pub fn new(
        rules: CorsRules,
        cors: Option<&'a Cors>,
        head: &Parts,
        is_same_origin: impl FnOnce(&Parts) -> bool,
    ) -> Self {
        let is_listed = cors.is_none_or(|cors| cors.allows(&head.headers));
        let is_allowed = is_listed || is_same_origin(head);
        Self {
            rules,
            cors: cors.filter(|_| is_listed),
            origin: head.headers.get(header::ORIGIN).cloned(),
            is_allowed,
            is_preflight: head.method == Method::OPTIONS,
        }
    }

    /// Returns whether the origin is allowed.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.is_allowed
    }

    /// Returns the response to a preflight request.
    #[must_use]
    pub fn preflight(&self) -> Option<Response> {
        self.is_preflight.then(|| {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::NO_CONTENT;
            let methods = HeaderValue::from_static(self.rules.methods);
            response.headers_mut().insert(header::ALLOW, methods);
            response
        })
    }

    /// Adds the common headers and CORS headers to a response.
    pub fn apply(&self, headers: &mut HeaderMap) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        let Some(cors) = self.cors else {
            return;
        };
        cors.apply(self.origin.as_ref(), self.is_preflight, headers);
        if self.origin.is_none() {
            return;
        }
        let (name, more) = match self.is_preflight {
            true => (header::ACCESS_CONTROL_ALLOW_HEADERS, self.rules.headers),
            false => (header::ACCESS_CONTROL_EXPOSE_HEADERS, self.rules.exposed),
        };
        extend(headers, name, more);
    }
}

pub(super) async fn middleware(
    State(api): State<Arc<Api>>,
    mut request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let head = parts.clone();
    request = Request::from_parts(parts, body);
    let cors = api.settings.cors.as_ref();
    let context = CorsContext::new(CORS_RULES, cors, &head, |head| is_same_origin(&api, head));
    let mut response = match (context.is_allowed(), context.preflight()) {
        (false, _) => {
            Problem::new(StatusCode::FORBIDDEN, "origin not allowed").respond(api.settings.style)
        }
        (true, Some(response)) => response,
        (true, None) => next.run(request).await,
    };
    context.apply(response.headers_mut());
    tracing::debug!(
        method = %head.method,
        path = head.uri.path(),
        requestId = request_id(&head),
        status = response.status().as_u16(),
        "GrantResponseOutgoing"
    );
    response
}

/// Returns whether a request comes from a page of this server.
fn is_same_origin(api: &Api, head: &Parts) -> bool {
    let (is_tls, host) = api.settings.handler.external_origin(head);
    let (scheme, port) = if is_tls {
        ("https", ":443")
    } else {
        ("http", ":80")
    };
    let page = head.headers.get(header::ORIGIN);
    let page = page.and_then(|page| page.to_str().ok()).unwrap_or_default();
    host.is_some_and(|host| {
        let host = host.strip_suffix(port).unwrap_or(&host);
        page.eq_ignore_ascii_case(&format!("{scheme}://{host}"))
    })
}

/// Appends to a list in a header.
fn extend(headers: &mut HeaderMap, name: http::HeaderName, more: &'static str) {
    if more.is_empty() {
        return;
    }
    let list = headers.get(&name).and_then(|list| list.to_str().ok());
    let list = match list {
        Some(list) if !list.is_empty() => HeaderValue::from_str(&format!("{list}, {more}")),
        _ => Ok(HeaderValue::from_static(more)),
    };
    if let Ok(list) = list {
        headers.insert(name, list);
    }
}

/// Returns the request's `X-Request-ID`, truncated for logging.
#[must_use]
pub fn request_id(parts: &Parts) -> &str {
    let id = parts.headers.get("x-request-id");
    let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
    &id[..id.len().min(36)]
}

/// An error in a request body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonBodyError {
    /// Larger than this number of bytes.
    #[error("request body larger than {0} bytes")]
    TooLong(usize),
    /// The connection was closed.
    #[error("incomplete request body")]
    Broken,
    /// Not received in time.
    #[error("request body not received in time")]
    Slow,
    /// Invalid JSON, with the cause.
    #[error("request body is not valid JSON: {0}")]
    NotJson(String),
    /// JSON, but not an object.
    #[error("request body must be a JSON object")]
    NotObject,
}

impl JsonBodyError {
    /// Returns the HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Broken | Self::NotJson(_) | Self::NotObject => StatusCode::BAD_REQUEST,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

/// Reads a request body of at most `max_bytes`.
///
/// # Errors
/// It is larger, incomplete, or not received within `duration`.
///
/// # Cancel safety
/// Safe to drop.
pub async fn read_body(body: Body, most: usize, time: Duration) -> Result<Bytes, JsonBodyError> {
    let is_too_long = |error: &axum::Error| {
        let source = error.source();
        source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
    };
    match tokio::time::timeout(time, to_bytes(body, most)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if is_too_long(&error) => Err(JsonBodyError::TooLong(most)),
        Ok(Err(_)) => Err(JsonBodyError::Broken),
        Err(_) => Err(JsonBodyError::Slow),
    }
}

/// Parses a JSON object.
///
/// # Errors
/// The body is not JSON, or not an object.
pub fn json_object(body: &[u8]) -> Result<Map<String, Value>, JsonBodyError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(JsonBodyError::NotObject),
        Err(error) => Err(JsonBodyError::NotJson(error.to_string())),
    }
}

/// Returns the media type of a body in lower case, without parameters.
#[must_use]
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    Some(essence.to_ascii_lowercase())
}
