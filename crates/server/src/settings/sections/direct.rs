use std::path::PathBuf;
use std::time::Duration;

use super::s3::acl;
use super::table::group;
use crate::settings::types::Secret;
use crate::settings::{bucket, direct, grants, value};

const SMALL_FILES: &[(&str, bool)] = &[("post", false), ("put", true)];

group! {
    /// Settings of direct uploads.
    pub struct Direct at direct, with {
        /// Temporary credentials for clients.
        sts: Sts,
    };
    enabled: bool = value::boolean, "direct", Switch, "false", Common
        => "Let clients upload directly to --s3-bucket; implies --grants. They send presigned requests, \
            and the objects are verified.";
    path: String = direct::path, "direct-path", Text("PATH"), "", MayBeEmpty
        => "Prefix of the API's paths /api/..., /s3/... and /t/....";
    endpoint: Option<String> = value::optional(bucket::endpoint), "direct-endpoint", Text("URL"), ""
        => "S3 endpoint for browsers. Not set: that of the server (--s3-endpoint).";
    key: String = direct::key, "direct-key", Text("TEMPLATE"), "uploads/{id}/{filename}"
        => "Key template of objects below --s3-object-prefix, as in --s3-key. Must start with a \
            literal prefix that no other uploads use.";
    acl: Option<String> = acl, "direct-acl", Text("ACL"), "", Protects
        => "Canned ACL of these objects, such as public-read. Not set: that of --s3-acl.";
    public_url: Option<String> = value::optional(bucket::endpoint),
        "direct-public-url", Text("URL"), ""
        => "Prefix of object URLs in responses, such as that of a CDN. Not set: the URL of the \
            bucket.";
    puts_small_files: bool = |v| value::choice(v, SMALL_FILES),
        "direct-small-files", Text("post|put"), "post"
        => "Transfer mode of small files when the client does not choose: post, a form that limits \
            the size, or put, for services without forms.";
    overwrite: bool = value::boolean, "direct-overwrite", Switch, "false"
        => "Let a presigned PUT replace its object while it is valid. Otherwise If-None-Match is \
            signed where the service supports conditional writes, for clients that send the \
            headers of the response.";
    put_lifetime: Duration = bucket::url_lifetime, "direct-put-lifetime", Time, "60s"
        => "Lifetime of a PUT signed by /api/sign_s3, from 1s to 7d; it must start within this \
            time.";
    url_lifetime: Duration = bucket::url_lifetime, "direct-url-lifetime", Time, "1h"
        => "Lifetime of all other presigned requests, from 1s to 7d; they must start within this \
            time. Not all clients refresh signatures, so it should cover all parts of a file.";
    idle_timeout: Option<Duration> = value::duration_or_none, "direct-idle-timeout", Time, "0"
        => "Expire a direct upload after this long without activity. 0: --expire-unfinished, at \
            most one day.";
    poll_interval: Duration = value::some_duration, "direct-poll-interval", Time, "1m"
        => "Interval at which a running upload is checked in the bucket if its client or a \
            notification reports its completion. Others are first checked after a twelfth of it, \
            then less and less often.";
    sign_requests: bool = value::boolean, "direct-sign-requests", Switch, "true"
        => "Sign single requests for keys below the principal's prefix, for signRequest of Uppy 6.";
    notifications_secret: Option<Secret> = grants::key,
        "direct-notifications-secret", Text("SECRET"), "", Protects, Secret, Reloads
        => "Accept bucket notifications (POST to /api/s3_events) with this secret of at least 16 \
            characters. Prefer the variable or the file: command lines are visible to other users.";
    notifications_secret_file: Option<PathBuf> = value::path_or_none,
        "direct-notifications-secret-file", Text("FILE"), "", Protects, Reloads
        => "Accept bucket notifications with the secret in this file of one line.";
}

group! {
    /// Settings of temporary credentials for clients.
    pub struct Sts at direct.sts;
    enabled: bool = value::boolean, "direct-sts", Switch, "false"
        => "Issue temporary credentials for keys below the principal's prefix, to clients that \
            sign themselves. Warning: the size of these uploads is not limited.";
    endpoint: Option<String> = value::optional(bucket::endpoint),
        "direct-sts-endpoint", Text("URL"), ""
        => "URL of the token service (STS). Not set: Amazon's.";
    role: Option<String> = value::optional(direct::role), "direct-sts-role", Text("ARN"), ""
        => "ARN of the role to assume (AssumeRole), limited by a session policy to the principal's \
            keys. Not set: GetFederationToken, which requires the long-term keys of an IAM user.";
    lifetime: Duration = |v| value::duration_within(v, "15m", "36h"),
        "direct-sts-lifetime", Time, "1h"
        => "Lifetime of the credentials, from 15m to 36h, with --direct-sts-role to 12h.";
}

impl Direct {
    /// Returns the literal start of all keys, which distinguishes them from keys of tus uploads.
    pub fn key_prefix(&self) -> &str {
        self.key.split('{').next().unwrap_or_default()
    }
}
