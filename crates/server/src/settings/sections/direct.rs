//! The section about direct uploads.

use super::s3::acl;
use crate::settings::table::{Section, section};
use crate::settings::types::SmallFiles;
use crate::settings::{bucket, direct, grants, value};

const SMALL_FILES: &[(&str, SmallFiles)] = &[("post", SmallFiles::Post), ("put", SmallFiles::Put)];

pub(super) const DIRECT: Section = section! { "Direct uploads", [Serve, Sweep];
    "direct", Switch, "false",
        direct.enabled = value::boolean, Common
        => "Let clients upload directly to --s3-bucket with presigned requests, and verify the \
            objects; implies --grants.";
    "direct-path", Text("PATH"), "", direct.path = direct::path, MayBeEmpty
        => "Prefix of the API's paths /api/..., /s3/... and /t/....";
    "direct-endpoint", Text("URL"), "", direct.endpoint = |v| value::or_none(v, bucket::endpoint)
        => "S3 endpoint for browsers. Not set: that of the server (--s3-endpoint).";
    "direct-key", Text("TEMPLATE"), "uploads/{id}/{filename}", direct.key = direct::key
        => "Key template of objects below --s3-object-prefix, as in --s3-key. Must start with a \
            literal prefix that no other uploads use.";
    "direct-acl", Text("ACL"), "", direct.acl = acl, Protects
        => "Canned ACL of these objects, such as public-read. Not set: that of --s3-acl.";
    "direct-public-url", Text("URL"), "",
        direct.public_url = |v| value::or_none(v, bucket::endpoint)
        => "Prefix of object URLs in responses, such as that of a CDN. Not set: the URL of the \
            bucket.";
    "direct-small-files", Text("post|put"), "post",
        direct.small_files = |v| value::choice(v, SMALL_FILES)
        => "Transfer mode of small files when the client does not choose: post, a form that limits \
            the size, or put, for services without forms.";
    "direct-overwrite", Switch, "false", direct.overwrite = value::boolean
        => "Let a presigned PUT replace its object while it is valid. Otherwise If-None-Match is \
            signed where the service supports conditional writes, and clients must send the \
            headers of the response.";
    "direct-put-lifetime", Time, "60s", direct.put_lifetime = bucket::url_lifetime
        => "Lifetime of a PUT signed by /api/sign_s3, from 1s to 7d; it must start within this \
            time.";
    "direct-url-lifetime", Time, "1h", direct.url_lifetime = bucket::url_lifetime
        => "Lifetime of all other presigned requests, from 1s to 7d; they must start within this \
            time. Not all clients refresh signatures, so it should cover all parts of a file.";
    "direct-idle-timeout", Time, "0", direct.idle_timeout = value::duration_or_none
        => "Expire a direct upload after this long without activity. 0: --expire-unfinished, at \
            most one day.";
    "direct-poll-interval", Time, "1m", direct.poll_interval = value::some_duration
        => "Interval at which a running upload is checked in the bucket if its client or a \
            notification reports its completion. Others are first checked after a twelfth of it, \
            then less and less often.";
    "direct-sign-requests", Switch, "true", direct.sign_requests = value::boolean
        => "Sign single requests for keys below the principal's prefix, for signRequest of Uppy 6.";
    "direct-sts", Switch, "false", direct.sts.enabled = value::boolean
        => "Issue temporary credentials for keys below the principal's prefix, to clients that \
            sign themselves. Warning: the size of these uploads is not limited.";
    "direct-sts-endpoint", Text("URL"), "",
        direct.sts.endpoint = |v| value::or_none(v, bucket::endpoint)
        => "URL of the token service (STS). Not set: Amazon's.";
    "direct-sts-role", Text("ARN"), "", direct.sts.role = |v| value::or_none(v, direct::role)
        => "ARN of the role to assume (AssumeRole), limited by a session policy to the principal's \
            keys. Not set: GetFederationToken, which requires the long-term keys of an IAM user.";
    "direct-sts-lifetime", Time, "1h",
        direct.sts.lifetime = |v| value::duration_within(v, "15m", "36h")
        => "Lifetime of the credentials, from 15m to 36h, with --direct-sts-role to 12h.";
    "direct-notifications-secret", Text("SECRET"), "",
        direct.notifications_secret = grants::key, Protects, Secret
        => "Accept bucket notifications (POST to /api/s3_events) with this secret of at least 16 \
            characters. Prefer the variable or the file: command lines are visible to other users.";
    "direct-notifications-secret-file", Text("FILE"), "",
        direct.notifications_secret_file = value::path_or_none, Protects
        => "Accept bucket notifications with the secret in this file of one line.";
};
