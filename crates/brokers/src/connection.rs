//! The transport to a broker: its connection is opened on demand, and again after it broke.

use std::{
    fmt,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use landfall_hooks::{DeliveryError, HookResponse, Message, Transport};
use tokio::sync::{Mutex, Semaphore};

use crate::MAX_BACKOFF;

const MIN_BACKOFF: Duration = Duration::from_millis(100);
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

#[async_trait]
pub(super) trait Broker: Send + Sync + 'static {
    type Connection: Clone + Send + Sync;

    const TRANSPORT: &'static str;
    const NAME: &'static str;

    async fn connect(&self) -> Result<Self::Connection, DeliveryError>;

    /// Returns when the broker has acknowledged the message.
    async fn publish(
        &self,
        connection: &Self::Connection,
        message: &Message,
    ) -> Result<(), PublishError>;
}

#[derive(Debug)]
pub(super) enum PublishError {
    Connection(DeliveryError),
    Rejected(DeliveryError),
}

impl PublishError {
    #[cfg(any(feature = "amqp", feature = "kafka", feature = "redis"))]
    pub(super) fn new(failure: DeliveryError, is_connection_broken: bool) -> Self {
        match is_connection_broken {
            true => Self::Connection(failure),
            false => Self::Rejected(failure),
        }
    }
}

pub(super) struct BrokerTransport<B: Broker> {
    broker: B,
    timeout: Duration,
    permits: Semaphore,
    state: Mutex<State<B::Connection>>,
}

struct State<C> {
    /// The generation identifies the connection after a failure.
    connection: Option<(C, u64)>,
    generation: u64,
    failures: u32,
    last_error: String,
    retry_at: Instant,
}

impl<B: Broker> BrokerTransport<B> {
    pub(super) fn new(broker: B, max_concurrency: usize, timeout: Duration) -> Self {
        Self {
            broker,
            timeout,
            permits: Semaphore::new(max_concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            state: Mutex::new(State {
                connection: None,
                generation: 0,
                failures: 0,
                last_error: String::new(),
                retry_at: Instant::now(),
            }),
        }
    }

    async fn publish(&self, message: &Message) -> Result<(), DeliveryError> {
        if message.hook.is_blocking() {
            let text = format!("{} does not support blocking hooks", B::NAME);
            return Err(DeliveryError::new(format!("{text}: {}", message.hook)));
        }
        let late = |what: &str| {
            let text = format!("{} {what} within {:?}", B::NAME, self.timeout);
            DeliveryError::new(text)
        };
        let deadline = tokio::time::Instant::now() + self.timeout;
        let connected = tokio::time::timeout_at(deadline, async {
            let permit = self.permits.acquire().await;
            let permit = permit.map_err(|closed| DeliveryError::with_source("closed", closed))?;
            Ok::<_, DeliveryError>((permit, self.connection().await?))
        });
        let (_permit, (connection, generation)) = connected
            .await
            .map_err(|_| late("could not be reached"))??;
        let published = self.broker.publish(&connection, message);
        let result = match tokio::time::timeout_at(deadline, published).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(PublishError::Rejected(failure))) => Err(failure),
            Ok(Err(PublishError::Connection(failure))) => {
                return Err(self.discard(generation, failure).await);
            }
            Err(_) => return Err(self.discard(generation, late("did not acknowledge")).await),
        };
        self.state.lock().await.failures = 0;
        result
    }

    async fn connection(&self) -> Result<(B::Connection, u64), DeliveryError> {
        // Concurrent callers wait for the running attempt.
        let mut state = self.state.lock().await;
        if let Some(found) = &state.connection {
            return Ok(found.clone());
        }
        let now = Instant::now();
        if now < state.retry_at {
            let wait = state.retry_at - now;
            let text = format!("{} (next attempt in {wait:.1?})", state.last_error);
            return Err(DeliveryError::new(text));
        }
        // Shorter than the delivery timeout, so that a silent peer is reported as one.
        let limit = self.timeout.mul_f64(2.0 / 3.0);
        let connected = tokio::time::timeout(limit, self.broker.connect()).await;
        let connected = connected.unwrap_or_else(|_| {
            let text = format!("{} does not respond within {limit:.1?}", B::NAME);
            Err(DeliveryError::new(text))
        });
        match connected {
            Ok(connection) => {
                state.generation += 1;
                let found = (connection, state.generation);
                state.connection = Some(found.clone());
                tracing::info!(broker = B::NAME, "connected");
                Ok(found)
            }
            Err(failure) => {
                state.fail(B::NAME, &failure);
                Err(failure)
            }
        }
    }

    /// Keeps a newer connection that has replaced it.
    async fn discard(&self, generation: u64, failure: DeliveryError) -> DeliveryError {
        let mut state = self.state.lock().await;
        let current = state.connection.as_ref().map(|(_, current)| *current);
        if current == Some(generation) {
            state.connection = None;
            state.fail(B::NAME, &failure);
            if state.failures == 1 {
                // The first failure of a working connection is retried at once.
                state.retry_at = Instant::now();
            }
        }
        failure
    }
}

impl<C> State<C> {
    fn fail(&mut self, broker: &str, failure: &DeliveryError) {
        // Log once; the deliveries log each failure.
        if self.failures == 0 {
            tracing::warn!(broker, error = %failure, "not connected");
        }
        self.last_error = failure.message.clone();
        self.failures = self.failures.saturating_add(1);
        let wait = landfall_net::backoff(self.failures, MIN_BACKOFF, MAX_BACKOFF);
        self.retry_at = Instant::now() + wait.mul_f64(rand::random_range(0.5..=1.0));
    }
}

#[async_trait]
impl<B: Broker> Transport for BrokerTransport<B> {
    fn name(&self) -> &str {
        B::TRANSPORT
    }

    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        self.publish(message).await?;
        Ok(HookResponse::default())
    }

    async fn check(&self) -> Result<(), DeliveryError> {
        match tokio::time::timeout(CHECK_TIMEOUT.min(self.timeout), self.connection()).await {
            Ok(connected) => connected.map(|_| ()),
            Err(_) => Err(DeliveryError::new(format!("{} does not respond", B::NAME))),
        }
    }
}

impl<B: Broker> fmt::Debug for BrokerTransport<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BrokerTransport")
            .field(&B::TRANSPORT)
            .finish()
    }
}
