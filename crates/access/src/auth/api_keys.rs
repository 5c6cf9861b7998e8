//! API keys and upload links.

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use http::request::Parts;
use landfall_state::queue::{LimitExceeded, Principal, Queue, QueueError, Token, TokenHash};

use super::{AuthError, AuthMethod, bearer};
use crate::ExpiringCache;

/// The time for which keys are cached: a revoked key is rejected after this time.
const CACHE_TTL: Duration = Duration::from_secs(5);

/// Authenticates requests with `Authorization: Bearer lfk_…` by the [keys](Queue::key) and [links](Queue::link) of
/// the queue.
pub struct ApiKeys {
    queue: Queue,
    cache: ExpiringCache<String, Result<Credential, AuthError>>,
}

#[derive(Debug, Clone)]
struct Credential {
    principal: Principal,
    expires_at: Option<SystemTime>,
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

    async fn read(&self, hash: &TokenHash) -> Result<Option<Credential>, QueueError> {
        if let Some(key) = self.queue.key(hash).await? {
            let mut principal = Principal::new(key.subject);
            (principal.limits, principal.is_admin) = (key.limits, key.is_admin);
            return Ok(Some(Credential {
                principal,
                expires_at: key.expires_at,
            }));
        }
        let link = self.queue.link(hash).await?;
        Ok(link.map(|link| {
            let mut principal = Principal::new(link.subject);
            (principal.limits, principal.link) = (link.limits, Some(link.id));
            Credential {
                principal,
                expires_at: link.expires_at,
            }
        }))
    }

    /// Returns the key or link with this hash. Concurrent requests share one query.
    async fn find(&self, hash: TokenHash) -> Result<Credential, AuthError> {
        let query = async {
            match self.read(&hash).await {
                Ok(Some(found)) => (Ok(found), CACHE_TTL),
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
        let found = self.find(TokenHash::from_secret(secret)).await?;
        if found.expires_at.is_some_and(|end| self.queue.now() >= end) {
            return Err(match found.principal.link {
                Some(_) => AuthError::Forbidden(LimitExceeded::LinkEnded.to_string()),
                None => AuthError::invalid_token("API key expired", false),
            });
        }
        Ok(Some(found.principal))
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeys")
    }
}
