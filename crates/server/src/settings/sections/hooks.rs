//! The table of settings of hooks, of each transport, and of the outbox.
//!
//! There is one broker, whose kind follows from the scheme of its URL. Values are parsed by `settings::hooks`; rules
//! between settings are in `settings::check`.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use landfall_hooks::FailureMode;
use landfall_hooks::format::Format;

use super::table::group;
use crate::settings::{
    address, broker, hooks,
    types::{BrokerUrl, EnabledHook, HeaderKey, Secret},
    value,
};

const FAILURE_MODES: &[(&str, FailureMode)] =
    &[("deny", FailureMode::Deny), ("allow", FailureMode::Allow)];

const EVENT_HEADERS: &[(&str, bool)] = &[("named", false), ("all", true)];

group! {
    /// Settings of hooks.
    pub struct Hooks at hooks, with {
        /// Command hooks.
        command: CommandHooks,
        /// HTTP hooks.
        http: HttpHooks,
        /// gRPC hooks.
        grpc: GrpcHooks,
        /// A message broker.
        broker: Broker,
        /// The outbox.
        outbox: Outbox,
    };
    enabled: Vec<EnabledHook> = hooks::enabled, "hooks-enabled-events", List("EVENTS"),
        "pre-create,post-create,post-receive,post-terminate,post-finish", MayBeEmpty, FailsAtStart
        => "Enabled hooks, comma-separated. dir:EVENT, http:EVENT, grpc:EVENT and broker:EVENT are for that transport \
            alone, which then gets no others; brokers get no blocking hooks. Blocking hooks: \
            pre-create, pre-finish, pre-terminate, pre-access, with --grants pre-grant. Events: \
            post-create, post-receive, post-finish, post-terminate, post-expire, with --grants \
            UploadStarted, UploadProgress, UploadCompleted, UploadCancelled, UploadFailed, \
            UploadExpired. An empty value: the seven hooks of tusd.";
    progress_interval: Duration = value::some_duration, "progress-hooks-interval", Time, "1s"
        => "Interval of post-receive events while data of an upload arrives.";
    all_event_headers: bool = |v| value::choice(v, EVENT_HEADERS),
        "hooks-event-headers", Text("named|all"), "named"
        => "Further request headers in events: those that a transport's own setting names, or all, as in tusd. \
            Brokers never get all. Blocking hooks always have all.";
    failure_mode: FailureMode = |v| value::choice(v, FAILURE_MODES),
        "hooks-failure-mode", Text("deny|allow"), "deny", Protects
        => "When a blocking hook is unreachable: deny the request with 500, or allow it.";
    stop_code: Option<u16> = hooks::stop_code, "hooks-stop-code", Number("CODE"), "0"
        => "Exit code or status with which post-receive stops an upload, as in tusd 1; 0 is none. \
            Requires --hooks-format v1, or HTTP hooks with auto.";
    format: Format = hooks::format, "hooks-format", Text("auto|v2|v1"), "auto", Reloads
        => "Format of messages and responses of programs and HTTP hooks: exactly that of tusd 2 (v2) or tusd 1 (v1). \
            auto: HTTP hooks use one that works with code for either, programs that of tusd 2.";
    max_concurrency: usize = hooks::concurrency, "hooks-max-concurrency", Number("COUNT"), "64", Reloads
        => "Maximum concurrent calls of HTTP hooks, and of gRPC hooks; half as many programs of --hooks-dir run. More \
            wait.";
}

group! {
    /// Settings of command hooks.
    pub struct CommandHooks at hooks.command;
    dir: Option<PathBuf> = value::path_or_none, "hooks-dir", Text("DIR"), "", Common, Reloads
        => "Run the program with the hook's name in this directory.";
    timeout: Duration = value::some_duration, "hooks-dir-timeout", Time, "10m"
        => "Maximum run time; then the program and all processes it started are killed.";
}

group! {
    /// Settings of HTTP hooks.
    pub struct HttpHooks at hooks.http;
    url: Option<Secret> = hooks::endpoint, "hooks-http", Text("URL"), "", Common, SecretInUrl, Reloads
        => "POST each blocking hook and event to this URL (webhook).";
    forward_headers: Vec<String> = address::header_names,
        "hooks-http-forward-headers", List("HEADERS"), "", MayBeEmpty
        => "Headers of the client's request to forward with every hook and event, comma-separated. \
            Stored events have them encrypted, see --events-header-key.";
    attempts: u32 = value::number, "hooks-http-retry", Number("COUNT"), "3", Reloads
        => "Total attempts for a blocking hook after a timeout or 5xx response; at least 1.";
    backoff: Duration = hooks::backoff, "hooks-http-backoff", Time, "1s", Reloads
        => "Delay between two attempts.";
    timeout: Duration = value::some_duration, "hooks-http-timeout", Time, "15s", Reloads
        => "Maximum time of all attempts together.";
    size_limit: usize = |v| value::size_within(v, 1, 64 << 20),
        "hooks-http-size-limit", Size, "5120", Reloads
        => "Maximum size of a response.";
    skip_verify: bool = value::boolean, "hooks-http-skip-verify", Switch, "false", Reloads
        => "Accept any TLS certificate of the endpoint.";
    secrets: Vec<Secret> = hooks::secrets,
        "hooks-http-secret", List("SECRETS"), "", Secret, Protects, Reloads
        => "Sign requests with this secret (Standard Webhooks): whsec_ and base64, or plain text. \
            With several, comma-separated, each signs, so that secrets can be rotated. Prefer the \
            variable: command lines are visible to other users.";
    redirects: Option<Vec<IpNet>> = hooks::redirects, "hooks-http-redirects", List("public|NETWORKS"), "", Reloads
        => "Follow redirects to public hosts and the endpoint's own host (public), and to these networks in addition, \
            comma-separated: IP addresses, networks such as 10.0.0.0/8, or private. Not set: redirects are not followed.";
}

