//! The section about direct uploads.

use super::put;
use super::s3::acl;
use crate::settings::arguments::Verb;
use crate::settings::table::{Kind, Section, Setting};
use crate::settings::types::SmallFiles;
use crate::settings::{bucket, direct, value};

/// The words for [`SmallFiles`].
const SMALL: &[(&str, SmallFiles)] = &[("post", SmallFiles::Post), ("put", SmallFiles::Put)];

/// Uploads that clients send straight to the bucket.
pub(super) const DIRECT: Section = Section {
    title: "Direct to S3",
    verbs: &[Verb::Serve, Verb::Sweep],
    settings: &[
        Setting::new(
            "direct",
            Kind::Switch,
            "false",
            "Sign uploads that clients send straight to --s3-bucket, and make sure of what arrived; goes \
             with --grants, which it turns on.",
            // Comes after grants, so that it can turn it on.
            |s, v| {
                s.direct.enabled = value::boolean(v)?;
                s.grants.enabled |= s.direct.enabled;
                Ok(())
            },
        ),
        Setting::new(
            "direct-path",
            Kind::Text("PATH"),
            "",
            "What stands before the paths /api/..., /s3/... and /t/... at which clients ask.",
            |s, v| put(&mut s.direct.path, direct::path(v)),
        )
        .may_be_empty(),
        Setting::new(
            "direct-endpoint",
            Kind::Text("URL"),
            "",
            "The service as browsers know it. Not set: as this server does (--s3-endpoint).",
            |s, v| {
                put(
                    &mut s.direct.endpoint,
                    bucket::or_none(v, bucket::endpoint),
                )
            },
        ),
        Setting::new(
            "direct-key",
            Kind::Text("TEMPLATE"),
            "uploads/{id}/{filename}",
            "Key of objects below --s3-object-prefix, as in --s3-key. It must begin with something \
             that keys of other uploads don't begin with.",
            |s, v| put(&mut s.direct.key, direct::key(v)),
        ),
        Setting::new(
            "direct-acl",
            Kind::Text("ACL"),
            "",
            "ACL of these objects, such as public-read. Not set: that of --s3-acl.",
            |s, v| put(&mut s.direct.acl, acl(v)),
        )
        .protects(),
        Setting::new(
            "direct-public-url",
            Kind::Text("URL"),
            "",
            "What addresses of objects begin with in answers to clients, such as that of a CDN \
             before the bucket. Not set: that of the bucket.",
            |s, v| {
                put(
                    &mut s.direct.public_url,
                    bucket::or_none(v, bucket::endpoint),
                )
            },
        ),
        Setting::new(
            "direct-small-files",
            Kind::Text("post|put"),
            "post",
            "How clients that leave it to the server send small files: by a form that bounds \
             their size (post), or by PUT, for services without forms.",
            |s, v| put(&mut s.direct.small, value::choice(v, SMALL)),
        ),
        Setting::new(
            "direct-overwrite",
            Kind::Switch,
            "false",
            "Let a signed PUT replace its object while the signature is valid. Off: where the service \
             honors conditional writes, If-None-Match is signed, and clients must send the headers of \
             the response.",
            |s, v| put(&mut s.direct.overwrite, value::boolean(v)),
        ),
        Setting::new(
            "direct-put-lifetime",
            Kind::Time,
            "60s",
            "How long a PUT that /api/sign_s3 signed may be begun; from 1s to 7d.",
            |s, v| put(&mut s.direct.put_lifetime, bucket::redirect_lifetime(v)),
        ),
        Setting::new(
            "direct-url-lifetime",
            Kind::Time,
            "1h",
            "How long everything else that is signed may be begun; from 1s to 7d. Not all clients ask \
             for another signature, so it should be enough for all parts of a file.",
            |s, v| put(&mut s.direct.lifetime, bucket::redirect_lifetime(v)),
        ),
        Setting::new(
            "direct-idle-timeout",
            Kind::Time,
            "0",
            "Give up an upload of which nothing was heard or seen for this long. 0: as \
             --expire-unfinished, but a day at most.",
            |s, v| put(&mut s.direct.patience, value::duration_or_none(v)),
        ),
        Setting::new(
            "direct-poll-interval",
            Kind::Time,
            "1m",
            "How often a running upload is checked in the bucket whose end its client or the bucket \
             reports. Others are checked after a twelfth of it at first, then more and more rarely.",
            |s, v| put(&mut s.direct.poll, value::some_duration(v)),
        ),
        Setting::new(
            "direct-sign-requests",
            Kind::Switch,
            "true",
            "Sign single requests on a caller's own keys, for signRequest of Uppy 6.",
            |s, v| put(&mut s.direct.signer, value::boolean(v)),
        ),
        Setting::new(
            "direct-sts",
            Kind::Switch,
            "false",
            "Hand out temporary credentials for a caller's own keys, for clients that sign by \
             themselves. How much is uploaded with them nobody bounds.",
            |s, v| put(&mut s.direct.sts.enabled, value::boolean(v)),
        ),
        Setting::new(
            "direct-sts-endpoint",
            Kind::Text("URL"),
            "",
            "The service that makes them (STS). Not set: Amazon's.",
            |s, v| {
                put(
                    &mut s.direct.sts.endpoint,
                    bucket::or_none(v, bucket::endpoint),
                )
            },
        ),
        Setting::new(
            "direct-sts-role",
            Kind::Text("ARN"),
            "",
            "The role to assume for them (AssumeRole), which the session policy confines to the \
             caller's keys. Not set: GetFederationToken, for which AWS demands the long-term keys of \
             a user.",
            |s, v| put(&mut s.direct.sts.role, direct::role(v)),
        ),
        Setting::new(
            "direct-sts-lifetime",
            Kind::Time,
            "1h",
            "How long they are good for; from 15m to 36h, with --direct-sts-role to 12h.",
            |s, v| put(&mut s.direct.sts.lifetime, direct::sts_lifetime(v)),
        ),
        Setting::new(
            "direct-notifications-secret",
            Kind::Text("SECRET"),
            "",
            "Let the bucket tell of what has arrived (POST to /api/s3_events) with this secret of at \
             least 16 characters. Better given as the variable or in a file, which other users of \
             the machine don't see.",
            |s, v| put(&mut s.direct.events_secret, direct::events_secret(v)),
        )
        .protects()
        .secret(),
        Setting::new(
            "direct-notifications-secret-file",
            Kind::Text("FILE"),
            "",
            "The same, with the secret in a file of one line.",
            |s, v| put(&mut s.direct.events_secret_file, value::path_or_none(v)),
        )
        .protects(),
    ],
};
