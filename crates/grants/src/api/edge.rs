//! What all requests and answers have in common: origins, headers, the log.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};

use super::{Api, problem::Problem, request_id};

/// What browsers may send here beyond what uploads need.
const ALLOW_HEADERS: &str = "Last-Event-ID, X-CSRF-TOKEN, X-XSRF-TOKEN";
/// What scripts may read here beyond what uploads need.
const EXPOSE_HEADERS: &str = "Link";

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
    // A page of this server's own needs nobody's leave.
    let cors = cors.filter(|cors| cors.admits(&head.headers) || !is_own(&api, &head));
    let is_admitted = cors.is_none_or(|cors| cors.admits(&head.headers));
    let is_preflight = head.method == Method::OPTIONS;
    let mut response = match (is_admitted, is_preflight) {
        (false, _) => Problem::new(
            StatusCode::FORBIDDEN,
            "pages of this origin may not ask here",
        )
        .respond(api.settings.style),
        (true, true) => {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::NO_CONTENT;
            let methods = HeaderValue::from_static("GET, HEAD, POST, DELETE, OPTIONS");
            response.headers_mut().insert(header::ALLOW, methods);
            response
        }
        (true, false) => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let (Some(cors), true) = (cors, is_admitted)
        && let Some(origin) = head.headers.get(header::ORIGIN)
    {
        cors.decorate(origin, is_preflight, headers);
        let (name, more) = match is_preflight {
            true => (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS),
            false => (header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSE_HEADERS),
        };
        extend(headers, name, more);
    }
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
    let (is_tls, host) = api.settings.handler.seen_at(head);
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
    let list = headers.get(&name).and_then(|list| list.to_str().ok());
    let list = match list {
        Some(list) if !list.is_empty() => HeaderValue::from_str(&format!("{list}, {more}")),
        _ => Ok(HeaderValue::from_static(more)),
    };
    if let Ok(list) = list {
        headers.insert(name, list);
    }
}
