//! JWTs: tokens signed by an identity provider.
//!
//! A token is not trusted before its signature is verified. It cannot choose how it is verified:
//! the key is in the configured set, and the algorithm in the configured list and suitable for the
//! key. `jku`, `jwk` and `x5c` in its header are ignored, and a public key is never used as an HMAC
//! secret.

#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod key_cache;
mod keys;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::request::Parts;
pub use jsonwebtoken::Algorithm;
use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind};
use landfall_state::queue::Principal;
use parking_lot::RwLock;
use serde_json::{Map, Value};

use self::{
    key_cache::{KeyCache, KeyLocation},
    keys::{Key, RSA},
};
use super::{AuthError, AuthMethod, SettingsError, bearer, claims, http_client::HttpClient};

/// Maximum keys tried for one token. Without a limit, a forged token costs a hundred verifications.
const MAX_CANDIDATES: usize = 4;

/// The location of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// A JWKS at this URL.
    Url(String),
    /// A file with a JWKS, or with one public key in PEM.
    File(PathBuf),
}

/// Settings of JWT authentication.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct JwtSettings {
    /// The location of the keys.
    pub keys: JwtKeys,
    /// Accepted issuers (`iss`); not checked if empty.
    pub issuers: Vec<String>,
    /// Accepted audiences (`aud`); not checked if empty. Issuers or audiences are required, since
    /// an issuer signs tokens for many clients.
    pub audiences: Vec<String>,
    /// Accepted algorithms; default: all with public keys. Those with a shared secret (HS256 …)
    /// require an `oct` key in a file.
    pub algorithms: Vec<Algorithm>,
    /// The claim with the subject.
    pub subject: String,
    /// The claim with the [`GrantLimits`](landfall_state::queue::GrantLimits) and `admin`.
    pub limits: String,
    /// The interval at which keys are refreshed; default 10 minutes.
    pub refresh: Duration,
    /// Minimum time between refreshes because of an unknown key or a failure; default 30 seconds.
    pub min_refresh_interval: Duration,
    /// The time for which keys are used although they cannot be refreshed; default 24 hours. Then requests get 503.
    pub max_age: Duration,
}

impl JwtSettings {
    /// Creates settings with defaults.
    #[must_use]
    pub fn new(keys: JwtKeys) -> Self {
        Self {
            keys,
            issuers: Vec::new(),
            audiences: Vec::new(),
            algorithms: [RSA, &[Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA]].concat(),
            subject: "sub".into(),
            limits: "landfall".into(),
            refresh: Duration::from_secs(600),
            min_refresh_interval: Duration::from_secs(30),
            max_age: Duration::from_secs(24 * 3600),
        }
    }
}

/// Authenticates requests with `Authorization: Bearer` and a JWT.
#[derive(Debug)]
pub struct Jwt(RwLock<Arc<Verifier>>);

#[derive(Debug)]
struct Verifier {
    cache: Arc<KeyCache>,
    algorithms: Vec<Algorithm>,
    validation: Validation,
    subject: String,
    limits: String,
}

impl Jwt {
    /// Reads the keys.
    ///
    /// If those at a URL are not available, requests get 503 until they are.
    ///
    /// # Errors
    /// The URL is invalid, the file has no usable key, or neither issuers nor audiences are set.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub async fn open(settings: JwtSettings) -> Result<Self, SettingsError> {
        let verifier = Verifier::open(settings).await?;
        Ok(Self(RwLock::new(Arc::new(verifier))))
    }

    /// Replaces settings and keys by those of `other`.
    pub fn replace(&self, other: Self) {
        *self.0.write() = other.0.into_inner();
    }
}

