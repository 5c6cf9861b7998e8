//! Temporary credentials, limited to the keys of one principal.

use http::request::Parts;
use landfall_s3::client::{Partition, TokenRequest};
use landfall_state::queue::{
    NewJob,
    policy::{self, PolicyDenial},
};
use serde_json::json;

use super::{Direct, PrefixCredentials, Requester, key};
use crate::DirectError;

/// As shown in AWS logs.
const SESSION_NAME: &str = "landfall";

impl Direct {
    /// Requests temporary credentials for [the principal's keys](Self::client_key_prefix).
    ///
    /// S3 cannot limit uploads with them, so a principal with limits on size, type, number or rate,
    /// or with a quota, gets none. [`DirectError::NotFound`] if they are disabled.
    ///
    /// # Errors
    /// A policy denies them, or the token service failed.
    pub async fn credentials(
        &self,
        requester: &Requester,
        request: &Parts,
    ) -> Result<PrefixCredentials, DirectError> {
        let settings = self.settings();
        let sts = settings.sts.as_ref().ok_or(DirectError::NotFound)?;
        let Requester::Principal(caller) = requester else {
            let why = "an upload token is valid for one upload, not for credentials";
            return Err(PolicyDenial::forbidden(why).into());
        };
        let mut ask = NewJob::new(&*caller.subject, key::uuid(), "*");
        let bounded = || {
            let why = "this principal has limits that S3 cannot enforce";
            PolicyDenial::forbidden(why)
        };
        let agreed = policy::decide(&settings.policies, caller, &mut ask, request).await;
        agreed.map_err(|no| if no.field.is_some() { bounded() } else { no })?;
        let limits = &ask.limits;
        let check_metadata_size = limits.max_size.is_some()
            || limits.quota.is_some()
            || limits.max_active.is_some()
            || limits.rate_limit.is_some()
            || limits.require_size
            || !limits.allowed_types.is_empty();
        if check_metadata_size {
            return Err(bounded().into());
        }
        let bucket = &settings.objects.bucket;
        let prefix = self.client_key_prefix(&caller.subject);
        let client = &self.s3()?.client;
        let region = client.region(bucket);
        let policy = session_policy(&region, bucket, &prefix);
        let request = TokenRequest {
            endpoint: sts.endpoint.as_deref(),
            role: sts.role.as_deref(),
            name: SESSION_NAME,
            policy: &policy,
            lifetime: sts.lifetime,
        };
        Ok(PrefixCredentials {
            credentials: client.temporary_credentials(&request).await?,
            bucket: bucket.clone(),
            region,
            prefix,
        })
    }
}

/// Allows only uploads below a prefix.
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
