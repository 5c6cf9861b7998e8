//! CORS for the JSON APIs, on top of the rules for uploads.
//!
//! The origin is evaluated once, when the context is created; pages of this server are always allowed. Every response
//! forbids caches to store it. Also has `request_id`, the id of a request in log messages.

use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use landfall::service::Cors;

use crate::auth::CsrfPolicy;

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
    pub fn new(rules: CorsRules, cors: Option<&'a Cors>, head: &Parts, csrf: &CsrfPolicy) -> Self {
        let is_listed = cors.is_none_or(|cors| cors.allows(&head.headers));
        let is_allowed = is_listed || csrf.is_same_origin(head);
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
        let fixed = HeaderValue::from_static;
        headers.insert(header::CACHE_CONTROL, fixed("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
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
