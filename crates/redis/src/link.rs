//! The connection to Redis: one for a node, for calls and for what other nodes say.

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
    scripts::{Run, Scripts},
    settings::{RedisSettings, SettingsError},
};

/// Why Redis did not do what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// There is no connection, and the last attempt to make one failed.
    #[error("no connection to Redis at {address}: {why}")]
    Down {
        /// Where it was looked for.
        address: String,
        /// What the last attempt came to.
        why: String,
    },
    /// The connection ended before the answer.
    #[error("the connection to Redis at {address} ended: {source}")]
    Cut {
        /// Where it led.
        address: String,
        /// How it ended.
        source: Arc<RedisError>,
    },
    /// No answer in time.
    #[error("Redis at {address} did not answer within {after:?}")]
    Silent {
        /// Who did not answer.
        address: String,
        /// How long it was given.
        after: Duration,
    },
    /// An answer that says no.
    #[error("Redis at {address} refused: {source}")]
    Refused {
        /// Who answered.
        address: String,
        /// What it answered.
        source: Arc<RedisError>,
    },
}

/// What is heard from other nodes goes here, at once, in the task that reads the connection.
pub(crate) type Hear = Arc<dyn Fn(&[u8]) + Send + Sync>;

pub(crate) struct Link {
    client: Client,
    address: String,
    scripts: Arc<Scripts>,
    patience: Duration,
    ttl: Duration,
    hear: Hear,
    state: watch::Sender<State>,
}

#[derive(Clone)]
enum State {
    Down { since: Instant, why: String },
    Up(Up),
}

/// A connection that was good a moment ago.
#[derive(Clone)]
pub(crate) struct Up {
    connection: MultiplexedConnection,
    number: u64,
    run: Arc<str>,
    /// When no lease of the primary before can be held any more.
    settled: Instant,
}

impl Up {
    pub(crate) fn run(&self) -> Run<'_> {
        Run {
            name: &self.run,
            unsettled: self.settled.saturating_duration_since(Instant::now()),
        }
    }
}

impl Link {
    /// A link that isn't connected yet: [`Link::keep`] does that.
    pub(crate) fn new(
        address: &str,
        settings: &RedisSettings,
        scripts: Arc<Scripts>,
        hear: Hear,
    ) -> Result<Self, SettingsError> {
        let client = Client::open(address).map_err(SettingsError::Address)?;
        let info = client.get_connection_info().clone();
        let redis = info.redis_settings().clone();
        // In the third version of its protocol one connection carries answers and messages.
        let redis = redis.set_protocol(ProtocolVersion::RESP3);
        let address = info.addr().to_string();
        let client =
            Client::open(info.set_redis_settings(redis)).map_err(SettingsError::Address)?;
        let (state, _) = watch::channel(State::Down {
            since: Instant::now(),
            why: "not connected yet".into(),
        });
        Ok(Self {
            client,
            address,
            scripts,
            patience: settings.patience,
            ttl: settings.ttl,
            hear,
            state,
        })
    }

