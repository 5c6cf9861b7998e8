//! Redis or Valkey streams.

use std::time::Duration;

use async_trait::async_trait;
use landfall_hooks::{DeliveryError, Message, Transport};
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind,
    aio::MultiplexedConnection,
};

use crate::{
    DEFAULT_SOURCE, DEFAULT_TIMEOUT,
    connection::{Broker, BrokerTransport, PublishError},
};
use landfall_hooks::{SecretUrl, SettingsError, format};

/// Settings of a [`transport`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RedisStreamSettings {
    /// The URL: `redis://user:password@host:6379/database`, `rediss://` for TLS, or
    /// `redis+unix:///path/of/socket`.
    /// One server (the primary), not a cluster.
    pub url: SecretUrl,
    /// The stream's key; `landfall:events` by default.
    pub stream: String,
    /// The approximate maximum length of the stream, read or not; 0 for no limit. 100,000 by
    /// default.
    pub max_length: u64,
    /// See [`DEFAULT_SOURCE`].
    pub source: String,
    /// Maximum concurrent deliveries; 64 by default.
    pub max_concurrency: usize,
    /// See [`DEFAULT_TIMEOUT`].
    pub timeout: Duration,
}

impl RedisStreamSettings {
    /// Creates default settings for this server.
    #[must_use]
    pub fn new(url: impl Into<SecretUrl>) -> Self {
        Self {
            url: url.into(),
            stream: "landfall:events".into(),
            max_length: 100_000,
            source: DEFAULT_SOURCE.into(),
            max_concurrency: 64,
            timeout: DEFAULT_TIMEOUT,
        }
    }
}

struct Stream {
    client: Client,
    settings: RedisStreamSettings,
}

/// Creates a transport that adds events to a stream.
///
/// It sends `XADD stream MAXLEN ~ max_length *` with the fields `id` (the message id), `event`
/// (`post-finish`, …), `upload` (its id) and `data` (the CloudEvent).
///
/// A delivery succeeds when Redis has responded. `appendfsync` and replication decide whether the
/// event survives a crash of Redis.
///
/// # Errors
/// The URL is invalid, or the stream name is empty.
pub fn transport(settings: RedisStreamSettings) -> Result<impl Transport, SettingsError> {
    let client = Client::open(settings.url.as_str()).map_err(|error| {
        let url = landfall_net::redacted_url(settings.url.as_str());
        SettingsError(format!("Redis URL {url:?}: {error}"))
    })?;
    if settings.stream.is_empty() {
        let why = "the name of the Redis stream must not be empty";
        return Err(SettingsError(why.into()));
    }
    let (max_concurrency, timeout) = (settings.max_concurrency, settings.timeout);
    let stream = Stream { client, settings };
    Ok(BrokerTransport::new(stream, max_concurrency, timeout))
}

#[async_trait]
impl Broker for Stream {
    type Connection = MultiplexedConnection;

    const TRANSPORT: &'static str = "redis";
    const NAME: &'static str = "Redis";

    async fn connect(&self) -> Result<MultiplexedConnection, DeliveryError> {
        // `BrokerTransport` has the timeout.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.settings.timeout))
            .set_response_timeout(None);
        let failed = |error| DeliveryError::caused_by("cannot connect to Redis", error);
        let connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        connection.await.map_err(failed)
    }

    async fn publish(
        &self,
        connection: &MultiplexedConnection,
        message: &Message,
    ) -> Result<(), PublishError> {
        let mut add = redis::cmd("XADD");
        add.arg(&self.settings.stream);
        if self.settings.max_length > 0 {
            add.arg("MAXLEN").arg("~").arg(self.settings.max_length);
        }
        add.arg("*")
            .arg(&[("id", message.id.as_str())])
            .arg(&[("event", message.hook.as_str())])
            .arg(&[("upload", message.upload.id.as_str())])
            .arg("data")
            .arg(format::cloud_event(message, &self.settings.source));
        let added = add.exec_async(&mut connection.clone()).await;
        added.map_err(|error| self.publish_error(error))
    }
}

impl Stream {
    fn publish_error(&self, error: RedisError) -> PublishError {
        // A read-only replica: after a failover the name resolves to another server.
        let moved = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
        let broken = moved
            || error.is_io_error()
            || error.is_connection_dropped()
            || error.is_timeout()
            || error.is_unrecoverable_error();
        let what = format!("Redis, stream {:?}", self.settings.stream);
        let failure = DeliveryError::caused_by(what, error);
        PublishError::new(failure, broken)
    }
}
