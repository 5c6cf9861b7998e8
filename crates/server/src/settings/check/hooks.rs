//! Rules between the settings of hooks.

use super::{Findings, Settings, not_compiled_in};
use crate::settings::hooks::is_bare_number;
use crate::settings::types::{Database, Secret};
use landfall_hooks::{HookName, format::Format};

/// The transports by the settings that enable them, with the features that they need.
const TRANSPORTS: [(&str, bool, &str); 8] = [
    ("hooks-dir", true, ""),
    ("hooks-http", cfg!(feature = "hooks-http"), "hooks-http"),
    ("hooks-grpc", cfg!(feature = "hooks-grpc"), "hooks-grpc"),
    ("hooks-wasm", cfg!(feature = "hooks-wasm"), "hooks-wasm"),
    ("hooks-nats", cfg!(feature = "nats"), "nats"),
    ("hooks-amqp", cfg!(feature = "amqp"), "amqp"),
    ("hooks-redis", cfg!(feature = "redis"), "redis"),
    ("hooks-kafka", cfg!(feature = "kafka"), "kafka"),
];

const NOTHING_STORED: &str =
    "without --grants, --admin-key or hooks with events: only these use a database";

/// Returns the feature that a setting needs and this build lacks.
pub(super) fn missing_feature(name: &str) -> Option<&'static str> {
    let found = TRANSPORTS.iter().find(|(known, ..)| *known == name)?;
    (!found.1).then_some(found.2)
}

/// Reports settings that exclude each other, and those that have no effect.
pub(super) fn check(settings: &Settings, findings: &mut Findings<'_>) {
    let hooks = &settings.hooks;
    let brokers = &hooks.brokers;

    // In the order of `TRANSPORTS`.
    let enabled = [
        hooks.command.dir.is_some(),
        hooks.http.url.is_some(),
        hooks.grpc.target.is_some(),
        hooks.wasm.file.is_some(),
        brokers.nats.url.is_some(),
        brokers.amqp.url.is_some(),
        brokers.redis.url.is_some(),
        !brokers.kafka.brokers.is_empty(),
    ];
    let transports = || TRANSPORTS.iter().map(|(name, ..)| *name).zip(enabled);
    for (name, _) in transports().filter(|(_, is_on)| *is_on) {
        if let Some(feature) = missing_feature(name) {
            let what = format!("--{name}");
            findings.problem(name, not_compiled_in(&what, feature));
        }
    }
    let database = settings.state.database.as_ref();
    if matches!(database, Some(Database::Postgres(_))) && !cfg!(feature = "postgres") {
        findings.problem(
            "database",
            not_compiled_in("PostgreSQL support", "postgres"),
        );
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
            let (given, missing) = if certificate {
                (
                    "hooks-grpc-client-tls-certificate",
                    "hooks-grpc-client-tls-key",
                )
            } else {
                (
                    "hooks-grpc-client-tls-key",
                    "hooks-grpc-client-tls-certificate",
                )
            };
            findings.problem(given, format!("requires --{missing}"));
        }
    }

    for (transport, _) in transports().filter(|(_, is_on)| !is_on) {
        for name in findings.given(&format!("{transport}-")) {
            findings.without_effect(name, &format!("without --{transport}"));
        }
    }
    if !enabled.contains(&true) {
        for name in [
            "hooks-enabled-events",
            "hooks-failure-mode",
            "events-max-queued",
            "events-max-bytes",
            "events-strict-order",
            "events-retry-for",
            "events-dead-letter-retention",
        ] {
            findings.without_effect(name, "without hooks");
        }
    }
    if enabled.contains(&true) {
        check_names(settings, findings);
    }
    for (name, attempts, is_on) in [
        (
            "hooks-http-backoff",
            hooks.http.attempts,
            hooks.http.url.is_some(),
        ),
        (
            "hooks-grpc-backoff",
            hooks.grpc.attempts,
            hooks.grpc.target.is_some(),
        ),
    ] {
        if is_on && attempts <= 1 {
            findings.without_effect(name, "without a retry");
        }
    }
    let is_plain = |url: &Secret| url.reveal().starts_with("http://");
    if hooks.http.url.as_ref().is_some_and(is_plain) {
        findings.without_effect(
            "hooks-http-skip-verify",
            "with --hooks-http at http://, without TLS",
        );
    }
    if hooks.grpc.target.is_some() && !hooks.grpc.secure {
        for name in [
            "hooks-grpc-server-tls-certificate",
            "hooks-grpc-client-tls-certificate",
            "hooks-grpc-client-tls-key",
        ] {
            findings.without_effect(name, "without --hooks-grpc-secure");
        }
    }
    if hooks.http.url.is_some() && !hooks.http.follow_redirects {
        findings.without_effect(
            "hooks-http-redirect-allow",
            "without --hooks-http-follow-redirects",
        );
    }
    if !follows_progress(settings) {
        findings.without_effect(
            "progress-hooks-interval",
            "without hooks that receive post-receive",
        );
    }
    if database.is_some() {
        findings.without_effect("state-dir", "with --database");
    } else if !settings.stores_state() && findings.is_for_server() {
        findings.without_effect("state-dir", NOTHING_STORED);
    }
    if !settings.stores_state() && findings.is_for_server() {
        findings.without_effect("database", NOTHING_STORED);
        findings.without_effect("node-name", NOTHING_STORED);
    }
    let is_v1 = hooks.command.dir.is_some() && hooks.command.format == Format::V1
        || hooks.http.url.is_some() && hooks.http.format != Format::V2;
    if hooks.stop_code.is_some() && !is_v1 {
        findings.without_effect(
            "hooks-stop-code",
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

/// Reports settings of hooks that no transport in use is called for.
fn check_names(settings: &Settings, findings: &mut Findings<'_>) {
    let hooks = &settings.hooks;
    if hooks.own_lists().iter().all(Option::is_some) {
        findings.without_effect(
            "hooks-enabled-events",
            "if every transport has its own list, such as --hooks-http-events",
        );
    }
    let used = hooks.used_names();
    if used.blocking().next().is_none() && findings.is_given("hooks-failure-mode") {
        findings.warning(
            "hooks-failure-mode",
            "has no effect without a blocking hook (pre-…)",
        );
    }
    if !settings.has_outbox() {
        for name in [
            "events-max-queued",
            "events-max-bytes",
            "events-strict-order",
            "events-retry-for",
            "events-dead-letter-retention",
        ] {
            findings.without_effect(
                name,
                "without hooks that receive events other than post-receive",
            );
        }
    }
}

/// Returns whether the progress of uploads is used.
fn follows_progress(settings: &Settings) -> bool {
    settings.has_queue() || settings.hooks.used_names().contains(HookName::PostReceive)
}
