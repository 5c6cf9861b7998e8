//! The section about direct uploads.

use super::assign;
use super::s3::acl;
use crate::settings::cli::Subcommand;
use crate::settings::table::{Kind, Section, Setting};
use crate::settings::types::SmallFiles;
use crate::settings::{bucket, direct, value};

const SMALL_FILES: &[(&str, SmallFiles)] = &[("post", SmallFiles::Post), ("put", SmallFiles::Put)];

pub(super) const DIRECT: Section = Section {
    title: "Direct uploads",
    subcommands: &[Subcommand::Serve, Subcommand::Sweep],
    settings: &[
        Setting::new(
            "direct",
            Kind::Switch,
            "false",
            "Let clients upload directly to --s3-bucket with presigned requests, and verify the \
             objects; implies --grants.",
            // Applied after grants.
            |s, v| {
                s.direct.enabled = value::boolean(v)?;
                s.grants.enabled |= s.direct.enabled;
                Ok(())
            },
        )
        .common(),
        Setting::new(
            "direct-path",
            Kind::Text("PATH"),
            "",
            "Prefix of the API's paths /api/..., /s3/... and /t/....",
            |s, v| assign(&mut s.direct.path, direct::path(v)),
        )
        .may_be_empty(),
        Setting::new(
            "direct-endpoint",
            Kind::Text("URL"),
            "",
            "S3 endpoint for browsers. Not set: that of the server (--s3-endpoint).",
            |s, v| assign(&mut s.direct.endpoint, bucket::or_none(v, bucket::endpoint)),
        ),
        Setting::new(
            "direct-key",
            Kind::Text("TEMPLATE"),
            "uploads/{id}/{filename}",
            "Key template of objects below --s3-object-prefix, as in --s3-key. Must start with a \
             literal prefix that no other uploads use.",
            |s, v| assign(&mut s.direct.key, direct::key(v)),
        ),
        Setting::new(
            "direct-acl",
            Kind::Text("ACL"),
            "",
            "Canned ACL of these objects, such as public-read. Not set: that of --s3-acl.",
            |s, v| assign(&mut s.direct.acl, acl(v)),
        )
        .protects(),
        Setting::new(
            "direct-public-url",
            Kind::Text("URL"),
            "",
            "Prefix of object URLs in responses, such as that of a CDN. Not set: the URL of the \
             bucket.",
            |s, v| {
                assign(
                    &mut s.direct.public_url,
                    bucket::or_none(v, bucket::endpoint),
                )
            },
        ),
        Setting::new(
            "direct-small-files",
            Kind::Text("post|put"),
            "post",
            "Transfer mode of small files when the client does not choose: post, a form that \
             limits the size, or put, for services without forms.",
            |s, v| assign(&mut s.direct.small_files, value::choice(v, SMALL_FILES)),
        ),
        Setting::new(
            "direct-overwrite",
            Kind::Switch,
            "false",
            "Let a presigned PUT replace its object while it is valid. Otherwise If-None-Match \
             is signed where the service supports conditional writes, and clients must send the \
             headers of the response.",
            |s, v| assign(&mut s.direct.overwrite, value::boolean(v)),
        ),
        Setting::new(
            "direct-put-lifetime",
            Kind::Time,
            "60s",
            "Lifetime of a PUT signed by /api/sign_s3, from 1s to 7d; it must start within this \
             time.",
            |s, v| assign(&mut s.direct.put_lifetime, bucket::url_lifetime(v)),
        ),
        Setting::new(
            "direct-url-lifetime",
            Kind::Time,
            "1h",
            "Lifetime of all other presigned requests, from 1s to 7d; they must start within \
             this time. Not all clients refresh signatures, so it should cover all parts of a \
             file.",
            |s, v| assign(&mut s.direct.url_lifetime, bucket::url_lifetime(v)),
        ),
        Setting::new(
            "direct-idle-timeout",
            Kind::Time,
            "0",
            "Expire a direct upload after this long without activity. 0: --expire-unfinished, at \
             most one day.",
            |s, v| assign(&mut s.direct.idle_timeout, value::duration_or_none(v)),
        ),
        Setting::new(
            "direct-poll-interval",
            Kind::Time,
            "1m",
            "Interval at which a running upload is checked in the bucket if its client or a \
             notification reports its completion. Others are first checked after a twelfth of \
             it, then less and less often.",
            |s, v| assign(&mut s.direct.poll_interval, value::some_duration(v)),
        ),
        Setting::new(
            "direct-sign-requests",
            Kind::Switch,
            "true",
            "Sign single requests for keys below the principal's prefix, for signRequest of Uppy \
             6.",
            |s, v| assign(&mut s.direct.sign_requests, value::boolean(v)),
        ),
        Setting::new(
            "direct-sts",
            Kind::Switch,
            "false",
            "Issue temporary credentials for keys below the principal's prefix, to clients that \
             sign themselves. Warning: the size of these uploads is not limited.",
            |s, v| assign(&mut s.direct.sts.enabled, value::boolean(v)),
        ),
        Setting::new(
            "direct-sts-endpoint",
            Kind::Text("URL"),
            "",
            "URL of the token service (STS). Not set: Amazon's.",
            |s, v| {
                assign(
                    &mut s.direct.sts.endpoint,
                    bucket::or_none(v, bucket::endpoint),
                )
            },
        ),
        Setting::new(
            "direct-sts-role",
            Kind::Text("ARN"),
            "",
            "ARN of the role to assume (AssumeRole), limited by a session policy to the \
             principal's keys. Not set: GetFederationToken, which requires the long-term keys of \
             an IAM user.",
            |s, v| assign(&mut s.direct.sts.role, direct::role(v)),
        ),
        Setting::new(
            "direct-sts-lifetime",
            Kind::Time,
            "1h",
            "Lifetime of the credentials, from 15m to 36h, with --direct-sts-role to 12h.",
            |s, v| assign(&mut s.direct.sts.lifetime, direct::sts_lifetime(v)),
        ),
        Setting::new(
            "direct-notifications-secret",
            Kind::Text("SECRET"),
            "",
            "Accept bucket notifications (POST to /api/s3_events) with this secret of at least \
             16 characters. Prefer the variable or the file: command lines are visible to other \
             users.",
            |s, v| {
                assign(
                    &mut s.direct.notifications_secret,
                    direct::notifications_secret(v),
                )
            },
        )
        .protects()
        .secret(),
        Setting::new(
            "direct-notifications-secret-file",
            Kind::Text("FILE"),
            "",
            "Accept bucket notifications with the secret in this file of one line.",
            |s, v| {
                assign(
                    &mut s.direct.notifications_secret_file,
                    value::path_or_none(v),
                )
            },
        )
        .protects(),
    ],
};
