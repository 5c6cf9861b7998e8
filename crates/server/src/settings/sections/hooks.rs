//! The sections about hooks, the outbox and the server's own state.

use super::assign;
use crate::settings::address;
use crate::settings::bucket::or_none;
use crate::settings::cli::Subcommand;
use crate::settings::table::{Kind, Section, Setting};
use crate::settings::value;
use crate::settings::{grants, hooks};
use landfall_hooks::FailureMode;

const FAILURE_MODES: &[(&str, FailureMode)] =
    &[("deny", FailureMode::Deny), ("allow", FailureMode::Allow)];

/// A sweep emits events.
const SUBCOMMANDS: &[Subcommand] = &[Subcommand::Serve, Subcommand::Sweep];

pub(super) const HOOKS: Section = Section {
    title: "Hooks",
    subcommands: SUBCOMMANDS,
    settings: &[
        Setting::new(
            "hooks-enabled-events",
            Kind::List("EVENTS"),
            "pre-create,post-create,post-receive,post-terminate,post-finish",
            "Enabled hooks, comma-separated, for transports without an own list. Blocking hooks: \
             pre-create, pre-finish, pre-terminate, pre-access, with --grants pre-grant. Events: \
             post-create, post-receive, post-finish, post-terminate, post-expire, with --grants \
             UploadStarted, UploadProgress, UploadCompleted, UploadCancelled, UploadFailed, \
             UploadExpired. Empty: tusd's seven.",
            |s, v| assign(&mut s.hooks.enabled, hooks::enabled(v)),
        )
        .may_be_empty()
        .fails_at_start(),
        Setting::new(
            "progress-hooks-interval",
            Kind::Time,
            "1s",
            "Interval of post-receive events while data of an upload arrives.",
            |s, v| assign(&mut s.hooks.progress_interval, value::some_duration(v)),
        ),
        Setting::new(
            "hooks-failure-mode",
            Kind::Text("deny|allow"),
            "deny",
            "When a blocking hook is unreachable: deny the request with 500, or allow it.",
            |s, v| assign(&mut s.hooks.failure_mode, value::choice(v, FAILURE_MODES)),
        )
        .protects(),
        Setting::new(
            "hooks-stop-code",
            Kind::Number("CODE"),
            "0",
            "Exit code or status with which post-receive stops an upload, as in tusd 1; 0 is \
             none. Requires --hooks-dir-format v1, or --hooks-http-format v1 or auto.",
            |s, v| assign(&mut s.hooks.stop_code, hooks::stop_code(v)),
        ),
    ],
};

pub(super) const COMMAND: Section = Section {
    title: "Command hooks",
    subcommands: SUBCOMMANDS,
    settings: &[
        Setting::new(
            "hooks-dir",
            Kind::Text("DIR"),
            "",
            "Run the program with the hook's name in this directory.",
            |s, v| assign(&mut s.hooks.command.dir, value::path_or_none(v)),
        )
        .common(),
        Setting::new(
            "hooks-dir-events",
            Kind::List("EVENTS"),
            "",
            "Blocking hooks and events for these programs. Not set: --hooks-enabled-events.",
            |s, v| assign(&mut s.hooks.command.events, hooks::events(v)),
        )
        .protects(),
        Setting::new(
            "hooks-dir-timeout",
            Kind::Time,
            "10m",
            "Maximum run time; then the program and all processes it started are killed.",
            |s, v| assign(&mut s.hooks.command.timeout, value::some_duration(v)),
        ),
        Setting::new(
            "hooks-dir-max-processes",
            Kind::Number("COUNT"),
            "32",
            "Maximum running programs; more wait.",
            |s, v| assign(&mut s.hooks.command.max_processes, hooks::concurrency(v)),
        ),
        Setting::new(
            "hooks-dir-format",
            Kind::Text("v2|v1"),
            "v2",
            "Format of standard input and exit codes: that of tusd 2 or tusd 1.",
            |s, v| assign(&mut s.hooks.command.format, hooks::format(v)),
        ),
    ],
};

