//! Forward auth: the application authenticates requests by their cookies or authorization, as with
//! Traefik's `ForwardAuth` and nginx's `auth_request`.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts,
};
use landfall_hooks::{UnknownResponse, response_json};
use landfall_state::queue::Principal;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::{
    AuthError, AuthMethod, ExternalOrigin, SettingsError, are_own,
    claims::{self, UniqueObject},
    csrf::is_sent_by_browsers,
    failed_attempts::network,
    http_client::HttpClient,
};
use crate::cache::{BoundedCache, ExpiringCache, bounded};

/// The time for which rejections are cached.
const REJECTION_CACHE_TTL: Duration = Duration::from_secs(1);

/// Maximum concurrent calls with credentials that the application has accepted before.
const MAX_KNOWN_CALLS: usize = 32;

/// Maximum concurrent calls with other credentials. This limit is separate, so that made-up cookies
/// do not delay authenticated users.
const MAX_UNKNOWN_CALLS: usize = 32;

/// Maximum concurrent calls with other credentials per client address.
const MAX_UNKNOWN_CALLS_PER_CLIENT: usize = 4;

/// The time for which credentials are remembered after the application accepted them.
const KNOWN_TTL: Duration = Duration::from_secs(3600);

const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// In characters.
const MAX_REASON_LEN: usize = 300;

/// Headers with the subject, in order of precedence.
const SUBJECT: [HeaderName; 3] = [
    HeaderName::from_static("x-landfall-subject"),
    HeaderName::from_static("x-auth-request-user"),
    HeaderName::from_static("remote-user"),
];

/// Fields of the response that set limits. Other fields of the user object are ignored.
const LIMITS: [&str; 7] = [
    "max_size",
    "allowed_types",
    "max_active",
    "rate_limit",
    "quota",
    "require_size",
    "admin",
];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const X_ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// Headers that identify the user.
const CREDENTIALS: [HeaderName; 2] = [header::COOKIE, header::AUTHORIZATION];

/// Settings of forward auth.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ForwardAuthSettings {
    /// The endpoint of the application.
    pub url: String,
    /// The time for which accepted credentials are cached; default 5 seconds. Rejections are cached for at
    /// most one second.
    pub cache: Duration,
    /// Timeout of a call; default 5 seconds.
    pub timeout: Duration,
    /// Finds the external origin that is forwarded to the application.
    pub external_origin: ExternalOrigin,
}

impl ForwardAuthSettings {
    /// Creates settings with defaults.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            cache: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            external_origin: ExternalOrigin::default(),
        }
    }
}

/// Authenticates requests by a call of the application.
///
/// The application receives a GET request with `Cookie` and `Authorization`. It responds with 2xx
/// and the subject, in JSON (`{"subject": "ann", "max_size": 1048576, …}`, see
/// [`GrantLimits`](landfall_state::queue::GrantLimits)) or in the header `X-Landfall-Subject`,
/// `X-Auth-Request-User` or `Remote-User`; with 401 if the user is unknown; with 403 if access is
/// denied. Requests without cookies and authorization are left to other methods.
#[derive(Debug)]
pub struct ForwardAuth {
    http: HttpClient,
    timeout: Duration,
    external_origin: ExternalOrigin,
    /// Keyed by a salted hash of all headers, so that no credentials are in memory.
    responses: ExpiringCache<[u8; 32], Result<ForwardAuthResponse, ForwardAuthError>>,
    /// Of accepted credentials.
    time_to_live: Duration,
    salt: [u8; 32],
    calls: CallLimits,
}

/// Limits on concurrent calls.
#[derive(Debug)]
struct CallLimits {
    /// Salted hashes of credentials that the application has accepted.
    known: ExpiringCache<[u8; 32], ()>,
    known_calls: Semaphore,
    unknown_calls: Semaphore,
    clients: BoundedCache<IpAddr, Arc<Semaphore>>,
}

/// The response of the application: a principal or a rejection.
type ForwardAuthResponse = Result<Principal, AuthError>;

/// An error message for the log.
type ForwardAuthError = String;

impl ForwardAuth {
    /// Creates the method.
    ///
    /// # Errors
    /// The URL is invalid.
    pub fn new(settings: ForwardAuthSettings) -> Result<Self, SettingsError> {
        Ok(Self {
            http: HttpClient::new(&settings.url)?,
            timeout: settings.timeout,
            external_origin: settings.external_origin,
            responses: ExpiringCache::new(),
            time_to_live: settings.cache,
            salt: rand::random(),
            calls: CallLimits::new(),
        })
    }

