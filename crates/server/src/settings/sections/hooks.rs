//! The sections about hooks, and about what the server keeps beside uploads.

use super::put;
use crate::settings::address;
use crate::settings::arguments::Verb;
use crate::settings::bucket::or_none;
use crate::settings::table::{Kind, Section, Setting};
use crate::settings::value;
use crate::settings::{grants, hooks};
use landfall_hooks::FailureMode;

/// The words for [`FailureMode`].
const WHEN_DOWN: &[(&str, FailureMode)] =
    &[("deny", FailureMode::Deny), ("allow", FailureMode::Allow)];

/// Who makes use of the ways: who sweeps tells of it.
const VERBS: &[Verb] = &[Verb::Serve, Verb::Sweep];

/// What holds for all ways.
pub(super) const HOOKS: Section = Section {
    title: "Hooks",
    verbs: VERBS,
    settings: &[
        Setting::new(
            "hooks-enabled-events",
            Kind::List("EVENTS"),
            "pre-create,post-create,post-receive,post-terminate,post-finish",
            "What hooks are asked (pre-create, pre-finish, pre-terminate, pre-access, with --grants \
             pre-grant) and told (post-create, post-receive, post-finish, post-terminate, \
             post-expire, with --grants UploadStarted, UploadProgress, UploadCompleted, \
             UploadCancelled, UploadFailed, UploadExpired), with commas between them, unless a \
             kind of hooks has a list of its own. Nothing stands for tusd's seven.",
            |s, v| put(&mut s.hooks.enabled, hooks::enabled(v)),
        )
        .may_be_empty()
        .refused_at_start(),
        Setting::new(
            "progress-hooks-interval",
            Kind::Time,
            "1s",
            "How often post-receive is told while an upload's bytes come in.",
            |s, v| put(&mut s.hooks.progress_interval, value::some_duration(v)),
        ),
        Setting::new(
            "hooks-failure-mode",
            Kind::Text("deny|allow"),
            "deny",
            "What becomes of a request when a hook can't be asked about it: it fails with 500 \
             (refuse), or goes on (allow).",
            |s, v| put(&mut s.hooks.when_down, value::choice(v, WHEN_DOWN)),
        )
        .protects(),
        Setting::new(
            "hooks-stop-code",
            Kind::Number("CODE"),
            "0",
            "As in tusd 1: the exit code or status with which post-receive stops an upload. Goes \
             with --hooks-dir-format v1 and --hooks-http-format v1 or auto. 0: none.",
            |s, v| put(&mut s.hooks.stop_code, hooks::stop_code(v)),
        ),
    ],
};

/// Files that are run.
pub(super) const COMMAND: Section = Section {
    title: "Hooks: files that are run",
    verbs: VERBS,
    settings: &[
        Setting::new(
            "hooks-dir",
            Kind::Text("DIR"),
            "",
            "Run the file in this directory that has the event's name.",
            |s, v| put(&mut s.hooks.command.dir, value::path_or_none(v)),
        ),
        Setting::new(
            "hooks-dir-events",
            Kind::List("EVENTS"),
            "",
            "What they are asked and told. Not set: --hooks-enabled-events.",
            |s, v| put(&mut s.hooks.command.events, hooks::events(v)),
        )
        .protects(),
        Setting::new(
            "hooks-dir-timeout",
            Kind::Time,
            "10m",
            "How long one may run; then it is killed, with all processes it started.",
            |s, v| put(&mut s.hooks.command.timeout, value::some_duration(v)),
        ),
        Setting::new(
            "hooks-dir-max-processes",
            Kind::Number("COUNT"),
            "32",
            "How many may run at one time; more have to wait.",
            |s, v| put(&mut s.hooks.command.processes, hooks::parallel(v)),
        ),
        Setting::new(
            "hooks-dir-format",
            Kind::Text("v2|v1"),
            "v2",
            "What they read and what their exit code means: as with tusd 2, or as with tusd 1.",
            |s, v| put(&mut s.hooks.command.format, hooks::format(v)),
        ),
    ],
};

