//! Rules of grants and authentication, and of the paths of all APIs and pages.
//!
//! JWT keys need an issuer or an audience, or tokens for other applications would be accepted. APIs are
//! found before uploads and pages, so none of these may have a path at or below that of an API.

use landfall_hooks::{HookName, HookNames};

use super::{Findings, Settings};
use crate::settings::{direct::API_PATHS, types::JwtKeys};

pub(super) fn check(settings: &Settings, findings: &mut Findings<'_>) {
    let (grants, admin) = (&settings.grants, &settings.admin);
    if let (Some(granted), Some(most)) = (grants.limits.max_size, settings.protocol.max_size)
        && granted > most
    {
        let reason = format!("exceeds --max-size {most}, which also applies to granted uploads");
        findings.warning("grants-max-size", reason);
    }

    if !grants.enabled {
        findings.without_effect(&findings.given("grants-"), "without --grants");
    } else {
        let jwt = &grants.jwt;
        let names = findings.given("grants-jwt-");
        findings.without_effect_if(jwt.keys.is_none(), &names, "without --grants-jwt-keys");
        let is_unbound = jwt.issuers.is_empty() && jwt.audiences.is_empty();
        findings.problem_if(
            jwt.keys.is_some() && is_unbound,
            "grants-jwt-keys",
            "any token signed with these keys would be accepted, also one for another \
             application; set --grants-jwt-audience or --grants-jwt-issuer",
        );
        let is_shared = |name: &String| name.starts_with("HS");
        findings.problem_if(
            matches!(jwt.keys, Some(JwtKeys::Url(_))) && jwt.algorithms.iter().all(is_shared),
            "grants-jwt-algorithms",
            "requires the shared key in a file, but --grants-jwt-keys is a URL; no token would be accepted",
        );
        let reason = "requires --tls-client-ca";
        let has_none = settings.tls.client_authorities.is_none();
        let is_on = grants.client_certificates;
        findings.problem_if(is_on && has_none, "grants-client-certificates", reason);
        let (disabled, names) = (settings.cors.disable, ["grants-allowed-origins"]);
        findings.without_effect_if(disabled, &names, "with --disable-cors");
    }
    findings.without_effect_if(!admin.is_on(), &["admin-path"], "without --admin-key");
    let name = "hooks-enabled-events";
    if let Some(event) = idle_event(settings)
        && findings.is_given(name)
    {
        match event {
            // A user relies on a hook that authorizes uploads.
            HookName::PreGrant => findings.problem(name, format!("{event} requires --grants")),
            _ => findings.warning(name, format!("{event} requires --grants or --admin-key")),
        }
    }
}

fn idle_event(settings: &Settings) -> Option<HookName> {
    let granted = settings.grants.enabled;
    let has_queue = settings.has_queue();
    let is_idle = |event: &HookName| match event {
        HookName::PreGrant => !granted,
        event => !has_queue && HookNames::JOB_EVENTS.contains(*event),
    };
    let mut enabled = settings.hooks.enabled.iter().map(|one| one.name);
    enabled.find(is_idle)
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
            let mut later = areas[at + 1..].iter();
            later.find(|(_, taken, _)| is_within(taken, path) || is_within(path, taken))
        });
        if let Some((other, taken, whose)) = found {
            // Prefer the setting that was given.
            let prefers_other = !findings.is_given(name) && findings.is_given(other);
            let name = if prefers_other { other } else { name };
            let overlap = format!("the path {path} of {what} overlaps {taken} of {whose}");
            findings.problem(name, format!("{overlap}; choose another path"));
        }
    }
}

fn is_within(path: &str, above: &str) -> bool {
    let rest = path.strip_prefix(above);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
