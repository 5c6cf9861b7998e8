//! Who asks: callers, the ways to know them, and what keeps others out.

mod api_keys;
mod claims;
mod credentials;
mod csrf;
mod external_origin;
mod failed_attempts;
mod forward_auth;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod http_client;
mod jwt;
mod limits;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderValue, StatusCode, request::Parts};

pub use self::{
    api_keys::{ApiKeys, KeySecret},
    csrf::{CsrfPolicy, InvalidOrigin, is_cross_site},
    external_origin::ExternalOrigin,
    failed_attempts::{FailedAttempt, FailedAttempts},
    forward_auth::{ForwardAuth, ForwardAuthSettings},
    http_client::UrlError,
    jwt::{Algorithm, Jwt, JwtError, JwtKeys, JwtSettings},
    limits::{GrantLimits, InvalidRate, RateLimit, is_type_pattern},
};

/// Whoever asks for uploads, as far as that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Principal {
    /// Its name: that of its key, the subject of its JWT, or what the application says.
    pub subject: String,
    /// What it may ask for; the rules of the server hold as well.
    pub limits: GrantLimits,
    /// Whether it may see and cancel everybody's uploads.
    pub is_admin: bool,
    /// Whether nothing but what browsers send along by themselves, whoever's page asks, says who it is:
    /// cookies, or a password that was typed in before.
    pub by_cookie: bool,
}

impl Principal {
    /// A caller without limits of its own.
    #[must_use]
    pub fn new(subject: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            limits: GrantLimits::default(),
            is_admin: false,
            by_cookie: false,
        }
    }
}

/// Whether a text can name a caller: 1 to 255 bytes without control characters.
#[must_use]
pub fn is_subject(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// A way to know callers.
#[async_trait]
pub trait AuthMethod: fmt::Debug + Send + Sync + 'static {
    /// Who sent this request; `None` if it has nothing with it that this way could tell by. `client`
    /// is the address it comes from, behind proxies that are trusted.
    ///
    /// # Errors
    /// It has, and isn't admitted, or nobody can tell now.
    ///
    /// # Cancel safety
    /// May be dropped.
    async fn authenticate(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
    ) -> Result<Option<Principal>, AuthError>;
}

/// Why a request isn't listened to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Nobody knows who asks (401).
    #[error("authentication required")]
    Unauthenticated {
        /// What to say in `WWW-Authenticate`.
        challenge: HeaderValue,
        /// Whether it tried a secret that is none; too many of those are [limited](FailedAttempts).
        is_guess: bool,
    },
    /// It is known, and may not; why, for people (403).
    #[error("{0}")]
    Forbidden(String),
    /// It may be the page of somebody else that asks (403).
    #[error(
        "a request that changes something, with cookies, may only come from the application's pages"
    )]
    CrossSite,
    /// The secret is wrong, and too many wrong ones came before it (429).
    #[error("too many wrong keys or tokens came from this address")]
    TooManyFailures {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Nobody can tell now (503).
    #[error("it can't be found out who asks at the moment")]
    Unavailable,
}

impl AuthError {
    /// What it is answered with.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Unauthenticated { .. } => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::TooManyFailures { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Nothing said who asks.
    fn missing_credentials() -> Self {
        Self::Unauthenticated {
            challenge: HeaderValue::from_static("Bearer"),
            is_guess: false,
        }
    }

    /// A bearer token that isn't good; why, for people.
    fn invalid_token(why: &'static str, is_guess: bool) -> Self {
        let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{why}\"");
        let challenge = HeaderValue::try_from(challenge);
        Self::Unauthenticated {
            challenge: challenge.unwrap_or(HeaderValue::from_static("Bearer")),
            is_guess,
        }
    }
}

/// All ways to know callers, one after another. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Authenticator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ways: Vec<Arc<dyn AuthMethod>>,
    failed_attempts: FailedAttempts,
    csrf: CsrfPolicy,
}

impl Authenticator {
    /// The first of the ways that has anything to go by decides. Wrong secrets are counted in
    /// `failed_attempts`; `cross_site` checks callers who are known by cookies.
    #[must_use]
    pub fn new(
        ways: Vec<Arc<dyn AuthMethod>>,
        failed_attempts: FailedAttempts,
        csrf: CsrfPolicy,
    ) -> Self {
        Self(Arc::new(Inner {
            ways,
            failed_attempts,
            csrf,
        }))
    }

    /// Who sent this request. `client` is the address it comes from, behind proxies that are trusted.
    ///
    /// # Errors
    /// Why nothing is to be done for it.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn authenticate(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
    ) -> Result<Principal, AuthError> {
        let guard = |request: &Parts| self.0.csrf.admits(request);
        self.admit(request, client, guard).await
    }

    /// The same for a request that changes something although its method doesn't say so: a GET that is
    /// known by cookies alone is refused as well if a foreign page may have made it.
    ///
    /// # Errors
    /// As [`Self::identify`].
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn authenticate_for_write(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
    ) -> Result<Principal, AuthError> {
        let guard = |request: &Parts| self.0.csrf.allows_write(request);
        self.admit(request, client, guard).await
    }

    /// Records that a request came with a wrong secret, which [`Self::identify`] did not see.
    ///
    /// # Errors
    /// Too many wrong ones came before. Returns the time to wait.
    pub fn record_failure(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
        secret: Option<&str>,
    ) -> Result<(), Duration> {
        self.0.failed_attempts.record(&FailedAttempt {
            client,
            secret,
            is_cross_site: is_cross_site(&request.headers),
        })
    }

    /// Tells requests that foreign pages may have made from others.
    #[must_use]
    pub fn csrf(&self) -> &CsrfPolicy {
        &self.0.csrf
    }

    async fn admit(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
        guard: impl Fn(&Parts) -> bool,
    ) -> Result<Principal, AuthError> {
        let mut denied = match self.0.ask(request, client).await {
            Ok(principal) if principal.by_cookie && !guard(request) => AuthError::CrossSite,
            Ok(principal) => return Ok(principal),
            Err(denied) => denied,
        };
        if let AuthError::Unauthenticated { is_guess: true, .. } = denied {
            let token = credentials::bearer(&request.headers);
            // All JWTs of an issuer begin alike.
            let key = token.filter(|token| token.starts_with(KeySecret::PREFIX));
            if let Err(retry_after) = self.record_failure(request, client, key) {
                denied = AuthError::TooManyFailures { retry_after };
            }
        }
        tracing::debug!(client = client.map(tracing::field::display), %denied, "a principal isn't admitted");
        Err(denied)
    }
}

impl Inner {
    async fn ask(&self, request: &Parts, client: Option<IpAddr>) -> Result<Principal, AuthError> {
        // Two of them may mean one thing to a proxy and another to us.
        if credentials::has_two(&request.headers) {
            return Err(AuthError::invalid_token(
                "there are two Authorization headers",
                false,
            ));
        }
        for way in &self.ways {
            if let Some(principal) = way.authenticate(request, client).await? {
                return Ok(principal);
            }
        }
        Err(AuthError::missing_credentials())
    }
}