    /// Where Redis is, without the password.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up(_))
    }

    /// Makes connections, one after another, for ever.
    pub(crate) async fn keep(self: &Arc<Self>) {
        let mut state = self.state.subscribe();
        let mut number = 0;
        loop {
            let mut pause = Duration::from_millis(20);
            loop {
                number += 1;
                let error = match self.dial(number).await {
                    Ok(up) => {
                        tracing::info!(redis = self.address, "connected to Redis");
                        self.state.send_replace(State::Up(up));
                        break;
                    }
                    Err(error) => error.to_string(),
                };
                self.state.send_if_modified(|state| match state {
                    State::Down { why, .. } if *why != error => {
                        tracing::warn!(redis = self.address, %error, "can't connect to Redis");
                        *why = error;
                        true
                    }
                    _ => false,
                });
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            let down = state.wait_for(|state| matches!(state, State::Down { .. }));
            // The sender is a field of this very link.
            if down.await.is_err() {
                return;
            }
        }
    }

    async fn dial(self: &Arc<Self>, number: u64) -> Result<Up, LinkError> {
        let limit = self.patience.min(self.ttl / 5);
        match timeout(limit, self.dial_at_leisure(number)).await {
            Ok(Ok(up)) => Ok(up),
            Ok(Err(error)) => Err(self.refused(error)),
            Err(_) => Err(self.silent(limit)),
        }
    }

    async fn dial_at_leisure(self: &Arc<Self>, number: u64) -> Result<Up, RedisError> {
        // Weak: the connection must not keep the link that keeps the connection.
        let link = Arc::downgrade(self);
        let hear = Arc::clone(&self.hear);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(move |push: PushInfo| {
                match (push.kind, push.data.get(1)) {
                    (PushKind::Message, Some(redis::Value::BulkString(text))) => hear(text),
                    (PushKind::Disconnection, _) => {
                        if let Some(link) = link.upgrade() {
                            link.end(number, "the connection ended");
                        }
                    }
                    _ => {}
                }
                Ok::<(), std::convert::Infallible>(())
            });
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let server: String = redis::cmd("INFO")
            .arg("server")
            .query_async(&mut connection)
            .await?;
        let replication: String = redis::cmd("INFO")
            .arg("replication")
            .query_async(&mut connection)
            .await?;
        if field(&replication, "role") == Some("slave") {
            return Err(RedisError::from((
                redis::ErrorKind::Client,
                "it is a replica; leases need the primary",
            )));
        }
        let field = |name| field(&server, name);
        let Some(run) = field("run_id").filter(|run| !run.is_empty()) else {
            return Err(RedisError::from((
                redis::ErrorKind::Client,
                "its INFO has no run_id, by which a restart would be noticed",
            )));
        };
        let uptime = field("uptime_in_seconds").and_then(|text| text.parse().ok());
        let uptime = Duration::from_secs(uptime.unwrap_or(0));
        let run: String = run.chars().take(16).collect();
        self.scripts.load(&mut connection).await?;
        // A replica that was promoted has been the primary for a shorter time than it has run.
        let primary_for = if was_promoted(&replication) {
            Duration::ZERO
        } else {
            uptime
        };
        let begun = Instant::now();
        let enter = self.scripts.enter(&run, primary_for);
        let (number_of_primary, unsettled): (u64, u64) = enter.query_async(&mut connection).await?;
        connection.subscribe(self.scripts.channel()).await?;
        Ok(Up {
            connection,
            number,
            run: format!("{run}.{number_of_primary}").into(),
            settled: begun + Duration::from_millis(unsettled),
        })
    }

    /// The connection with this number is no good any more.
    fn end(&self, number: u64, why: &str) {
        let ended = self.state.send_if_modified(|state| match state {
            State::Up(up) if up.number == number => {
                *state = State::Down {
                    since: Instant::now(),
                    why: why.to_owned(),
                };
                true
            }
            _ => false,
        });
        if ended {
            tracing::warn!(redis = self.address, why, "lost the connection to Redis");
        }
    }

    /// The connection, if there is one.
    pub(crate) fn now(&self) -> Option<Up> {
        match &*self.state.borrow() {
            State::Up(up) => Some(up.clone()),
            State::Down { .. } => None,
        }
    }

    /// Tells of each new connection.
    pub(crate) fn connections(&self) -> Connections {
        Connections(self.state.subscribe())
    }

    /// Returns the connection, or one that is made before the deadline and within half of the
    /// patience, counted from when the last ended.
    async fn up(&self, deadline: Instant) -> Result<Up, LinkError> {
        let since = match &*self.state.borrow() {
            State::Up(up) => return Ok(up.clone()),
            State::Down { since, .. } => *since,
        };
        let left = (since + self.patience / 2).min(deadline);
        let left = left.saturating_duration_since(Instant::now());
        let mut state = self.state.subscribe();
        let up = state.wait_for(|state| matches!(state, State::Up(_)));
        if let Ok(Ok(state)) = timeout(left, up).await
            && let State::Up(up) = &*state
        {
            return Ok(up.clone());
        }
        match &*self.state.borrow() {
            State::Up(up) => Ok(up.clone()),
            State::Down { why, .. } => Err(LinkError::Down {
                address: self.address.clone(),
                why: why.clone(),
            }),
        }
    }

    /// Calls Redis, again on a new connection if one ends or does not respond, until the patience is
    /// over. Also returns when the call was sent. The effect of a call that failed is not known.
    pub(crate) async fn call<T: FromRedisValue>(
        &self,
        command: impl Fn(&Up) -> Cmd,
    ) -> Result<(T, Instant), LinkError> {
        let deadline = Instant::now() + self.patience;
        loop {
            let up = self.up(deadline).await?;
            let sent = Instant::now();
            let limit = (self.patience / 2).min(deadline.saturating_duration_since(sent));
            let mut connection = up.connection.clone();
            let call = async { command(&up).query_async(&mut connection).await };
            match self.answer(&up, limit, call).await {
                Err(LinkError::Cut { .. } | LinkError::Silent { .. })
                    if Instant::now() < deadline => {}
                result => return result.map(|answer| (answer, sent)),
            }
        }
    }

    /// Sends many calls at once, for which no answer may be missing. Also gives when they were sent.
    pub(crate) async fn batch<T: FromRedisValue>(
        &self,
        up: &Up,
        limit: Duration,
        commands: Vec<Cmd>,
    ) -> Result<(Vec<T>, Instant), LinkError> {
        let mut pipe = redis::pipe();
        for command in commands {
            pipe.add_command(command);
        }
        let sent = Instant::now();
        let mut connection = up.connection.clone();
        let call = async { pipe.query_async(&mut connection).await };
        let answers = self.answer(up, limit, call).await?;
        Ok((answers, sent))
    }

    /// Waits for an answer, and draws the conclusions from having none.
    async fn answer<T>(
        &self,
        up: &Up,
        limit: Duration,
        call: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, LinkError> {
        let error = match timeout(limit, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => {
                // What comes late would come in front of later answers, and a connection that leads
                // nowhere is only noticed in this way.
                let error = self.silent(limit);
                self.end(up.number, &error.to_string());
                return Err(error);
            }
        };
        if error.is_unrecoverable_error() || error.is_io_error() {
            self.end(up.number, &error.to_string());
            return Err(LinkError::Cut {
                address: self.address.clone(),
                source: Arc::new(error),
            });
        }
        // A new connection loads the scripts anew, and finds the new primary where there is one.
        if matches!(
            error.code(),
            Some("NOSCRIPT" | "READONLY" | "MASTERDOWN" | "NEWPRIMARY")
        ) {
            self.end(up.number, &error.to_string());
            return Err(LinkError::Cut {
                address: self.address.clone(),
                source: Arc::new(error),
            });
        }
        Err(self.refused(error))
    }

    fn silent(&self, after: Duration) -> LinkError {
        LinkError::Silent {
            address: self.address.clone(),
            after,
        }
    }

    fn refused(&self, error: RedisError) -> LinkError {
        LinkError::Refused {
            address: self.address.clone(),
            source: Arc::new(error),
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("address", &self.address)
            .field("up", &self.is_up())
            .finish_non_exhaustive()
    }
}

/// Tells of each new connection.
pub(crate) struct Connections(watch::Receiver<State>);

impl Connections {
    /// Waits for the next one; for ever once the link is gone.
    pub(crate) async fn next(&mut self) {
        loop {
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if matches!(*self.0.borrow_and_update(), State::Up(_)) {
                return;
            }
        }
    }
}

/// Whether the server continues the data of another primary, by `INFO replication`. The id of the data
/// itself is no name for a primary: it changes an hour after the last replica has left.
fn was_promoted(replication: &str) -> bool {
    let other = field(replication, "master_replid2").unwrap_or_default();
    other.bytes().any(|byte| byte != b'0')
}

/// A field of what `INFO` says.
pub(crate) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}
