use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, ProtocolVersion, PushInfo, PushKind,
    RedisError, aio::MultiplexedConnection,
};
use tokio::{sync::watch, time::timeout};

use crate::{
    scripts::{Scripts, ServerRun},
    settings::{RedisSettings, SettingsError},
};

/// An error of the connection to Redis.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// There is no connection, and the last attempt to connect failed.
    #[error("no connection to Redis at {address}: {cause}")]
    NotConnected {
        /// The address, without password.
        address: String,
        /// The error of the last attempt.
        cause: String,
    },
    /// The connection was closed before the response.
    #[error("the connection to Redis at {address} was closed: {source}")]
    Closed {
        /// The address, without password.
        address: String,
        /// The cause.
        source: Arc<RedisError>,
    },
    /// No response in time.
    #[error("Redis at {address} did not respond within {limit:?}")]
    Timeout {
        /// The address, without password.
        address: String,
        /// The time limit.
        limit: Duration,
    },
    /// An error response.
    #[error("Redis at {address} returned an error: {source}")]
    Rejected {
        /// The address, without password.
        address: String,
        /// The response.
        source: Arc<RedisError>,
    },
}

/// Called with each message from other nodes, in the task that reads the connection.
pub(crate) type MessageHandler = Arc<dyn Fn(&[u8]) + Send + Sync>;

pub(crate) struct RedisConnection {
    client: Client,
    address: String,
    scripts: Arc<Scripts>,
    timeout: Duration,
    ttl: Duration,
    on_message: MessageHandler,
    state: watch::Sender<State>,
}

#[derive(Clone)]
enum State {
    Disconnected { since: Instant, cause: String },
    Connected(LiveConnection),
}

/// A connection that was usable a moment ago.
#[derive(Clone)]
pub(crate) struct LiveConnection {
    connection: MultiplexedConnection,
    number: u64,
    run: Arc<str>,
    /// The time at which all leases of earlier primaries have expired.
    grace_ends: Instant,
}

impl LiveConnection {
    pub(crate) fn run(&self) -> ServerRun<'_> {
        ServerRun {
            name: &self.run,
            grace_period: self.grace_ends.saturating_duration_since(Instant::now()),
        }
    }
}

impl RedisConnection {
    pub(crate) fn new(
        address: &str,
        settings: &RedisSettings,
        scripts: Arc<Scripts>,
        on_message: MessageHandler,
    ) -> Result<Self, SettingsError> {
        let client = Client::open(address).map_err(SettingsError::Address)?;
        let info = client.get_connection_info().clone();
        let redis = info.redis_settings().clone();
        // RESP3 carries responses and messages on one connection.
        let redis = redis.set_protocol(ProtocolVersion::RESP3);
        let address = info.addr().to_string();
        let client =
            Client::open(info.set_redis_settings(redis)).map_err(SettingsError::Address)?;
        let (state, _) = watch::channel(State::Disconnected {
            since: Instant::now(),
            cause: "not connected yet".into(),
        });
        Ok(Self {
            client,
            address,
            scripts,
            timeout: settings.timeout,
            ttl: settings.ttl,
            on_message,
            state,
        })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(*self.state.borrow(), State::Connected(_))
    }

    pub(crate) async fn maintain(self: &Arc<Self>) {
        let mut state = self.state.subscribe();
        let mut number = 0;
        loop {
            let mut delay = Duration::from_millis(20);
            loop {
                number += 1;
                let error = match self.connect(number).await {
                    Ok(live) => {
                        tracing::info!(redis = self.address, "connected to Redis");
                        self.state.send_replace(State::Connected(live));
                        break;
                    }
                    Err(error) => error.to_string(),
                };
                self.state.send_if_modified(|state| match state {
                    State::Disconnected { cause, .. } if *cause != error => {
                        tracing::warn!(redis = self.address, %error, "failed to connect to Redis");
                        *cause = error;
                        true
                    }
                    _ => false,
                });
                tokio::time::sleep(delay.mul_f64(rand::random_range(0.5..1.0))).await;
                delay = (delay * 2).min(Duration::from_secs(1));
            }
            let lost = state.wait_for(|state| matches!(state, State::Disconnected { .. }));
            // It cannot fail: `self` owns the sender.
            if lost.await.is_err() {
                return;
            }
        }
    }

