//! Who asks: keys that are given, or found in the places where AWS's own tools look.

use std::{fmt, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use landfall::BoxError;

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
