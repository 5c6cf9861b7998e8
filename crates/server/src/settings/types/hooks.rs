//! Settings of hooks and of the outbox.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use landfall_hooks::{FailureMode, HookName, HookNames, format::Format};

use super::Secret;

/// Settings of hooks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hooks {
    /// Blocking hooks and events for transports that have no own list, in the order given.
    pub enabled: Vec<HookName>,
    /// Minimum time between two `post-receive` events of an upload.
    pub progress_interval: Duration,
    /// Result of a blocking hook that cannot be reached.
    pub failure_mode: FailureMode,
    /// Exit code or status with which `post-receive` stops an upload, in the format of tusd 1.
    pub stop_code: Option<u16>,
    /// Command hooks.
    pub command: CommandHooks,
    /// HTTP hooks.
    pub http: HttpHooks,
    /// gRPC hooks.
    pub grpc: GrpcHooks,
    /// WebAssembly hooks.
    pub wasm: WasmHooks,
    /// Message brokers.
    pub brokers: Brokers,
    /// The outbox.
    pub outbox: Outbox,
}

impl Hooks {
    /// Events that are stored until they are delivered.
    pub const STORED: HookNames = HookNames::from_names(&[
        HookName::PostCreate,
        HookName::PostFinish,
        HookName::PostTerminate,
        HookName::PostExpire,
    ]);

    /// Returns all blocking hooks and events of the transports in use.
    pub(crate) fn used_names(&self) -> HookNames {
        let used = self.transports().into_iter().filter(|one| one.is_used);
        used.map(|one| {
            let enabled = self.enabled_names().intersection(one.supported);
            one.events.unwrap_or(enabled)
        })
        .fold(HookNames::from_names(&[]), HookNames::union)
    }

    /// Returns all transports, in the order in which blocking hooks are called.
    pub(crate) fn transports(&self) -> [HookTransport; 8] {
        let all: HookNames = HookName::ALL.into_iter().collect();
        let events = HookName::ALL.into_iter().filter(|name| !name.is_blocking());
        let events: HookNames = events.collect();
        let (command, http, grpc, wasm) = (&self.command, &self.http, &self.grpc, &self.wasm);
        let (nats, amqp) = (&self.brokers.nats, &self.brokers.amqp);
        let (redis, kafka) = (&self.brokers.redis, &self.brokers.kafka);
        [
            ("hooks-dir", command.dir.is_some(), command.events),
            ("hooks-http", http.url.is_some(), http.events),
            ("hooks-grpc", grpc.target.is_some(), grpc.events),
            ("hooks-wasm", wasm.file.is_some(), wasm.events),
            ("hooks-nats", nats.url.is_some(), nats.events),
            ("hooks-amqp", amqp.url.is_some(), amqp.events),
            ("hooks-redis", redis.url.is_some(), redis.events),
            ("hooks-kafka", !kafka.brokers.is_empty(), kafka.events),
        ]
        .map(|(setting, is_used, own_events)| HookTransport {
            setting,
            missing_feature: missing_feature(setting),
            is_used,
            events: own_events,
            supported: match setting {
                "hooks-dir" | "hooks-http" | "hooks-grpc" => all,
                // A plugin has no side effects: other events are useless to it.
                "hooks-wasm" => HookNames::WITH_RESPONSE,
                _ => events,
            },
        })
    }

    /// Returns [`Self::enabled`] as a set.
    #[must_use]
    pub fn enabled_names(&self) -> HookNames {
        self.enabled.iter().copied().collect()
    }
}

/// Returns the feature that a transport needs and this build lacks.
fn missing_feature(setting: &str) -> Option<&'static str> {
    let (feature, is_compiled_in) = match setting {
        "hooks-http" => ("hooks-http", cfg!(feature = "hooks-http")),
        "hooks-grpc" => ("hooks-grpc", cfg!(feature = "hooks-grpc")),
        "hooks-wasm" => ("hooks-wasm", cfg!(feature = "hooks-wasm")),
        "hooks-nats" => ("nats", cfg!(feature = "nats")),
        "hooks-amqp" => ("amqp", cfg!(feature = "amqp")),
        "hooks-redis" => ("redis", cfg!(feature = "redis")),
        "hooks-kafka" => ("kafka", cfg!(feature = "kafka")),
        _ => return None,
    };
    (!is_compiled_in).then_some(feature)
}

/// A transport of hooks and events.
#[derive(Debug)]
pub(crate) struct HookTransport {
    /// The setting that enables it.
    pub(crate) setting: &'static str,
    /// The feature that it needs and this build lacks.
    pub(crate) missing_feature: Option<&'static str>,
    /// Whether it is enabled.
    pub(crate) is_used: bool,
    /// Its own list of blocking hooks and events, if it has one.
    pub(crate) events: Option<HookNames>,
    /// The blocking hooks and events that it supports.
    pub(crate) supported: HookNames,
}

