use landfall_hooks::HookName;
use landfall_hooks::format::Format;

use super::{Findings, Settings, not_compiled_in};
use crate::settings::{
    hooks::is_bare_number,
    types::{Database, Secret},
};

const NOTHING_STORED: &str =
    "without --grants, --admin-key or hooks with events: only these use a database";

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
    }
    if is_enabled {
        check_names(settings, findings);
    } else {
        let names = [
            "hooks-enabled-events",
            "hooks-event-headers",
            "hooks-failure-mode",
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
    let (stays, names) = (!hooks.http.follow_redirects, ["hooks-http-redirect-allow"]);
    let reason = "without --hooks-http-follow-redirects";
    findings.without_effect_if(uses_http && stays, &names, reason);
    let has_progress = settings.has_queue() || hooks.used_names().contains(HookName::PostReceive);
    let reason = "without hooks that receive post-receive";
    findings.without_effect_if(!has_progress, &["progress-hooks-interval"], reason);
    let has_no_files = !settings.uses_state_dir() && findings.is_for_server();
    if database.is_some() && !settings.tls.acme.is_on() {
        findings.without_effect(&["state-dir"], "with --database");
    } else {
        findings.without_effect_if(has_no_files, &["state-dir"], NOTHING_STORED);
    }
    let stores_nothing = !settings.stores_state() && findings.is_for_server();
    let stores_nothing = stores_nothing && !settings.shares_certificates();
    let names = ["database", "node-name"];
    findings.without_effect_if(stores_nothing, &names, NOTHING_STORED);
    let is_v1 = hooks.command.dir.is_some() && hooks.command.format == Format::V1
        || uses_http && hooks.http.format != Format::V2;
    findings.without_effect_if(
        hooks.stop_code.is_some() && !is_v1,
        &["hooks-stop-code"],
        "without --hooks-dir-format v1, or --hooks-http-format v1 or auto; a hook stops an \
         upload with StopUpload in its response",
    );
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
    let all_differ = used.all(|one| one.events.is_some());
    let reason = "if every transport has its own list, such as --hooks-http-events";
    findings.without_effect_if(all_differ, &["hooks-enabled-events"], reason);
    let used = hooks.used_names();
    if used.blocking().next().is_none() && findings.is_given("hooks-failure-mode") {
        let reason = "has no effect without a blocking hook (pre-…)";
        findings.warning("hooks-failure-mode", reason);
    }
    let reason = "without hooks that receive events other than post-receive";
    let names = findings.given("events-");
    findings.without_effect_if(!settings.has_outbox(), &names, reason);
}
