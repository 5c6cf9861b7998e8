//! The sections about hooks, the outbox and the server's own state.

use crate::settings::address;
use crate::settings::table::{Section, section};
use crate::settings::value;
use crate::settings::{grants, hooks};
use landfall_hooks::FailureMode;

const FAILURE_MODES: &[(&str, FailureMode)] =
    &[("deny", FailureMode::Deny), ("allow", FailureMode::Allow)];

const NATS_SCHEMES: &[&str] = &["nats", "tls", "ws", "wss"];
const REDIS_SCHEMES: &[&str] = &["redis", "rediss"];

pub(super) const HOOKS: Section = section! { "Hooks", [Serve, Sweep];
    "hooks-enabled-events", List("EVENTS"),
        "pre-create,post-create,post-receive,post-terminate,post-finish",
        hooks.enabled = hooks::enabled, MayBeEmpty, FailsAtStart
        => "Enabled hooks, comma-separated, for transports without an own list. Blocking hooks: \
            pre-create, pre-finish, pre-terminate, pre-access, with --grants pre-grant. Events: \
            post-create, post-receive, post-finish, post-terminate, post-expire, with --grants \
            UploadStarted, UploadProgress, UploadCompleted, UploadCancelled, UploadFailed, \
            UploadExpired. Empty: tusd's seven.";
    "progress-hooks-interval", Time, "1s", hooks.progress_interval = value::some_duration
        => "Interval of post-receive events while data of an upload arrives.";
    "hooks-failure-mode", Text("deny|allow"), "deny",
        hooks.failure_mode = |v| value::choice(v, FAILURE_MODES), Protects
        => "When a blocking hook is unreachable: deny the request with 500, or allow it.";
    "hooks-stop-code", Number("CODE"), "0", hooks.stop_code = hooks::stop_code
        => "Exit code or status with which post-receive stops an upload, as in tusd 1; 0 is none. \
            Requires --hooks-dir-format v1, or --hooks-http-format v1 or auto.";
};

pub(super) const COMMAND: Section = section! { "Command hooks", [Serve, Sweep];
    "hooks-dir", Text("DIR"), "", hooks.command.dir = value::path_or_none, Common
        => "Run the program with the hook's name in this directory.";
    "hooks-dir-events", List("EVENTS"), "", hooks.command.events = hooks::events, Protects
        => "Blocking hooks and events for these programs. Not set: --hooks-enabled-events.";
    "hooks-dir-timeout", Time, "10m", hooks.command.timeout = value::some_duration
        => "Maximum run time; then the program and all processes it started are killed.";
    "hooks-dir-max-processes", Number("COUNT"), "32",
        hooks.command.max_processes = hooks::concurrency
        => "Maximum running programs; more wait.";
    "hooks-dir-format", Text("v2|v1"), "v2", hooks.command.format = hooks::format
        => "Format of standard input and exit codes: that of tusd 2 or tusd 1.";
};

pub(super) const HTTP: Section = section! { "HTTP hooks", [Serve, Sweep];
    "hooks-http", Text("URL"), "", hooks.http.url = hooks::endpoint, Common, SecretInUrl
        => "POST each blocking hook and event to this URL (webhook).";
    "hooks-http-events", List("EVENTS"), "", hooks.http.events = hooks::events, Protects
        => "Blocking hooks and events for this URL. Not set: --hooks-enabled-events.";
    "hooks-http-format", Text("auto|v2|v1"), "auto", hooks.http.format = hooks::http_format
        => "Format of requests and responses: exactly that of tusd 2 (v2) or tusd 1 (v1), or one \
            that works with code for either (auto).";
    "hooks-http-forward-headers", List("HEADERS"), "",
        hooks.http.forward_headers = address::header_names, MayBeEmpty
        => "Headers of the client's request to forward, comma-separated.";
    "hooks-http-retry", Number("COUNT"), "3", hooks.http.attempts = value::number
        => "Total attempts for a blocking hook after a timeout or 5xx response; at least 1.";
    "hooks-http-backoff", Time, "1s", hooks.http.backoff = hooks::backoff
        => "Delay between two attempts.";
    "hooks-http-timeout", Time, "15s", hooks.http.timeout = value::some_duration
        => "Maximum time of all attempts together.";
    "hooks-http-size-limit", Size, "5120",
        hooks.http.size_limit = |v| value::size_within(v, 1, 64 << 20)
        => "Maximum size of a response.";
    "hooks-http-skip-verify", Switch, "false", hooks.http.skip_verify = value::boolean
        => "Accept any TLS certificate of the endpoint.";
    "hooks-http-secret", List("SECRETS"), "", hooks.http.secrets = hooks::secrets, Secret, Protects
        => "Sign requests with this secret (Standard Webhooks): whsec_ and base64, or plain text. \
            With several, comma-separated, each signs, so that secrets can be rotated. Prefer the \
            variable: command lines are visible to other users.";
    "hooks-http-follow-redirects", Switch, "false", hooks.http.follow_redirects = value::boolean
        => "Follow redirects to public hosts, the endpoint's own host, and \
            --hooks-http-redirect-allow.";
    "hooks-http-redirect-allow", List("NETWORKS"), "",
        hooks.http.redirect_allow = address::networks, MayBeEmpty
        => "Networks that redirects may lead to in addition, comma-separated: IP addresses, \
            networks such as 10.0.0.0/8, or private.";
    "hooks-http-max-concurrency", Number("COUNT"), "64",
        hooks.http.max_concurrency = hooks::concurrency
        => "Maximum concurrent calls; more wait.";
};

