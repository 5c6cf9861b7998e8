//! JWTs: tokens that an identity provider has signed.
//!
//! Nothing that a token says of itself is believed before its signature is checked, and nothing of it
//! says with what to check: the key is one of the configured set, and the algorithm one of the
//! configured list that fits this key's kind. (`jku`, `jwk` and `x5c` in its header are not looked at;
//! a public key never serves as the secret of an HMAC.)

#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod key_cache;
mod keys;

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use async_trait::async_trait;
use http::request::Parts;
pub use jsonwebtoken::Algorithm;
use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind};
use serde_json::{Map, Value};

use self::{
    key_cache::{KeyCache, RefreshPolicy},
    keys::Key,
};
use super::{
    AuthError, AuthMethod, Principal,
    claims::{self, InvalidClaims},
    credentials::bearer,
    http_client::UrlError,
};

/// The most keys that the signature of one token is verified with. Without a limit, anybody could
/// have the server verify one made-up token with a hundred keys.
const MAX_CANDIDATES: usize = 4;

/// Where the keys are that sign JWTs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// A JWKS at this URL.
    Url(String),
    /// A file with a JWKS, or with one public key in PEM.
    File(PathBuf),
}

/// Which JWTs are good, and what they say.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct JwtSettings {
    /// Where the keys are.
    pub keys: JwtKeys,
    /// Who must have issued a token, one of these (`iss`); not checked if empty.
    pub issuers: Vec<String>,
    /// For whom it must be meant, one of these (`aud`); not checked if empty. One of the two lists must
    /// have an entry: an issuer signs tokens for many clients.
    pub audiences: Vec<String>,
    /// The algorithms that it may be signed with; all that use a public key if not set. Those with a
    /// shared secret (HS256 …) only work with an `oct` key in a file.
    pub algorithms: Vec<Algorithm>,
    /// The claim that says who the caller is.
    pub subject: String,
    /// The claim that says what it may ask for, as [`GrantLimits`](super::GrantLimits) are written, and with
    /// `admin` whether it is one.
    pub limits: String,
    /// How long keys are used before they are asked for again; 10 minutes if not set.
    pub refresh: Duration,
    /// How soon they may be asked for again because one is missing, or can't be asked for; 30 seconds
    /// if not set.
    pub min_interval: Duration,
}

impl JwtSettings {
    /// Defaults.
    #[must_use]
    pub fn new(keys: JwtKeys) -> Self {
        Self {
            keys,
            issuers: Vec::new(),
            audiences: Vec::new(),
            algorithms: vec![
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
                Algorithm::ES256,
                Algorithm::ES384,
                Algorithm::EdDSA,
            ],
            subject: "sub".into(),
            limits: "landfall".into(),
            refresh: Duration::from_secs(600),
            min_interval: Duration::from_secs(30),
        }
    }
}

