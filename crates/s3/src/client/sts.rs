//! Temporary credentials for somebody else (AWS STS, `GetFederationToken`).

use std::time::{Duration, SystemTime};

use http::Method;

use super::{
    Client,
    address::Target,
    call::Call,
    encode::Query,
    error::{ErrorKind, Result},
    stats::Operation,
    xml,
};

/// The token service knows no buckets.
const NO_BUCKET: &str = "";

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
        let inner = &self.inner;
        let region = inner.regions.of(NO_BUCKET);
        let call = Call::new(Operation::GetFederationToken, Method::POST, NO_BUCKET, None);
        let endpoint = match endpoint {
            Some(endpoint) => endpoint.to_owned(),
            None => {
                let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
                format!("https://sts.{region}.amazonaws.com{suffix}")
            }
        };
        let target = Target::of(&endpoint).map_err(|problem| {
            call.error(ErrorKind::Other)
                .with_message(format!("the endpoint of the token service {problem}"))
        })?;
        let mut body = Query::new();
        for (name, value) in [
            ("Action", "GetFederationToken"),
            ("Version", "2011-06-15"),
            ("Name", name),
            ("Policy", policy),
            ("DurationSeconds", &lifetime.as_secs().to_string()),
        ] {
            body.push(name, value);
        }
        let call = call
            .to("sts", target)
            .header("content-type", "application/x-www-form-urlencoded")?
            .text(body.canonical());
        let answer = inner.call(&call).await?;
        xml::federation_token(&answer.body).map_err(|error| call.nonsense(error))
    }
}
