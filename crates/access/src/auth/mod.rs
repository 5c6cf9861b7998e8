//! Authentication: methods, CSRF protection, and the rate limit for failed attempts.

mod api_keys;
mod claims;
mod client_certificates;
mod csrf;
mod external_origin;
mod failed_attempts;
mod forward_auth;
mod http_client;
mod jwt;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use landfall_state::queue::{Principal, Token, is_secret};

/// Entry points for fuzz targets; not part of the public API.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    use bytes::Bytes;
    use http::Response;

    pub use super::jwt::fuzzing::keys;
    use super::{AuthError, Principal, forward_auth};

    /// Parses the response of an application.
    ///
    /// # Errors
    /// The response is invalid.
    pub fn read(response: &Response<Bytes>) -> Result<Result<Principal, AuthError>, String> {
        forward_auth::read(response)
    }
}

pub use self::{
    api_keys::ApiKeys,
    client_certificates::ClientCertificates,
    csrf::{CsrfPolicy, is_cross_site},
    external_origin::ExternalOrigin,
    failed_attempts::{FailedAttempt, FailedAttempts},
    forward_auth::{ForwardAuth, ForwardAuthSettings},
    jwt::{Algorithm, Jwt, JwtKeys, JwtSettings},
};

/// An invalid setting of an authentication method.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

/// An authentication method, such as API keys, JWTs or forward auth.
#[async_trait]
pub trait AuthMethod: fmt::Debug + Send + Sync + 'static {
    /// Authenticates a request; `None` without credentials for this method.
    ///
    /// `client` is the client's address, in front of trusted proxies.
    ///
    /// # Errors
    /// The credentials are rejected, or cannot be checked now.
    ///
    /// # Cancel safety
    /// Safe to drop.
    async fn authenticate(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
    ) -> Result<Option<Principal>, AuthError>;
}

/// An authentication error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The credentials are missing or invalid (401).
    #[error("authentication required")]
    Unauthenticated {
        /// The value of `WWW-Authenticate`.
        challenge: HeaderValue,
        /// True if an invalid secret was sent, which counts as a [failed attempt](FailedAttempts).
        is_guess: bool,
    },
    /// The principal is denied, with a reason for users (403).
    #[error("{0}")]
    Forbidden(String),
    /// A cookie-authenticated request may come from another site (403).
    #[error("cross-site request denied; cookies are accepted from the application's origins only")]
    CrossSite,
    /// The secret is invalid, and too many failed before (429).
    #[error("too many invalid keys or tokens from this address")]
    TooManyFailures {
        /// Time until the next attempt.
        retry_after: Duration,
    },
    /// The credentials cannot be checked now (503).
    #[error("authentication is temporarily unavailable")]
    Unavailable,
}

impl AuthError {
    /// Returns the HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Unauthenticated { .. } => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::TooManyFailures { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn missing_credentials() -> Self {
        Self::Unauthenticated {
            challenge: HeaderValue::from_static("Bearer"),
            is_guess: false,
        }
    }

    /// Returns the error for an invalid bearer token, with a reason for users.
    fn invalid_token(why: &'static str, is_guess: bool) -> Self {
        let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{why}\"");
        let challenge = HeaderValue::try_from(challenge);
        Self::Unauthenticated {
            challenge: challenge.unwrap_or(HeaderValue::from_static("Bearer")),
            is_guess,
        }
    }
}

/// Authenticates requests with several methods. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Authenticator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    methods: Vec<Arc<dyn AuthMethod>>,
    failed_attempts: FailedAttempts,
    csrf: CsrfPolicy,
}

impl Authenticator {
    /// Creates an authenticator. The first method that finds credentials decides.
    ///
    /// Invalid secrets are counted in `failed_attempts`. `csrf` checks requests that are
    /// authenticated by cookies.
    #[must_use]
    pub fn new(
        methods: Vec<Arc<dyn AuthMethod>>,
        failed_attempts: FailedAttempts,
        csrf: CsrfPolicy,
    ) -> Self {
        Self(Arc::new(Inner {
            methods,
            failed_attempts,
            csrf,
        }))
    }

    /// Authenticates a request, but not by an upload link: that may do nothing but what
    /// [`authenticate_for_grant`](Self::authenticate_for_grant) is for.
    ///
    /// `client` is the client's address, in front of trusted proxies.
    ///
    /// # Errors
    /// See [`AuthError`].
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub async fn authenticate(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
    ) -> Result<Principal, AuthError> {
        let is_allowed = || self.0.csrf.allows(request);
        reject_link(self.authenticate_if(request, client, is_allowed).await?)
    }

    /// Authenticates a request for a grant, or for the description of the upload link that it has.
    ///
    /// # Errors
    /// See [`AuthError`].
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub async fn authenticate_for_grant(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
    ) -> Result<Principal, AuthError> {
        let is_allowed = || self.0.csrf.allows(request);
        self.authenticate_if(request, client, is_allowed).await
    }

    /// Authenticates a request that has side effects whatever its method.
    ///
    /// A GET request that is authenticated by cookies is checked for CSRF, too.
    ///
    /// # Errors
    /// See [`AuthError`].
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub async fn authenticate_for_write(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
    ) -> Result<Principal, AuthError> {
        let is_allowed = || self.0.csrf.allows_write(request);
        reject_link(self.authenticate_if(request, client, is_allowed).await?)
    }

    /// Records an invalid secret that [`Self::authenticate`] does not check.
    ///
    /// # Errors
    /// Too many failed before. Returns the time to wait.
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

    /// Returns the CSRF policy.
    #[must_use]
    pub fn csrf(&self) -> &CsrfPolicy {
        &self.0.csrf
    }

    async fn authenticate_if(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
        is_allowed: impl Fn() -> bool,
    ) -> Result<Principal, AuthError> {
        let mut denied = match self.find_principal(request, client).await {
            Ok(principal) if principal.by_cookie && !is_allowed() => AuthError::CrossSite,
            Ok(principal) => return Ok(principal),
            Err(denied) => denied,
        };
        if let AuthError::Unauthenticated { is_guess: true, .. } = denied {
            let token = bearer(&request.headers);
            // All JWTs of an issuer have the same prefix.
            let key = token.filter(|token| token.starts_with(Token::KEY_PREFIX));
            if let Err(retry_after) = self.record_failure(request, client, key) {
                denied = AuthError::TooManyFailures { retry_after };
            }
        }
        tracing::debug!(client = client.map(tracing::field::display), %denied, "authentication failed");
        Err(denied)
    }

    async fn find_principal(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
    ) -> Result<Principal, AuthError> {
        // Reject request smuggling: a proxy may use another header than Landfall.
        let mut values = request.headers.get_all(header::AUTHORIZATION).iter();
        if values.nth(1).is_some() {
            let why = "more than one Authorization header";
            return Err(AuthError::invalid_token(why, false));
        }
        for method in &self.0.methods {
            if let Some(principal) = method.authenticate(request, client).await? {
                return Ok(principal);
            }
        }
        Err(AuthError::missing_credentials())
    }
}

fn reject_link(principal: Principal) -> Result<Principal, AuthError> {
    match principal.link {
        None => Ok(principal),
        Some(_) => Err(AuthError::Forbidden(
            "a link is for uploads only".to_owned(),
        )),
    }
}

/// Returns the token of `Authorization: Bearer`.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Returns whether the bearer token is an API key or upload token of Landfall.
fn are_own(headers: &HeaderMap) -> bool {
    bearer(headers).is_some_and(is_secret)
}
