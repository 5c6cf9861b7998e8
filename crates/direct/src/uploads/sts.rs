//! Temporary credentials, confined to the caller's own keys.

use http::Request;
use landfall_grants::policy::{self, Ask, No};
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
        let Who::Caller(caller) = who else {
            let why = "a token is good for one upload, not for credentials";
            return Err(No::forbidden(why).into());
        };
        let mut ask = Ask::new(key::uuid(), "*");
        let (request, ()) = Request::new(()).into_parts();
        let bounded = || {
            let why = "there are bounds for this caller's uploads, which S3 can't see to";
            No::forbidden(why)
        };
        let agreed = policy::decide(&settings.policies, caller, &mut ask, &request).await;
        agreed.map_err(|no| if no.field.is_some() { bounded() } else { no })?;
        let limits = &ask.limits;
        let is_bounded = limits.max_size.is_some()
            || limits.quota.is_some()
            || limits.active.is_some()
            || limits.rate.is_some()
            || limits.size_required
            || !limits.content_types.is_empty();
        if is_bounded {
            return Err(bounded().into());
        }
        let bucket = &settings.objects.bucket;
        let prefix = self.own_prefix(&caller.subject);
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow",
                "Action": [
                    "s3:PutObject",
                    "s3:AbortMultipartUpload",
                    "s3:ListMultipartUploadParts",
                ],
                "Resource": format!("arn:aws:s3:::{bucket}/{prefix}*"),
            }],
        });
        let (endpoint, policy) = (sts.endpoint.as_deref(), policy.to_string());
        let client = &settings.client;
        let credentials = client.federation_token(endpoint, NAME, &policy, sts.lifetime);
        Ok(OwnCredentials {
            credentials: credentials.await?,
            bucket: bucket.clone(),
            region: settings.client.region(bucket),
            prefix,
        })
    }
}