/// Settings of command hooks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommandHooks {
    /// Directory of the programs.
    pub dir: Option<PathBuf>,
    /// Blocking hooks and events; `None` is [`Hooks::enabled`].
    pub events: Option<HookNames>,
    /// Maximum run time of a program.
    pub timeout: Duration,
    /// Maximum running processes.
    pub max_processes: usize,
    /// Format of standard input: [`Format::V2`] or [`Format::V1`].
    pub format: Format,
}

/// Settings of HTTP hooks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpHooks {
    /// URL of the endpoint.
    pub url: Option<Secret>,
    /// Blocking hooks and events; `None` is [`Hooks::enabled`].
    pub events: Option<HookNames>,
    /// Format of the request body.
    pub format: Format,
    /// Headers of the client's request to forward, spelled as they are sent.
    pub forward_headers: Vec<String>,
    /// Total attempts of a call; 0 counts as 1.
    pub attempts: usize,
    /// Delay between two attempts.
    pub backoff: Duration,
    /// Maximum time of all attempts together.
    pub timeout: Duration,
    /// Maximum bytes of a response.
    pub size_limit: usize,
    /// Accept any certificate.
    pub skip_verify: bool,
    /// Signing secrets; requests are signed with all of them, for rotation.
    pub secrets: Vec<Secret>,
    /// Follow redirects.
    pub follow_redirects: bool,
    /// Networks that redirects may lead to, in addition to public ones.
    pub redirect_allow: Vec<IpNet>,
    /// Maximum concurrent calls.
    pub max_concurrency: usize,
}

/// Settings of gRPC hooks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GrpcHooks {
    /// Target of the server, `host:port`.
    pub target: Option<String>,
    /// Blocking hooks and events; `None` is [`Hooks::enabled`].
    pub events: Option<HookNames>,
    /// Total attempts of a call; 0 counts as 1.
    pub attempts: usize,
    /// Delay between two attempts.
    pub backoff: Duration,
    /// Maximum time of a call; `None` is unlimited.
    pub timeout: Option<Duration>,
    /// Use TLS.
    pub secure: bool,
    /// PEM file with the CA certificate, or the server's own.
    pub server_certificate: Option<PathBuf>,
    /// PEM file with the client certificate.
    pub client_certificate: Option<PathBuf>,
    /// PEM file with the key of the client certificate.
    pub client_key: Option<PathBuf>,
    /// Headers of the client's request to forward as metadata.
    pub forward_headers: Vec<String>,
}

/// Settings of WebAssembly hooks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WasmHooks {
    /// File of the plugin.
    pub file: Option<PathBuf>,
    /// Blocking hooks and events; `None` is [`Hooks::enabled`].
    pub events: Option<HookNames>,
    /// Maximum steps of a call.
    pub fuel: u64,
    /// Maximum memory of a call, in bytes.
    pub memory: u64,
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

/// Settings of NATS.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nats {
    /// URL of the server.
    pub url: Option<Secret>,
    /// Blocking hooks and events; `None` is [`Hooks::enabled`].
    pub events: Option<HookNames>,
    /// Subject; `{event}` is replaced by the event's name.
    pub subject: String,
    /// Publish to JetStream, and wait for its acknowledgement.
    pub jetstream: bool,
}

/// Settings of an AMQP 0-9-1 broker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amqp {
    /// URL of the broker.
    pub url: Option<Secret>,
    /// Blocking hooks and events; `None` is [`Hooks::enabled`].
    pub events: Option<HookNames>,
    /// Exchange; empty is the default one, where the routing key names a queue.
    pub exchange: String,
    /// Routing key; `{event}` is replaced by the event's name.
    pub routing_key: String,
}

/// Settings of a stream in Redis or Valkey.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RedisStream {
    /// URL of the server.
    pub url: Option<Secret>,
    /// Blocking hooks and events; `None` is [`Hooks::enabled`].
    pub events: Option<HookNames>,
    /// Key of the stream.
    pub stream: String,
    /// Approximate maximum number of entries.
    pub max_length: u64,
}

/// Settings of Kafka.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kafka {
    /// Bootstrap brokers, `host:port`; empty disables Kafka.
    pub brokers: Vec<String>,
    /// Blocking hooks and events; `None` is [`Hooks::enabled`].
    pub events: Option<HookNames>,
    /// Topic.
    pub topic: String,
}

/// Settings of the outbox.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outbox {
    /// Maximum number of stored events.
    pub max_queued: u64,
    /// Maximum bytes of stored events.
    pub max_bytes: u64,
    /// Hold later events of an upload for as long as an earlier one is retried.
    pub strict_order: bool,
    /// Time for which a delivery is retried before it becomes a dead letter.
    pub retry_for: Duration,
    /// Time for which dead letters are stored.
    pub dead_letter_retention: Duration,
}
