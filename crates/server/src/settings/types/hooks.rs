//! What the settings of hooks mean.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use landfall_hooks::{FailureMode, HookName, HookNames, format::Format};

use super::Secret;

/// Who is asked and told, of what, and by which ways.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hooks {
    /// The questions and events that a way takes unless it has a list of its own, in the order in
    /// which they were named.
    pub enabled: Vec<HookName>,
    /// The least time between two reports of an upload's progress.
    pub progress_interval: Duration,
    /// What becomes of a question that nobody answers.
    pub when_down: FailureMode,
    /// In the format of tusd 1, the exit code or status with which a receiver stops an upload.
    pub stop_code: Option<u16>,
    /// Files that are run.
    pub command: CommandHooks,
    /// An HTTP endpoint.
    pub http: HttpHooks,
    /// A gRPC server.
    pub grpc: GrpcHooks,
    /// A sandboxed plugin.
    pub wasm: WasmHooks,
    /// Message brokers.
    pub brokers: Brokers,
    /// Events that wait until they are delivered.
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

    /// The lists of their own that the transports in use have; `None` for one without.
    pub(crate) fn own_lists(&self) -> Vec<Option<HookNames>> {
        self.transports().map(|(own, _)| own).collect()
    }

    /// All that transports in use are asked and told.
    pub(crate) fn used_names(&self) -> HookNames {
        self.transports()
            .map(|(own, possible)| own.unwrap_or(self.enabled_names().intersection(possible)))
            .fold(HookNames::from_names(&[]), HookNames::union)
    }

    /// The transports in use: the list of its own, and what it takes of the list for all.
    fn transports(&self) -> impl Iterator<Item = (Option<HookNames>, HookNames)> {
        let all: HookNames = HookName::ALL.into_iter().collect();
        let events: HookNames = HookName::ALL
            .into_iter()
            .filter(|name| !name.is_blocking())
            .collect();
        let brokers = &self.brokers;
        [
            (self.command.dir.is_some(), self.command.events, all),
            (self.http.url.is_some(), self.http.events, all),
            (self.grpc.target.is_some(), self.grpc.events, all),
            // It reaches nobody, so it is told only what its response can change.
            (
                self.wasm.file.is_some(),
                self.wasm.events,
                HookNames::WITH_RESPONSE,
            ),
            (brokers.nats.url.is_some(), brokers.nats.events, events),
            (brokers.amqp.url.is_some(), brokers.amqp.events, events),
            (brokers.redis.url.is_some(), brokers.redis.events, events),
            (
                !brokers.kafka.brokers.is_empty(),
                brokers.kafka.events,
                events,
            ),
        ]
        .into_iter()
        .filter_map(|(is_used, own, possible)| is_used.then_some((own, possible)))
    }

    /// [`Self::enabled`] as a set.
    #[must_use]
    pub fn enabled_names(&self) -> HookNames {
        self.enabled.iter().copied().collect()
    }
}

/// Hooks that are files in a directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommandHooks {
    /// The directory; `None` runs none.
    pub dir: Option<PathBuf>,
    /// What they take, if not what is enabled for all.
    pub events: Option<HookNames>,
    /// How long one may run.
    pub timeout: Duration,
    /// How many may run at one time.
    pub processes: usize,
    /// What they read on standard input: [`Format::V2`] or [`Format::V1`].
    pub format: Format,
}

/// Hooks behind an HTTP endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpHooks {
    /// The endpoint; `None` calls none.
    pub url: Option<Secret>,
    /// What it takes, if not what is enabled for all.
    pub events: Option<HookNames>,
    /// What it is sent.
    pub format: Format,
    /// Headers of the client's request that are sent on, spelled as they are to be sent.
    pub forward_headers: Vec<String>,
    /// How often a question is put in all; at least once.
    pub attempts: usize,
    /// The wait between two attempts.
    pub backoff: Duration,
    /// The longest time for all attempts together.
    pub timeout: Duration,
    /// The most bytes that an answer may have.
    pub size_limit: usize,
    /// Don't look at the endpoint's certificate.
    pub skip_verify: bool,
    /// Secrets to sign with; each signs, so that receivers can change from one to the next.
    pub secrets: Vec<Secret>,
    /// Go where a redirect leads.
    pub follow_redirects: bool,
    /// The networks that a redirect may lead to beside public ones.
    pub allow: Vec<IpNet>,
    /// Calls at one time.
    pub parallel: usize,
}

