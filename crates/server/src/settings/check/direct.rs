use std::time::Duration;

use super::{Findings, Settings, not_compiled_in};

/// The limit of AWS.
const MAX_ROLE_DURATION: Duration = Duration::from_secs(12 * 3600);

pub(super) fn missing_feature(name: &str) -> Option<&'static str> {
    (!cfg!(feature = "direct") && name == "direct").then_some("direct")
}

pub(super) fn check(settings: &Settings, findings: &mut Findings<'_>) {
    let (direct, s3) = (&settings.direct, &settings.s3);
    if !direct.enabled {
        findings.without_effect(&findings.given("direct-"), "without --direct");
        return;
    }
    if !direct.sts.enabled {
        findings.without_effect(&findings.given("direct-sts-"), "without --direct-sts");
    }
    if direct.sts.role.is_some() && direct.sts.lifetime > MAX_ROLE_DURATION {
        let reason = "exceeds 12h, the maximum duration of an assumed role; write at most 12h";
        findings.problem("direct-sts-lifetime", reason);
    }

    if let Some(feature) = missing_feature("direct") {
        return findings.problem("direct", not_compiled_in("direct upload support", feature));
    }
    if s3.bucket.is_none() {
        findings.problem("direct", "requires a bucket; write --s3-bucket NAME");
    }
    if direct.notifications_secret.is_some() && direct.notifications_secret_file.is_some() {
        let reason = "conflicts with --direct-notifications-secret";
        findings.problem("direct-notifications-secret-file", reason);
    }

    let tus_prefix = s3.key.as_deref().and_then(|key| key.split('{').next());
    if let Some(tus_prefix) = tus_prefix
        && tus_prefix.starts_with(direct.key_prefix())
    {
        findings.warning(
            "s3-key",
            format!(
                "starts with the prefix of --direct-key, {}; orphans of tus uploads there are not removed",
                direct.key_prefix()
            ),
        );
    }
    let acl = direct.acl.as_deref().or(s3.headers.acl.as_deref());
    if let Some(acl @ ("public-read" | "public-read-write")) = acl {
        let name = match direct.acl {
            Some(_) => "direct-acl",
            None => "s3-acl",
        };
        let reason = format!("{acl} makes direct uploads public as soon as they are complete");
        findings.warning(name, reason);
    }
    if settings.largest_grant().is_none() {
        let reason = "the size of uploads is not limited; write --grants-max-size or --max-size";
        findings.warning("direct", reason);
    }
}