pub(super) const GRPC: Section = section! { "gRPC hooks", [Serve, Sweep];
    "hooks-grpc", Text("HOST:PORT"), "",
        hooks.grpc.target = |v| value::or_none(v, hooks::grpc_target)
        => "Call the gRPC service proto.HookHandler of tusd at this address.";
    "hooks-grpc-events", List("EVENTS"), "", hooks.grpc.events = hooks::events, Protects
        => "Blocking hooks and events for this server. Not set: --hooks-enabled-events.";
    "hooks-grpc-retry", Number("COUNT"), "3", hooks.grpc.attempts = value::number
        => "Total attempts of a call if the server is busy or unreachable; at least 1.";
    "hooks-grpc-backoff", Time, "1s", hooks.grpc.backoff = hooks::backoff
        => "Delay between two attempts.";
    "hooks-grpc-timeout", Time, "60s", hooks.grpc.timeout = value::duration_or_none
        => "Maximum time of a call; 0 is unlimited, as in tusd.";
    "hooks-grpc-secure", Switch, "false", hooks.grpc.secure = value::boolean
        => "Use TLS; requires --hooks-grpc-server-tls-certificate.";
    "hooks-grpc-server-tls-certificate", Text("FILE"), "",
        hooks.grpc.server_certificate = value::path_or_none, Protects
        => "PEM file with the CA certificate, or with the server's own.";
    "hooks-grpc-client-tls-certificate", Text("FILE"), "",
        hooks.grpc.client_certificate = value::path_or_none, Protects
        => "PEM file with the client certificate.";
    "hooks-grpc-client-tls-key", Text("FILE"), "",
        hooks.grpc.client_key = value::path_or_none, Protects
        => "PEM file with the key of the client certificate.";
    "hooks-grpc-forward-headers", List("HEADERS"), "",
        hooks.grpc.forward_headers = address::header_names, MayBeEmpty
        => "Headers of the client's request to forward as metadata, comma-separated.";
};

pub(super) const WASM: Section = section! { "WebAssembly hooks", [Serve, Sweep];
    "hooks-wasm", Text("FILE"), "", hooks.wasm.file = value::path_or_none
        => "Call this WebAssembly plugin, in a sandbox without files, network or clock.";
    "hooks-wasm-events", List("EVENTS"), "", hooks.wasm.events = hooks::events, Protects
        => "Blocking hooks and events for this plugin. Not set: those of --hooks-enabled-events \
            whose responses have an effect.";
    "hooks-wasm-fuel", Number("STEPS"), "100000000", hooks.wasm.fuel = value::count
        => "Maximum steps of a call, about one per instruction.";
    "hooks-wasm-memory", Size, "16MiB",
        hooks.wasm.memory = |v| value::size_within(v, 64 << 10, 4 << 30)
        => "Maximum memory of a call.";
};