/// Hooks behind a gRPC server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GrpcHooks {
    /// The server as gRPC names it, `host:port`; `None` calls none.
    pub target: Option<String>,
    /// What it takes, if not what is enabled for all.
    pub events: Option<HookNames>,
    /// How often a call is made in all; zero counts as one.
    pub attempts: usize,
    /// The wait between two attempts.
    pub backoff: Duration,
    /// The longest time for a call; `None` waits for ever.
    pub timeout: Option<Duration>,
    /// Speak TLS.
    pub secure: bool,
    /// The certificate, in a PEM file, that the server's must come from.
    pub server_certificate: Option<PathBuf>,
    /// Our own certificate, in a PEM file.
    pub client_certificate: Option<PathBuf>,
    /// Its key, in a PEM file.
    pub client_key: Option<PathBuf>,
    /// Headers of the client's request that are sent on as metadata.
    pub forward_headers: Vec<String>,
}

/// Hooks in a sandboxed plugin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WasmHooks {
    /// The plugin; `None` runs none.
    pub file: Option<PathBuf>,
    /// What it takes, if not what is enabled for all.
    pub events: Option<HookNames>,
    /// The steps that a call may take.
    pub fuel: u64,
    /// The memory that a call may take, in bytes.
    pub memory: u64,
}

/// Message brokers, which are told events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Brokers {
    /// NATS.
    pub nats: Nats,
    /// An AMQP 0-9-1 broker.
    pub amqp: Amqp,
    /// A stream in Redis or Valkey.
    pub redis: RedisStream,
    /// Kafka.
    pub kafka: Kafka,
}

/// Events on subjects of NATS.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nats {
    /// The server; `None` uses none.
    pub url: Option<Secret>,
    /// What it takes, if not what is enabled for all.
    pub events: Option<HookNames>,
    /// The subject; `{event}` stands for the event's name.
    pub subject: String,
    /// Publish to a stream of JetStream, and wait until it has the event.
    pub jetstream: bool,
}

/// Events in an exchange of an AMQP 0-9-1 broker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amqp {
    /// The broker; `None` uses none.
    pub url: Option<Secret>,
    /// What it takes, if not what is enabled for all.
    pub events: Option<HookNames>,
    /// The exchange; empty is the default one, where the routing key names a queue.
    pub exchange: String,
    /// The routing key; `{event}` stands for the event's name.
    pub routing_key: String,
}

/// Events in a stream of Redis or Valkey.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RedisStream {
    /// The server; `None` uses none.
    pub url: Option<Secret>,
    /// What it takes, if not what is enabled for all.
    pub events: Option<HookNames>,
    /// The stream's key.
    pub stream: String,
    /// About how many entries it keeps.
    pub length: u64,
}

/// Events in a topic of Kafka.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kafka {
    /// Brokers to begin with, `host:port`; none uses none.
    pub brokers: Vec<String>,
    /// What it takes, if not what is enabled for all.
    pub events: Option<HookNames>,
    /// The topic.
    pub topic: String,
}

/// Events that wait until they are delivered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outbox {
    /// The most events that may wait.
    pub limit: u64,
    /// The most bytes of events that may wait.
    pub max_bytes: u64,
    /// Whether an event that fails holds later ones of its upload for as long as it is retried.
    pub strict_order: bool,
    /// How long an event is retried before it is a dead letter.
    pub give_up_after: Duration,
    /// How long dead letters are kept.
    pub keep_dead: Duration,
}
