//! API keys.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::request::Parts;
use moka::future::Cache;

use super::{AuthError, AuthMethod, Principal, credentials::bearer};
use crate::{Clock, Queue, TokenHash, queue::ApiKey, token};

/// The time for which keys are cached: a revoked key is rejected after this time.
const CACHE_TTL: Duration = Duration::from_secs(5);

const CACHE_CAPACITY: u64 = 10_000;

/// An API key: `lfk_` and 256 random bits in base64url. Only its [hash](Self::hash) is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySecret(String);

impl KeySecret {
    /// The prefix of API keys.
    pub const PREFIX: &str = "lfk_";

    /// Creates a random key.
    #[must_use]
    pub fn random() -> Self {
        Self(token::secret(Self::PREFIX))
    }

    /// Returns the secret.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns its hash.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash::from_secret(&self.0)
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySecret(..)")
    }
}

/// Authenticates requests with `Authorization: Bearer lfk_…` by the [keys](Queue::key) of the
/// queue.
pub struct ApiKeys {
    queue: Queue,
    clock: Clock,
    cache: Cache<String, ApiKey>,
}

impl ApiKeys {
    /// Creates the method for the keys of a queue.
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        Self::with_clock(queue, Clock::default())
    }

    /// Creates the method with a clock for the expiry of keys.
    #[must_use]
    pub fn with_clock(queue: Queue, clock: Clock) -> Self {
        Self {
            queue,
            clock,
            cache: Cache::builder()
                .max_capacity(CACHE_CAPACITY)
                .time_to_live(CACHE_TTL)
                .build(),
        }
    }

    /// Returns the key with this hash. Concurrent requests share one query.
    async fn find(&self, hash: TokenHash) -> Result<ApiKey, Arc<LookupError>> {
        let query = async {
            match self.queue.key(&hash).await {
                Ok(Some(key)) => Ok(key),
                Ok(None) => Err(LookupError::UnknownKey),
                Err(error) => {
                    tracing::warn!(%error, "failed to read API keys");
                    Err(LookupError::ForwardAuthError)
                }
            }
        };
        self.cache
            .try_get_with(hash.as_str().to_owned(), query)
            .await
    }
}

#[derive(Debug, Clone, Copy)]
enum LookupError {
    UnknownKey,
    ForwardAuthError,
}

#[async_trait]
impl AuthMethod for ApiKeys {
    async fn authenticate(
        &self,
        request: &Parts,
        _client: Option<IpAddr>,
    ) -> Result<Option<Principal>, AuthError> {
        let secret = bearer(&request.headers).filter(|text| text.starts_with(KeySecret::PREFIX));
        let Some(secret) = secret else {
            return Ok(None);
        };
        let key = match self.find(TokenHash::from_secret(secret)).await {
            Ok(key) => key,
            Err(error) => {
                return Err(match *error {
                    LookupError::UnknownKey => AuthError::invalid_token("unknown API key", true),
                    LookupError::ForwardAuthError => AuthError::Unavailable,
                });
            }
        };
        if key.expires_at.is_some_and(|end| self.clock.now() >= end) {
            return Err(AuthError::invalid_token("API key expired", false));
        }
        Ok(Some(Principal {
            subject: key.subject,
            limits: key.limits,
            is_admin: key.is_admin,
            by_cookie: false,
        }))
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_and_unique() {
        let (one, other) = (KeySecret::random(), KeySecret::random());
        assert_eq!(one.reveal().len(), 47);
        assert!(one.reveal().starts_with("lfk_"));
        assert_ne!(one.hash(), other.hash());
        assert_eq!(one.hash(), TokenHash::from_secret(one.reveal()));
        assert!(!format!("{one:?}").contains(&one.reveal()[4..]));
    }
}
