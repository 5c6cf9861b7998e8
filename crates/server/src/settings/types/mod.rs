//! Values of settings.

mod allow_origin;
mod secret;

use std::path::PathBuf;
use std::time::Duration;

pub use landfall::store::file::Durability;
use landfall_hooks::HookName;
pub use landfall_state::sql::Database;

pub use allow_origin::AllowOrigin;
pub use secret::Secret;

/// A kind of message broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BrokerKind {
    /// NATS.
    #[default]
    Nats,
    /// An AMQP 0-9-1 broker.
    Amqp,
    /// Redis or Valkey.
    Redis,
    /// Kafka.
    Kafka,
}

/// A message broker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BrokerUrl {
    /// The URL for its client.
    pub address: Secret,
    /// Its kind.
    pub kind: BrokerKind,
    /// NATS subject, AMQP routing key, Redis stream or Kafka topic; `None` is the default.
    pub destination: Option<String>,
    /// AMQP exchange; empty is the default exchange.
    pub exchange: String,
    /// Whether a stream of NATS stores events.
    pub jetstream: bool,
    /// Approximate maximum length of the Redis stream; `None` is the default.
    pub max_length: Option<u64>,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` pairs.
    #[default]
    Text,
    /// A JSON object per line.
    Json,
}

/// The log level; each level includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Errors of the server.
    Error,
    /// Conditions that need attention.
    Warn,
    /// Start and stop, and a line per created, finished and terminated upload.
    #[default]
    Info,
    /// A line per request.
    Debug,
    /// Everything.
    Trace,
}

/// The uploads whose downloads are rejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DisabledDownloads {
    /// None.
    #[default]
    None,
    /// Unfinished uploads.
    Unfinished,
    /// All.
    All,
}

/// A quota of every subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Its bytes, if it is limited.
    pub bytes: Option<u64>,
    /// The time after which it restarts, and those of API keys and tokens with it.
    pub period: Option<Duration>,
}

/// The location of the keys of JSON web tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum JwtKeys {
    /// A key set (JWKS) at an `http` or `https` URL.
    Url(Secret),
    /// A file with a key set, or with a public key in PEM.
    File(PathBuf),
}

/// The lease backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LeaseKind {
    /// Lock files for a directory, memory for a bucket.
    #[default]
    Auto,
    /// Memory, for a single node.
    Memory,
    /// Lock files in the directory, or objects in the bucket.
    Store,
    /// URL of a Redis or Valkey server.
    Redis(Secret),
    /// URL of a PostgreSQL server.
    Postgres(Secret),
}

/// The source of temporary credentials for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StsRole {
    /// Federation tokens of the server's own user.
    User,
    /// The role with this ARN.
    Role(String),
}

/// The place of the key that encrypts request headers of stored events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderKey {
    /// This process.
    Memory,
    /// A file.
    File(PathBuf),
}

/// A hook or event that is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnabledHook {
    /// The setting of the only transport that receives it; `None` for all that have no others.
    pub transport: Option<&'static str>,
    /// Its name.
    pub name: HookName,
}
