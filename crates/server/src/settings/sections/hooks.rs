use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use landfall_hooks::format::Format;
use landfall_hooks::{FailureMode, HookName, HookNames};

use super::table::group;
use crate::settings::{
    address, hooks,
    types::{HeaderKey, Secret},
    value,
};

const FAILURE_MODES: &[(&str, FailureMode)] =
    &[("deny", FailureMode::Deny), ("allow", FailureMode::Allow)];

const EVENT_HEADERS: &[(&str, bool)] = &[("named", false), ("all", true)];

const NATS_SCHEMES: &[&str] = &["nats", "tls", "ws", "wss"];
const REDIS_SCHEMES: &[&str] = &["redis", "rediss"];

group! {
    /// Settings of hooks.
    pub struct Hooks at hooks, with {
        /// Command hooks.
        command: CommandHooks,
        /// HTTP hooks.
        http: HttpHooks,
        /// gRPC hooks.
        grpc: GrpcHooks,
        /// Message brokers.
        brokers: Brokers,
        /// The outbox.
        outbox: Outbox,
    };
    enabled: Vec<HookName> = hooks::enabled, "hooks-enabled-events", List("EVENTS"),
        "pre-create,post-create,post-receive,post-terminate,post-finish", MayBeEmpty, FailsAtStart
        => "Enabled hooks, comma-separated, for transports without an own list. Blocking hooks: \
            pre-create, pre-finish, pre-terminate, pre-access, with --grants pre-grant. Events: \
            post-create, post-receive, post-finish, post-terminate, post-expire, with --grants \
            UploadStarted, UploadProgress, UploadCompleted, UploadCancelled, UploadFailed, \
            UploadExpired. Empty: tusd's seven.";
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
            Requires --hooks-dir-format v1, or --hooks-http-format v1 or auto.";
}

group! {
    /// Settings of command hooks.
    pub struct CommandHooks at hooks.command;
    dir: Option<PathBuf> = value::path_or_none, "hooks-dir", Text("DIR"), "", Common, Reloads
        => "Run the program with the hook's name in this directory.";
    events: Option<HookNames> = hooks::events, "hooks-dir-events", List("EVENTS"), "", Protects
        => "Blocking hooks and events for these programs. Not set: --hooks-enabled-events.";
    timeout: Duration = value::some_duration, "hooks-dir-timeout", Time, "10m"
        => "Maximum run time; then the program and all processes it started are killed.";
    max_processes: usize = hooks::concurrency, "hooks-dir-max-processes", Number("COUNT"), "32", Reloads
        => "Maximum running programs; more wait.";
    format: Format = hooks::format, "hooks-dir-format", Text("v2|v1"), "v2", Reloads
        => "Format of standard input and exit codes: that of tusd 2 or tusd 1.";
}

group! {
    /// Settings of HTTP hooks.
    pub struct HttpHooks at hooks.http;
    url: Option<Secret> = hooks::endpoint, "hooks-http", Text("URL"), "", Common, SecretInUrl, Reloads
        => "POST each blocking hook and event to this URL (webhook).";
    events: Option<HookNames> = hooks::events, "hooks-http-events", List("EVENTS"), "", Protects
        => "Blocking hooks and events for this URL. Not set: --hooks-enabled-events.";
    format: Format = hooks::http_format, "hooks-http-format", Text("auto|v2|v1"), "auto", Reloads
        => "Format of requests and responses: exactly that of tusd 2 (v2) or tusd 1 (v1), or one \
            that works with code for either (auto).";
    forward_headers: Vec<String> = address::header_names,
        "hooks-http-forward-headers", List("HEADERS"), "", MayBeEmpty
        => "Headers of the client's request to forward with every hook and event, comma-separated. \
            Stored events have them encrypted, see --events-header-key.";
    attempts: usize = value::number, "hooks-http-retry", Number("COUNT"), "3", Reloads
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
    follow_redirects: bool = value::boolean, "hooks-http-follow-redirects", Switch, "false", Reloads
        => "Follow redirects to public hosts, the endpoint's own host, and \
            --hooks-http-redirect-allow.";
    redirect_allow: Vec<IpNet> = address::networks,
        "hooks-http-redirect-allow", List("NETWORKS"), "", MayBeEmpty, Reloads
        => "Networks that redirects may lead to in addition, comma-separated: IP addresses, \
            networks such as 10.0.0.0/8, or private.";
    max_concurrency: usize = hooks::concurrency, "hooks-http-max-concurrency", Number("COUNT"), "64", Reloads
        => "Maximum concurrent calls; more wait.";
}

group! {
    /// Settings of gRPC hooks.
    pub struct GrpcHooks at hooks.grpc;
    target: Option<String> = value::optional(hooks::grpc_target),
        "hooks-grpc", Text("HOST:PORT"), "", Reloads
        => "Call the gRPC service proto.HookHandler of tusd at this address.";
    events: Option<HookNames> = hooks::events, "hooks-grpc-events", List("EVENTS"), "", Protects
        => "Blocking hooks and events for this server. Not set: --hooks-enabled-events.";
    attempts: usize = value::number, "hooks-grpc-retry", Number("COUNT"), "3", Reloads
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

/// Settings of message brokers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Brokers {
    /// NATS.
    pub nats: Nats,
    /// An AMQP 0-9-1 broker.
    pub amqp: Amqp,
    /// Redis or Valkey.
    pub redis: RedisStream,
    /// Kafka.
    pub kafka: Kafka,
}

