//! Rules of direct uploads: a bucket is required; risky keys, ACLs and a missing size limit are warnings.

use super::{Findings, Settings};

pub(super) fn check(settings: &Settings, findings: &mut Findings<'_>) {
    let (direct, s3) = (&settings.direct, &settings.s3);
    if !direct.enabled {
        return findings.without_effect(&findings.given("direct-"), "without --direct");
    }
    let reason =
        "requires a bucket; write --s3-bucket, --gcs-bucket or --azure-storage with its name";
    let other = match (&settings.gcs.bucket, &settings.azure.container) {
        (Some(_), _) => Some("--gcs-bucket"),
        (None, Some(_)) => Some("--azure-storage"),
        (None, None) => None,
    };
    match other.filter(|_| s3.bucket.is_none()) {
        Some(other) => {
            findings.without_effect(&["direct-small-files"], &format!("with {other}"));
            for name in ["direct-sts", "direct-notifications-secret"] {
                let is_given = findings.is_given(name);
                let reason = format!("works with S3 alone, not with {other}; leave it out");
                findings.problem_if(is_given, name, reason);
            }
        }
        None => findings.problem_if(s3.bucket.is_none(), "direct", reason),
    }

    let prefix = direct.key_prefix();
    let tus_prefix = s3.key.as_deref().and_then(|key| key.split('{').next());
    if tus_prefix.is_some_and(|tus_prefix| tus_prefix.starts_with(prefix)) {
        let reason = format!("starts with the prefix of --direct-key, {prefix}");
        let effect = "orphans of tus uploads there are not removed";
        findings.warning("s3-key", format!("{reason}; {effect}"));
    }
    if let Some(acl @ ("public-read" | "public-read-write")) = s3.headers.acl.as_deref() {
        let reason =
            format!("x-amz-acl: {acl} makes direct uploads public as soon as they are complete");
        findings.warning("s3-headers", reason);
    }
    if settings.largest_grant().is_none() {
        let reason = "the size of uploads is not limited; write --grants-max-size or --max-size";
        findings.warning("direct", reason);
    }
}
