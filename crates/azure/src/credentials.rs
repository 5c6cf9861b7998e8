//! Keeps a token until shortly before it expires, or until the service rejects it. Keys and signatures stay.

use std::{sync::Arc, time::Duration};

use landfall::BoxError;
use parking_lot::RwLock;
use reqsign_azure_storage::Credential;
use reqsign_core::{SigningCredential as _, time::Timestamp};
use tokio::sync::Mutex;

use crate::{
    account::{Account, Source},
    identity::Identity,
};

/// A token with less remaining lifetime is renewed.
const REFRESH_BEFORE: Duration = Duration::from_secs(300);

/// A token with less remaining lifetime is not used, because the request has to arrive in time.
const USABLE_UNTIL: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Credentials {
    /// `None`: the current credential is fixed.
    identity: Option<Identity>,
    current: RwLock<Option<Arc<Credential>>>,
    refreshing: Mutex<()>,
}

impl Credentials {
    pub(crate) fn new(account: &Account, identity: Identity) -> Self {
        let fixed = match &account.source {
            Source::Key(key) => Some(Credential::with_shared_key(&account.name, key)),
            Source::Signature(token) => Some(Credential::with_sas_token(token)),
            Source::Identity => None,
        };
        Self {
            identity: fixed.is_none().then_some(identity),
            current: RwLock::new(fixed.map(Arc::new)),
            refreshing: Mutex::default(),
        }
    }

    /// Returns a credential for a request that is sent now. One task renews; the others use the old one as
    /// long as it lasts.
    ///
    /// # Cancel safety
    /// Nothing changes if it is dropped.
    pub(crate) async fn get(&self) -> Result<Arc<Credential>, BoxError> {
        let current = self.current();
        let Some(identity) = &self.identity else {
            return current.ok_or_else(|| "there is no credential".into());
        };
        if let Some(current) = current.clone().filter(|one| has_left(one, REFRESH_BEFORE)) {
            return Ok(current);
        }
        let usable = current.filter(|one| has_left(one, USABLE_UNTIL));
        let _refreshing = match (&usable, self.refreshing.try_lock()) {
            (_, Ok(guard)) => guard,
            (Some(usable), Err(_)) => return Ok(Arc::clone(usable)),
            (None, Err(_)) => self.refreshing.lock().await,
        };
        if let Some(current) = self.current().filter(|one| has_left(one, REFRESH_BEFORE)) {
            return Ok(current);
        }
        match identity.token().await {
            Ok(fresh) => {
                let fresh = Arc::new(fresh);
                *self.current.write() = Some(Arc::clone(&fresh));
                Ok(fresh)
            }
            Err(error) => match usable {
                Some(usable) => {
                    tracing::warn!(%error, "failed to renew the Azure token, which expires soon");
                    Ok(usable)
                }
                None => Err(error),
            },
        }
    }

    /// Discards a token that the service rejected; false if another attempt cannot help.
    pub(crate) fn invalidate(&self, ended: &Arc<Credential>) -> bool {
        if self.identity.is_none() {
            return false;
        }
        let mut current = self.current.write();
        current.take_if(|current| Arc::ptr_eq(current, ended));
        true
    }

    /// Returns the source of the tokens, if there are tokens.
    pub(crate) fn token_source(&self) -> Option<&'static str> {
        self.identity.as_ref().map(Identity::source)
    }

    fn current(&self) -> Option<Arc<Credential>> {
        self.current.read().clone()
    }
}

fn has_left(credential: &Credential, min: Duration) -> bool {
    credential.is_valid_at(Timestamp::now() + min)
}
