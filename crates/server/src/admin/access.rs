//! Access control of the dashboard: the admin key, or an API key with admin rights.
//!
//! Programs send a key with each request (`Authorization: Bearer`). Browsers send it once and get a
//! session cookie. Since browsers also send cookies with cross-site requests, requests with a cookie
//! must come from the dashboard's own page (CSRF protection).

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use axum::{
    Form,
    extract::{Request, State, rejection::FormRejection},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header, request::Parts};
use landfall_access::{
    Problem,
    auth::{FailedAttempt, bearer, is_cross_site},
};
use landfall_state::queue::{Token, TokenHash};
use serde::Deserialize;

use super::{Admin, key::KeyInUse, page, session::SessionKind};

const CROSS_SITE_DENIED: &str = "Cross-site request denied: send it from the dashboard's own page.";

/// The caller of an action, for the log. Keys are never logged.
#[derive(Debug, Clone)]
pub(super) struct Operator {
    name: String,
    client: Option<IpAddr>,
}

impl Operator {
    /// Logs an action. The target names an upload, or events.
    pub(super) fn audit(&self, action: &str, target: impl fmt::Display) {
        let client = self.client.map(tracing::field::display);
        let (operator, upload) = (&*self.name, tracing::field::display(target));
        tracing::info!(audit = action, operator, client, upload, "dashboard action");
    }
}

enum AccessDenied {
    Unauthenticated,
    CrossSite,
    TooManyFailures(Duration),
    Unavailable(Problem),
}

pub(super) async fn require_access(
    State(admin): State<Admin>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    match admin.check_access(&parts).await {
        Ok(operator) => {
            parts.extensions.insert(operator);
            no_store(next.run(Request::from_parts(parts, body)).await)
        }
        Err(denied) => no_store(Problem::from(denied).into_response()),
    }
}

impl From<AccessDenied> for Problem {
    fn from(denied: AccessDenied) -> Self {
        match denied {
            AccessDenied::Unauthenticated => {
                let detail = "Log in, or send the admin key as Authorization: Bearer KEY.";
                let scheme = HeaderValue::from_static("Bearer");
                let problem = Self::new(StatusCode::UNAUTHORIZED, detail);
                problem.with_header(header::WWW_AUTHENTICATE, scheme)
            }
            AccessDenied::CrossSite => Self::new(StatusCode::FORBIDDEN, CROSS_SITE_DENIED),
            AccessDenied::TooManyFailures(wait) => {
                let detail = "Too many failed login attempts from this address; try again later.";
                Self::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait)
            }
            AccessDenied::Unavailable(problem) => problem,
        }
    }
}