pub(super) const HTTP: Section = Section {
    title: "HTTP hooks",
    subcommands: SUBCOMMANDS,
    settings: &[
        Setting::new(
            "hooks-http",
            Kind::Text("URL"),
            "",
            "POST each blocking hook and event to this URL (webhook).",
            |s, v| assign(&mut s.hooks.http.url, hooks::endpoint(v)),
        )
        .common()
        .secret_in_url(),
        Setting::new(
            "hooks-http-events",
            Kind::List("EVENTS"),
            "",
            "Blocking hooks and events for this URL. Not set: --hooks-enabled-events.",
            |s, v| assign(&mut s.hooks.http.events, hooks::events(v)),
        )
        .protects(),
        Setting::new(
            "hooks-http-format",
            Kind::Text("auto|v2|v1"),
            "auto",
            "Format of requests and responses: exactly that of tusd 2 (v2) or tusd 1 (v1), or \
             one that works with code for either (auto).",
            |s, v| assign(&mut s.hooks.http.format, hooks::http_format(v)),
        ),
        Setting::new(
            "hooks-http-forward-headers",
            Kind::List("HEADERS"),
            "",
            "Headers of the client's request to forward, comma-separated.",
            |s, v| assign(&mut s.hooks.http.forward_headers, address::header_names(v)),
        )
        .may_be_empty(),
        Setting::new(
            "hooks-http-retry",
            Kind::Number("COUNT"),
            "3",
            "Total attempts for a blocking hook after a timeout or 5xx response; at least 1.",
            |s, v| assign(&mut s.hooks.http.attempts, value::number(v)),
        ),
        Setting::new(
            "hooks-http-backoff",
            Kind::Time,
            "1s",
            "Delay between two attempts.",
            |s, v| assign(&mut s.hooks.http.backoff, hooks::backoff(v)),
        ),
        Setting::new(
            "hooks-http-timeout",
            Kind::Time,
            "15s",
            "Maximum time of all attempts together.",
            |s, v| assign(&mut s.hooks.http.timeout, value::some_duration(v)),
        ),
        Setting::new(
            "hooks-http-size-limit",
            Kind::Size,
            "5120",
            "Maximum size of a response.",
            |s, v| assign(&mut s.hooks.http.size_limit, hooks::response_size(v)),
        ),
        Setting::new(
            "hooks-http-skip-verify",
            Kind::Switch,
            "false",
            "Accept any TLS certificate of the endpoint.",
            |s, v| assign(&mut s.hooks.http.skip_verify, value::boolean(v)),
        ),
        Setting::new(
            "hooks-http-secret",
            Kind::List("SECRETS"),
            "",
            "Sign requests with this secret (Standard Webhooks): whsec_ and base64, or plain \
             text. With several, comma-separated, each signs, so that secrets can be rotated. \
             Prefer the variable: command lines are visible to other users.",
            |s, v| assign(&mut s.hooks.http.secrets, hooks::secrets(v)),
        )
        .secret()
        .protects(),
        Setting::new(
            "hooks-http-follow-redirects",
            Kind::Switch,
            "false",
            "Follow redirects to public hosts, the endpoint's own host, and \
             --hooks-http-redirect-allow.",
            |s, v| assign(&mut s.hooks.http.follow_redirects, value::boolean(v)),
        ),
        Setting::new(
            "hooks-http-redirect-allow",
            Kind::List("NETWORKS"),
            "",
            "Networks that redirects may lead to in addition, comma-separated: IP addresses, \
             networks such as 10.0.0.0/8, or private.",
            |s, v| assign(&mut s.hooks.http.redirect_allow, address::networks(v)),
        )
        .may_be_empty(),
        Setting::new(
            "hooks-http-max-concurrency",
            Kind::Number("COUNT"),
            "64",
            "Maximum concurrent calls; more wait.",
            |s, v| assign(&mut s.hooks.http.max_concurrency, hooks::concurrency(v)),
        ),
    ],
};