impl Verifier {
    async fn open(settings: JwtSettings) -> Result<Self, SettingsError> {
        if settings.issuers.is_empty() && settings.audiences.is_empty() {
            let reason = "neither issuer nor audience is set";
            let effect = "any token signed with these keys would be accepted";
            return Err(SettingsError(format!("{reason}, so {effect}")));
        }
        let location = match &settings.keys {
            JwtKeys::Url(url) => KeyLocation::Url(HttpClient::new(url)?),
            JwtKeys::File(path) => KeyLocation::File(path.clone()),
        };
        let cache = KeyCache::new(location, &settings);
        match (cache.refresh().await, settings.keys) {
            (Ok(()), _) => {}
            (Err(why), JwtKeys::Url(_)) => {
                tracing::warn!(why, "failed to load JWT keys, retrying");
            }
            (Err(why), JwtKeys::File(path)) => {
                return Err(SettingsError(format!("{}: {why}", path.display())));
            }
        }
        let mut validation = Validation::default();
        let mut required = vec!["exp"];
        validation.leeway = 60;
        validation.validate_nbf = true;
        validation.validate_aud = !settings.audiences.is_empty();
        if !settings.audiences.is_empty() {
            validation.set_audience(&settings.audiences);
            required.push("aud");
        }
        if !settings.issuers.is_empty() {
            validation.set_issuer(&settings.issuers);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        Ok(Self {
            cache,
            algorithms: settings.algorithms,
            validation,
            subject: settings.subject,
            limits: settings.limits,
        })
    }

    /// Verifies a token and returns its claims.
    async fn claims(&self, token: &str) -> Result<Map<String, Value>, AuthError> {
        let malformed = |_| AuthError::invalid_token("malformed token", true);
        let head = decode_header(token).map_err(malformed)?;
        // Critical extensions must be understood (RFC 7515, section 4.1.11); none is supported.
        if head.crit.is_some() {
            let why = "unsupported critical extension";
            return Err(AuthError::invalid_token(why, true));
        }
        if !self.algorithms.contains(&head.alg) {
            return Err(AuthError::invalid_token("algorithm not accepted", true));
        }
        let (id, algorithm) = (head.kid.as_deref(), head.alg);
        let mut keys = self.cache.keys().await.ok_or(AuthError::Unavailable)?;
        if keys.candidates(id, algorithm).next().is_none()
            && let Some(refreshed_since) = self.cache.refreshed_since(Some(&keys)).await
        {
            keys = refreshed_since;
        }
        if keys.candidates(id, algorithm).nth(MAX_CANDIDATES).is_some() {
            let why = "ambiguous key; the token needs a kid";
            return Err(AuthError::invalid_token(why, true));
        }
        let mut denied = AuthError::invalid_token("no key for this token", true);
        for key in keys.candidates(id, algorithm) {
            match self.check(token, algorithm, key) {
                Ok(claims) => return Ok(claims),
                Err(error) => denied = token_error(error.kind()),
            }
            // The signature is valid, but the claims are not: another key will not help.
            if !matches!(denied, AuthError::Unauthenticated { is_guess: true, .. }) {
                break;
            }
        }
        Err(denied)
    }

    fn check(
        &self,
        token: &str,
        algorithm: Algorithm,
        key: &Key,
    ) -> Result<Map<String, Value>, jsonwebtoken::errors::Error> {
        let mut validation = self.validation.clone();
        validation.algorithms = vec![algorithm];
        let token = decode::<claims::UniqueObject>(token, &key.secret, &validation)?;
        let claims = token.claims.0;
        // RFC 7519, section 4.1.1: one string. The library accepts a list if one fits.
        match claims.get("iss") {
            None | Some(Value::String(_)) => Ok(claims),
            Some(_) => Err(ErrorKind::InvalidIssuer.into()),
        }
    }
}

/// Returns the error for an invalid token. Claims are checked after the signature, so a token with
/// invalid claims is no guess.
fn token_error(kind: &ErrorKind) -> AuthError {
    match kind {
        ErrorKind::ExpiredSignature => AuthError::invalid_token("token expired", false),
        ErrorKind::ImmatureSignature => AuthError::invalid_token("token not valid yet", false),
        ErrorKind::InvalidIssuer => AuthError::invalid_token("invalid issuer", false),
        ErrorKind::InvalidAudience => AuthError::invalid_token("invalid audience", false),
        ErrorKind::MissingRequiredClaim(_) => {
            AuthError::invalid_token("missing claim exp, iss or aud", false)
        }
        // The header has been parsed before.
        ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) => {
            AuthError::invalid_token("malformed claim", false)
        }
        _ => AuthError::invalid_token("invalid signature", true),
    }
}

#[async_trait]
impl AuthMethod for Jwt {
    async fn authenticate(
        &self,
        request: &Parts,
        _client: Option<IpAddr>,
    ) -> Result<Option<Principal>, AuthError> {
        let token = bearer(&request.headers).filter(|text| text.matches('.').count() == 2);
        let Some(token) = token else {
            return Ok(None);
        };
        let verifier = self.0.read().clone();
        let mut claims = verifier.claims(token).await?;
        let subject = claims.get(&verifier.subject).and_then(claims::subject);
        let subject = subject.ok_or(AuthError::invalid_token("missing subject claim", false))?;
        let mut principal = Principal::new(subject);
        let limits = claims.remove(&verifier.limits).unwrap_or_default();
        if let Err(what) = claims::limits(limits, &mut principal) {
            let (claim, subject) = (&verifier.limits, &principal.subject);
            tracing::warn!(claim, subject, what, "invalid limits in JWT");
            let why = "invalid limits in the token";
            return Err(AuthError::invalid_token(why, false));
        }
        Ok(Some(principal))
    }
}