fn seconds(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

pub(super) async fn no_store_by_default(mut response: Response) -> Response {
    if !response.headers().contains_key(header::CACHE_CONTROL) {
        response = no_store(response);
    }
    response
}

fn no_store(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let fixed = HeaderValue::from_static;
    headers.insert(header::CACHE_CONTROL, fixed("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    response
}

#[derive(Deserialize)]
pub(super) struct LoginForm {
    key: String,
}

pub(super) async fn login(
    State(admin): State<Admin>,
    parts: Parts,
    form: Result<Form<LoginForm>, FormRejection>,
) -> Response {
    if !admin.0.cross_site.allows(&parts) {
        let message = "The login form cannot be sent from another site.";
        return page::login(StatusCode::FORBIDDEN, message);
    }
    let Ok(Form(LoginForm { key })) = form else {
        return page::login(StatusCode::BAD_REQUEST, "Enter the admin key.");
    };
    // Read once: after a reload, the previous key begins no session.
    let in_use = admin.0.parts.key.current();
    match admin.authenticate(&in_use, &parts, key.trim()).await {
        Ok((kind, operator)) => {
            let (https, _) = admin.0.parts.handler.external_origin(&parts);
            let cookie = in_use.sessions.create(kind, SystemTime::now(), https);
            operator.audit("login", "");
            redirect_to_page(cookie)
        }
        Err(AccessDenied::TooManyFailures(wait)) => {
            let message = "Too many failed login attempts from your address. Try again in a few \
                           minutes.";
            let mut response = page::login(StatusCode::TOO_MANY_REQUESTS, message);
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, seconds(wait));
            response
        }
        Err(AccessDenied::Unavailable(problem)) => page::login(problem.status(), problem.detail()),
        Err(AccessDenied::Unauthenticated | AccessDenied::CrossSite) => {
            page::login(StatusCode::UNAUTHORIZED, "Invalid admin key.")
        }
    }
}

pub(super) async fn logout(State(admin): State<Admin>, parts: Parts) -> Response {
    if !admin.0.cross_site.allows(&parts) {
        return no_store(Problem::new(StatusCode::FORBIDDEN, CROSS_SITE_DENIED).into_response());
    }
    if let Ok(Some(operator)) = admin.session(&parts).await {
        operator.audit("logout", "");
    }
    let (https, _) = admin.0.parts.handler.external_origin(&parts);
    let key = admin.0.parts.key.current();
    redirect_to_page(key.sessions.end(&parts.headers, SystemTime::now(), https))
}

fn redirect_to_page(cookie: HeaderValue) -> Response {
    let page = HeaderValue::from_static("./");
    let headers = [(header::LOCATION, page), (header::SET_COOKIE, cookie)];
    no_store((StatusCode::SEE_OTHER, headers).into_response())
}

impl Admin {
    pub(super) async fn session(&self, parts: &Parts) -> Result<Option<Operator>, Problem> {
        let key = self.0.parts.key.current();
        let kind = key.sessions.find(&parts.headers, SystemTime::now());
        Ok(match kind {
            None => None,
            Some(SessionKind::Admin) => Some(self.operator(parts, None)),
            // The key may have been revoked meanwhile.
            Some(SessionKind::Key(id)) => {
                let mut keys = self.0.parts.queue.keys().await?.into_iter();
                let key = keys.find(|key| key.id == id && self.is_valid_admin_key(key));
                key.map(|key| self.operator(parts, Some(&key)))
            }
        })
    }

    fn operator(&self, parts: &Parts, key: Option<&landfall_state::queue::ApiKey>) -> Operator {
        let name = key.map_or_else(|| "admin key".into(), |key| format!("API key {}", key.name));
        let client = self.0.parts.client.of_request(parts);
        Operator { name, client }
    }

    fn is_valid_admin_key(&self, key: &landfall_state::queue::ApiKey) -> bool {
        key.is_admin && key.expires_at.is_none_or(|until| SystemTime::now() < until)
    }

    async fn check_access(&self, parts: &Parts) -> Result<Operator, AccessDenied> {
        if parts.headers.contains_key(header::AUTHORIZATION) {
            let key = bearer(&parts.headers).ok_or(AccessDenied::Unauthenticated)?;
            let in_use = self.0.parts.key.current();
            return Ok(self.authenticate(&in_use, parts, key).await?.1);
        }
        let found = self.session(parts).await;
        match found.map_err(AccessDenied::Unavailable)? {
            None => Err(AccessDenied::Unauthenticated),
            Some(_) if !self.0.cross_site.allows(parts) => Err(AccessDenied::CrossSite),
            Some(operator) => Ok(operator),
        }
    }

    async fn authenticate(
        &self,
        in_use: &KeyInUse,
        parts: &Parts,
        key: &str,
    ) -> Result<(SessionKind, Operator), AccessDenied> {
        let client = self.0.parts.client.of_request(parts);
        let hash = TokenHash::from_secret(key);
        if hash == in_use.hash {
            return Ok((SessionKind::Admin, self.operator(parts, None)));
        }
        let found = self.0.parts.queue.key(&hash).await;
        match found.map_err(|error| AccessDenied::Unavailable(error.into()))? {
            Some(found) if self.is_valid_admin_key(&found) => Ok((
                SessionKind::Key(found.id),
                self.operator(parts, Some(&found)),
            )),
            _ => {
                let shown = client.map(tracing::field::display);
                tracing::warn!(client = shown, "dashboard login failed");
                let attempt = FailedAttempt {
                    client,
                    secret: key.starts_with(Token::KEY_PREFIX).then_some(key),
                    is_cross_site: is_cross_site(&parts.headers),
                };
                let recorded = self.0.parts.failed_attempts.record(&attempt);
                recorded.map_err(AccessDenied::TooManyFailures)?;
                Err(AccessDenied::Unauthenticated)
            }
        }
    }
}
