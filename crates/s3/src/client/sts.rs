use std::time::Duration;

use http::Method;

use super::{
    Client,
    address::Target,
    credentials::TemporaryCredentials,
    encode::Query,
    error::{ErrorKind, Result},
    request::S3Request,
    stats::Operation,
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
    /// policy.
    ///
    /// # Errors
    /// [`Error`](super::Error): the service denies it or has no such operation, or this client
    /// itself has temporary credentials and no role is set.
    pub async fn temporary_credentials(
        &self,
        token: &TokenRequest<'_>,
    ) -> Result<TemporaryCredentials> {
        let inner = &self.inner;
        let region = inner.regions.get(NO_BUCKET);
        let operation = match token.role {
            Some(_) => Operation::AssumeRole,
            None => Operation::GetFederationToken,
        };
        let request = S3Request::new(operation, Method::POST, NO_BUCKET, None);
        let credentials = inner.credentials.get().await;
        let error = |source| request.error(ErrorKind::BadCredentials).with_source(source);
        let credentials = credentials.map_err(error)?;
        let is_temporary = credentials.is_some_and(|keys| keys.session_token.is_some());
        if is_temporary && token.role.is_none() {
            let why =
                "AWS issues no federation token to temporary credentials; set a role to assume";
            return Err(request.error(ErrorKind::BadCredentials).with_message(why));
        }
        let suffix = Partition::from_region(&region).dns_suffix;
        let endpoint = token.endpoint.map(str::to_owned);
        let endpoint = endpoint.unwrap_or_else(|| format!("https://sts.{region}.{suffix}"));
        let target = Target::parse(&endpoint).map_err(|problem| {
            let why = format!("the endpoint of the token service {problem}");
            request.error(ErrorKind::Other).with_message(why)
        })?;
        let mut body = Query::new();
        let seconds = token.lifetime.as_secs().to_string();
        for (name, value) in [
            ("Action", operation.name()),
            ("Version", "2011-06-15"),
            ("Policy", token.policy),
            ("DurationSeconds", &seconds),
        ] {
            body.push(name, value);
        }
        match token.role {
            Some(role) => {
                body.push("RoleArn", role);
                body.push("RoleSessionName", token.name);
            }
            None => body.push("Name", token.name),
        }
        let request = request
            .to("sts", target)
            .header("content-type", "application/x-www-form-urlencoded")?
            .text(body.canonical());
        let response = inner.send(&request).await?;
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
