//! Temporary credentials for clients (AWS STS: `GetFederationToken`, `AssumeRole`).

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

/// A request for temporary credentials.
#[derive(Debug, Clone, Copy)]
pub struct TokenRequest<'a> {
    /// The token service; AWS's own in the client's region if not set.
    pub endpoint: Option<&'a str>,
    /// The ARN of the role to assume. `None` requests a federation token, which AWS gives only to the
    /// long-term keys of a user.
    pub role: Option<&'a str>,
    /// A name for AWS's logs: 2 to 32 characters of `[\w+=,.@-]`.
    pub name: &'a str,
    /// A policy (JSON) that bounds what the credentials may do, besides the rights of the role or the
    /// user.
    pub policy: &'a str,
    /// How long they are valid.
    pub lifetime: Duration,
}

impl Client {
    /// Requests credentials that may do what both this client (or the role) and the policy allow.
    ///
    /// # Errors
    /// [`Error`](super::Error): the service denies it or has no such operation; this client itself has
    /// temporary credentials and no role is set.
    pub async fn temporary_credentials(
        &self,
        request: &TokenRequest<'_>,
    ) -> Result<TemporaryCredentials> {
        let inner = &self.inner;
        let region = inner.regions.of(NO_BUCKET);
        let operation = match request.role {
            Some(_) => Operation::AssumeRole,
            None => Operation::GetFederationToken,
        };
        let call = Call::new(operation, Method::POST, NO_BUCKET, None);
        let keys = inner.keeper.get().await;
        let keys =
            keys.map_err(|source| call.error(ErrorKind::BadCredentials).with_source(source))?;
        let is_temporary = keys.is_some_and(|keys| keys.session_token.is_some());
        if is_temporary && request.role.is_none() {
            let error = call.error(ErrorKind::BadCredentials);
            return Err(error.with_message(
                "AWS gives no federation token to temporary credentials; set a role to assume",
            ));
        }
        let endpoint = match request.endpoint {
            Some(endpoint) => endpoint.to_owned(),
            None => format!("https://sts.{region}.{}", Partition::of(&region).dns_suffix),
        };
        let target = Target::of(&endpoint).map_err(|problem| {
            call.error(ErrorKind::Other)
                .with_message(format!("the endpoint of the token service {problem}"))
        })?;
        let mut body = Query::new();
        let seconds = request.lifetime.as_secs().to_string();
        for (name, value) in [
            ("Action", operation.name()),
            ("Version", "2011-06-15"),
            ("Policy", request.policy),
            ("DurationSeconds", &seconds),
        ] {
            body.push(name, value);
        }
        match request.role {
            Some(role) => {
                body.push("RoleArn", role);
                body.push("RoleSessionName", request.name);
            }
            None => body.push("Name", request.name),
        }
        let call = call
            .to("sts", target)
            .header("content-type", "application/x-www-form-urlencoded")?
            .text(body.canonical());
        let answer = inner.call(&call).await?;
        xml::temporary_credentials(&answer.body).map_err(|error| call.nonsense(error))
    }
}

/// A partition of AWS: regions with accounts, names and hosts of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Its name in ARNs.
    pub name: &'static str,
    /// The end of its hosts' names.
    pub dns_suffix: &'static str,
}

impl Partition {
    /// Finds the partition of a region: `aws` for all that name no other one, other services included.
    #[must_use]
    pub fn of(region: &str) -> Self {
        let (name, dns_suffix) = match region {
            _ if region.starts_with("cn-") => ("aws-cn", "amazonaws.com.cn"),
            _ if region.starts_with("us-gov-") => ("aws-us-gov", "amazonaws.com"),
            _ if region.starts_with("us-iso-") => ("aws-iso", "c2s.ic.gov"),
            _ if region.starts_with("us-isob-") => ("aws-iso-b", "sc2s.sgov.gov"),
            _ if region.starts_with("us-isof-") => ("aws-iso-f", "csp.hci.ic.gov"),
            _ if region.starts_with("eu-isoe-") => ("aws-iso-e", "cloud.adc-e.uk"),
            _ if region.starts_with("eusc-") => ("aws-eusc", "amazonaws.eu"),
            _ => ("aws", "amazonaws.com"),
        };
        Self { name, dns_suffix }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_regions() {
        for (region, name, dns_suffix) in [
            ("eu-central-1", "aws", "amazonaws.com"),
            ("us-east-1", "aws", "amazonaws.com"),
            ("cn-northwest-1", "aws-cn", "amazonaws.com.cn"),
            ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
            ("us-iso-east-1", "aws-iso", "c2s.ic.gov"),
            ("us-isob-east-1", "aws-iso-b", "sc2s.sgov.gov"),
            ("eusc-de-east-1", "aws-eusc", "amazonaws.eu"),
            ("garage", "aws", "amazonaws.com"),
            ("", "aws", "amazonaws.com"),
        ] {
            assert_eq!(
                Partition::of(region),
                Partition { name, dns_suffix },
                "{region}"
            );
        }
    }
}
