//! Who may come in: whoever has the admin key, or the API key of an admin.
//!
//! Programs send it with each request (`Authorization: Bearer`). Browsers show it once and get a
//! cookie; since they send that along whoever's page asks, what changes anything must come from the
//! dashboard's own page.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use axum::{
    Form,
    extract::{Request, State, rejection::FormRejection},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use landfall::service::Peer;
use landfall_grants::{
    TokenHash,
    auth::{FailedAttempt, KeySecret, is_cross_site},
};
use serde::Deserialize;

use super::{Admin, page, problem::Problem, session::Whose};

const ORIGIN_REFUSED: &str = "This must come from the dashboard's own page.";

/// Why somebody stays outside.
enum No {
    /// No key and no session, or wrong ones.
    Unknown,
    /// The key or session is good, but a page of somebody else's sent it.
    Foreign,
    /// Too many wrong keys came from there.
    TooMany(Duration),
    /// Whether the key is good can't be found out.
    Trouble(Problem),
}

/// Lets requests to the API through that may be there.
pub(super) async fn guard(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match admin.may(&parts).await {
        Ok(()) => private(next.run(Request::from_parts(parts, body)).await),
        Err(no) => private(refusal(no)),
    }
}

fn refusal(no: No) -> Response {
    let (status, message) = match no {
        No::Unknown => (
            StatusCode::UNAUTHORIZED,
            "Log in, or send the admin key as Authorization: Bearer KEY.",
        ),
        No::Foreign => (StatusCode::FORBIDDEN, ORIGIN_REFUSED),
        No::TooMany(_) => (
            StatusCode::TOO_MANY_REQUESTS,
            "Too many wrong keys came from there; try again later.",
        ),
        No::Trouble(problem) => return problem.into_response(),
    };
    let mut response = Problem::new(status, message).into_response();
    let headers = response.headers_mut();
    match no {
        No::Unknown => {
            let challenge = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        No::TooMany(wait) => {
            headers.insert(header::RETRY_AFTER, seconds(wait));
        }
        _ => {}
    }
    response
}

fn seconds(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

/// Keeps caches from storing a response that says nothing of it, such as the router's own.
pub(super) async fn uncached(mut response: Response) -> Response {
    if !response.headers().contains_key(header::CACHE_CONTROL) {
        response = private(response);
    }
    response
}

/// Nobody in between keeps it.
fn private(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

#[derive(Deserialize)]
pub(super) struct Shown {
    key: String,
}

/// `POST login`: a key for a session.
pub(super) async fn login(
    State(admin): State<Admin>,
    parts: Parts,
    shown: Result<Form<Shown>, FormRejection>,
) -> Response {
    if !admin.0.cross_site.allows(&parts) {
        return page::login(
            StatusCode::FORBIDDEN,
            "This form can't be sent from another page.",
        );
    }
    let Ok(Form(Shown { key })) = shown else {
        return page::login(StatusCode::BAD_REQUEST, "Enter the admin key.");
    };
    match admin.opens(&parts, key.trim()).await {
        Ok(whose) => {
            let (https, _) = admin.0.handler.external_origin(&parts);
            let cookie = admin.0.sessions.begin(whose, admin.now(), https);
            tracing::info!(
                client = admin.address(&parts).map(tracing::field::display),
                "somebody logged in to the dashboard"
            );
            to_page(cookie)
        }
        Err(No::TooMany(wait)) => {
            let mut response = page::login(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many wrong keys came from your address. Try again in a few minutes.",
            );
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds(wait));
            response
        }
        Err(No::Trouble(problem)) => page::login(problem.status, &problem.message),
        Err(No::Unknown | No::Foreign) => {
            page::login(StatusCode::UNAUTHORIZED, "That is not the admin key.")
        }
    }
}

/// `POST logout`.
pub(super) async fn logout(State(admin): State<Admin>, parts: Parts) -> Response {
    if !admin.0.cross_site.allows(&parts) {
        return private(Problem::new(StatusCode::FORBIDDEN, ORIGIN_REFUSED).into_response());
    }
    let (https, _) = admin.0.handler.external_origin(&parts);
    let cookie = admin.0.sessions.end(&parts.headers, admin.now(), https);
    to_page(cookie)
}

/// Sends the browser to the page, which lies beside `login` and `logout`.
fn to_page(cookie: HeaderValue) -> Response {
    let headers = [
        (header::LOCATION, HeaderValue::from_static("./")),
        (header::SET_COOKIE, cookie),
    ];
    private((StatusCode::SEE_OTHER, headers).into_response())
}

impl Admin {
    pub(super) fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn address(&self, parts: &Parts) -> Option<IpAddr> {
        let peer = parts.extensions.get::<Peer>();
        (self.0.client)(&parts.headers, peer.and_then(|peer| peer.address))
    }

    /// Whether a session came with it that holds.
    pub(super) async fn has_session(&self, headers: &HeaderMap) -> Result<bool, Problem> {
        Ok(match self.0.sessions.of(headers, self.now()) {
            None => false,
            Some(Whose::Admin) => true,
            // The key may have been revoked meanwhile.
            Some(Whose::Key(id)) => {
                let keys = self.0.queue.keys().await?;
                keys.iter().any(|key| key.id == id && self.is_good(key))
            }
        })
    }

    fn is_good(&self, key: &landfall_grants::queue::ApiKey) -> bool {
        key.is_admin && key.expires_at.is_none_or(|until| self.now() < until)
    }

    /// Whether a request may do what it wants.
    async fn may(&self, parts: &Parts) -> Result<(), No> {
        if let Some(said) = parts.headers.get(header::AUTHORIZATION) {
            let key = said.to_str().ok().and_then(bearer).ok_or(No::Unknown)?;
            return self.opens(parts, key).await.map(drop);
        }
        if !self
            .has_session(&parts.headers)
            .await
            .map_err(No::Trouble)?
        {
            return Err(No::Unknown);
        }
        if !self.0.cross_site.allows(parts) {
            return Err(No::Foreign);
        }
        Ok(())
    }

    /// Whose key this is.
    async fn opens(&self, parts: &Parts, key: &str) -> Result<Whose, No> {
        let client = self.address(parts);
        let hash = TokenHash::from_secret(key);
        if hash == self.0.key {
            return Ok(Whose::Admin);
        }
        let found = self.0.queue.key(&hash).await;
        match found.map_err(|error| No::Trouble(error.into()))? {
            Some(found) if self.is_good(&found) => Ok(Whose::Key(found.id)),
            _ => {
                tracing::warn!(
                    client = client.map(tracing::field::display),
                    "dashboard login failed"
                );
                let attempt = FailedAttempt {
                    client,
                    secret: key.starts_with(KeySecret::PREFIX).then_some(key),
                    is_cross_site: is_cross_site(&parts.headers),
                };
                let recorded = self.0.failed_attempts.record(&attempt);
                Err(recorded.map_or_else(No::TooMany, |()| No::Unknown))
            }
        }
    }
}

fn bearer(said: &str) -> Option<&str> {
    let (scheme, key) = said.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}
