//! Credentials and where they come from. This signs nothing.

use std::{fmt, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use landfall::BoxError;
use landfall_objects::LoadCredentials;
use serde::Deserialize;

use super::listing;

/// An access key. Its `Debug` output contains no secret.
///
/// It is deserialized from the XML or JSON of AWS's services and programs.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Credentials {
    /// The access key id, which is not secret.
    #[serde(deserialize_with = "listing::filled")]
    pub access_key_id: String,
    /// The secret access key.
    #[serde(deserialize_with = "listing::filled")]
    pub secret_access_key: String,
    /// The session token of temporary credentials.
    #[serde(default, alias = "Token", deserialize_with = "listing::if_filled")]
    pub session_token: Option<String>,
    /// Expiry time; `None`: they do not expire.
    #[serde(rename = "Expiration", default, deserialize_with = "listing::if_time")]
    pub expires: Option<SystemTime>,
}

impl Credentials {
    /// Creates long-term credentials.
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

/// The source of a client's credentials.
#[derive(Clone, Debug, Default)]
pub enum CredentialSource {
    /// The default chain of the AWS tools.
    ///
    /// In this order: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, web identity
    /// (`AWS_WEB_IDENTITY_TOKEN_FILE`), the profile of `AWS_PROFILE` or else `default` in
    /// `~/.aws/config` and `~/.aws/credentials`, the container endpoint, the instance metadata
    /// service. A profile has keys, a role (`source_profile`, `credential_source` or
    /// `web_identity_token_file`), a login (`sso_session`) or a `credential_process`.
    ///
    /// A variable that is empty is not set. The first source that is configured decides: if it fails,
    /// no other is tried.
    #[default]
    Standard,
    /// This profile, and no other source.
    Profile(String),
    /// Fixed credentials.
    Static(Credentials),
    /// A custom provider.
    Provider(Arc<dyn ProvideCredentials>),
    /// Requests are not signed.
    Anonymous,
}

/// A custom source of credentials.
///
/// The client caches its credentials until shortly before they expire, or until the service rejects
/// them.
#[async_trait]
pub trait ProvideCredentials: fmt::Debug + Send + Sync + 'static {
    /// Returns fresh credentials.
    ///
    /// # Errors
    /// Any error; the call then fails with
    /// [`ErrorKind::BadCredentials`](super::ErrorKind::BadCredentials).
    async fn credentials(&self) -> Result<Credentials, BoxError>;
}

/// A source whose credentials are not fixed.
pub(super) struct Source(pub(super) Arc<dyn ProvideCredentials>);

#[async_trait]
impl LoadCredentials for Source {
    type Credentials = Credentials;

    const SERVICE: &'static str = "S3";

    async fn load(&self) -> Result<Credentials, BoxError> {
        self.0.credentials().await
    }

    fn expires(credentials: &Credentials) -> Option<SystemTime> {
        credentials.expires
    }
}
