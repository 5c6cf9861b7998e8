//! The application's own check: it is asked whose cookies and authorization a request has, the way
//! nginx's `auth_request` asks.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts,
};
use moka::{Expiry, future::Cache, sync};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::{
    AuthError, AuthMethod, ExternalOrigin, Principal,
    claims::{self, InvalidClaims},
    credentials,
    failed_attempts::network,
    http_client::{HttpClient, UrlError},
};

/// How long a refusal is remembered.
const REFUSED: Duration = Duration::from_secs(1);

/// How many answers are remembered.
const REMEMBERED: u64 = 10_000;

/// The most requests in progress whose credentials the application has accepted before.
const MAX_KNOWN_CALLS: usize = 32;

/// The most requests in progress with other credentials. These are limited apart: made-up cookies must
/// not delay callers who are signed in.
const MAX_UNKNOWN_CALLS: usize = 32;

/// The most of those for one client address.
const MAX_UNKNOWN_CALLS_PER_CLIENT: usize = 4;

/// How long accepted credentials count as known after their last use.
const KNOWN_FOR: Duration = Duration::from_secs(3600);

/// How long the limit of a client address is kept after its last use; longer than any request.
const CLIENT_KEPT_FOR: Duration = Duration::from_secs(600);

/// No answer is longer, in bytes.
const MOST_BYTES: usize = 64 << 10;

/// No reason is longer, in characters.
const MOST_REASON: usize = 300;

/// Headers that tell who a caller is; the first that is there counts.
const SUBJECT: [HeaderName; 3] = [
    HeaderName::from_static("x-landfall-subject"),
    HeaderName::from_static("x-auth-request-user"),
    HeaderName::from_static("remote-user"),
];

/// What of a JSON answer says what a caller may ask for. An application may answer with all it knows
/// of a user, so that the rest isn't looked at.
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

/// The headers of a request to the application that tell who the caller is.
const CREDENTIALS: [HeaderName; 2] = [header::COOKIE, header::AUTHORIZATION];

/// How the application is asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ForwardAuthSettings {
    /// Where.
    pub url: String,
    /// How long its answer that somebody is known holds; 5 seconds if not set. Refusals hold for a
    /// second at most.
    pub cache: Duration,
    /// How long it may take; 5 seconds if not set.
    pub timeout: Duration,
    /// Where clients see this server, which is told to the application.
    pub seen_at: ExternalOrigin,
}

impl ForwardAuthSettings {
    /// Defaults.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            cache: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            seen_at: ExternalOrigin::default(),
        }
    }
}

/// Knows callers by what the application says of their cookies and authorization. Requests without
/// either aren't its business.
///
/// The application gets a GET with `Cookie` and `Authorization` of the request and answers 2xx with the
/// caller's name, in JSON (`{"subject": "ann", "max_size": 1048576, …}`, see
/// [`GrantLimits`](super::GrantLimits)) or in the header `X-Landfall-Subject`, `X-Auth-Request-User` or
/// `Remote-User`; 401 if it doesn't know it; 403 if it may not.
#[derive(Debug)]
pub struct ForwardAuth {
    web: HttpClient,
    timeout: Duration,
    seen_at: ExternalOrigin,
    /// By a salted hash of all that is sent, so that memory contains no credentials.
    answers: Cache<[u8; 32], ForwardAuthResponse>,
    salt: [u8; 32],
    calls: CallLimits,
}

/// GrantLimits on requests in progress.
#[derive(Debug)]
struct CallLimits {
    /// Salted hashes of credentials that the application has accepted.
    known: sync::Cache<[u8; 32], ()>,
    known_calls: Semaphore,
    unknown_calls: Semaphore,
    clients: sync::Cache<IpAddr, Arc<Semaphore>>,
}

/// What the application says.
#[derive(Debug, Clone)]
pub(super) enum ForwardAuthResponse {
    Known(Principal),
    Unknown(HeaderValue),
    Forbidden(String),
}

/// There is no answer; why, for the log.
type ForwardAuthError = String;

impl ForwardAuth {
    /// Asks there.
    ///
    /// # Errors
    /// The URL is none.
    pub fn new(settings: ForwardAuthSettings) -> Result<Self, UrlError> {
        Ok(Self {
            web: HttpClient::new(&settings.url)?,
            timeout: settings.timeout,
            seen_at: settings.seen_at,
            answers: Cache::builder()
                .max_capacity(REMEMBERED)
                .expire_after(CacheExpiry(settings.cache))
                .build(),
            salt: rand::random(),
            calls: CallLimits::new(),
        })
    }

