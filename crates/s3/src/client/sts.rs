//! Temporary credentials for somebody else (AWS STS, `GetFederationToken`).

use std::time::{Duration, SystemTime};

use super::{Client, error::Result};

/// Credentials that end, and may do no more than a policy says.
#[derive(Clone, PartialEq, Eq)]
pub struct TemporaryCredentials {
    /// The key's id.
    pub access_key_id: String,
    /// The key's secret.
    pub secret_access_key: String,
    /// What has to be sent along.
    pub session_token: String,
    /// When they end.
    pub expiration: SystemTime,
}

impl std::fmt::Debug for TemporaryCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TemporaryCredentials")
            .field("access_key_id", &self.access_key_id)
            .field("expiration", &self.expiration)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Asks the token service (at `endpoint`, or AWS's own in the client's region) for credentials that
    /// may do what both this client and `policy` (JSON) allow. `name` is shown in logs of AWS: 2 to 32
    /// characters of `[\w+=,.@-]`.
    ///
    /// # Errors
    /// [`Error`](super::Error): the service refuses, or has no such thing.
    pub async fn federation_token(
        &self,
        endpoint: Option<&str>,
        name: &str,
        policy: &str,
        lifetime: Duration,
    ) -> Result<TemporaryCredentials> {
        todo!()
    }
}
