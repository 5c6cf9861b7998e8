use landfall_messages::{HookName, HookNames};

use super::{Findings, Settings, not_compiled_in};
use crate::settings::{direct::API_PATHS, types::JwtKeys};

const ENABLING: [&str; 4] = ["grants", "require-grant", "admin-key", "admin-key-file"];

pub(super) fn missing_feature(name: &str) -> Option<&'static str> {
    (!cfg!(feature = "grants") && ENABLING.contains(&name)).then_some("grants")
}

pub(super) fn check(settings: &Settings, findings: &mut Findings<'_>) {
    let (grants, admin) = (&settings.grants, &settings.admin);
    for (name, is_on) in [
        ("grants", grants.enabled && !grants.required),
        ("require-grant", grants.required),
        ("admin-key", admin.key.is_some()),
        ("admin-key-file", admin.key_file.is_some()),
    ] {
        if let Some(feature) = missing_feature(name).filter(|_| is_on) {
            findings.problem(name, not_compiled_in("grants support", feature));
        }
    }
    if admin.key.is_some() && admin.key_file.is_some() {
        findings.problem("admin-key-file", "conflicts with --admin-key");
    }
    if let (Some(granted), Some(most)) = (grants.limits.max_size, settings.protocol.max_size)
        && granted > most
    {
        let reason = format!("exceeds --max-size {most}, which also applies to granted uploads");
        findings.warning("grants-max-size", reason);
    }

    if !grants.enabled {
        for name in findings.given("grants-") {
            // The dashboard uses it as well.
            if name != "grants-retention" || !admin.is_on() {
                findings.without_effect(&[name], "without --grants");
            }
        }
    } else {
        if grants.jwt.keys.is_none() {
            for name in findings.given("grants-jwt-") {
                if name != "grants-jwt-keys" {
                    findings.without_effect(&[name], "without --grants-jwt-keys");
                }
            }
        }
        let jwt = &grants.jwt;
        if jwt.keys.is_some() && jwt.issuers.is_empty() && jwt.audiences.is_empty() {
            findings.problem(
                "grants-jwt-keys",
                "any token signed with these keys would be accepted, also one for another \
                 application; set --grants-jwt-audience or --grants-jwt-issuer",
            );
        }
        let is_shared = |name: &String| name.starts_with("HS");
        if matches!(grants.jwt.keys, Some(JwtKeys::Url(_)))
            && grants.jwt.algorithms.iter().all(is_shared)
        {
            findings.problem(
                "grants-jwt-algorithms",
                "requires the shared key in a file, but --grants-jwt-keys is a URL; no token would be accepted",
            );
        }
        if settings.cors.disable {
            findings.without_effect(&["grants-allowed-origins"], "with --disable-cors");
        }
        if grants.forward_auth.url.is_none() {
            let reason = "without --grants-forward-auth-url";
            findings.without_effect(&["grants-forward-auth-cache"], reason);
        }
    }
    if !admin.is_on() {
        findings.without_effect(&["admin-path"], "without --admin-key");
    }
    for (name, event) in idle_events(settings) {
        if !findings.is_given(&name) {
            continue;
        }
        let name = name.as_str();
        let reason = format!("{event} requires --grants");
        match event {
            // A user relies on a hook that authorizes uploads.
            HookName::PreGrant => findings.problem(name, reason),
            _ => findings.warning(name, reason),
        }
    }
}

fn idle_events(settings: &Settings) -> Vec<(String, HookName)> {
    let granted = settings.grants.enabled;
    let has_queue = settings.has_queue();
    let is_idle = |event: &HookName| match event {
        HookName::PreGrant => !granted,
        event => !has_queue && HookNames::JOB_EVENTS.contains(*event),
    };
    let enabled = Some(settings.hooks.enabled_names());
    let own_lists = settings.hooks.transports().map(|transport| {
        let name = format!("{}-events", transport.setting);
        (name, transport.events)
    });
    [("hooks-enabled-events".to_owned(), enabled)]
        .into_iter()
        .chain(own_lists)
        .filter_map(|(name, events)| Some((name, events?.iter().find(is_idle)?)))
        .collect()
}

/// The setting of their path, the path, and a description.
type Pages = (&'static str, String, &'static str);

fn areas(settings: &Settings) -> Vec<Pages> {
    let mut areas = Vec::new();
    if settings.grants.enabled {
        areas.push(("grants-path", settings.grants.path.clone(), "grants"));
    }
    if settings.admin.is_on() {
        let path = settings.admin.path.clone();
        areas.push(("admin-path", path, "the dashboard"));
    }
    if settings.direct.enabled {
        areas.extend(API_PATHS.map(|area| {
            let path = format!("{}{area}", settings.direct.path);
            ("direct-path", path, "direct uploads")
        }));
    }
    areas
}

pub(super) fn check_paths(settings: &Settings, findings: &mut Findings<'_>) {
    let areas = areas(settings);
    let health = "health checks";
    let mut others: Vec<Pages> = vec![
        ("", "/healthz".to_owned(), health),
        ("", "/readyz".to_owned(), health),
        ("base-path", settings.urls.base_path.clone(), "uploads"),
    ];
    if settings.monitoring.expose_metrics {
        let metrics = settings.monitoring.metrics_path.clone();
        others.push(("metrics-path", metrics, "metrics"));
    }
    for (at, (name, path, what)) in areas.iter().enumerate() {
        let below = others.iter().find(|(_, taken, _)| is_within(taken, path));
        let found = below.or_else(|| {
            let (_, later) = areas.split_at(at + 1);
            later
                .iter()
                .find(|(_, taken, _)| is_within(taken, path) || is_within(path, taken))
        });
        if let Some((other, taken, whose)) = found {
            // Prefer the setting that was given.
            let name = match !findings.is_given(name) && findings.is_given(other) {
                true => other,
                false => name,
            };
            let overlap = format!("the path {path} of {what} overlaps {taken} of {whose}");
            findings.problem(name, format!("{overlap}; choose another path"));
        }
    }
}

fn is_within(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
