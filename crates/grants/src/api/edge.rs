//! What all requests and answers have in common: origins, headers, the log.

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

/// What an API allows pages beyond what uploads need.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// The methods that it has.
    pub methods: &'static str,
    /// What they may send.
    pub headers: &'static str,
    /// What their scripts may read.
    pub exposed: &'static str,
}

const OURS: Allowance = Allowance {
    methods: "GET, HEAD, POST, DELETE, OPTIONS",
    headers: "Last-Event-ID, X-CSRF-TOKEN, X-XSRF-TOKEN",
    exposed: "Link",
};

/// What a request's origin means for it and for its answer.
#[derive(Debug)]
pub struct Edge<'a> {
    allowance: Allowance,
    cors: Option<&'a Cors>,
    origin: Option<HeaderValue>,
    is_admitted: bool,
    is_preflight: bool,
}

impl<'a> Edge<'a> {
    /// Looks at the head of a request. `is_own` says whether a page of this server's own asks, which
    /// needs nobody's leave.
    pub fn new(
        allowance: Allowance,
        cors: Option<&'a Cors>,
        head: &Parts,
        is_own: impl FnOnce(&Parts) -> bool,
    ) -> Self {
        let is_friend = cors.is_none_or(|cors| cors.allows(&head.headers));
        let is_admitted = is_friend || is_own(head);
        Self {
            allowance,
            cors: cors.filter(|_| is_friend),
            origin: head.headers.get(header::ORIGIN).cloned(),
            is_admitted,
            is_preflight: head.method == Method::OPTIONS,
        }
    }

    /// Whether the page may ask at all.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.is_admitted
    }

    /// The answer to a preflight; `None` if the request is none.
    #[must_use]
    pub fn preflight(&self) -> Option<Response> {
        self.is_preflight.then(|| {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::NO_CONTENT;
            let methods = HeaderValue::from_static(self.allowance.methods);
            response.headers_mut().insert(header::ALLOW, methods);
            response
        })
    }

    /// Adds what every answer has to have.
    pub fn decorate(&self, headers: &mut HeaderMap) {
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
            true => (header::ACCESS_CONTROL_ALLOW_HEADERS, self.allowance.headers),
            false => (
                header::ACCESS_CONTROL_EXPOSE_HEADERS,
                self.allowance.exposed,
            ),
        };
        extend(headers, name, more);
    }
}

/// The way of every request.
pub(super) async fn around(
    State(api): State<Arc<Api>>,
    mut request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let head = parts.clone();
    request = Request::from_parts(parts, body);
    let cors = api.settings.cors.as_ref();
    let edge = Edge::new(OURS, cors, &head, |head| is_own(&api, head));
    let mut response = match (edge.is_admitted(), edge.preflight()) {
        (false, _) => Problem::new(
            StatusCode::FORBIDDEN,
            "pages of this origin may not ask here",
        )
        .respond(api.settings.style),
        (true, Some(response)) => response,
        (true, None) => next.run(request).await,
    };
    edge.decorate(response.headers_mut());
    tracing::debug!(
        method = %head.method,
        path = head.uri.path(),
        requestId = request_id(&head),
        status = response.status().as_u16(),
        "GrantResponseOutgoing"
    );
    response
}

/// Whether a request came from a page of this server, as its client sees it.
fn is_own(api: &Api, head: &Parts) -> bool {
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

/// Adds to a list in a header.
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

/// The request's `X-Request-ID`, as far as it is fit for a log.
#[must_use]
pub fn request_id(parts: &Parts) -> &str {
    let id = parts.headers.get("x-request-id");
    let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
    &id[..id.len().min(36)]
}

/// Why a body isn't there, or isn't what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoBody {
    /// It has more bytes than this.
    #[error("the request must not be longer than {0} bytes")]
    TooLong(usize),
    /// Its end didn't come.
    #[error("the request broke off")]
    Broken,
    /// Its end didn't come in time.
    #[error("the request took too long to arrive")]
    Slow,
    /// It isn't JSON; why.
    #[error("the request is not JSON: {0}")]
    NotJson(String),
    /// It is JSON, and no object.
    #[error("the request must be a JSON object")]
    NotObject,
}

impl NoBody {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Broken | Self::NotJson(_) | Self::NotObject => StatusCode::BAD_REQUEST,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

/// The whole body of a request, of at most `most` bytes.
///
/// # Errors
/// It is longer, broke off, or took longer than `time`.
///
/// # Cancel safety
/// May be dropped.
pub async fn read_body(body: Body, most: usize, time: Duration) -> Result<Bytes, NoBody> {
    let is_too_long = |error: &axum::Error| {
        let source = error.source();
        source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
    };
    match tokio::time::timeout(time, to_bytes(body, most)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if is_too_long(&error) => Err(NoBody::TooLong(most)),
        Ok(Err(_)) => Err(NoBody::Broken),
        Err(_) => Err(NoBody::Slow),
    }
}

/// The JSON object that a body is.
///
/// # Errors
/// It is none.
pub fn json_object(body: &[u8]) -> Result<Map<String, Value>, NoBody> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(NoBody::NotObject),
        Err(error) => Err(NoBody::NotJson(error.to_string())),
    }
}

/// The type of a body, without parameters, in small letters.
#[must_use]
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    Some(essence.to_ascii_lowercase())
}