    async fn connect(self: &Arc<Self>, number: u64) -> Result<LiveConnection, ConnectionError> {
        let limit = self.timeout.min(self.ttl / 5);
        match timeout(limit, self.handshake(number)).await {
            Ok(Ok(live)) => Ok(live),
            Ok(Err(error)) => Err(self.rejected(error)),
            Err(_) => Err(self.timed_out(limit)),
        }
    }

    async fn handshake(self: &Arc<Self>, number: u64) -> Result<LiveConnection, RedisError> {
        // A strong reference would be a cycle.
        let weak = Arc::downgrade(self);
        let on_message = Arc::clone(&self.on_message);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(move |push: PushInfo| {
                match (push.kind, push.data.get(1)) {
                    (PushKind::Message, Some(redis::Value::BulkString(text))) => on_message(text),
                    (PushKind::Disconnection, _) => {
                        if let Some(this) = weak.upgrade() {
                            this.disconnect(number, "the connection was closed");
                        }
                    }
                    _ => {}
                }
                Ok::<(), std::convert::Infallible>(())
            });
        let connection = (self.client).get_multiplexed_async_connection_with_config(&config);
        let mut connection = connection.await?;
        let info: String = redis::cmd("INFO").query_async(&mut connection).await?;
        if field(&info, "role") == Some("slave") {
            let why = "the server is a replica; leases need the primary";
            return Err(RedisError::from((redis::ErrorKind::Client, why)));
        }
        let Some(run) = field(&info, "run_id").filter(|run| !run.is_empty()) else {
            let why = "the response to INFO has no run_id, which identifies restarts";
            return Err(RedisError::from((redis::ErrorKind::Client, why)));
        };
        let uptime = field(&info, "uptime_in_seconds").and_then(|text| text.parse().ok());
        let uptime = Duration::from_secs(uptime.unwrap_or(0));
        let run: String = run.chars().take(16).collect();
        self.scripts.load(&mut connection).await?;
        // A promoted replica has been the primary for less than its uptime.
        let primary_for = if was_promoted(&info) {
            Duration::ZERO
        } else {
            uptime
        };
        let started = Instant::now();
        let enter = self.scripts.enter(&run, primary_for);
        let (number_of_primary, grace): (u64, u64) = enter.query_async(&mut connection).await?;
        connection.subscribe(self.scripts.channel()).await?;
        Ok(LiveConnection {
            connection,
            number,
            run: format!("{run}.{number_of_primary}").into(),
            grace_ends: started + Duration::from_millis(grace),
        })
    }

    fn disconnect(&self, number: u64, cause: &str) {
        let lost = self.state.send_if_modified(|state| match state {
            State::Connected(live) if live.number == number => {
                *state = State::Disconnected {
                    since: Instant::now(),
                    cause: cause.to_owned(),
                };
                true
            }
            _ => false,
        });
        if lost {
            tracing::warn!(redis = self.address, cause, "lost the connection to Redis");
        }
    }

    pub(crate) fn live(&self) -> Option<LiveConnection> {
        match &*self.state.borrow() {
            State::Connected(live) => Some(live.clone()),
            State::Disconnected { .. } => None,
        }
    }

    pub(crate) fn reconnects(&self) -> Reconnects {
        Reconnects(self.state.subscribe())
    }