group! {
    /// Settings of NATS.
    pub struct Nats at hooks.brokers.nats;
    url: Option<Secret> = |v| hooks::url(v, NATS_SCHEMES, "nats://127.0.0.1:4222"),
        "hooks-nats", Text("URL"), "", SecretInUrl, Reloads
        => "Publish events to NATS, such as nats://127.0.0.1:4222.";
    events: Option<HookNames> = hooks::broker_events, "hooks-nats-events", List("EVENTS"), ""
        => "Events to publish. Not set: all non-blocking events of --hooks-enabled-events.";
    subject: String = hooks::nats_subject, "hooks-nats-subject", Text("SUBJECT"), "landfall.{event}", Reloads
        => "Subject; {event} is replaced by the event's name.";
    jetstream: bool = value::boolean, "hooks-nats-jetstream", Switch, "false", Reloads
        => "Publish to JetStream; an event is delivered when a stream has stored it. Without it, \
            NATS may lose events.";
}

group! {
    /// Settings of an AMQP 0-9-1 broker.
    pub struct Amqp at hooks.brokers.amqp;
    url: Option<Secret> = |v| hooks::url(v, &["amqp", "amqps"], "amqp://127.0.0.1:5672/%2f"),
        "hooks-amqp", Text("URL"), "", SecretInUrl, Reloads
        => "Publish events to RabbitMQ or another AMQP 0-9-1 broker, such as \
            amqp://127.0.0.1:5672/%2f.";
    events: Option<HookNames> = hooks::broker_events, "hooks-amqp-events", List("EVENTS"), ""
        => "Events to publish. Not set: all non-blocking events of --hooks-enabled-events.";
    exchange: String = hooks::name_or_empty, "hooks-amqp-exchange", Text("NAME"), "", MayBeEmpty, Reloads
        => "Exchange. Empty: the default exchange, where the routing key names a queue.";
    routing_key: String = hooks::name, "hooks-amqp-routing-key", Text("KEY"), "landfall.{event}", Reloads
        => "Routing key; {event} is replaced by the event's name.";
}

group! {
    /// Settings of a stream in Redis or Valkey.
    pub struct RedisStream at hooks.brokers.redis;
    url: Option<Secret> = |v| hooks::url(v, REDIS_SCHEMES, "redis://127.0.0.1:6379/0"),
        "hooks-redis", Text("URL"), "", SecretInUrl, Reloads
        => "Add events to a stream in Redis or Valkey, such as redis://127.0.0.1:6379/0.";
    events: Option<HookNames> = hooks::broker_events, "hooks-redis-events", List("EVENTS"), ""
        => "Events to add. Not set: all non-blocking events of --hooks-enabled-events.";
    stream: String = hooks::name, "hooks-redis-stream", Text("KEY"), "landfall:events", Reloads
        => "Key of the stream.";
    max_length: u64 = value::count, "hooks-redis-max-length", Number("COUNT"), "100000", Reloads
        => "Approximate maximum length of the stream; older entries are removed.";
}

group! {
    /// Settings of Kafka.
    pub struct Kafka at hooks.brokers.kafka;
    brokers: Vec<String> = hooks::kafka, "hooks-kafka", List("HOST:PORT,..."), "", Reloads
        => "Produce events to Kafka; bootstrap brokers, comma-separated.";
    events: Option<HookNames> = hooks::broker_events, "hooks-kafka-events", List("EVENTS"), ""
        => "Events to produce. Not set: all non-blocking events of --hooks-enabled-events.";
    topic: String = hooks::kafka_topic, "hooks-kafka-topic", Text("TOPIC"), "landfall-events", Reloads
        => "Topic.";
}

group! {
    /// Settings of the outbox.
    pub struct Outbox at hooks.outbox;
    max_queued: u64 = value::count, "events-max-queued", Number("COUNT"), "1000000"
        => "Maximum number of stored events. At the limit, new uploads get a 503 response.";
    max_bytes: u64 = |v| value::size_within(v, 1, u64::MAX), "events-max-bytes", Size, "1GiB"
        => "Maximum bytes of stored events. At the limit, new uploads get a 503 response.";
    header_key: Option<HeaderKey> = hooks::header_key, "events-header-key", Text("FILE|memory"), ""
        => "File with the key that encrypts forwarded request headers of stored events, or memory for one that \
            ends with the process. 32 bytes in base64; a missing file is created. Nodes that share a \
            database need the same file. Not set: a file next to the database, or memory with PostgreSQL.";
    max_hold: Duration = value::duration, "events-max-hold", Time, "3s"
        => "Time after its first failed attempt for which an event holds later events of its upload.";
    strict_order: bool = value::boolean, "events-strict-order", Switch, "false"
        => "Keep strict ordering: a failed event blocks later events of its upload until it is \
            delivered or becomes a dead letter, instead of for --events-max-hold.";
    retry_for: Duration = value::some_duration, "events-retry-for", Time, "168h"
        => "Retry a failed delivery for this long, with at least 20 attempts if they fit, then \
            move it to the dead letters (see landfall events).";
    dead_letter_retention: Duration = value::some_duration,
        "events-dead-letter-retention", Time, "30d"
        => "Time for which dead letters are stored.";
}