pub(super) const BROKERS: Section = section! { "Message brokers", [Serve, Sweep];
    "hooks-nats", Text("URL"), "",
        hooks.brokers.nats.url = |v| hooks::url(v, NATS_SCHEMES, "nats://127.0.0.1:4222"),
        SecretInUrl
        => "Publish events to NATS, such as nats://127.0.0.1:4222.";
    "hooks-nats-events", List("EVENTS"), "", hooks.brokers.nats.events = hooks::broker_events
        => "Events to publish. Not set: all non-blocking events of --hooks-enabled-events.";
    "hooks-nats-subject", Text("SUBJECT"), "landfall.{event}",
        hooks.brokers.nats.subject = hooks::nats_subject
        => "Subject; {event} is replaced by the event's name.";
    "hooks-nats-jetstream", Switch, "false", hooks.brokers.nats.jetstream = value::boolean
        => "Publish to JetStream; an event is delivered when a stream has stored it. Without it, \
            NATS may lose events.";
    "hooks-amqp", Text("URL"), "",
        hooks.brokers.amqp.url = |v| hooks::url(v, &["amqp", "amqps"], "amqp://127.0.0.1:5672/%2f"),
        SecretInUrl
        => "Publish events to RabbitMQ or another AMQP 0-9-1 broker, such as \
            amqp://127.0.0.1:5672/%2f.";
    "hooks-amqp-events", List("EVENTS"), "", hooks.brokers.amqp.events = hooks::broker_events
        => "Events to publish. Not set: all non-blocking events of --hooks-enabled-events.";
    "hooks-amqp-exchange", Text("NAME"), "",
        hooks.brokers.amqp.exchange = hooks::name_or_empty, MayBeEmpty
        => "Exchange. Empty: the default exchange, where the routing key names a queue.";
    "hooks-amqp-routing-key", Text("KEY"), "landfall.{event}",
        hooks.brokers.amqp.routing_key = hooks::name
        => "Routing key; {event} is replaced by the event's name.";
    "hooks-redis", Text("URL"), "",
        hooks.brokers.redis.url = |v| hooks::url(v, REDIS_SCHEMES, "redis://127.0.0.1:6379/0"),
        SecretInUrl
        => "Add events to a stream in Redis or Valkey, such as redis://127.0.0.1:6379/0.";
    "hooks-redis-events", List("EVENTS"), "", hooks.brokers.redis.events = hooks::broker_events
        => "Events to add. Not set: all non-blocking events of --hooks-enabled-events.";
    "hooks-redis-stream", Text("KEY"), "landfall:events", hooks.brokers.redis.stream = hooks::name
        => "Key of the stream.";
    "hooks-redis-max-length", Number("COUNT"), "100000",
        hooks.brokers.redis.max_length = value::count
        => "Approximate maximum length of the stream; older entries are removed.";
    "hooks-kafka", List("HOST:PORT,..."), "", hooks.brokers.kafka.brokers = hooks::kafka
        => "Produce events to Kafka; bootstrap brokers, comma-separated.";
    "hooks-kafka-events", List("EVENTS"), "", hooks.brokers.kafka.events = hooks::broker_events
        => "Events to produce. Not set: all non-blocking events of --hooks-enabled-events.";
    "hooks-kafka-topic", Text("TOPIC"), "landfall-events",
        hooks.brokers.kafka.topic = hooks::kafka_topic
        => "Topic.";
};

pub(super) const STATE: Section = section! { "State", [Serve, Sweep, Events, Keys, Migrate];
    "state-dir", Text("DIR"), "", state.dir = value::path_or_none
        => "Directory of the server's own files; created when needed. Not set: STATE_DIRECTORY of \
            systemd, otherwise .landfall in the upload directory, or ~/.local/state/landfall with \
            a bucket.";
    "database", Text("URL|FILE"), "", state.database = hooks::database, SecretInUrl
        => "Database of the outbox, grants and the dashboard: a PostgreSQL URL, which several \
            nodes can share, such as postgres://landfall@db.example.com/landfall, or a SQLite \
            file. Not set: landfall.db in the state directory.";
    "node-name", Text("NAME"), "", state.node = grants::node
        => "Name of this node in a shared database. Not set: the host name.";
};

pub(super) const OUTBOX: Section = section! {
    "Outbox: retries and dead letters", [Serve, Sweep, Events];
    "events-max-queued", Number("COUNT"), "1000000", hooks.outbox.max_queued = value::count
        => "Maximum number of stored events. At the limit, new uploads get a 503 response.";
    "events-max-bytes", Size, "1GiB",
        hooks.outbox.max_bytes = |v| value::size_within(v, 1, u64::MAX)
        => "Maximum bytes of stored events. At the limit, new uploads get a 503 response.";
    "events-strict-order", Switch, "false", hooks.outbox.strict_order = value::boolean
        => "Keep strict ordering: a failed event blocks later events of its upload until it is \
            delivered or becomes a dead letter, instead of for one minute.";
    "events-retry-for", Time, "168h", hooks.outbox.retry_for = value::some_duration
        => "Retry a failed delivery for this long, with at least 20 attempts if they fit, then \
            move it to the dead letters (see landfall events).";
    "events-dead-letter-retention", Time, "30d",
        hooks.outbox.dead_letter_retention = value::some_duration
        => "Time for which dead letters are stored.";
};