    /// Waits for a live connection, until the deadline or half of the timeout since the last
    /// one was lost.
    async fn wait_live(&self, deadline: Instant) -> Result<LiveConnection, ConnectionError> {
        let since = match &*self.state.borrow() {
            State::Connected(live) => return Ok(live.clone()),
            State::Disconnected { since, .. } => *since,
        };
        let left = (since + self.timeout / 2).min(deadline);
        let left = left.saturating_duration_since(Instant::now());
        let mut state = self.state.subscribe();
        let connected = state.wait_for(|state| matches!(state, State::Connected(_)));
        let _ = timeout(left, connected).await;
        match &*self.state.borrow() {
            State::Connected(live) => Ok(live.clone()),
            State::Disconnected { cause, .. } => Err(ConnectionError::NotConnected {
                address: self.address.clone(),
                cause: cause.clone(),
            }),
        }
    }

    /// Calls Redis, and retries on a new connection until the timeout.
    ///
    /// Also returns when the call was sent. A failed call may have taken effect.
    pub(crate) async fn call<T: FromRedisValue>(
        &self,
        command: impl Fn(&LiveConnection) -> Cmd,
    ) -> Result<(T, Instant), ConnectionError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let live = self.wait_live(deadline).await?;
            let sent = Instant::now();
            let limit = (self.timeout / 2).min(deadline.saturating_duration_since(sent));
            let mut connection = live.connection.clone();
            let call = async { command(&live).query_async(&mut connection).await };
            match self.response(&live, limit, call).await {
                Err(ConnectionError::Closed { .. } | ConnectionError::Timeout { .. })
                    if Instant::now() < deadline => {}
                result => return result.map(|response| (response, sent)),
            }
        }
    }

    pub(crate) async fn pipeline<T: FromRedisValue>(
        &self,
        live: &LiveConnection,
        limit: Duration,
        commands: impl Iterator<Item = Cmd>,
    ) -> Result<(Vec<T>, Instant), ConnectionError> {
        let mut pipe = redis::pipe();
        for command in commands {
            pipe.add_command(command);
        }
        let sent = Instant::now();
        let mut connection = live.connection.clone();
        let call = async { pipe.query_async(&mut connection).await };
        let responses = self.response(live, limit, call).await?;
        Ok((responses, sent))
    }

    async fn response<T>(
        &self,
        live: &LiveConnection,
        limit: Duration,
        call: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, ConnectionError> {
        let error = match timeout(limit, call).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(error)) => error,
            Err(_) => {
                // A late response would be taken for that of a later call. A dead
                // connection is detected only by this timeout.
                let error = self.timed_out(limit);
                self.disconnect(live.number, &error.to_string());
                return Err(error);
            }
        };
        // After these codes a new connection loads the scripts again, or finds the new
        // primary.
        let stale = ["NOSCRIPT", "READONLY", "MASTERDOWN", "NEWPRIMARY"];
        let is_stale = error.code().is_some_and(|code| stale.contains(&code));
        if is_stale || error.is_unrecoverable_error() || error.is_io_error() {
            self.disconnect(live.number, &error.to_string());
            return Err(ConnectionError::Closed {
                address: self.address.clone(),
                source: Arc::new(error),
            });
        }
        Err(self.rejected(error))
    }

    fn timed_out(&self, limit: Duration) -> ConnectionError {
        ConnectionError::Timeout {
            address: self.address.clone(),
            limit,
        }
    }

    fn rejected(&self, error: RedisError) -> ConnectionError {
        ConnectionError::Rejected {
            address: self.address.clone(),
            source: Arc::new(error),
        }
    }
}

pub(crate) struct Reconnects(watch::Receiver<State>);

impl Reconnects {
    pub(crate) async fn next(&mut self) {
        loop {
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if matches!(*self.0.borrow_and_update(), State::Connected(_)) {
                return;
            }
        }
    }
}

/// Returns whether the server continues the data of another primary, by `INFO`.
///
/// `master_replid` cannot identify a primary: it changes an hour after the last replica
/// disconnected.
fn was_promoted(info: &str) -> bool {
    let other = field(info, "master_replid2").unwrap_or_default();
    other.bytes().any(|byte| byte != b'0')
}

pub(crate) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}
