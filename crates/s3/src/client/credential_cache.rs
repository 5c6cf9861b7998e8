//! The cache of a client's credentials, with the source of the settings.

use std::sync::Arc;

use landfall_objects::CredentialCache;

use super::{
    HttpSend,
    credential_chain::CredentialChain,
    credentials::{CredentialSource, Source},
};

/// Creates the cache of the credentials of a source.
pub(super) fn cache(
    source: CredentialSource,
    http: Arc<dyn HttpSend>,
    region: &str,
) -> CredentialCache<Source> {
    let profile = match source {
        CredentialSource::Standard => None,
        CredentialSource::Profile(profile) => Some(profile),
        CredentialSource::Provider(provider) => return CredentialCache::new(Source(provider)),
        CredentialSource::Static(credentials) => return CredentialCache::fixed(Some(credentials)),
        CredentialSource::Anonymous => return CredentialCache::fixed(None),
    };
    let chain = CredentialChain::new(profile, http, region);
    CredentialCache::new(Source(Arc::new(chain)))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::{Duration, SystemTime},
    };

    use async_trait::async_trait;

    use landfall::BoxError;

    use super::*;
    use crate::client::{
        CallSettings,
        credentials::{Credentials, ProvideCredentials},
    };

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

    fn cache(source: CredentialSource) -> CredentialCache<Source> {
        let calls = CallSettings::default().caller(false).expect("connections");
        super::cache(source, calls.http, "r")
    }

    fn scripted(lifetimes: &[Option<u64>]) -> (Arc<ScriptedProvider>, CredentialCache<Source>) {
        let scripted = Arc::new(ScriptedProvider {
            lifetimes: lifetimes.to_vec(),
            calls: AtomicUsize::default(),
        });
        let cache = cache(CredentialSource::Provider(scripted.clone()));
        (scripted, cache)
    }

    async fn id(cache: &CredentialCache<Source>) -> String {
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
