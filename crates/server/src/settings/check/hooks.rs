//! Rules of hooks and the outbox, and of settings of state and database, which only some features use.
//!
//! Events for a transport that is not used are an error: one of them may be a blocking hook that authorizes uploads.
//! Reads no file and resolves no host: `settings::system` does.

use landfall_hooks::HookName;
use landfall_hooks::format::Format;

use super::{Findings, Settings};
use crate::settings::{
    hooks::is_bare_number,
    types::{BrokerKind, Database, LeaseKind, Secret},
};

const NOTHING_STORED: &str =
    "without --grants, --admin-key or hooks with events: only these use a database";

pub(super) fn check(settings: &Settings, findings: &mut Findings<'_>) {
    let hooks = &settings.hooks;
    let transports = hooks.transports();
    let is_enabled = transports.iter().any(|transport| transport.is_used);
    let is_missing = match hooks.broker.url.as_ref().map(|broker| broker.kind) {
        None | Some(BrokerKind::Redis) => false,
        Some(_) => !cfg!(feature = "full"),
    };
    let reason = "support of this broker is not compiled in; rebuild with `--features full`";
    findings.problem_if(is_missing, "hooks-broker", reason);

    let grpc = &hooks.grpc;
    let uses_grpc = grpc.target.is_some();
    let reason = "requires --hooks-grpc-server-tls-certificate";
    let is_unverified = uses_grpc && grpc.secure && grpc.server_certificate.is_none();
    findings.problem_if(is_unverified, "hooks-grpc-secure", reason);
    let (certificate, key) = (
        "hooks-grpc-client-tls-certificate",
        "hooks-grpc-client-tls-key",
    );
    let is_given = (grpc.client_certificate.is_some(), grpc.client_key.is_some());
    match is_given {
        (true, false) if uses_grpc => findings.problem(certificate, format!("requires --{key}")),
        (false, true) if uses_grpc => findings.problem(key, format!("requires --{certificate}")),
        _ => {}
    }

    for transport in transports.iter().filter(|transport| !transport.is_used) {
        let name = transport.setting;
        let names = findings.given(&format!("{name}-"));
        findings.without_effect(&names, &format!("without --{name}"));
        // A user relies on a hook that authorizes uploads.
        let reason = format!("names events of a transport that is not used; write --{name}");
        findings.problem_if(transport.events.is_some(), "hooks-enabled-events", reason);
    }
    if is_enabled {
        check_names(settings, findings);
    } else {
        let names = [
            "hooks-enabled-events",
            "hooks-event-headers",
            "hooks-failure-mode",
            "hooks-format",
            "hooks-max-concurrency",
        ];
        findings.without_effect(&names, "without hooks");
        findings.without_effect(&findings.given("events-"), "without hooks");
    }
    let uses_http = hooks.http.url.is_some();
    let is_once = uses_http && hooks.http.attempts <= 1;
    findings.without_effect_if(is_once, &["hooks-http-backoff"], "without a retry");
    let is_once = uses_grpc && grpc.attempts <= 1;
    findings.without_effect_if(is_once, &["hooks-grpc-backoff"], "without a retry");
    let is_plain = |url: &Secret| url.reveal().starts_with("http://");
    let is_plain = hooks.http.url.as_ref().is_some_and(is_plain);
    let reason = "with --hooks-http at http://, without TLS";
    findings.without_effect_if(is_plain, &["hooks-http-skip-verify"], reason);
    let names = [
        "hooks-grpc-server-tls-certificate",
        "hooks-grpc-client-tls-certificate",
        "hooks-grpc-client-tls-key",
    ];
    let is_plain = uses_grpc && !grpc.secure;
    findings.without_effect_if(is_plain, &names, "without --hooks-grpc-secure");
    let has_progress = settings.has_queue() || hooks.used_names().contains(HookName::PostReceive);
    let reason = "without hooks that receive post-receive";
    findings.without_effect_if(!has_progress, &["progress-hooks-interval"], reason);
    let has_no_files = !settings.uses_state_dir() && findings.is_for_server();
    if settings.state.database.is_some() && !settings.tls.acme.is_on() {
        findings.without_effect(&["state-dir"], "with --database");
    } else {
        findings.without_effect_if(has_no_files, &["state-dir"], NOTHING_STORED);
    }
    let stores_nothing = !settings.stores_state() && findings.is_for_server();
    let stores_nothing = stores_nothing && !settings.shares_certificates();
    let names = ["database", "node-name", "retention"];
    findings.without_effect_if(stores_nothing, &names, NOTHING_STORED);
    let uses_postgres = matches!(settings.leases.kind, LeaseKind::Postgres(_))
        || matches!(settings.state.database, Some(Database::Postgres(_)));
    let names = ["database-connections"];
    findings.without_effect_if(!uses_postgres, &names, "without PostgreSQL");
    let uses_commands = hooks.command.dir.is_some();
    let is_v1 = match hooks.format {
        Format::V1 => uses_commands || uses_http,
        Format::Auto => uses_http,
        _ => false,
    };
    findings.without_effect_if(
        hooks.stop_code.is_some() && !is_v1,
        &["hooks-stop-code"],
        "without --hooks-format v1, or auto with --hooks-http; a hook stops an \
         upload with StopUpload in its response",
    );
    let names = ["hooks-format"];
    let reason = "without --hooks-dir or --hooks-http";
    findings.without_effect_if(is_enabled && !uses_commands && !uses_http, &names, reason);
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
    let has_common = hooks.enabled.iter().any(|one| one.transport.is_none());
    let is_idle = has_common && used.all(|one| one.events.is_some());
    let reason = "without a transport before each name: each that is used has other names";
    findings.without_effect_if(is_idle, &["hooks-enabled-events"], reason);
    let used = hooks.used_names();
    if used.blocking().next().is_none() && findings.is_given("hooks-failure-mode") {
        let reason = "has no effect without a blocking hook (pre-…)";
        findings.warning("hooks-failure-mode", reason);
    }
    let reason = "without hooks that receive events other than post-receive";
    let names = findings.given("events-");
    findings.without_effect_if(!settings.has_outbox(), &names, reason);
}
