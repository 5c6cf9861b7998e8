//! Keeps credentials until shortly before they expire, or until the service rejects them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use landfall::BoxError;
use parking_lot::RwLock;
use tokio::sync::Mutex;

use super::{
    HttpSend,
    credential_chain::CredentialChain,
    credentials::{CredentialSource, Credentials, ProvideCredentials},
};

/// Credentials with less remaining lifetime are refreshed.
const REFRESH_BEFORE: Duration = Duration::from_secs(300);

/// Credentials with less remaining lifetime are not used, because the request has to arrive in
/// time.
const USABLE_UNTIL: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct CredentialCache {
    /// `None`: the current credentials, if any, are fixed.
    provider: Option<Arc<dyn ProvideCredentials>>,
    current: RwLock<Option<Arc<Credentials>>>,
    refreshing: Mutex<()>,
}

impl CredentialCache {
    pub(super) fn new(source: CredentialSource, http: Arc<dyn HttpSend>, region: &str) -> Self {
        let chain = |profile| Arc::new(CredentialChain::new(profile, http, region));
        let mut fixed = None;
        let provider: Option<Arc<dyn ProvideCredentials>> = match source {
            CredentialSource::Anonymous => None,
            CredentialSource::Static(credentials) => {
                fixed = Some(Arc::new(credentials));
                None
            }
            CredentialSource::Provider(provider) => Some(provider),
            CredentialSource::Standard => Some(chain(None)),
            CredentialSource::Profile(profile) => Some(chain(Some(profile))),
        };
        Self {
            provider,
            current: RwLock::new(fixed),
            refreshing: Mutex::default(),
        }
    }

    pub(super) async fn get(&self) -> Result<Option<Arc<Credentials>>, BoxError> {
        let Some(provider) = &self.provider else {
            return Ok(self.current());
        };
        let now = SystemTime::now();
        let current = self.current();
        if let Some(current) = &current
            && has_left(current, now, REFRESH_BEFORE)
        {
            return Ok(Some(current.clone()));
        }
        let usable = current.filter(|current| has_left(current, now, USABLE_UNTIL));
        let _refreshing = match (&usable, self.refreshing.try_lock()) {
            (_, Ok(guard)) => guard,
            (Some(usable), Err(_)) => return Ok(Some(usable.clone())),
            (None, Err(_)) => self.refreshing.lock().await,
        };
        if let Some(current) = self.current()
            && has_left(&current, SystemTime::now(), REFRESH_BEFORE)
        {
            return Ok(Some(current));
        }
        match provider.credentials().await {
            Ok(fresh) => {
                let fresh = Arc::new(fresh);
                *self.current.write() = Some(fresh.clone());
                Ok(Some(fresh))
            }
            Err(error) => match usable {
                Some(usable) => {
                    tracing::warn!(%error, "failed to refresh S3 credentials that expire soon");
                    Ok(Some(usable))
                }
                None => Err(error),
            },
        }
    }

    /// Discards credentials that the service rejected; false if a refresh cannot help.
    pub(super) fn invalidate(&self, ended: &Arc<Credentials>) -> bool {
        if self.provider.is_none() {
            return false;
        }
        let mut current = self.current.write();
        current.take_if(|current| Arc::ptr_eq(current, ended));
        true
    }

    fn current(&self) -> Option<Arc<Credentials>> {
        self.current.read().clone()
    }
}

fn has_left(credentials: &Credentials, now: SystemTime, min: Duration) -> bool {
    let expires = credentials.expires;
    expires.is_none_or(|expires| expires > now + min)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::client::connections::connections;

    /// Provides credentials with the listed lifetimes, then fails.
    #[derive(Debug)]
    struct ScriptedProvider {
        lifetimes: Vec<Option<u64>>,
        calls: AtomicUsize,
    }

    #[async_trait]
    impl ProvideCredentials for ScriptedProvider {
        async fn credentials(&self) -> Result<Credentials, BoxError> {
            tokio::task::yield_now().await;
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            let lifetime = *self.lifetimes.get(call).ok_or("nothing more")?;
            let mut credentials = Credentials::new(format!("key{call}"), "secret");
            credentials.expires =
                lifetime.map(|seconds| SystemTime::now() + Duration::from_secs(seconds));
            Ok(credentials)
        }
    }

    fn cache(source: CredentialSource) -> CredentialCache {
        let pool = connections(&crate::client::ClientSettings::default(), false).expect("a pool");
        CredentialCache::new(source, Arc::new(pool), "r")
    }

    fn scripted(lifetimes: &[Option<u64>]) -> (Arc<ScriptedProvider>, CredentialCache) {
        let scripted = Arc::new(ScriptedProvider {
            lifetimes: lifetimes.to_vec(),
            calls: AtomicUsize::default(),
        });
        let cache = cache(CredentialSource::Provider(scripted.clone()));
        (scripted, cache)
    }

    async fn id(cache: &CredentialCache) -> String {
        cache
            .get()
            .await
            .expect("keys")
            .expect("signed")
            .access_key_id
            .clone()
    }

    #[tokio::test]
    async fn concurrent_calls_fetch_credentials_once() {
        let (scripted, cache) = scripted(&[None]);
        let (a, b) = tokio::join!(id(&cache), id(&cache));
        assert_eq!((a.as_str(), b.as_str()), ("key0", "key0"));
        assert_eq!(id(&cache).await, "key0");
        assert_eq!(scripted.calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn expiring_credentials_are_refreshed_and_used_until_then() {
        let (scripted, cache) = scripted(&[Some(100), Some(100)]);
        assert_eq!(id(&cache).await, "key0");
        assert_eq!(id(&cache).await, "key1");
        assert_eq!(
            id(&cache).await,
            "key1",
            "the source fails, but these still do"
        );
        assert_eq!(scripted.calls.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn expired_credentials_are_not_used() {
        let (_, cache) = scripted(&[Some(10)]);
        assert_eq!(id(&cache).await, "key0");
        let error = cache.get().await.expect_err("none left");
        assert_eq!(error.to_string(), "nothing more");
    }

    #[tokio::test]
    async fn rejected_credentials_are_fetched_again() {
        let (_, cache) = scripted(&[None, None]);
        let first = cache.get().await.expect("keys").expect("signed");
        assert!(cache.invalidate(&first));
        assert_eq!(id(&cache).await, "key1");
        assert!(cache.invalidate(&first), "one of long ago changes nothing");
        assert_eq!(id(&cache).await, "key1");
    }

    #[tokio::test]
    async fn static_credentials_are_unchanged() {
        let credentials = Credentials::new("id", "the-secret");
        let debug = format!("{credentials:?}");
        assert!(
            debug.contains("id") && !debug.contains("the-secret"),
            "{debug}"
        );
        let cache = self::cache(CredentialSource::Static(credentials));
        let given = cache.get().await.expect("keys").expect("signed");
        assert!(!cache.invalidate(&given));
        let anonymous = self::cache(CredentialSource::Anonymous);
        assert!(anonymous.get().await.expect("none needed").is_none());
    }
}