pub(super) const GRPC: Section = Section {
    title: "gRPC hooks",
    subcommands: SUBCOMMANDS,
    settings: &[
        Setting::new(
            "hooks-grpc",
            Kind::Text("HOST:PORT"),
            "",
            "Call the gRPC service proto.HookHandler of tusd at this address.",
            |s, v| assign(&mut s.hooks.grpc.target, or_none(v, hooks::grpc_target)),
        ),
        Setting::new(
            "hooks-grpc-events",
            Kind::List("EVENTS"),
            "",
            "Blocking hooks and events for this server. Not set: --hooks-enabled-events.",
            |s, v| assign(&mut s.hooks.grpc.events, hooks::events(v)),
        )
        .protects(),
        Setting::new(
            "hooks-grpc-retry",
            Kind::Number("COUNT"),
            "3",
            "Total attempts of a call if the server is busy or unreachable; at least 1.",
            |s, v| assign(&mut s.hooks.grpc.attempts, value::number(v)),
        ),
        Setting::new(
            "hooks-grpc-backoff",
            Kind::Time,
            "1s",
            "Delay between two attempts.",
            |s, v| assign(&mut s.hooks.grpc.backoff, hooks::backoff(v)),
        ),
        Setting::new(
            "hooks-grpc-timeout",
            Kind::Time,
            "60s",
            "Maximum time of a call; 0 is unlimited, as in tusd.",
            |s, v| assign(&mut s.hooks.grpc.timeout, value::duration_or_none(v)),
        ),
        Setting::new(
            "hooks-grpc-secure",
            Kind::Switch,
            "false",
            "Use TLS; requires --hooks-grpc-server-tls-certificate.",
            |s, v| assign(&mut s.hooks.grpc.secure, value::boolean(v)),
        ),
        Setting::new(
            "hooks-grpc-server-tls-certificate",
            Kind::Text("FILE"),
            "",
            "PEM file with the CA certificate, or with the server's own.",
            |s, v| assign(&mut s.hooks.grpc.server_certificate, value::path_or_none(v)),
        )
        .protects(),
        Setting::new(
            "hooks-grpc-client-tls-certificate",
            Kind::Text("FILE"),
            "",
            "PEM file with the client certificate.",
            |s, v| assign(&mut s.hooks.grpc.client_certificate, value::path_or_none(v)),
        )
        .protects(),
        Setting::new(
            "hooks-grpc-client-tls-key",
            Kind::Text("FILE"),
            "",
            "PEM file with the key of the client certificate.",
            |s, v| assign(&mut s.hooks.grpc.client_key, value::path_or_none(v)),
        )
        .protects(),
        Setting::new(
            "hooks-grpc-forward-headers",
            Kind::List("HEADERS"),
            "",
            "Headers of the client's request to forward as metadata, comma-separated.",
            |s, v| assign(&mut s.hooks.grpc.forward_headers, address::header_names(v)),
        )
        .may_be_empty(),
    ],
};

pub(super) const WASM: Section = Section {
    title: "WebAssembly hooks",
    subcommands: SUBCOMMANDS,
    settings: &[
        Setting::new(
            "hooks-wasm",
            Kind::Text("FILE"),
            "",
            "Call this WebAssembly plugin, in a sandbox without files, network or clock.",
            |s, v| assign(&mut s.hooks.wasm.file, value::path_or_none(v)),
        ),
        Setting::new(
            "hooks-wasm-events",
            Kind::List("EVENTS"),
            "",
            "Blocking hooks and events for this plugin. Not set: those of --hooks-enabled-events \
             whose responses have an effect.",
            |s, v| assign(&mut s.hooks.wasm.events, hooks::events(v)),
        )
        .protects(),
        Setting::new(
            "hooks-wasm-fuel",
            Kind::Number("STEPS"),
            "100000000",
            "Maximum steps of a call, about one per instruction.",
            |s, v| assign(&mut s.hooks.wasm.fuel, hooks::some_number(v)),
        ),
        Setting::new(
            "hooks-wasm-memory",
            Kind::Size,
            "16MiB",
            "Maximum memory of a call.",
            |s, v| {
                assign(
                    &mut s.hooks.wasm.memory,
                    value::size_within(v, 64 << 10, 4 << 30),
                )
            },
        ),
    ],
};