/// Settings that can't work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JwtError {
    /// Neither issuers nor audiences are named.
    #[error(
        "any token that these keys have signed would be accepted; name its issuer or its audience"
    )]
    Unbound,
    /// The URL of the keys.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The file with the keys.
    #[error("{}: {why}", path.display())]
    File {
        /// It.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Knows callers by `Authorization: Bearer` and a JWT.
pub struct Jwt {
    cache: KeyCache,
    algorithms: Vec<Algorithm>,
    validation: Validation,
    subject: String,
    limits: String,
}

impl Jwt {
    /// Reads the keys. Those at a URL may be away for now: callers are told to come again until they
    /// are there.
    ///
    /// # Errors
    /// The URL is none, there is no key in the file, or neither issuer nor audience is named.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn open(settings: JwtSettings) -> Result<Self, JwtError> {
        if settings.issuers.is_empty() && settings.audiences.is_empty() {
            return Err(JwtError::Unbound);
        }
        let policy = RefreshPolicy {
            refresh: settings.refresh,
            min_interval: settings.min_interval,
        };
        let cache = match &settings.keys {
            JwtKeys::Url(url) => {
                let cache = KeyCache::url(url, policy)?;
                if let Err(why) = cache.open().await {
                    tracing::warn!(why, "there are no keys for JWTs yet");
                }
                cache
            }
            JwtKeys::File(path) => {
                let cache = KeyCache::file(path, policy);
                let opened = cache.open().await;
                opened.map_err(|why| JwtError::File {
                    path: path.clone(),
                    why,
                })?;
                cache
            }
        };
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

    /// What a token says, if it is good.
    async fn claims(&self, token: &str) -> Result<Map<String, Value>, AuthError> {
        let malformed = |_| AuthError::invalid_token("the token can't be read", true);
        let head = decode_header(token).map_err(malformed)?;
        // What is critical must be understood (RFC 7515, 4.1.11), and nothing of that kind is.
        if head.crit.is_some() {
            return Err(AuthError::invalid_token("the token asks too much", true));
        }
        if !self.algorithms.contains(&head.alg) {
            return Err(AuthError::invalid_token(
                "the algorithm isn't accepted",
                true,
            ));
        }
        let (id, algorithm) = (head.kid.as_deref(), head.alg);
        let mut keys = self.cache.keys().await.ok_or(AuthError::Unavailable)?;
        if keys.candidates(id, algorithm).next().is_none()
            && let Some(refreshed_since) = self.cache.refreshed_since(&keys).await
        {
            keys = refreshed_since;
        }
        if keys.candidates(id, algorithm).nth(MAX_CANDIDATES).is_some() {
            return Err(AuthError::invalid_token(
                "the token must name its key in kid",
                true,
            ));
        }
        let mut denied = AuthError::invalid_token("no key fits the token", true);
        for key in keys.candidates(id, algorithm) {
            match self.check(token, algorithm, key) {
                Ok(claims) => return Ok(claims),
                Err(error) => denied = refusal(error.kind()),
            }
            // The signature is good, and what it signs isn't: no other key will do.
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
        Ok(decode(token, &key.secret, &validation)?.claims)
    }
}

/// The answer to a token that isn't good. Its claims are looked at only once its signature is found to
/// be: then whoever sent it had a real one, and didn't guess.
fn refusal(kind: &ErrorKind) -> AuthError {
    match kind {
        ErrorKind::ExpiredSignature => AuthError::invalid_token("the token's time is over", false),
        ErrorKind::ImmatureSignature => {
            AuthError::invalid_token("the token's time is yet to come", false)
        }
        ErrorKind::InvalidIssuer => {
            AuthError::invalid_token("the token is from another issuer", false)
        }
        ErrorKind::InvalidAudience => {
            AuthError::invalid_token("the token is for somebody else", false)
        }
        ErrorKind::MissingRequiredClaim(_) => {
            AuthError::invalid_token("the token lacks a claim: exp, iss or aud", false)
        }
        // The header was read before.
        ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) => {
            AuthError::invalid_token("a claim of the token makes no sense", false)
        }
        _ => AuthError::invalid_token("the token isn't good", true),
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
        let mut claims = self.claims(token).await?;
        let subject = claims.get(&self.subject).and_then(claims::subject);
        let subject = subject.ok_or(AuthError::invalid_token(
            "the token doesn't say who it is for",
            false,
        ))?;
        let mut principal = Principal::new(subject);
        let limits = claims.remove(&self.limits).unwrap_or_default();
        if let Err(InvalidClaims(what)) = claims::limits(limits, &mut principal) {
            let (claim, subject) = (&self.limits, &principal.subject);
            tracing::warn!(claim, subject, what, "limits in a JWT make no sense");
            return Err(AuthError::invalid_token(
                "the limits in the token make no sense",
                false,
            ));
        }
        Ok(Some(principal))
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt")
            .field("cache", &self.cache)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}