/// An HTTP endpoint.
pub(super) const HTTP: Section = Section {
    title: "Hooks: an HTTP endpoint",
    verbs: VERBS,
    settings: &[
        Setting::new(
            "hooks-http",
            Kind::Text("URL"),
            "",
            "POST each question and event to this URL.",
            |s, v| put(&mut s.hooks.http.url, hooks::endpoint(v)),
        )
        .secret_in_url(),
        Setting::new(
            "hooks-http-events",
            Kind::List("EVENTS"),
            "",
            "What it is asked and told. Not set: --hooks-enabled-events.",
            |s, v| put(&mut s.hooks.http.events, hooks::events(v)),
        )
        .protects(),
        Setting::new(
            "hooks-http-format",
            Kind::Text("auto|v2|v1"),
            "auto",
            "What it is sent and how it answers: exactly as with tusd 2 (v2) or tusd 1 (v1), or \
             so that code written for either works (auto).",
            |s, v| put(&mut s.hooks.http.format, hooks::http_format(v)),
        ),
        Setting::new(
            "hooks-http-forward-headers",
            Kind::List("HEADERS"),
            "",
            "Headers of the client's request to send on, with commas between them.",
            |s, v| put(&mut s.hooks.http.forward_headers, address::header_names(v)),
        )
        .may_be_empty(),
        Setting::new(
            "hooks-http-retry",
            Kind::Number("COUNT"),
            "3",
            "How often a question is put in all if there is no answer, or one of 500 and above; \
             at least once.",
            |s, v| put(&mut s.hooks.http.attempts, value::number(v)),
        ),
        Setting::new(
            "hooks-http-backoff",
            Kind::Time,
            "1s",
            "Wait between two of them.",
            |s, v| put(&mut s.hooks.http.backoff, hooks::backoff(v)),
        ),
        Setting::new(
            "hooks-http-timeout",
            Kind::Time,
            "15s",
            "Longest time for all of them together.",
            |s, v| put(&mut s.hooks.http.timeout, value::some_duration(v)),
        ),
        Setting::new(
            "hooks-http-size-limit",
            Kind::Size,
            "5120",
            "Size of an answer.",
            |s, v| put(&mut s.hooks.http.size_limit, hooks::answer_size(v)),
        ),
        Setting::new(
            "hooks-http-skip-verify",
            Kind::Switch,
            "false",
            "Take any certificate of the endpoint's.",
            |s, v| put(&mut s.hooks.http.skip_verify, value::boolean(v)),
        ),
        Setting::new(
            "hooks-http-secret",
            Kind::List("SECRETS"),
            "",
            "Sign each request with this secret as Standard Webhooks says: whsec_ and base64, or \
             a plain text. Several with commas between them all sign, for changing from one to \
             the next. Better given as the variable, which other users of the machine don't see.",
            |s, v| put(&mut s.hooks.http.secrets, hooks::secrets(v)),
        )
        .secret()
        .protects(),
        Setting::new(
            "hooks-http-follow-redirects",
            Kind::Switch,
            "false",
            "Go where the endpoint's redirects lead, if that is public, the endpoint's own host, \
             or in --hooks-http-redirect-allow.",
            |s, v| put(&mut s.hooks.http.follow_redirects, value::boolean(v)),
        ),
        Setting::new(
            "hooks-http-redirect-allow",
            Kind::List("NETWORKS"),
            "",
            "Where redirects may lead beside that: IP addresses and networks such as 10.0.0.0/8, \
             with commas between them, or the word private.",
            |s, v| put(&mut s.hooks.http.allow, address::networks(v)),
        )
        .may_be_empty(),
        Setting::new(
            "hooks-http-max-concurrency",
            Kind::Number("COUNT"),
            "64",
            "Calls at one time; more have to wait.",
            |s, v| put(&mut s.hooks.http.parallel, hooks::parallel(v)),
        ),
    ],
};

