//! What has to hold between the settings of direct uploads and others.

use super::{Layers, Problem, Settings};

/// The feature that this build needs for a setting and hasn't got.
pub(super) fn missing_feature(name: &str) -> Option<&'static str> {
    (!cfg!(feature = "direct") && name == "direct").then_some("direct")
}

/// Looks for settings that don't go together, and for those that have no effect.
pub(super) fn check(
    settings: &Settings,
    layers: &Layers,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) {
    let (direct, s3) = (&settings.direct, &settings.s3);
    let mut without_effect = |name: &str, reason: &str| {
        if let Some(given) = layers.get(name) {
            warnings.push(format!("{}: has no effect {reason}", given.source));
        }
    };
    if !direct.enabled {
        for name in layers.names().filter(|name| name.starts_with("direct-")) {
            without_effect(name, "without direct");
        }
        return;
    }
    if !direct.sts.enabled {
        for name in ["direct-sts-endpoint", "direct-sts-lifetime"] {
            without_effect(name, "without direct-sts");
        }
    }

    let place = |name: &str| match layers.get(name) {
        Some(given) => given.source.to_string(),
        None => name.to_owned(),
    };
    let mut problem = |name: &str, reason: &str| problems.push(Problem::new(place(name), reason));
    if let Some(feature) = missing_feature("direct") {
        let reason = format!("this build can't; build Landfall with the feature {feature}");
        return problem("direct", &reason);
    }
    if s3.bucket.is_none() {
        problem(
            "direct",
            "needs a bucket that clients send their files to: write -s3-bucket NAME",
        );
    }
    if direct.events_secret.is_some() && direct.events_secret_file.is_some() {
        problem(
            "direct-events-secret-file",
            "can't go with direct-events-secret: there is one secret",
        );
    }

    let mut warn = |name: &str, reason: String| warnings.push(format!("{}: {reason}", place(name)));
    let of_others = s3.key.as_deref().and_then(|key| key.split('{').next());
    if let Some(beginning) = of_others
        && beginning.starts_with(direct.beginning())
    {
        warn(
            "s3-key",
            format!(
                "begins as -direct-key does, with {}; what tus uploads leave behind there isn't removed",
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
        warn(
            name,
            format!("{acl} shows everybody what is uploaded directly, as soon as it is there"),
        );
    }
    if settings.largest_grant().is_none() {
        warn(
            "direct",
            "whoever may upload may send as much as S3 takes; write -grants-max-size or -max-size"
                .to_owned(),
        );
    }
}