    async fn ask(
        &self,
        question: Request<()>,
        credentials: [u8; 32],
        client: Option<IpAddr>,
    ) -> Result<ForwardAuthResponse, ForwardAuthError> {
        let asking = async {
            let permits = self.calls.acquire(&credentials, client).await;
            let _permits = permits.map_err(|error| error.to_string())?;
            self.web.ask(question, MOST_BYTES, self.timeout).await
        };
        let answer = tokio::time::timeout(self.timeout, asking)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {:?}", self.timeout)))?;
        let answer = read(&answer)?;
        match answer {
            ForwardAuthResponse::Known(_) => self.calls.known.insert(credentials, ()),
            ForwardAuthResponse::Unknown(_) => self.calls.known.invalidate(&credentials),
            ForwardAuthResponse::Forbidden(_) => {}
        }
        Ok(answer)
    }

    fn question(
        &self,
        request: &Parts,
        shown: &ForwardedCredentials,
        client: Option<IpAddr>,
    ) -> Request<()> {
        let mut question = Request::new(());
        let headers = question.headers_mut();
        let mut put = |name: HeaderName, value: Option<HeaderValue>| {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        };
        let text = |text: String| HeaderValue::try_from(text).ok();
        put(header::COOKIE, shown.cookie.clone());
        put(header::AUTHORIZATION, shown.authorization.clone());
        put(
            X_FORWARDED_FOR,
            client.and_then(|client| text(client.to_string())),
        );
        let (is_tls, host) = self.seen_at.of(request);
        put(X_FORWARDED_HOST, host.and_then(text));
        let scheme = if is_tls { "https" } else { "http" };
        put(X_FORWARDED_PROTO, Some(HeaderValue::from_static(scheme)));
        put(X_ORIGINAL_METHOD, text(request.method.to_string()));
        let path = request.uri.path_and_query();
        put(X_ORIGINAL_URI, path.and_then(|path| text(path.to_string())));
        // Frameworks that send people to a login page say 401 to those who ask for JSON.
        let json = HeaderValue::from_static("application/json");
        put(header::ACCEPT, Some(json));
        let script = HeaderValue::from_static("XMLHttpRequest");
        put(X_REQUESTED_WITH, Some(script));
        question
    }

    /// Hashes some headers of a request to the application.
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
            known: sync::Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_idle(KNOWN_FOR)
                .build(),
            known_calls: Semaphore::new(MAX_KNOWN_CALLS),
            unknown_calls: Semaphore::new(MAX_UNKNOWN_CALLS),
            clients: sync::Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_idle(CLIENT_KEPT_FOR)
                .build(),
        }
    }

    /// Waits until a request with these credentials may start; it ends when the permits are dropped.
    async fn acquire(
        &self,
        credentials: &[u8; 32],
        client: Option<IpAddr>,
    ) -> Result<(SemaphorePermit<'_>, Option<OwnedSemaphorePermit>), AcquireError> {
        if self.known.get(credentials).is_some() {
            return Ok((self.known_calls.acquire().await?, None));
        }
        // The client's limit first: who waits for it takes nothing from others.
        let of_client = match client {
            Some(client) => {
                let limit = self.clients.get_with(network(client), || {
                    Arc::new(Semaphore::new(MAX_UNKNOWN_CALLS_PER_CLIENT))
                });
                Some(limit.acquire_owned().await?)
            }
            None => None,
        };
        Ok((self.unknown_calls.acquire().await?, of_client))
    }
}

#[async_trait]
impl AuthMethod for ForwardAuth {
    async fn authenticate(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
    ) -> Result<Option<Principal>, AuthError> {
        let Some(shown) = ForwardedCredentials::by(&request.headers) else {
            return Ok(None);
        };
        let question = self.question(request, &shown, client);
        // The application may decide by anything that is sent.
        let key = self.hash(question.headers(), |_| true);
        let credentials = self.hash(question.headers(), |name| CREDENTIALS.contains(name));
        let asking = self.ask(question, credentials, client);
        let answer: Result<ForwardAuthResponse, Arc<ForwardAuthError>> =
            self.answers.try_get_with(key, asking).await;
        match answer {
            Ok(ForwardAuthResponse::Known(mut principal)) => {
                principal.by_cookie = shown.is_ambient();
                Ok(Some(principal))
            }
            Ok(ForwardAuthResponse::Unknown(challenge)) => Err(AuthError::Unauthenticated {
                challenge,
                is_guess: false,
            }),
            Ok(ForwardAuthResponse::Forbidden(why)) => Err(AuthError::Forbidden(why)),
            Err(why) => {
                tracing::warn!(url = %self.web, %why, "the application doesn't say who asks");
                Err(AuthError::Unavailable)
            }
        }
    }
}