/// A gRPC server.
pub(super) const GRPC: Section = Section {
    title: "Hooks: a gRPC server",
    verbs: VERBS,
    settings: &[
        Setting::new(
            "hooks-grpc",
            Kind::Text("HOST:PORT"),
            "",
            "Call the service proto.HookHandler of tusd there.",
            |s, v| put(&mut s.hooks.grpc.target, or_none(v, hooks::grpc_target)),
        ),
        Setting::new(
            "hooks-grpc-events",
            Kind::List("EVENTS"),
            "",
            "What it is asked and told. Not set: --hooks-enabled-events.",
            |s, v| put(&mut s.hooks.grpc.events, hooks::events(v)),
        )
        .protects(),
        Setting::new(
            "hooks-grpc-retry",
            Kind::Number("COUNT"),
            "3",
            "How often a call is made in all if the server is busy or away.",
            |s, v| put(&mut s.hooks.grpc.attempts, value::number(v)),
        ),
        Setting::new(
            "hooks-grpc-backoff",
            Kind::Time,
            "1s",
            "Wait between two of them.",
            |s, v| put(&mut s.hooks.grpc.backoff, hooks::backoff(v)),
        ),
        Setting::new(
            "hooks-grpc-timeout",
            Kind::Time,
            "60s",
            "Longest time for a call; 0 waits for ever, as tusd does.",
            |s, v| put(&mut s.hooks.grpc.timeout, value::duration_or_none(v)),
        ),
        Setting::new(
            "hooks-grpc-secure",
            Kind::Switch,
            "false",
            "Speak TLS; needs --hooks-grpc-server-tls-certificate.",
            |s, v| put(&mut s.hooks.grpc.secure, value::boolean(v)),
        ),
        Setting::new(
            "hooks-grpc-server-tls-certificate",
            Kind::Text("FILE"),
            "",
            "PEM file with the certificate that the server's comes from, or with its own.",
            |s, v| put(&mut s.hooks.grpc.server_certificate, value::path_or_none(v)),
        )
        .protects(),
        Setting::new(
            "hooks-grpc-client-tls-certificate",
            Kind::Text("FILE"),
            "",
            "PEM file with the certificate to show to the server.",
            |s, v| put(&mut s.hooks.grpc.client_certificate, value::path_or_none(v)),
        )
        .protects(),
        Setting::new(
            "hooks-grpc-client-tls-key",
            Kind::Text("FILE"),
            "",
            "PEM file with its key.",
            |s, v| put(&mut s.hooks.grpc.client_key, value::path_or_none(v)),
        )
        .protects(),
        Setting::new(
            "hooks-grpc-forward-headers",
            Kind::List("HEADERS"),
            "",
            "Headers of the client's request to send on as metadata, with commas between them.",
            |s, v| put(&mut s.hooks.grpc.forward_headers, address::header_names(v)),
        )
        .may_be_empty(),
    ],
};

/// A plugin.
pub(super) const WASM: Section = Section {
    title: "Hooks: a WebAssembly plugin",
    verbs: VERBS,
    settings: &[
        Setting::new(
            "hooks-wasm",
            Kind::Text("FILE"),
            "",
            "Call this plugin: WebAssembly in a sandbox, without files, network or clock.",
            |s, v| put(&mut s.hooks.wasm.file, value::path_or_none(v)),
        ),
        Setting::new(
            "hooks-wasm-events",
            Kind::List("EVENTS"),
            "",
            "What it is asked and told. Not set: those of --hooks-enabled-events whose answers have an \
             effect.",
            |s, v| put(&mut s.hooks.wasm.events, hooks::events(v)),
        )
        .protects(),
        Setting::new(
            "hooks-wasm-fuel",
            Kind::Number("STEPS"),
            "100000000",
            "Steps that a call may take, about one for each instruction.",
            |s, v| put(&mut s.hooks.wasm.fuel, hooks::some_number(v)),
        ),
        Setting::new(
            "hooks-wasm-memory",
            Kind::Size,
            "16MiB",
            "Memory that a call may take.",
            |s, v| {
                put(
                    &mut s.hooks.wasm.memory,
                    value::size_within(v, 64 << 10, 4 << 30),
                )
            },
        ),
    ],
};

