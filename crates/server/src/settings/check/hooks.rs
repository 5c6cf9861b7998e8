//! What has to hold between the settings of hooks.

use super::{Findings, Settings, not_compiled_in};
use crate::settings::hooks::is_bare_number;
use crate::settings::types::{Database, Secret};
use landfall_hooks::{HookName, format::Format};

/// The ways of hooks by the settings that turn them on, with the features that they need.
const FEATURES: [(&str, bool, &str); 8] = [
    ("hooks-dir", true, ""),
    ("hooks-http", cfg!(feature = "hooks-http"), "hooks-http"),
    ("hooks-grpc", cfg!(feature = "hooks-grpc"), "hooks-grpc"),
    ("hooks-wasm", cfg!(feature = "hooks-wasm"), "hooks-wasm"),
    ("hooks-nats", cfg!(feature = "nats"), "nats"),
    ("hooks-amqp", cfg!(feature = "amqp"), "amqp"),
    ("hooks-redis", cfg!(feature = "redis"), "redis"),
    ("hooks-kafka", cfg!(feature = "kafka"), "kafka"),
];

/// Why settings of the database have no effect.
const NOTHING_STORED: &str =
    "without grants, admin-key or hooks that are told events, for which alone a database is used";

/// The feature that this build needs for a setting and hasn't got.
pub(super) fn missing_feature(name: &str) -> Option<&'static str> {
    let found = FEATURES.iter().find(|(known, ..)| *known == name)?;
    (!found.1).then_some(found.2)
}

/// Looks for settings that don't go together, and for those that have no effect.
pub(super) fn check(settings: &Settings, findings: &mut Findings<'_>) {
    let hooks = &settings.hooks;
    let brokers = &hooks.brokers;

    // In the order of the features.
    let on = [
        hooks.command.dir.is_some(),
        hooks.http.url.is_some(),
        hooks.grpc.target.is_some(),
        hooks.wasm.file.is_some(),
        brokers.nats.url.is_some(),
        brokers.amqp.url.is_some(),
        brokers.redis.url.is_some(),
        !brokers.kafka.brokers.is_empty(),
    ];
    let ways = || FEATURES.iter().map(|(name, ..)| *name).zip(on);
    for (name, _) in ways().filter(|(_, is_on)| *is_on) {
        if let Some(feature) = missing_feature(name) {
            let what = format!("support for {name}");
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
                "needs hooks-grpc-server-tls-certificate, the certificate to know the server by"
                    .to_owned(),
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
            findings.problem(given, format!("needs {missing} beside it"));
        }
    }

    // Settings of a way that is off; their names begin with that of the way.
    for (way, _) in ways().filter(|(_, is_on)| !is_on) {
        for name in findings.given() {
            let is_its_own = name
                .strip_prefix(way)
                .is_some_and(|rest| rest.starts_with('-'));
            if is_its_own {
                findings.without_effect(name, &format!("without {way}"));
            }
        }
    }
    if !on.contains(&true) {
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
    if on.contains(&true) {
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
            "with hooks-http at http://, which has no certificate",
        );
    }
    if hooks.grpc.target.is_some() && !hooks.grpc.secure {
        for name in [
            "hooks-grpc-server-tls-certificate",
            "hooks-grpc-client-tls-certificate",
            "hooks-grpc-client-tls-key",
        ] {
            findings.without_effect(name, "without hooks-grpc-secure");
        }
    }
    if hooks.http.url.is_some() && !hooks.http.follow_redirects {
        findings.without_effect(
            "hooks-http-redirect-allow",
            "without hooks-http-follow-redirects",
        );
    }
    if !follows_progress(settings) {
        findings.without_effect(
            "progress-hooks-interval",
            "without hooks that are told post-receive",
        );
    }
    if database.is_some() {
        findings.without_effect("state-dir", "with database");
    } else if !settings.stores_state() && findings.is_for_server() {
        findings.without_effect("state-dir", NOTHING_STORED);
    }
    if !settings.stores_state() && findings.is_for_server() {
        findings.without_effect("database", NOTHING_STORED);
        findings.without_effect("node-name", NOTHING_STORED);
    }
    let heeds_it = hooks.command.dir.is_some() && hooks.command.format == Format::V1
        || hooks.http.url.is_some() && hooks.http.format != Format::V2;
    if hooks.stop_code.is_some() && !heeds_it {
        findings.without_effect(
            "hooks-stop-code",
            "except with hooks-dir-format v1 or hooks-http-format v1 or auto; a hook stops an \
             upload by StopUpload in its answer",
        );
    }
    for name in ["hooks-http-backoff", "hooks-grpc-backoff"] {
        if let Some(text) = findings.text(name).filter(|text| is_bare_number(text)) {
            findings.warning(name, format!("{text} is taken for seconds; write {text}s"));
        }
    }
}

/// Looks for settings about hooks that no transport in use is called for.
fn check_names(settings: &Settings, findings: &mut Findings<'_>) {
    let hooks = &settings.hooks;
    if hooks.own_lists().iter().all(Option::is_some) {
        findings.without_effect(
            "hooks-enabled-events",
            "where all hooks have a list of their own, such as hooks-http-events",
        );
    }
    let used = hooks.used_names();
    if used.blocking().next().is_none() && findings.is_given("hooks-failure-mode") {
        findings.warning("hooks-failure-mode", "has no effect without a pre-… hook");
    }
    if !settings.has_outbox() {
        for name in [
            "events-max-queued",
            "events-max-bytes",
            "events-strict-order",
            "events-retry-for",
            "events-dead-letter-retention",
        ] {
            findings.without_effect(name, "without hooks that are told more than post-receive");
        }
    }
}

/// Whether the progress of uploads is reported to anybody.
fn follows_progress(settings: &Settings) -> bool {
    settings.has_queue() || settings.hooks.used_names().contains(HookName::PostReceive)
}
