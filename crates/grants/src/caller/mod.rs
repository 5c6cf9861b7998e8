//! Who asks: callers, the ways to know them, and what keeps others out.

mod application;
mod credentials;
mod cross_site;
mod failed_attempts;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod jwt;
mod keys;
mod limits;
mod said;
mod seen;
mod web;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderValue, StatusCode, request::Parts};

pub use self::{
    application::{Application, ApplicationSettings},
    cross_site::{BadOrigin, CrossSite, is_cross_site},
    failed_attempts::{FailedAttempt, FailedAttempts},
    jwt::{Algorithm, Jwt, JwtError, JwtKeys, JwtSettings},
    keys::{ApiKeys, KeySecret},
    limits::{BadRate, Limits, Rate, is_type_pattern},
    seen::SeenAt,
    web::UrlError,
};

/// Whoever asks for uploads, as far as that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caller {
    /// Its name: that of its key, the subject of its JWT, or what the application says.
    pub subject: String,
    /// What it may ask for; the rules of the server hold as well.
    pub limits: Limits,
    /// Whether it may see and cancel everybody's uploads.
    pub is_admin: bool,
    /// Whether nothing but what browsers send along by themselves, whoever's page asks, says who it is:
    /// cookies, or a password that was typed in before.
    pub by_cookie: bool,
}

impl Caller {
    /// A caller without limits of its own.
    #[must_use]
    pub fn new(subject: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            limits: Limits::default(),
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
pub trait Identify: fmt::Debug + Send + Sync + 'static {
    /// Who sent this request; `None` if it has nothing with it that this way could tell by. `client`
    /// is the address it comes from, behind proxies that are trusted.
    ///
    /// # Errors
    /// It has, and isn't admitted, or nobody can tell now.
    ///
    /// # Cancel safety
    /// May be dropped.
    async fn identify(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
    ) -> Result<Option<Caller>, Denied>;
}

/// Why a request isn't listened to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nobody knows who asks (401).
    #[error("nobody knows who asks")]
    Unknown {
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
    TooMany {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Nobody can tell now (503).
    #[error("it can't be found out who asks at the moment")]
    Unavailable,
}

impl Denied {
    /// What it is answered with.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Unknown { .. } => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Nothing said who asks.
    fn nobody() -> Self {
        Self::Unknown {
            challenge: HeaderValue::from_static("Bearer"),
            is_guess: false,
        }
    }

    /// A bearer token that isn't good; why, for people.
    fn bad_token(why: &'static str, is_guess: bool) -> Self {
        let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{why}\"");
        let challenge = HeaderValue::try_from(challenge);
        Self::Unknown {
            challenge: challenge.unwrap_or(HeaderValue::from_static("Bearer")),
            is_guess,
        }
    }
}

/// All ways to know callers, one after another. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Callers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ways: Vec<Arc<dyn Identify>>,
    failed_attempts: FailedAttempts,
    cross_site: CrossSite,
}

impl Callers {
    /// The first of the ways that has anything to go by decides. Wrong secrets are counted in
    /// `failed_attempts`; `cross_site` checks callers who are known by cookies.
    #[must_use]
    pub fn new(
        ways: Vec<Arc<dyn Identify>>,
        failed_attempts: FailedAttempts,
        cross_site: CrossSite,
    ) -> Self {
        Self(Arc::new(Inner {
            ways,
            failed_attempts,
            cross_site,
        }))
    }

    /// Who sent this request. `client` is the address it comes from, behind proxies that are trusted.
    ///
    /// # Errors
    /// Why nothing is to be done for it.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn identify(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
    ) -> Result<Caller, Denied> {
        let guard = |request: &Parts| self.0.cross_site.admits(request);
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
    pub async fn identify_for_change(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
    ) -> Result<Caller, Denied> {
        let guard = |request: &Parts| self.0.cross_site.admits_change(request);
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
    pub fn cross_site(&self) -> &CrossSite {
        &self.0.cross_site
    }

    async fn admit(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
        guard: impl Fn(&Parts) -> bool,
    ) -> Result<Caller, Denied> {
        let mut denied = match self.0.ask(request, client).await {
            Ok(caller) if caller.by_cookie && !guard(request) => Denied::CrossSite,
            Ok(caller) => return Ok(caller),
            Err(denied) => denied,
        };
        if let Denied::Unknown { is_guess: true, .. } = denied {
            let token = credentials::bearer(&request.headers);
            // All JWTs of an issuer begin alike.
            let key = token.filter(|token| token.starts_with(KeySecret::PREFIX));
            if let Err(retry_after) = self.record_failure(request, client, key) {
                denied = Denied::TooMany { retry_after };
            }
        }
        tracing::debug!(client = client.map(tracing::field::display), %denied, "a caller isn't admitted");
        Err(denied)
    }
}

impl Inner {
    async fn ask(&self, request: &Parts, client: Option<IpAddr>) -> Result<Caller, Denied> {
        // Two of them may mean one thing to a proxy and another to us.
        if credentials::has_two(&request.headers) {
            return Err(Denied::bad_token(
                "there are two Authorization headers",
                false,
            ));
        }
        for way in &self.ways {
            if let Some(caller) = way.identify(request, client).await? {
                return Ok(caller);
            }
        }
        Err(Denied::nobody())
    }
}
