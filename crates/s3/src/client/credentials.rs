//! Who asks: keys that are given, or found in the places where AWS's own tools look.

use std::{
    fmt,
    sync::{Arc, RwLock},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use landfall::BoxError;
use tokio::sync::Mutex;

use super::{chain::Chain, transport::HttpSend};

/// Keys to sign with. Its `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The access key's id, which is no secret.
    pub access_key_id: String,
    /// The secret of the key.
    pub secret_access_key: String,
    /// The token of temporary keys.
    pub session_token: Option<String>,
    /// When they end; `None` for never.
    pub expires: Option<SystemTime>,
}

impl Credentials {
    /// Lasting keys.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
            session_token: None,
            expires: None,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Where keys come from.
#[derive(Clone, Debug, Default)]
pub enum CredentialSource {
    /// The places where AWS's tools look, in this order: the environment, the shared files
    /// (`~/.aws/config`, `~/.aws/credentials`, the profile of `AWS_PROFILE`), SSO, web identity, a
    /// process, the container's endpoint, the instance's metadata service.
    ///
    /// A profile that takes on a role of another one (`source_profile`) is not followed; a
    /// `credential_process` can do it.
    #[default]
    Standard,
    /// The same, with this profile in place of `AWS_PROFILE`.
    Profile(String),
    /// These.
    Static(Credentials),
    /// Whatever this gives.
    Provider(Arc<dyn ProvideCredentials>),
    /// None: requests are not signed.
    Anonymous,
}

/// A source of keys of one's own.
///
/// What it gives is kept until shortly before its end, or until the service says that it has ended.
#[async_trait]
pub trait ProvideCredentials: fmt::Debug + Send + Sync + 'static {
    /// Fresh keys.
    ///
    /// # Errors
    /// Whatever keeps it from giving any; the call that needed them fails with
    /// [`ErrorKind::BadCredentials`](super::ErrorKind::BadCredentials).
    async fn credentials(&self) -> Result<Credentials, BoxError>;
}

/// Keys are asked for again when they have less than this left.
const REFRESH_BEFORE: Duration = Duration::from_secs(300);

/// Keys with less than this left are not used: the request has to arrive in time.
const USABLE_UNTIL: Duration = Duration::from_secs(15);

/// The keys in use, asked for when they are needed and again before they end.
#[derive(Debug)]
pub(super) struct Keeper {
    source: Option<Source>,
    current: RwLock<Option<Arc<Credentials>>>,
    /// Held while asking, so that one asks for all.
    asking: Mutex<()>,
}

#[derive(Debug)]
enum Source {
    Static(Arc<Credentials>),
    Provider(Arc<dyn ProvideCredentials>),
}

impl Keeper {
    pub(super) fn new(source: CredentialSource, http: Arc<dyn HttpSend>, region: &str) -> Self {
        let source = match source {
            CredentialSource::Anonymous => None,
            CredentialSource::Static(credentials) => Some(Source::Static(Arc::new(credentials))),
            CredentialSource::Provider(provider) => Some(Source::Provider(provider)),
            CredentialSource::Standard => {
                Some(Source::Provider(Arc::new(Chain::new(None, http, region))))
            }
            CredentialSource::Profile(profile) => Some(Source::Provider(Arc::new(Chain::new(
                Some(profile),
                http,
                region,
            )))),
        };
        Self {
            source,
            current: RwLock::default(),
            asking: Mutex::default(),
        }
    }

    /// Keys that are good for a while; `None` if requests are not to be signed.
    pub(super) async fn get(&self) -> Result<Option<Arc<Credentials>>, BoxError> {
        let provider = match &self.source {
            None => return Ok(None),
            Some(Source::Static(credentials)) => return Ok(Some(credentials.clone())),
            Some(Source::Provider(provider)) => provider,
        };
        let now = SystemTime::now();
        let current = self.current();
        if let Some(current) = &current
            && has_left(current, now, REFRESH_BEFORE)
        {
            return Ok(Some(current.clone()));
        }
        let usable = current.filter(|current| has_left(current, now, USABLE_UNTIL));
        let _asking = match (&usable, self.asking.try_lock()) {
            (_, Ok(guard)) => guard,
            // Somebody asks already, and the old ones still do.
            (Some(usable), Err(_)) => return Ok(Some(usable.clone())),
            (None, Err(_)) => self.asking.lock().await,
        };
        if let Some(current) = self.current()
            && has_left(&current, SystemTime::now(), REFRESH_BEFORE)
        {
            return Ok(Some(current));
        }
        match provider.credentials().await {
            Ok(fresh) => {
                let fresh = Arc::new(fresh);
                *self
                    .current
                    .write()
                    .unwrap_or_else(|broken| broken.into_inner()) = Some(fresh.clone());
                Ok(Some(fresh))
            }
            Err(error) => match usable {
                Some(usable) => {
                    tracing::warn!(%error, "S3 credentials end soon and could not be renewed");
                    Ok(Some(usable))
                }
                None => Err(error),
            },
        }
    }

