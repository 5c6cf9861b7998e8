use std::time::Duration;

use super::{Findings, Settings, not_compiled_in};

/// The limit of AWS.
const MAX_ROLE_DURATION: Duration = Duration::from_secs(12 * 3600);

pub(super) fn check(settings: &Settings, findings: &mut Findings<'_>) {
    let (direct, s3) = (&settings.direct, &settings.s3);
    if !direct.enabled {
        return findings.without_effect(&findings.given("direct-"), "without --direct");
    }
    let sts_names = findings.given("direct-sts-");
    findings.without_effect_if(!direct.sts.enabled, &sts_names, "without --direct-sts");
    let is_too_long = direct.sts.role.is_some() && direct.sts.lifetime > MAX_ROLE_DURATION;
    let reason = "exceeds 12h, the maximum duration of an assumed role; write at most 12h";
    findings.problem_if(is_too_long, "direct-sts-lifetime", reason);

    if !cfg!(feature = "direct") {
        let reason = not_compiled_in("direct upload support", "direct");
        return findings.problem("direct", reason);
    }
    let reason = "requires a bucket; write --s3-bucket NAME";
    findings.problem_if(s3.bucket.is_none(), "direct", reason);
    let has_both =
        direct.notifications_secret.is_some() && direct.notifications_secret_file.is_some();
    let reason = "conflicts with --direct-notifications-secret";
    findings.problem_if(has_both, "direct-notifications-secret-file", reason);

    let prefix = direct.key_prefix();
    let tus_prefix = s3.key.as_deref().and_then(|key| key.split('{').next());
    if tus_prefix.is_some_and(|tus_prefix| tus_prefix.starts_with(prefix)) {
        let reason = format!("starts with the prefix of --direct-key, {prefix}");
        let effect = "orphans of tus uploads there are not removed";
        findings.warning("s3-key", format!("{reason}; {effect}"));
    }
    let acl = direct.acl.as_deref().or(s3.headers.acl.as_deref());
    if let Some(acl @ ("public-read" | "public-read-write")) = acl {
        let name = direct.acl.as_ref().map_or("s3-acl", |_| "direct-acl");
        let reason = format!("{acl} makes direct uploads public as soon as they are complete");
        findings.warning(name, reason);
    }
    if settings.largest_grant().is_none() {
        let reason = "the size of uploads is not limited; write --grants-max-size or --max-size";
        findings.warning("direct", reason);
    }
}