pub(super) const BROKERS: Section = Section {
    title: "Message brokers",
    subcommands: SUBCOMMANDS,
    settings: &[
        Setting::new(
            "hooks-nats",
            Kind::Text("URL"),
            "",
            "Publish events to NATS, such as nats://127.0.0.1:4222.",
            |s, v| assign(&mut s.hooks.brokers.nats.url, hooks::nats(v)),
        )
        .secret_in_url(),
        Setting::new(
            "hooks-nats-events",
            Kind::List("EVENTS"),
            "",
            "Events to publish. Not set: all non-blocking events of --hooks-enabled-events.",
            |s, v| assign(&mut s.hooks.brokers.nats.events, hooks::broker_events(v)),
        ),
        Setting::new(
            "hooks-nats-subject",
            Kind::Text("SUBJECT"),
            "landfall.{event}",
            "Subject; {event} is replaced by the event's name.",
            |s, v| assign(&mut s.hooks.brokers.nats.subject, hooks::nats_subject(v)),
        ),
        Setting::new(
            "hooks-nats-jetstream",
            Kind::Switch,
            "false",
            "Publish to JetStream; an event is delivered when a stream has stored it. Without \
             it, NATS may lose events.",
            |s, v| assign(&mut s.hooks.brokers.nats.jetstream, value::boolean(v)),
        ),
        Setting::new(
            "hooks-amqp",
            Kind::Text("URL"),
            "",
            "Publish events to RabbitMQ or another AMQP 0-9-1 broker, such as \
             amqp://127.0.0.1:5672/%2f.",
            |s, v| assign(&mut s.hooks.brokers.amqp.url, hooks::amqp(v)),
        )
        .secret_in_url(),
        Setting::new(
            "hooks-amqp-events",
            Kind::List("EVENTS"),
            "",
            "Events to publish. Not set: all non-blocking events of --hooks-enabled-events.",
            |s, v| assign(&mut s.hooks.brokers.amqp.events, hooks::broker_events(v)),
        ),
        Setting::new(
            "hooks-amqp-exchange",
            Kind::Text("NAME"),
            "",
            "Exchange. Empty: the default exchange, where the routing key names a queue.",
            |s, v| assign(&mut s.hooks.brokers.amqp.exchange, hooks::name_or_empty(v)),
        )
        .may_be_empty(),
        Setting::new(
            "hooks-amqp-routing-key",
            Kind::Text("KEY"),
            "landfall.{event}",
            "Routing key; {event} is replaced by the event's name.",
            |s, v| assign(&mut s.hooks.brokers.amqp.routing_key, hooks::name(v)),
        ),
        Setting::new(
            "hooks-redis",
            Kind::Text("URL"),
            "",
            "Add events to a stream in Redis or Valkey, such as redis://127.0.0.1:6379/0.",
            |s, v| assign(&mut s.hooks.brokers.redis.url, hooks::redis(v)),
        )
        .secret_in_url(),
        Setting::new(
            "hooks-redis-events",
            Kind::List("EVENTS"),
            "",
            "Events to add. Not set: all non-blocking events of --hooks-enabled-events.",
            |s, v| assign(&mut s.hooks.brokers.redis.events, hooks::broker_events(v)),
        ),
        Setting::new(
            "hooks-redis-stream",
            Kind::Text("KEY"),
            "landfall:events",
            "Key of the stream.",
            |s, v| assign(&mut s.hooks.brokers.redis.stream, hooks::name(v)),
        ),
        Setting::new(
            "hooks-redis-max-length",
            Kind::Number("COUNT"),
            "100000",
            "Approximate maximum length of the stream; older entries are removed.",
            |s, v| assign(&mut s.hooks.brokers.redis.max_length, hooks::some_number(v)),
        ),
        Setting::new(
            "hooks-kafka",
            Kind::List("HOST:PORT,..."),
            "",
            "Produce events to Kafka; bootstrap brokers, comma-separated.",
            |s, v| assign(&mut s.hooks.brokers.kafka.brokers, hooks::kafka(v)),
        ),
        Setting::new(
            "hooks-kafka-events",
            Kind::List("EVENTS"),
            "",
            "Events to produce. Not set: all non-blocking events of --hooks-enabled-events.",
            |s, v| assign(&mut s.hooks.brokers.kafka.events, hooks::broker_events(v)),
        ),
        Setting::new(
            "hooks-kafka-topic",
            Kind::Text("TOPIC"),
            "landfall-events",
            "Topic.",
            |s, v| assign(&mut s.hooks.brokers.kafka.topic, hooks::kafka_topic(v)),
        ),
    ],
};