    /// Forgets `ended`, which the service refused; false if asking again can give nothing else.
    pub(super) fn refuse(&self, ended: &Arc<Credentials>) -> bool {
        if !matches!(self.source, Some(Source::Provider(_))) {
            return false;
        }
        let mut current = self
            .current
            .write()
            .unwrap_or_else(|broken| broken.into_inner());
        if current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, ended))
        {
            *current = None;
        }
        true
    }

    fn current(&self) -> Option<Arc<Credentials>> {
        self.current
            .read()
            .unwrap_or_else(|broken| broken.into_inner())
            .clone()
    }
}

fn has_left(credentials: &Credentials, now: SystemTime, least: Duration) -> bool {
    credentials
        .expires
        .is_none_or(|expires| expires > now + least)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::client::transport::Pool;

    /// Gives keys with the lifetimes of a list, then fails.
    #[derive(Debug)]
    struct Listed {
        lifetimes: Vec<Option<u64>>,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl ProvideCredentials for Listed {
        async fn credentials(&self) -> Result<Credentials, BoxError> {
            tokio::task::yield_now().await;
            let turn = self.asked.fetch_add(1, Ordering::Relaxed);
            let lifetime = *self.lifetimes.get(turn).ok_or("nothing more")?;
            let mut credentials = Credentials::new(format!("key{turn}"), "secret");
            credentials.expires =
                lifetime.map(|seconds| SystemTime::now() + Duration::from_secs(seconds));
            Ok(credentials)
        }
    }

    fn keeper(source: CredentialSource) -> Keeper {
        let pool = Pool::new(&crate::client::ClientSettings::default(), false).expect("a pool");
        Keeper::new(source, Arc::new(pool), "r")
    }

    fn listed(lifetimes: &[Option<u64>]) -> (Arc<Listed>, Keeper) {
        let listed = Arc::new(Listed {
            lifetimes: lifetimes.to_vec(),
            asked: AtomicUsize::default(),
        });
        let keeper = keeper(CredentialSource::Provider(listed.clone()));
        (listed, keeper)
    }

    async fn id(keeper: &Keeper) -> String {
        keeper
            .get()
            .await
            .expect("keys")
            .expect("signed")
            .access_key_id
            .clone()
    }

    #[tokio::test]
    async fn lasting_keys_are_asked_for_once_by_many_at_a_time() {
        let (listed, keeper) = listed(&[None]);
        let (a, b) = tokio::join!(id(&keeper), id(&keeper));
        assert_eq!((a.as_str(), b.as_str()), ("key0", "key0"));
        assert_eq!(id(&keeper).await, "key0");
        assert_eq!(listed.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn keys_about_to_end_are_renewed_and_used_until_then() {
        let (listed, keeper) = listed(&[Some(100), Some(100)]);
        assert_eq!(id(&keeper).await, "key0");
        assert_eq!(id(&keeper).await, "key1");
        assert_eq!(
            id(&keeper).await,
            "key1",
            "the source fails, but these still do"
        );
        assert_eq!(listed.asked.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn keys_that_have_ended_are_not_used() {
        let (_, keeper) = listed(&[Some(10)]);
        assert_eq!(id(&keeper).await, "key0");
        let error = keeper.get().await.expect_err("none left");
        assert_eq!(error.to_string(), "nothing more");
    }

    #[tokio::test]
    async fn refused_keys_are_asked_for_again() {
        let (_, keeper) = listed(&[None, None]);
        let first = keeper.get().await.expect("keys").expect("signed");
        assert!(keeper.refuse(&first));
        assert_eq!(id(&keeper).await, "key1");
        assert!(keeper.refuse(&first), "one of long ago changes nothing");
        assert_eq!(id(&keeper).await, "key1");
    }

    #[tokio::test]
    async fn given_keys_are_what_they_are() {
        let credentials = Credentials::new("id", "the-secret");
        let debug = format!("{credentials:?}");
        assert!(
            debug.contains("id") && !debug.contains("the-secret"),
            "{debug}"
        );
        let keeper = self::keeper(CredentialSource::Static(credentials));
        let given = keeper.get().await.expect("keys").expect("signed");
        assert!(!keeper.refuse(&given));
        let anonymous = self::keeper(CredentialSource::Anonymous);
        assert!(anonymous.get().await.expect("none needed").is_none());
    }
}
