//! The table of settings of direct uploads.
//!
//! The key template must start with a literal prefix: by it, the S3 store ignores the objects of direct uploads.

use std::time::Duration;

use super::table::group;
use crate::settings::types::{Secret, StsRole};
use crate::settings::{bucket, direct, grants, value};

const SMALL_FILES: &[(&str, bool)] = &[("post", false), ("put", true)];

group! {
    /// Settings of direct uploads.
    pub struct Direct at direct;
    enabled: bool = value::boolean, "direct", Switch, "false"
        => "Let clients upload directly to the bucket; implies --grants. They send presigned requests to S3, Google Cloud \
            Storage or Azure, and the objects are verified. Without activity, these uploads expire after --expire-unfinished, at most \
            one day.";
    path: String = direct::path, "direct-path", Text("PATH"), "", MayBeEmpty
        => "Prefix of the API's paths /api/..., /s3/... and /t/....";
    endpoint: Option<String> = value::optional(bucket::endpoint), "direct-endpoint", Text("URL"), ""
        => "Endpoint of the bucket for browsers. Not set: that of the server (--s3-endpoint, --gcs-endpoint, \
            --azure-endpoint).";
    key: String = direct::key, "direct-key", Text("TEMPLATE"), "uploads/{id}/{filename}"
        => "Key template of objects below the prefix of the bucket (--s3-object-prefix), as in --s3-key. Must start with a \
            literal prefix that no other uploads use.";
    public_url: Option<String> = value::optional(bucket::endpoint),
        "direct-public-url", Text("URL"), ""
        => "Prefix of object URLs in responses, such as that of a CDN. Not set: the URL of the \
            bucket.";
    puts_small_files: bool = |v| value::choice(v, SMALL_FILES),
        "direct-small-files", Text("post|put"), "post"
        => "Transfer mode of small files in S3 when the client does not choose: post, a form that limits \
            the size, or put, for services without forms. With put, If-None-Match is signed where the service \
            supports conditional writes, so that an object cannot be replaced.";
    url_lifetime: Duration = bucket::url_lifetime, "direct-url-lifetime", Time, "1h"
        => "Lifetime of presigned requests, from 1s to 7d; they must start within this \
            time. A PUT of /api/sign has 60s. Not all clients refresh signatures, so it should cover all parts of a file.";
    poll_interval: Option<Duration> = value::duration_or_none, "direct-poll-interval", Time, "0"
        => "Interval at which a running upload is checked in the bucket if its client or a \
            notification reports its completion. Others are first checked after a twelfth of it, \
            then less and less often. 0: a tenth of --sweep-interval.";
    sts: Option<StsRole> = value::optional(direct::sts), "direct-sts", Text("ARN|user"), ""
        => "Issue temporary credentials of S3 for keys below the principal's prefix, valid for an hour, to clients that \
            sign themselves. The token service is Amazon's, or that of AWS_ENDPOINT_URL_STS. With the ARN of a role, they are those of the role (AssumeRole), limited by a session policy to the \
            principal's keys; with user, federation tokens (GetFederationToken), which require the long-term keys of \
            an IAM user. Warning: the size of these uploads is not limited.";
    notifications_secret: Option<Secret> = grants::key,
        "direct-notifications-secret", Text("SECRET"), "", Protects, Secret, Reloads
        => "Accept bucket notifications of S3 (POST to /api/s3_events) with this secret of at least 16 \
            characters. Prefer the variable, or LANDFALL_DIRECT_NOTIFICATIONS_SECRET_FILE with a file that has it: \
            command lines are visible to other users.";
}

impl Direct {
    /// Returns the literal start of all keys, which distinguishes them from keys of tus uploads.
    pub fn key_prefix(&self) -> &str {
        self.key.split('{').next().unwrap_or_default()
    }
}
