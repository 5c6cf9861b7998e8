//! The middleware of the grant API: CORS, preflight requests, Laravel's format of errors, and a debug log.
//!
//! Runs before authentication: a preflight request has no credentials. Every response gets the headers, also an error,
//! so that pages can read the reason.

use std::sync::Arc;

use crate::{CorsContext, CorsRules, Problem, request_id};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;

use super::{Api, ApiStyle, laravel_response};

const CORS_RULES: CorsRules = CorsRules {
    methods: "GET, HEAD, POST, DELETE, OPTIONS",
    headers: "Last-Event-ID, X-CSRF-TOKEN, X-XSRF-TOKEN",
    exposed: "Link",
};

pub(super) async fn middleware(
    State(api): State<Arc<Api>>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let head = parts.clone();
    let request = Request::from_parts(parts, body);
    let settings = &api.settings;
    let (cors, csrf) = (settings.cors.as_ref(), settings.authenticator.csrf());
    let context = CorsContext::new(CORS_RULES, cors, &head, csrf);
    let mut response = match (context.is_allowed(), context.preflight()) {
        (false, _) => Problem::new(StatusCode::FORBIDDEN, "origin not allowed").into_response(),
        (true, Some(response)) => response,
        (true, None) => next.run(request).await,
    };
    if settings.style == ApiStyle::Laravel
        && let Some(problem) = response.extensions_mut().remove::<Problem>()
    {
        response = laravel_response(problem);
    }
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