    async fn fetch(
        &self,
        call: Request<()>,
        credentials: [u8; 32],
        client: Option<IpAddr>,
    ) -> Result<ForwardAuthResponse, ForwardAuthError> {
        let call = async {
            let permits = self.calls.acquire(&credentials, client).await;
            let _permits = permits.map_err(|error| error.to_string())?;
            self.http.send(call, MAX_RESPONSE_BYTES, self.timeout).await
        };
        let answer = tokio::time::timeout(self.timeout, call).await;
        let late = |_| Err(format!("timed out after {:?}", self.timeout));
        let answer = read(&answer.unwrap_or_else(late)?)?;
        match &answer {
            Ok(_) => self.calls.known.insert(credentials, (), KNOWN_TTL),
            Err(AuthError::Unauthenticated { .. }) => self.calls.known.remove(&credentials),
            Err(_) => {}
        }
        Ok(answer)
    }

    fn build_request(
        &self,
        request: &Parts,
        forwarded: &ForwardedCredentials,
        client: Option<IpAddr>,
    ) -> Request<()> {
        let mut call = Request::new(());
        let headers = call.headers_mut();
        let mut insert = |name: HeaderName, value: Option<HeaderValue>| {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        };
        let text = |text: String| HeaderValue::try_from(text).ok();
        insert(header::COOKIE, forwarded.cookie.clone());
        insert(header::AUTHORIZATION, forwarded.authorization.clone());
        let client = client.and_then(|client| text(client.to_string()));
        insert(X_FORWARDED_FOR, client);
        let (is_tls, host) = self.external_origin.get(request);
        insert(X_FORWARDED_HOST, host.and_then(text));
        let scheme = if is_tls { "https" } else { "http" };
        insert(X_FORWARDED_PROTO, Some(HeaderValue::from_static(scheme)));
        insert(X_ORIGINAL_METHOD, text(request.method.to_string()));
        let path = request.uri.path_and_query();
        insert(X_ORIGINAL_URI, path.and_then(|path| text(path.to_string())));
        // Frameworks respond with 401 instead of a redirect to a login page if JSON is accepted.
        let json = HeaderValue::from_static("application/json");
        insert(header::ACCEPT, Some(json));
        let script = HeaderValue::from_static("XMLHttpRequest");
        insert(X_REQUESTED_WITH, Some(script));
        call
    }

    /// Returns a salted hash of some headers.
    fn hash(&self, headers: &HeaderMap, is_hashed: impl Fn(&HeaderName) -> bool) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.salt);
        for (name, value) in headers.iter().filter(|(name, _)| is_hashed(name)) {
            for part in [name.as_str().as_bytes(), value.as_bytes()] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        hash.finalize().into()
    }
}

impl CallLimits {
    fn new() -> Self {
        Self {
            known: ExpiringCache::new(),
            known_calls: Semaphore::new(MAX_KNOWN_CALLS),
            unknown_calls: Semaphore::new(MAX_UNKNOWN_CALLS),
            clients: bounded(),
        }
    }

    /// Waits until a call with these credentials is allowed, for as long as the permits are held.
    async fn acquire(
        &self,
        credentials: &[u8; 32],
        client: Option<IpAddr>,
    ) -> Result<(SemaphorePermit<'_>, Option<OwnedSemaphorePermit>), AcquireError> {
        if self.known.get(credentials).is_some() {
            return Ok((self.known_calls.acquire().await?, None));
        }
        // Wait for the client's limit first, without holding a shared permit.
        let mut client_permit = None;
        if let Some(client) = client {
            let limit = || Ok::<_, Infallible>(Semaphore::new(MAX_UNKNOWN_CALLS_PER_CLIENT).into());
            let Ok(limit) = self.clients.get_or_insert_with(&network(client), limit);
            client_permit = Some(limit.acquire_owned().await?);
        }
        Ok((self.unknown_calls.acquire().await?, client_permit))
    }
}

#[async_trait]
impl AuthMethod for ForwardAuth {
    async fn authenticate(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
    ) -> Result<Option<Principal>, AuthError> {
        let Some(forwarded) = ForwardedCredentials::from_headers(&request.headers) else {
            return Ok(None);
        };
        let call = self.build_request(request, &forwarded, client);
        // The application may decide by any header.
        let key = self.hash(call.headers(), |_| true);
        let credentials = self.hash(call.headers(), |name| CREDENTIALS.contains(name));
        let fetch = async {
            let response = self.fetch(call, credentials, client).await;
            let time_to_live = match &response {
                Ok(Ok(_)) => self.time_to_live,
                Ok(Err(_)) => self.time_to_live.min(REJECTION_CACHE_TTL),
                Err(_) => Duration::ZERO,
            };
            (response, time_to_live)
        };
        match self.responses.get_or_load(&key, fetch).await {
            Ok(Ok(mut principal)) => {
                principal.by_cookie = forwarded.is_ambient();
                Ok(Some(principal))
            }
            Ok(Err(denied)) => Err(denied),
            Err(why) => {
                tracing::warn!(url = %self.http, %why, "forward auth failed");
                Err(AuthError::Unavailable)
            }
        }
    }
}

/// The credentials that are forwarded to the application.
struct ForwardedCredentials {
    cookie: Option<HeaderValue>,
    authorization: Option<HeaderValue>,
}