/// Brokers.
pub(super) const BROKERS: Section = Section {
    title: "Events to message brokers",
    verbs: VERBS,
    settings: &[
        Setting::new(
            "hooks-nats",
            Kind::Text("URL"),
            "",
            "Publish events to NATS, such as nats://127.0.0.1:4222.",
            |s, v| put(&mut s.hooks.brokers.nats.url, hooks::nats(v)),
        )
        .secret_in_url(),
        Setting::new(
            "hooks-nats-events",
            Kind::List("EVENTS"),
            "",
            "What is published. Not set: all but the questions among --hooks-enabled-events.",
            |s, v| put(&mut s.hooks.brokers.nats.events, hooks::told_events(v)),
        ),
        Setting::new(
            "hooks-nats-subject",
            Kind::Text("SUBJECT"),
            "landfall.{event}",
            "Subject to publish to; {event} is the event's name.",
            |s, v| put(&mut s.hooks.brokers.nats.subject, hooks::nats_subject(v)),
        ),
        Setting::new(
            "hooks-nats-jetstream",
            Kind::Switch,
            "false",
            "Publish to JetStream, and count an event as delivered when a stream has it. Without, \
             NATS may lose events.",
            |s, v| put(&mut s.hooks.brokers.nats.jetstream, value::boolean(v)),
        ),
        Setting::new(
            "hooks-amqp",
            Kind::Text("URL"),
            "",
            "Publish events to RabbitMQ or another AMQP 0-9-1 broker, such as \
             amqp://127.0.0.1:5672/%2f.",
            |s, v| put(&mut s.hooks.brokers.amqp.url, hooks::amqp(v)),
        )
        .secret_in_url(),
        Setting::new(
            "hooks-amqp-events",
            Kind::List("EVENTS"),
            "",
            "What is published. Not set: all but the questions among --hooks-enabled-events.",
            |s, v| put(&mut s.hooks.brokers.amqp.events, hooks::told_events(v)),
        ),
        Setting::new(
            "hooks-amqp-exchange",
            Kind::Text("NAME"),
            "",
            "Exchange to publish to. Empty: the default one, where the routing key names a queue.",
            |s, v| put(&mut s.hooks.brokers.amqp.exchange, hooks::name_or_empty(v)),
        )
        .may_be_empty(),
        Setting::new(
            "hooks-amqp-routing-key",
            Kind::Text("KEY"),
            "landfall.{event}",
            "Routing key; {event} is the event's name.",
            |s, v| put(&mut s.hooks.brokers.amqp.routing_key, hooks::name(v)),
        ),
        Setting::new(
            "hooks-redis",
            Kind::Text("URL"),
            "",
            "Add events to a stream in Redis or Valkey, such as redis://127.0.0.1:6379/0.",
            |s, v| put(&mut s.hooks.brokers.redis.url, hooks::redis(v)),
        )
        .secret_in_url(),
        Setting::new(
            "hooks-redis-events",
            Kind::List("EVENTS"),
            "",
            "What is added. Not set: all but the questions among --hooks-enabled-events.",
            |s, v| put(&mut s.hooks.brokers.redis.events, hooks::told_events(v)),
        ),
        Setting::new(
            "hooks-redis-stream",
            Kind::Text("KEY"),
            "landfall:events",
            "Key of the stream.",
            |s, v| put(&mut s.hooks.brokers.redis.stream, hooks::name(v)),
        ),
        Setting::new(
            "hooks-redis-max-length",
            Kind::Number("COUNT"),
            "100000",
            "About how many entries it keeps; older ones go.",
            |s, v| put(&mut s.hooks.brokers.redis.length, hooks::some_number(v)),
        ),
        Setting::new(
            "hooks-kafka",
            Kind::List("HOST:PORT,..."),
            "",
            "Produce events to Kafka; some of its brokers.",
            |s, v| put(&mut s.hooks.brokers.kafka.brokers, hooks::kafka(v)),
        ),
        Setting::new(
            "hooks-kafka-events",
            Kind::List("EVENTS"),
            "",
            "What is produced. Not set: all but the questions among --hooks-enabled-events.",
            |s, v| put(&mut s.hooks.brokers.kafka.events, hooks::told_events(v)),
        ),
        Setting::new(
            "hooks-kafka-topic",
            Kind::Text("TOPIC"),
            "landfall-events",
            "Topic to produce to.",
            |s, v| put(&mut s.hooks.brokers.kafka.topic, hooks::kafka_topic(v)),
        ),
    ],
};

