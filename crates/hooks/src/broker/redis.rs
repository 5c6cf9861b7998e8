//! Redis (or Valkey) streams.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind,
    aio::MultiplexedConnection,
};

use super::{
    SOURCE, SettingsError, TIMEOUT,
    link::{Broker, Link, Trouble},
    public,
};
use crate::{Failure, Message, Reaction, Transport, format};

/// Where and how to publish.
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisStreamSettings {
    /// `redis://user:password@host:6379/database`, `rediss://` for TLS, or
    /// `redis+unix:///path/of/socket`. One server (the primary), not a cluster.
    pub url: String,
    /// The stream's key. `landfall:events`.
    pub stream: String,
    /// About how many entries the stream keeps, however many are read; 0 for all. 100,000.
    pub length: u64,
    /// See [`SOURCE`].
    pub source: String,
    /// The most deliveries at once. 64.
    pub parallel: usize,
    /// See [`TIMEOUT`].
    pub timeout: Duration,
}

impl RedisStreamSettings {
    /// Adds to the stream `landfall:events` of this server.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            stream: "landfall:events".into(),
            length: 100_000,
            source: SOURCE.into(),
            parallel: 64,
            timeout: TIMEOUT,
        }
    }
}

impl fmt::Debug for RedisStreamSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStreamSettings")
            .field("url", &public(&self.url))
            .field("stream", &self.stream)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Adds events to a stream: `XADD stream MAXLEN ~ length *` with the fields `id` (the message's id),
/// `event` (`post-finish`, …), `upload` (its id) and `data` (the CloudEvent).
///
/// A delivery is done when Redis has answered. Whether it then survives a crash of Redis is what
/// `appendfsync` and replication are set to there.
#[derive(Debug)]
pub struct RedisStream {
    link: Link<Stream>,
}

impl RedisStream {
    /// Reads the settings; connects later.
    ///
    /// # Errors
    /// A URL that is none, or a stream without a name.
    pub fn new(settings: RedisStreamSettings) -> Result<Self, SettingsError> {
        let client = Client::open(settings.url.as_str()).map_err(|why| {
            let url = public(&settings.url);
            SettingsError(format!("Redis URL {url:?}: {why}"))
        })?;
        if settings.stream.is_empty() {
            return Err(SettingsError("a Redis stream needs a name".into()));
        }
        let (parallel, timeout) = (settings.parallel, settings.timeout);
        let stream = Stream { client, settings };
        Ok(Self {
            link: Link::new(stream, parallel, timeout),
        })
    }
}

#[async_trait]
impl Transport for RedisStream {
    fn name(&self) -> &str {
        "redis"
    }

    async fn deliver(&self, message: &Message) -> Result<Reaction, Failure> {
        self.link.deliver(message).await
    }

    async fn check(&self) -> Result<(), Failure> {
        self.link.check().await
    }
}

struct Stream {
    client: Client,
    settings: RedisStreamSettings,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

#[async_trait]
impl Broker for Stream {
    type Connection = MultiplexedConnection;

    const NAME: &'static str = "Redis";

    async fn dial(&self) -> Result<MultiplexedConnection, Failure> {
        // The link has the time limit.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.settings.timeout))
            .set_response_timeout(None);
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|why| Failure::because(format!("cannot connect to Redis: {why}"), why))
    }

    async fn publish(
        &self,
        connection: &MultiplexedConnection,
        message: &Message,
    ) -> Result<(), Trouble> {
        let mut add = redis::cmd("XADD");
        add.arg(&self.settings.stream);
        if self.settings.length > 0 {
            add.arg("MAXLEN").arg("~").arg(self.settings.length);
        }
        add.arg("*")
            .arg(&[("id", message.id.as_str())])
            .arg(&[("event", message.hook.as_str())])
            .arg(&[("upload", message.upload.id.as_str())])
            .arg("data")
            .arg(format::cloud_event(message, &self.settings.source));
        let added = add.exec_async(&mut connection.clone()).await;
        added.map_err(|error| self.trouble(error))
    }
}

impl Stream {
    fn trouble(&self, error: RedisError) -> Trouble {
        // A replica answers that it is read-only: after a failover the name leads elsewhere.
        let moved = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
        let broken = moved
            || error.is_io_error()
            || error.is_connection_dropped()
            || error.is_timeout()
            || error.is_unrecoverable_error();
        let text = format!("Redis, stream {:?}: {error}", self.settings.stream);
        let failure = Failure::because(text, error);
        if broken {
            Trouble::Broken(failure)
        } else {
            Trouble::Refused(failure)
        }
    }
}
