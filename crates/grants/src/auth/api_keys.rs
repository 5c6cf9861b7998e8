//! API keys: known to the application's servers, bound to a subject.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::request::Parts;
use moka::future::Cache;

use super::{AuthError, AuthMethod, Principal, credentials::bearer};
use crate::{Clock, Queue, TokenHash, queue::ApiKey, token};

/// How long a key that was found is believed to be one: a key that is revoked is refused after this.
const BELIEVED: Duration = Duration::from_secs(5);

/// How many keys are remembered.
const REMEMBERED: u64 = 10_000;

/// An API key: 256 random bits, spelled `lfk_` and 43 characters of base64url. Landfall keeps its
/// [hash](Self::hash) only.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySecret(String);

impl KeySecret {
    /// How API keys begin.
    pub const PREFIX: &str = "lfk_";

    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(token::secret(Self::PREFIX))
    }

    /// Its spelling, to be shown once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
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

/// Knows callers by `Authorization: Bearer lfk_…`, which the [queue](Queue::key) knows by its hash.
pub struct ApiKeys {
    queue: Queue,
    clock: Clock,
    found: Cache<String, ApiKey>,
}

impl ApiKeys {
    /// The keys of this queue.
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        Self::with_clock(queue, Clock::default())
    }

    /// The keys of this queue, with a clock that says whether their time is over.
    #[must_use]
    pub fn with_clock(queue: Queue, clock: Clock) -> Self {
        Self {
            queue,
            clock,
            found: Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_live(BELIEVED)
                .build(),
        }
    }

    /// The key with this hash; requests that want it at the same time share one look.
    async fn find(&self, hash: TokenHash) -> Result<ApiKey, Arc<Missing>> {
        let look = async {
            match self.queue.key(&hash).await {
                Ok(Some(key)) => Ok(key),
                Ok(None) => Err(Missing::NoKey),
                Err(error) => {
                    tracing::warn!(%error, "API keys can't be looked up");
                    Err(Missing::ForwardAuthError)
                }
            }
        };
        self.found
            .try_get_with(hash.as_str().to_owned(), look)
            .await
    }
}

#[derive(Debug, Clone, Copy)]
enum Missing {
    NoKey,
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
            Err(missing) => {
                return Err(match *missing {
                    Missing::NoKey => AuthError::invalid_token("there is no such key", true),
                    Missing::ForwardAuthError => AuthError::Unavailable,
                });
            }
        };
        if key.expires_at.is_some_and(|end| self.clock.now() >= end) {
            return Err(AuthError::invalid_token("the key's time is over", false));
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
    fn keys_are_long_and_their_own() {
        let (one, other) = (KeySecret::random(), KeySecret::random());
        assert_eq!(one.reveal().len(), 47);
        assert!(one.reveal().starts_with("lfk_"));
        assert_ne!(one.hash(), other.hash());
        assert_eq!(one.hash(), TokenHash::from_secret(one.reveal()));
        assert!(!format!("{one:?}").contains(&one.reveal()[4..]));
    }
}
