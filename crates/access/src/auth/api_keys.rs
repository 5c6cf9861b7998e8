//! API keys.

use std::{fmt, net::IpAddr, time::Duration};

use async_trait::async_trait;
use http::request::Parts;
use landfall_state::queue::{ApiKey, Principal, Queue, Token, TokenHash};

use super::{AuthError, AuthMethod, bearer};
use crate::ExpiringCache;

/// The time for which keys are cached: a revoked key is rejected after this time.
const CACHE_TTL: Duration = Duration::from_secs(5);

/// Authenticates requests with `Authorization: Bearer lfk_…` by the [keys](Queue::key) of the
/// queue.
pub struct ApiKeys {
    queue: Queue,
    cache: ExpiringCache<String, Result<ApiKey, AuthError>>,
}

impl ApiKeys {
    /// Creates the method for the keys of a queue.
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        Self {
            queue,
            cache: ExpiringCache::new(),
        }
    }

    /// Returns the key with this hash. Concurrent requests share one query.
    async fn find(&self, hash: TokenHash) -> Result<ApiKey, AuthError> {
        let query = async {
            match self.queue.key(&hash).await {
                Ok(Some(key)) => (Ok(key), CACHE_TTL),
                Ok(None) => {
                    let unknown = AuthError::invalid_token("unknown API key", true);
                    (Err(unknown), Duration::ZERO)
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to read API keys");
                    (Err(AuthError::Unavailable), Duration::ZERO)
                }
            }
        };
        self.cache
            .get_or_load(&hash.as_str().to_owned(), query)
            .await
    }
}

#[async_trait]
impl AuthMethod for ApiKeys {
    async fn authenticate(
        &self,
        request: &Parts,
        _client: Option<IpAddr>,
    ) -> Result<Option<Principal>, AuthError> {
        let secret = bearer(&request.headers).filter(|text| text.starts_with(Token::KEY_PREFIX));
        let Some(secret) = secret else {
            return Ok(None);
        };
        let key = self.find(TokenHash::from_secret(secret)).await?;
        if key.expires_at.is_some_and(|end| self.queue.now() >= end) {
            return Err(AuthError::invalid_token("API key expired", false));
        }
        let mut principal = Principal::new(key.subject);
        (principal.limits, principal.is_admin) = (key.limits, key.is_admin);
        Ok(Some(principal))
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeys")
    }
}