group! {
    /// Settings of gRPC hooks.
    pub struct GrpcHooks at hooks.grpc;
    target: Option<String> = value::optional(hooks::grpc_target),
        "hooks-grpc", Text("HOST:PORT"), "", Reloads
        => "Call the gRPC service proto.HookHandler of tusd at this address.";
    attempts: u32 = value::number, "hooks-grpc-retry", Number("COUNT"), "3", Reloads
        => "Total attempts of a call if the server is busy or unreachable; at least 1.";
    backoff: Duration = hooks::backoff, "hooks-grpc-backoff", Time, "1s", Reloads
        => "Delay between two attempts.";
    timeout: Option<Duration> = value::duration_or_none, "hooks-grpc-timeout", Time, "60s", Reloads
        => "Maximum time of a call; 0 is unlimited, as in tusd.";
    secure: bool = value::boolean, "hooks-grpc-secure", Switch, "false", Reloads
        => "Use TLS; requires --hooks-grpc-server-tls-certificate.";
    server_certificate: Option<PathBuf> = value::path_or_none,
        "hooks-grpc-server-tls-certificate", Text("FILE"), "", Protects, Reloads
        => "PEM file with the CA certificate, or with the server's own.";
    client_certificate: Option<PathBuf> = value::path_or_none,
        "hooks-grpc-client-tls-certificate", Text("FILE"), "", Protects, Reloads
        => "PEM file with the client certificate.";
    client_key: Option<PathBuf> = value::path_or_none,
        "hooks-grpc-client-tls-key", Text("FILE"), "", Protects, Reloads
        => "PEM file with the key of the client certificate.";
    forward_headers: Vec<String> = address::header_names,
        "hooks-grpc-forward-headers", List("HEADERS"), "", MayBeEmpty
        => "Headers of the client's request to forward as metadata with every hook and event, \
            comma-separated. Stored events have them encrypted, see --events-header-key.";
}

group! {
    /// Settings of a message broker.
    pub struct Broker at hooks.broker;
    url: Option<BrokerUrl> = broker::broker, "hooks-broker", Text("URL"), "", PasswordInUrl, Reloads
        => "Publish events to a message broker: NATS (nats:// or tls://HOST:4222), RabbitMQ or another AMQP 0-9-1 \
            broker (amqp:// or amqps://HOST/%2f), a stream in Redis or Valkey (redis:// or rediss://HOST/0), or Kafka \
            (kafka://HOST:9092,HOST:9092). Its query names the destination: ?subject=NAME (not set: \
            landfall.{event}, where {event} is the event's name), ?routing_key=NAME (likewise), ?stream=KEY (not set: \
            landfall:events) or ?topic=NAME (not set: landfall-events). Further parameters are exchange=NAME of AMQP, \
            max_length=COUNT of the Redis stream, about which older entries are removed (not set: 100000), and \
            jetstream=true: an event is delivered when a stream of NATS has stored it. Without it, NATS may lose \
            events.";
}

group! {
    /// Settings of the outbox.
    pub struct Outbox at hooks.outbox;
    header_key: Option<HeaderKey> = hooks::header_key, "events-header-key", Text("FILE|memory"), ""
        => "File with the key that encrypts forwarded request headers of stored events, or memory for one that \
            ends with the process. 32 bytes in base64; a missing file is created. Nodes that share a \
            database need the same file. Not set: a file next to the database, or memory with PostgreSQL.";
    history: Duration = value::duration, "events-history", Time, "24h"
        => "Store delivered events for this long, at most 100,000, for the dashboard. 0 stores none.";
    max_hold: Option<Duration> = hooks::max_hold, "events-max-hold", Time, "3s"
        => "Time after its first failed attempt for which an event holds later events of its upload. strict: until it \
            is delivered or becomes a dead letter (strict ordering).";
    retry_for: Duration = value::some_duration, "events-retry-for", Time, "168h"
        => "Retry a failed delivery for this long, with at least 20 attempts if they fit, then \
            move it to the dead letters (see landfall events).";
}
