use landfall_hooks::format::Format;
use landfall_messages::HookName;

use super::{Findings, Settings, not_compiled_in};
use crate::settings::{
    hooks::is_bare_number,
    types::{Database, Secret},
};

const NOTHING_STORED: &str =
    "without --grants, --admin-key or hooks with events: only these use a database";

#[cfg(test)]
pub(super) fn missing_feature(name: &str) -> Option<&'static str> {
    let transports = Settings::default().hooks.transports();
    let found = transports.into_iter().find(|one| one.setting == name)?;
    found.missing_feature
}

pub(super) fn check(settings: &Settings, findings: &mut Findings<'_>) {
    let hooks = &settings.hooks;
    let transports = hooks.transports();
    let is_enabled = transports.iter().any(|transport| transport.is_used);
    for transport in transports.iter().filter(|transport| transport.is_used) {
        if let Some(feature) = transport.missing_feature {
            let name = transport.setting;
            findings.problem(name, not_compiled_in(&format!("--{name}"), feature));
        }
    }
    let database = settings.state.database.as_ref();
    if matches!(database, Some(Database::Postgres(_))) && !cfg!(feature = "postgres") {
        let reason = not_compiled_in("PostgreSQL support", "postgres");
        findings.problem("database", reason);
    }

    let grpc = &hooks.grpc;
    if grpc.target.is_some() {
        if grpc.secure && grpc.server_certificate.is_none() {
            findings.problem(
                "hooks-grpc-secure",
                "requires --hooks-grpc-server-tls-certificate".to_owned(),
            );
        }
        let (certificate, key) = (grpc.client_certificate.is_some(), grpc.client_key.is_some());
        if certificate != key {
            let mut names = [
                "hooks-grpc-client-tls-key",
                "hooks-grpc-client-tls-certificate",
            ];
            names.rotate_left(usize::from(certificate));
            findings.problem(names[0], format!("requires --{}", names[1]));
        }
    }

    for transport in transports.iter().filter(|transport| !transport.is_used) {
        let name = transport.setting;
        let names = findings.given(&format!("{name}-"));
        findings.without_effect(&names, &format!("without --{name}"));
    }
    if is_enabled {
        check_names(settings, findings);
    } else {
        let names = ["hooks-enabled-events", "hooks-failure-mode"];
        findings.without_effect(&names, "without hooks");
        findings.without_effect(&findings.given("events-"), "without hooks");
    }
    if hooks.http.url.is_some() && hooks.http.attempts <= 1 {
        findings.without_effect(&["hooks-http-backoff"], "without a retry");
    }
    if hooks.grpc.target.is_some() && hooks.grpc.attempts <= 1 {
        findings.without_effect(&["hooks-grpc-backoff"], "without a retry");
    }
    let is_plain = |url: &Secret| url.reveal().starts_with("http://");
    if hooks.http.url.as_ref().is_some_and(is_plain) {
        let reason = "with --hooks-http at http://, without TLS";
        findings.without_effect(&["hooks-http-skip-verify"], reason);
    }
    if hooks.grpc.target.is_some() && !hooks.grpc.secure {
        findings.without_effect(
            &[
                "hooks-grpc-server-tls-certificate",
                "hooks-grpc-client-tls-certificate",
                "hooks-grpc-client-tls-key",
            ],
            "without --hooks-grpc-secure",
        );
    }
    if hooks.http.url.is_some() && !hooks.http.follow_redirects {
        let reason = "without --hooks-http-follow-redirects";
        findings.without_effect(&["hooks-http-redirect-allow"], reason);
    }
    if !follows_progress(settings) {
        let reason = "without hooks that receive post-receive";
        findings.without_effect(&["progress-hooks-interval"], reason);
    }
    if database.is_some() {
        findings.without_effect(&["state-dir"], "with --database");
    } else if !settings.stores_state() && findings.is_for_server() {
        findings.without_effect(&["state-dir"], NOTHING_STORED);
    }
    if !settings.stores_state() && findings.is_for_server() {
        findings.without_effect(&["database", "node-name"], NOTHING_STORED);
    }
    let is_v1 = hooks.command.dir.is_some() && hooks.command.format == Format::V1
        || hooks.http.url.is_some() && hooks.http.format != Format::V2;
    if hooks.stop_code.is_some() && !is_v1 {
        findings.without_effect(
            &["hooks-stop-code"],
            "without --hooks-dir-format v1, or --hooks-http-format v1 or auto; a hook stops an \
             upload with StopUpload in its response",
        );
    }
    for name in ["hooks-http-backoff", "hooks-grpc-backoff"] {
        if let Some(text) = findings.text(name).filter(|text| is_bare_number(text)) {
            findings.warning(name, format!("{text} is read as seconds; write {text}s"));
        }
    }
}

fn check_names(settings: &Settings, findings: &mut Findings<'_>) {
    let hooks = &settings.hooks;
    let transports = hooks.transports();
    let mut used = transports.iter().filter(|one| one.is_used);
    if used.all(|one| one.events.is_some()) {
        findings.without_effect(
            &["hooks-enabled-events"],
            "if every transport has its own list, such as --hooks-http-events",
        );
    }
    let used = hooks.used_names();
    if used.blocking().next().is_none() && findings.is_given("hooks-failure-mode") {
        let reason = "has no effect without a blocking hook (pre-…)";
        findings.warning("hooks-failure-mode", reason);
    }
    if !settings.has_outbox() {
        let reason = "without hooks that receive events other than post-receive";
        findings.without_effect(&findings.given("events-"), reason);
    }
}

fn follows_progress(settings: &Settings) -> bool {
    settings.has_queue() || settings.hooks.used_names().contains(HookName::PostReceive)
}
