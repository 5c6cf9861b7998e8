//! The one connection to Redis: identifies the server before the first call, and reconnects with backoff.
//!
//! Connecting reads `INFO`, loads the scripts, registers the primary and subscribes; only then can calls use the
//! connection. A timeout, an I/O error, or an error that shows another server ends its use. A call may be sent twice,
//! so commands must be idempotent. Decides nothing about leases.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, ProtocolVersion, PushInfo, PushKind,
    RedisError, aio::MultiplexedConnection,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use super::scripts::{Scripts, ServerRun};
use crate::{settings::SettingsError, table::LeaseTable};

const MIN_BACKOFF: Duration = Duration::from_millis(20);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

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
pub(super) type MessageHandler = Arc<dyn Fn(&[u8]) + Send + Sync>;

pub(super) struct RedisConnection {
    client: Client,
    pub(super) address: String,
    pub(super) scripts: Scripts,
    state: watch::Sender<State>,
}

#[derive(Clone)]
enum State {
    Disconnected { since: Instant, cause: String },
    Connected(LiveConnection),
}

/// A connection that was usable a moment ago.
#[derive(Clone)]
struct LiveConnection {
    connection: MultiplexedConnection,
    number: u64,
    run: ServerRun,
}

impl RedisConnection {
    pub(super) fn new(address: &str, scripts: Scripts) -> Result<Self, SettingsError> {
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
            state,
        })
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(*self.state.borrow(), State::Connected(_))
    }

    /// Connects again and again, and resumes the table each time. Does not return.
    pub(super) async fn maintain(self: &Arc<Self>, on_message: MessageHandler, table: &LeaseTable) {
        let mut state = self.state.subscribe();
        let mut number = 0;
        loop {
            for attempt in 1.. {
                number += 1;
                let error = match self.connect(number, &on_message).await {
                    Ok(live) => {
                        tracing::info!(redis = self.address, "connected to Redis");
                        self.state.send_replace(State::Connected(live));
                        table.resume();
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
                let delay = landfall_net::backoff(attempt, MIN_BACKOFF, MAX_BACKOFF);
                tokio::time::sleep(delay.mul_f64(rand::random_range(0.5..1.0))).await;
            }
            let lost = state.wait_for(|state| matches!(state, State::Disconnected { .. }));
            // It cannot fail: `self` owns the sender.
            if lost.await.is_err() {
                return;
            }
        }
    }

    async fn connect(
        self: &Arc<Self>,
        number: u64,
        on_message: &MessageHandler,
    ) -> Result<LiveConnection, ConnectionError> {
        let limit = self
            .scripts
            .settings
            .timeout
            .min(self.scripts.settings.ttl / 5);
        match timeout(limit, self.handshake(number, on_message)).await {
            Ok(Ok(live)) => Ok(live),
            Ok(Err(error)) => Err(self.rejected(error)),
            Err(_) => Err(self.timed_out(limit)),
        }
    }

    async fn handshake(
        self: &Arc<Self>,
        number: u64,
        on_message: &MessageHandler,
    ) -> Result<LiveConnection, RedisError> {
        // A strong reference would be a cycle.
        let weak = Arc::downgrade(self);
        let on_message = Arc::clone(on_message);
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
        connection.subscribe(&self.scripts.channels()[..]).await?;
        Ok(LiveConnection {
            connection,
            number,
            run: ServerRun {
                name: format!("{run}.{number_of_primary}").into(),
                grace_ends: started + Duration::from_millis(grace),
            },
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

    fn live(&self) -> Result<LiveConnection, ConnectionError> {
        match &*self.state.borrow() {
            State::Connected(live) => Ok(live.clone()),
            State::Disconnected { cause, .. } => Err(ConnectionError::NotConnected {
                address: self.address.clone(),
                cause: cause.clone(),
            }),
        }
    }

    /// Waits for a live connection, until the deadline or half of the timeout since the last one was
    /// lost.
    async fn wait_live(&self, deadline: Instant) -> Result<LiveConnection, ConnectionError> {
        let mut state = self.state.subscribe();
        let since = match &*state.borrow() {
            State::Connected(live) => return Ok(live.clone()),
            State::Disconnected { since, .. } => *since,
        };
        let until = (since + self.scripts.settings.attempt_timeout()).min(deadline);
        let connected = state.wait_for(|state| matches!(state, State::Connected(_)));
        let _ = timeout_at(until, connected).await;
        self.live()
    }

    /// Calls Redis, and retries on a new connection until the timeout.
    ///
    /// Also returns when the call was sent. A failed call may have taken effect.
    pub(super) async fn call<T: FromRedisValue>(
        &self,
        command: impl Fn(&Scripts, &ServerRun) -> Cmd,
    ) -> Result<(T, Instant), ConnectionError> {
        let deadline = Instant::now() + self.scripts.settings.timeout;
        loop {
            let mut live = self.wait_live(deadline).await?;
            let sent = Instant::now();
            let left = deadline.saturating_duration_since(sent);
            let limit = self.scripts.settings.attempt_timeout().min(left);
            let command = command(&self.scripts, &live.run);
            let call = command.query_async(&mut live.connection);
            match self.response(live.number, limit, call).await {
                Err(ConnectionError::Closed { .. } | ConnectionError::Timeout { .. })
                    if Instant::now() < deadline => {}
                result => return result.map(|response| (response, sent)),
            }
        }
    }

    /// Makes several calls at once, if there is a connection.
    pub(super) async fn pipeline<T: FromRedisValue>(
        &self,
        limit: Duration,
        commands: impl FnOnce(&Scripts, &ServerRun) -> Vec<Cmd>,
    ) -> Result<Vec<T>, ConnectionError> {
        let mut live = self.live()?;
        let mut pipe = redis::pipe();
        for command in commands(&self.scripts, &live.run) {
            pipe.add_command(command);
        }
        let call = pipe.query_async(&mut live.connection);
        self.response(live.number, limit, call).await
    }

    async fn response<T>(
        &self,
        number: u64,
        limit: Duration,
        call: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, ConnectionError> {
        let error = match timeout(limit, call).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(error)) => error,
            Err(_) => {
                // A dead connection is detected only by this timeout. The client drops late
                // responses, so that no later call receives them.
                let error = self.timed_out(limit);
                self.disconnect(number, &error.to_string());
                return Err(error);
            }
        };
        // After these codes a new connection loads the scripts again, or finds the new
        // primary.
        let stale = ["NOSCRIPT", "READONLY", "MASTERDOWN", "NEWPRIMARY"];
        // The error of a pipeline has no code, but those of its calls in its text.
        let text = error.to_string();
        let is_stale = stale.iter().any(|code| text.contains(code));
        if is_stale || error.is_unrecoverable_error() || error.is_io_error() {
            self.disconnect(number, &error.to_string());
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

/// Returns whether the server continues the data of another primary, by `INFO`.
///
/// `master_replid` cannot identify a primary: it changes an hour after the last replica
/// disconnected.
fn was_promoted(info: &str) -> bool {
    let other = field(info, "master_replid2").unwrap_or_default();
    other.bytes().any(|byte| byte != b'0')
}

pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}