impl ForwardedCredentials {
    fn from_headers(headers: &HeaderMap) -> Option<Self> {
        // HTTP/2 may split cookies into several headers.
        let cookies = headers.get_all(header::COOKIE).iter();
        let cookies: Vec<&[u8]> = cookies.map(HeaderValue::as_bytes).collect();
        let cookie = HeaderValue::from_bytes(&cookies.join(&b"; "[..])).ok();
        let authorization = headers.get(header::AUTHORIZATION).cloned();
        let forwarded = Self {
            cookie: cookie.filter(|cookie| !cookie.is_empty()),
            // Landfall's own keys and tokens are not forwarded.
            authorization: authorization.filter(|_| !are_own(headers)),
        };
        (forwarded.cookie.is_some() || forwarded.authorization.is_some()).then_some(forwarded)
    }

    /// Returns whether the application may have recognized credentials that browsers send automatically.
    ///
    /// It does not say which ones it used, and may ignore an `Authorization` header next to a cookie.
    fn is_ambient(&self) -> bool {
        let mut authorization = self.authorization.iter();
        self.cookie.is_some() || authorization.any(is_sent_by_browsers)
    }
}

/// Parses the response of the application. An error means that it is invalid.
pub(super) fn read(answer: &Response<Bytes>) -> Result<ForwardAuthResponse, ForwardAuthError> {
    let status = answer.status();
    match status {
        StatusCode::UNAUTHORIZED => {
            let challenge = answer.headers().get(header::WWW_AUTHENTICATE).cloned();
            let challenge = challenge.unwrap_or(HeaderValue::from_static("Bearer"));
            Ok(Err(AuthError::Unauthenticated {
                challenge,
                is_guess: false,
            }))
        }
        StatusCode::FORBIDDEN => Ok(Err(AuthError::Forbidden(reason(answer.body())))),
        _ if status.is_success() => known(answer).map(Ok),
        _ if status.is_redirection() => Err(format!(
            "unexpected redirect ({status}); respond with 401 for unknown users"
        )),
        _ => Err(format!("unexpected status {status}")),
    }
}

fn known(answer: &Response<Bytes>) -> Result<Principal, ForwardAuthError> {
    let mut fields = fields(answer)?;
    let stated = match fields.get("subject") {
        Some(value) => claims::subject(value),
        None => SUBJECT
            .iter()
            .find(|name| answer.headers().contains_key(*name))
            .map(|name| answer.headers().get_all(name).iter())
            // Two subjects are none.
            .and_then(|mut values| values.next().filter(|_| values.next().is_none()))
            .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
            .and_then(|text| claims::subject(&text.into())),
    };
    let subject = stated.ok_or(
        "the response has no subject; set `subject` in JSON or the header X-Landfall-Subject",
    )?;
    let mut principal = Principal::new(subject);
    fields.retain(|name, _| LIMITS.contains(&name.as_str()));
    claims::limits(fields.into(), &mut principal)
        .map_err(|what| format!("invalid limits: {what}"))?;
    Ok(principal)
}

/// Returns the fields of a JSON response. Text and pages have none, where a header has the subject.
///
/// A response that may have limits, but does not parse, is an error: without them, it would allow more.
fn fields(answer: &Response<Bytes>) -> Result<Map<String, Value>, ForwardAuthError> {
    let body = answer.body();
    match response_json(answer.status(), answer.headers(), body) {
        Ok(None) => Ok(Map::new()),
        Ok(Some([])) => Ok(Map::new()),
        Ok(Some(json)) => match serde_json::from_slice::<UniqueObject>(json) {
            Ok(fields) => Ok(fields.0),
            Err(error) => Err(format!("the response is not a JSON object: {error}")),
        },
        Err(UnknownResponse::NotText) if is_page(body) => Ok(Map::new()),
        Err(error) => Err(format!("the response is not understood: {error}")),
    }
}

/// Returns whether this is an HTML page, without a field of ours in it.
fn is_page(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    let is_named = |name: &&str| text.contains(&format!("\"{name}\""));
    text.trim_start().starts_with('<') && !LIMITS.iter().chain(&["subject"]).any(is_named)
}

/// Returns the reason of a rejection: `message` in JSON, or plain text.
fn reason(body: &[u8]) -> String {
    let text = match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => fields
            .get("message")
            .and_then(Value::as_str)
            .map(str::to_owned),
        Ok(_) => None,
        // Skip HTML pages.
        Err(_) => std::str::from_utf8(body)
            .ok()
            .filter(|text| !text.trim_start().starts_with('<'))
            .map(str::to_owned),
    };
    let text = text.unwrap_or_default();
    let printable = text
        .trim()
        .chars()
        .map(|one| if one.is_control() { ' ' } else { one });
    match printable.take(MAX_REASON_LEN).collect::<String>() {
        text if text.is_empty() => "the application doesn't allow it".to_owned(),
        text => text,
    }
}