/// What of a request the application may know its sender by.
struct ForwardedCredentials {
    cookie: Option<HeaderValue>,
    authorization: Option<HeaderValue>,
}

impl ForwardedCredentials {
    fn by(headers: &HeaderMap) -> Option<Self> {
        // HTTP/2 sends each cookie by itself.
        let cookies: Vec<&[u8]> = headers
            .get_all(header::COOKIE)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        let cookie = HeaderValue::from_bytes(&cookies.join(&b"; "[..])).ok();
        let authorization = headers.get(header::AUTHORIZATION).cloned();
        let shown = Self {
            cookie: cookie.filter(|cookie| !cookie.is_empty()),
            // Landfall's own tokens are not the application's business.
            authorization: authorization.filter(|_| !credentials::are_own(headers)),
        };
        (shown.cookie.is_some() || shown.authorization.is_some()).then_some(shown)
    }

    /// Whether there is nothing but what browsers send by themselves, whoever's page asks.
    fn is_ambient(&self) -> bool {
        let Some(authorization) = &self.authorization else {
            return true;
        };
        let scheme = authorization.as_bytes().split(|byte| *byte == b' ').next();
        let scheme = scheme.unwrap_or_default();
        [&b"basic"[..], b"digest", b"negotiate", b"ntlm"]
            .iter()
            .any(|one| scheme.eq_ignore_ascii_case(one))
    }
}

/// How long each answer holds.
struct CacheExpiry(Duration);

impl Expiry<[u8; 32], ForwardAuthResponse> for CacheExpiry {
    fn expire_after_create(
        &self,
        _key: &[u8; 32],
        answer: &ForwardAuthResponse,
        _now: Instant,
    ) -> Option<Duration> {
        Some(match answer {
            ForwardAuthResponse::Known(_) => self.0,
            ForwardAuthResponse::Unknown(_) | ForwardAuthResponse::Forbidden(_) => {
                self.0.min(REFUSED)
            }
        })
    }
}

pub(super) fn read(answer: &Response<Bytes>) -> Result<ForwardAuthResponse, ForwardAuthError> {
    let status = answer.status();
    match status {
        StatusCode::UNAUTHORIZED => {
            let challenge = answer.headers().get(header::WWW_AUTHENTICATE).cloned();
            Ok(ForwardAuthResponse::Unknown(
                challenge.unwrap_or(HeaderValue::from_static("Bearer")),
            ))
        }
        StatusCode::FORBIDDEN => Ok(ForwardAuthResponse::Forbidden(reason(answer.body()))),
        _ if status.is_success() => known(answer).map(ForwardAuthResponse::Known),
        _ if status.is_redirection() => Err(format!(
            "it redirects ({status}); it should say 401 if it doesn't know somebody"
        )),
        _ => Err(format!("the answer is {status}")),
    }
}

/// Whom it knows.
fn known(answer: &Response<Bytes>) -> Result<Principal, ForwardAuthError> {
    let mut fields: Map<String, Value> = serde_json::from_slice(answer.body()).unwrap_or_default();
    let stated = match fields.get("subject") {
        Some(value) => claims::subject(value),
        None => SUBJECT
            .iter()
            .find_map(|name| answer.headers().get(name))
            .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
            .and_then(|text| claims::subject(&text.into())),
    };
    let subject = stated.ok_or(
        "it doesn't name whom it knows, with `subject` in JSON or the header X-Landfall-Subject",
    )?;
    let mut principal = Principal::new(subject);
    fields.retain(|name, _| LIMITS.contains(&name.as_str()));
    claims::limits(fields.into(), &mut principal).map_err(|InvalidClaims(what)| {
        format!("the limits that it states make no sense: {what}")
    })?;
    Ok(principal)
}

/// Why it says no, for people: from JSON (`message`), or a plain text.
fn reason(body: &[u8]) -> String {
    let text = match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => fields
            .get("message")
            .and_then(Value::as_str)
            .map(str::to_owned),
        Ok(_) => None,
        // A page isn't a reason.
        Err(_) => std::str::from_utf8(body)
            .ok()
            .filter(|text| !text.trim_start().starts_with('<'))
            .map(str::to_owned),
    };
    let text: String = text
        .unwrap_or_default()
        .trim()
        .chars()
        .map(|one| if one.is_control() { ' ' } else { one })
        .take(MOST_REASON)
        .collect();
    if text.is_empty() {
        "the application doesn't allow it".to_owned()
    } else {
        text
    }
}
