//! Temporary credentials, confined to the caller's own keys.

use http::Request;
use landfall_grants::policy::{self, PolicyDenial, PolicyRequest};
use landfall_s3::client::{Partition, TokenRequest};
use serde_json::json;

use super::{Direct, OwnCredentials, Who, key};
use crate::DirectError;

/// What AWS's logs show.
const NAME: &str = "landfall";

impl Direct {
    /// Temporary credentials for [the caller's own keys](Self::own_prefix). [`DirectError::NotFound`]
    /// if nobody is to have any.
    ///
    /// Nothing can bound what is sent with them, so whoever may send only some sizes or types, or has a
    /// quota, gets none.
    ///
    /// # Errors
    /// The policies don't agree, or the token service fails.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn credentials(&self, who: &Who) -> Result<OwnCredentials, DirectError> {
        let settings = self.settings();
        let sts = settings.sts.as_ref().ok_or(DirectError::NotFound)?;
        let Who::Principal(caller) = who else {
            let why = "a token is good for one upload, not for credentials";
            return Err(PolicyDenial::forbidden(why).into());
        };
        let mut ask = PolicyRequest::new(key::uuid(), "*");
        let (request, ()) = Request::new(()).into_parts();
        let bounded = || {
            let why = "there are bounds for this caller's uploads, which S3 can't see to";
            PolicyDenial::forbidden(why)
        };
        let agreed = policy::decide(&settings.policies, caller, &mut ask, &request).await;
        agreed.map_err(|no| if no.field.is_some() { bounded() } else { no })?;
        let limits = &ask.limits;
        let is_bounded = limits.max_size.is_some()
            || limits.quota.is_some()
            || limits.max_active.is_some()
            || limits.rate_limit.is_some()
            || limits.require_size
            || !limits.allowed_types.is_empty();
        if is_bounded {
            return Err(bounded().into());
        }
        let bucket = &settings.objects.bucket;
        let prefix = self.own_prefix(&caller.subject);
        let region = settings.client.region(bucket);
        let policy = session_policy(&region, bucket, &prefix);
        let request = TokenRequest {
            endpoint: sts.endpoint.as_deref(),
            role: sts.role.as_deref(),
            name: NAME,
            policy: &policy,
            lifetime: sts.lifetime,
        };
        Ok(OwnCredentials {
            credentials: settings.client.temporary_credentials(&request).await?,
            bucket: bucket.clone(),
            region,
            prefix,
        })
    }
}

/// Restricts credentials to uploads below a prefix.
fn session_policy(region: &str, bucket: &str, prefix: &str) -> String {
    let partition = Partition::from_region(region).name;
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Action": [
                "s3:PutObject",
                "s3:AbortMultipartUpload",
                "s3:ListMultipartUploadParts",
            ],
            "Resource": format!("arn:{partition}:s3:::{bucket}/{prefix}*"),
        }],
    });
    policy.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn policies_name_the_partition_of_the_region() {
        for (region, partition) in [
            ("eu-central-1", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-east-1", "aws-us-gov"),
            ("garage", "aws"),
        ] {
            let policy = session_policy(region, "b", "own/1a/");
            let policy: Value = serde_json::from_str(&policy).unwrap();
            let resource = format!("arn:{partition}:s3:::b/own/1a/*");
            assert_eq!(policy["Statement"][0]["Resource"], resource, "{region}");
        }
    }
}
