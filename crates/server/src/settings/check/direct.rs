//! What has to hold between the settings of direct uploads and others.

use std::time::Duration;

use super::{Findings, Settings, not_compiled_in};

/// The longest time for which AWS lets a role be assumed.
const LONGEST_ROLE: Duration = Duration::from_secs(12 * 3600);

/// The feature that this build needs for a setting and hasn't got.
pub(super) fn missing_feature(name: &str) -> Option<&'static str> {
    (!cfg!(feature = "direct") && name == "direct").then_some("direct")
}

/// Looks for settings that don't go together, and for those that have no effect.
pub(super) fn check(settings: &Settings, findings: &mut Findings<'_>) {
    let (direct, s3) = (&settings.direct, &settings.s3);
    if !direct.enabled {
        for name in findings
            .given()
            .into_iter()
            .filter(|name| name.starts_with("direct-"))
        {
            findings.without_effect(name, "without direct");
        }
        return;
    }
    if !direct.sts.enabled {
        for name in [
            "direct-sts-endpoint",
            "direct-sts-role",
            "direct-sts-lifetime",
        ] {
            findings.without_effect(name, "without direct-sts");
        }
    }
    if direct.sts.role.is_some() && direct.sts.lifetime > LONGEST_ROLE {
        findings.problem(
            "direct-sts-lifetime",
            "exceeds the 12h for which AWS lets a role be assumed; write at most 12h",
        );
    }

    if let Some(feature) = missing_feature("direct") {
        return findings.problem("direct", not_compiled_in("direct upload support", feature));
    }
    if s3.bucket.is_none() {
        findings.problem(
            "direct",
            "needs a bucket that clients send their files to: write --s3-bucket NAME",
        );
    }
    if direct.events_secret.is_some() && direct.events_secret_file.is_some() {
        findings.problem(
            "direct-notifications-secret-file",
            "can't go with direct-notifications-secret: there is one secret",
        );
    }

    let of_others = s3.key.as_deref().and_then(|key| key.split('{').next());
    if let Some(beginning) = of_others
        && beginning.starts_with(direct.beginning())
    {
        findings.warning(
            "s3-key",
            format!(
                "begins as --direct-key does, with {}; what tus uploads leave behind there isn't removed",
                direct.beginning()
            ),
        );
    }
    let acl = direct.acl.as_deref().or(s3.headers.acl.as_deref());
    if let Some(acl @ ("public-read" | "public-read-write")) = acl {
        let name = match direct.acl {
            Some(_) => "direct-acl",
            None => "s3-acl",
        };
        findings.warning(
            name,
            format!("{acl} shows everybody what is uploaded directly, as soon as it is there"),
        );
    }
    if settings.largest_grant().is_none() {
        findings.warning(
            "direct",
            "whoever may upload may send as much as S3 takes; write --grants-max-size or --max-size"
                .to_owned(),
        );
    }
}