pub(super) const STATE: Section = Section {
    title: "State",
    subcommands: &[
        Subcommand::Serve,
        Subcommand::Sweep,
        Subcommand::Events,
        Subcommand::Keys,
        Subcommand::Migrate,
    ],
    settings: &[
        Setting::new(
            "state-dir",
            Kind::Text("DIR"),
            "",
            "Directory of the server's own files; created when needed. Not set: STATE_DIRECTORY \
             of systemd, otherwise .landfall in the upload directory, or ~/.local/state/landfall \
             with a bucket.",
            |s, v| assign(&mut s.state.dir, value::path_or_none(v)),
        ),
        Setting::new(
            "database",
            Kind::Text("URL|FILE"),
            "",
            "Database of the outbox, grants and the dashboard: a PostgreSQL URL, which several \
             nodes can share, such as postgres://landfall@db.example.com/landfall, or a SQLite \
             file. Not set: landfall.db in the state directory.",
            |s, v| assign(&mut s.state.database, hooks::database(v)),
        )
        .secret_in_url(),
        Setting::new(
            "node-name",
            Kind::Text("NAME"),
            "",
            "Name of this node in a shared database. Not set: the host name.",
            |s, v| assign(&mut s.state.node, grants::node(v)),
        ),
    ],
};

pub(super) const OUTBOX: Section = Section {
    title: "Outbox: retries and dead letters",
    subcommands: &[Subcommand::Serve, Subcommand::Sweep, Subcommand::Events],
    settings: &[
        Setting::new(
            "events-max-queued",
            Kind::Number("COUNT"),
            "1000000",
            "Maximum number of stored events. At the limit, new uploads get a 503 response.",
            |s, v| assign(&mut s.hooks.outbox.max_queued, hooks::some_number(v)),
        ),
        Setting::new(
            "events-max-bytes",
            Kind::Size,
            "1GiB",
            "Maximum bytes of stored events. At the limit, new uploads get a 503 response.",
            |s, v| {
                assign(
                    &mut s.hooks.outbox.max_bytes,
                    value::size_within(v, 1, u64::MAX),
                )
            },
        ),
        Setting::new(
            "events-strict-order",
            Kind::Switch,
            "false",
            "Keep strict ordering: a failed event blocks later events of its upload until it is \
             delivered or becomes a dead letter, instead of for one minute.",
            |s, v| assign(&mut s.hooks.outbox.strict_order, value::boolean(v)),
        ),
        Setting::new(
            "events-retry-for",
            Kind::Time,
            "168h",
            "Retry a failed delivery for this long, with at least 20 attempts if they fit, then \
             move it to the dead letters (see landfall events).",
            |s, v| assign(&mut s.hooks.outbox.retry_for, value::some_duration(v)),
        ),
        Setting::new(
            "events-dead-letter-retention",
            Kind::Time,
            "30d",
            "Time for which dead letters are stored.",
            |s, v| {
                assign(
                    &mut s.hooks.outbox.dead_letter_retention,
                    value::some_duration(v),
                )
            },
        ),
    ],
};
