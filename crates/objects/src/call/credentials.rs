//! Keeps credentials until shortly before they expire, or until the service rejects them. It finds none.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use landfall::BoxError;
use parking_lot::RwLock;
use tokio::sync::Mutex;

/// Credentials with less remaining lifetime are not used, because the request has to arrive in time.
const USABLE_UNTIL: Duration = Duration::from_secs(20);

/// A source of credentials.
#[async_trait]
pub trait LoadCredentials: Send + Sync + 'static {
    /// The credentials.
    type Credentials: Send + Sync;

    /// The service, in logs.
    const SERVICE: &'static str;

    /// Credentials with less remaining lifetime are renewed.
    const RENEW_BEFORE: Duration = Duration::from_secs(300);

    /// Returns fresh credentials.
    ///
    /// # Errors
    /// Any error.
    async fn load(&self) -> Result<Self::Credentials, BoxError>;

    /// Returns when they expire.
    fn expires(credentials: &Self::Credentials) -> Option<SystemTime>;
}

/// The credentials of a client. One task renews them at a time; the others use the old ones as long as they last.
pub struct CredentialCache<S: LoadCredentials> {
    /// `None`: the current credentials, if any, are fixed.
    source: Option<S>,
    current: RwLock<Option<Arc<S::Credentials>>>,
    renewing: Mutex<()>,
}

impl<S: LoadCredentials> CredentialCache<S> {
    /// Creates a cache of the credentials of a source.
    pub fn new(source: S) -> Self {
        Self {
            source: Some(source),
            ..Self::fixed(None)
        }
    }

    /// Creates a cache of credentials that do not change; `None`: requests have none.
    pub fn fixed(credentials: Option<S::Credentials>) -> Self {
        Self {
            source: None,
            current: RwLock::new(credentials.map(Arc::new)),
            renewing: Mutex::default(),
        }
    }

    /// Returns the source, unless the credentials are fixed.
    pub fn source(&self) -> Option<&S> {
        self.source.as_ref()
    }

    /// Returns credentials for a request that is sent now; `None` if requests have none.
    ///
    /// # Errors
    /// The error of the source, if the credentials in use have expired.
    ///
    /// # Cancel safety
    /// A dropped call renews nothing.
    pub async fn get(&self) -> Result<Option<Arc<S::Credentials>>, BoxError> {
        let Some(source) = &self.source else {
            return Ok(self.current.read().clone());
        };
        if let Some(current) = self.current(S::RENEW_BEFORE) {
            return Ok(Some(current));
        }
        let usable = self.current(USABLE_UNTIL);
        let _renewing = match (&usable, self.renewing.try_lock()) {
            (_, Ok(guard)) => guard,
            (Some(_), Err(_)) => return Ok(usable),
            (None, Err(_)) => self.renewing.lock().await,
        };
        if let Some(current) = self.current(S::RENEW_BEFORE) {
            return Ok(Some(current));
        }
        match (source.load().await, usable) {
            (Ok(fresh), _) => {
                let fresh = Arc::new(fresh);
                *self.current.write() = Some(Arc::clone(&fresh));
                Ok(Some(fresh))
            }
            (Err(error), Some(usable)) => {
                let service = S::SERVICE;
                tracing::warn!(%error, service, "failed to renew credentials that expire soon");
                Ok(Some(usable))
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Returns the credentials that are kept, if this much of their lifetime is left.
    fn current(&self, min: Duration) -> Option<Arc<S::Credentials>> {
        let current = self.current.read().clone();
        current.filter(|current| {
            S::expires(current).is_none_or(|expires| expires > SystemTime::now() + min)
        })
    }

    /// Discards credentials that the service rejected; false if others cannot be had.
    pub fn invalidate(&self, rejected: &Arc<S::Credentials>) -> bool {
        let mut current = self.current.write();
        let can_renew = self.source.is_some();
        current.take_if(|current| can_renew && Arc::ptr_eq(current, rejected));
        can_renew
    }
}

impl<S: LoadCredentials> fmt::Debug for CredentialCache<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialCache").finish_non_exhaustive()
    }
}
