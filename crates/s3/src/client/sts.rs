//! Calls of AWS's token service (STS), for clients and for roles of this process.

use std::time::Duration;

use http::Method;
use landfall_objects::{Endpoint, Service as _};

use super::{
    Client, Error, ErrorKind, Result,
    credentials::Credentials,
    encode::Query,
    operation::Operation,
    request::{signed, to_bucket},
    xml,
};

const NO_BUCKET: &str = "";

/// A request for temporary credentials.
#[derive(Debug, Clone, Copy)]
pub struct TokenRequest<'a> {
    /// URL of the token service; `None`: AWS STS in the client's region.
    pub endpoint: Option<&'a str>,
    /// ARN of the role to assume.
    ///
    /// `None` requests a federation token, which AWS issues only to the long-term keys of a user.
    pub role: Option<&'a str>,
    /// Session name for AWS's logs: 2 to 32 characters of `[\w+=,.@-]`.
    pub name: &'a str,
    /// Policy (JSON) that restricts the credentials further than the role's or user's permissions.
    pub policy: &'a str,
    /// Lifetime of the credentials.
    pub lifetime: Duration,
}

impl Client {
    /// Requests credentials limited by both the permissions of this client (or the role) and the
    /// policy. They have a session token and an expiry time.
    ///
    /// # Errors
    /// [`Error`]: the service denies it or has no such operation, or this client
    /// itself has temporary credentials and no role is set.
    pub async fn temporary_credentials(&self, token: &TokenRequest<'_>) -> Result<Credentials> {
        let seconds = token.lifetime.as_secs().to_string();
        let form = Query::new().with("Policy", token.policy);
        let form = form.with("DurationSeconds", &seconds);
        let (operation, form) = match token.role {
            Some(role) => {
                let form = form.with("RoleArn", role);
                let form = form.with("RoleSessionName", token.name);
                (Operation::AssumeRole, form)
            }
            None => {
                let operation = Operation::GetFederationToken;
                let error = |kind| Error::new(kind, operation.name(), NO_BUCKET);
                let keys = self.inner.credentials.get().await;
                let keys =
                    keys.map_err(|source| error(ErrorKind::BadCredentials).with_source(source))?;
                if keys.is_some_and(|keys| keys.session_token.is_some()) {
                    let why = "AWS issues no federation token to temporary credentials; set a role \
                               to assume";
                    return Err(error(ErrorKind::BadCredentials).with_message(why));
                }
                (operation, form.with("Name", token.name))
            }
        };
        let action = operation.name();
        self.call_token_service(operation, action, token.endpoint, form)
            .await
    }

    /// Only the token service of the partition knows a role, so that the endpoint is a regional one.
    pub(super) async fn call_token_service(
        &self,
        operation: Operation,
        action: &str,
        endpoint: Option<&str>,
        form: Query,
    ) -> Result<Credentials> {
        let request = to_bucket(operation, Method::POST, NO_BUCKET);
        let region = self.inner.regions.get(NO_BUCKET);
        let suffix = Partition::from_region(&region).dns_suffix;
        let endpoint = endpoint.map(str::to_owned);
        let endpoint = endpoint.unwrap_or_else(|| format!("https://sts.{region}.{suffix}"));
        let target = Endpoint::parse(&endpoint).map_err(|problem| {
            let why = format!("the endpoint of the token service {problem}");
            request.error(ErrorKind::Other).with_message(why)
        })?;
        let form = form.with("Action", action).with("Version", "2011-06-15");
        let request = request
            .with(Some(("sts", target)))
            .header("content-type", "application/x-www-form-urlencoded")?
            .payload(signed(form.canonical()));
        let response = self.inner.send(&request).await?;
        xml::temporary_credentials(&response.body).map_err(|error| request.unexpected(error))
    }
}

/// An AWS partition: a group of regions with separate accounts, ARNs and hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Name in ARNs.
    pub name: &'static str,
    /// Suffix of host names.
    pub dns_suffix: &'static str,
}

impl Partition {
    /// Returns the partition of a region; `aws` for unknown regions and other services.
    #[must_use]
    pub fn from_region(region: &str) -> Self {
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
                Partition::from_region(region),
                Partition { name, dns_suffix },
                "{region}"
            );
        }
    }
}