/// Where the server keeps what isn't uploads.
pub(super) const STATE: Section = Section {
    title: "State",
    verbs: &[
        Verb::Serve,
        Verb::Sweep,
        Verb::Events,
        Verb::Keys,
        Verb::Migrate,
    ],
    settings: &[
        Setting::new(
            "state-dir",
            Kind::Text("DIR"),
            "",
            "Folder for what the server keeps beside uploads; made if missing, and only if \
             something is kept. Not set: what systemd gives (STATE_DIRECTORY), else .landfall in \
             the upload directory, or ~/.local/state/landfall with a bucket.",
            |s, v| put(&mut s.state.dir, value::path_or_none(v)),
        ),
        Setting::new(
            "database",
            Kind::Text("URL|FILE"),
            "",
            "Database for events that wait and for grants: a PostgreSQL server, which several nodes \
             can share, such as postgres://landfall@db.example.com/landfall, or a file of SQLite. \
             Not set: landfall.db in the state folder.",
            |s, v| put(&mut s.state.database, hooks::database(v)),
        )
        .secret_in_url(),
        Setting::new(
            "node-name",
            Kind::Text("NAME"),
            "",
            "What this server is called where several share a database. Not set: the name of the \
             machine.",
            |s, v| put(&mut s.state.node, grants::node(v)),
        ),
    ],
};

/// Events that wait.
pub(super) const OUTBOX: Section = Section {
    title: "Events that wait for delivery",
    verbs: &[Verb::Serve, Verb::Sweep, Verb::Events],
    settings: &[
        Setting::new(
            "events-max-queued",
            Kind::Number("COUNT"),
            "1000000",
            "The most events that may wait. When there are as many, new uploads are refused with \
             503.",
            |s, v| put(&mut s.hooks.outbox.limit, hooks::some_number(v)),
        ),
        Setting::new(
            "events-max-bytes",
            Kind::Size,
            "1GiB",
            "The most bytes of events that may wait. When there are as many, new uploads are \
             refused with 503.",
            |s, v| {
                put(
                    &mut s.hooks.outbox.max_bytes,
                    value::size_within(v, 1, u64::MAX),
                )
            },
        ),
        Setting::new(
            "events-strict-order",
            Kind::Switch,
            "false",
            "Let an event that fails hold later events of its upload until it has arrived or is \
             a dead letter, and not only for a minute.",
            |s, v| put(&mut s.hooks.outbox.strict_order, value::boolean(v)),
        ),
        Setting::new(
            "events-retry-for",
            Kind::Time,
            "168h",
            "How long an event is retried after its first failed delivery, with at least 20 \
             attempts if as many fit. Then it is a dead letter, until landfall events retry.",
            |s, v| put(&mut s.hooks.outbox.give_up_after, value::some_duration(v)),
        ),
        Setting::new(
            "events-dead-letter-retention",
            Kind::Time,
            "30d",
            "How long dead letters are kept.",
            |s, v| put(&mut s.hooks.outbox.keep_dead, value::some_duration(v)),
        ),
    ],
};
