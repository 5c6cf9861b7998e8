//! The connection to a broker: made when it is needed, and made anew after it broke.

use std::{
    fmt,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::{Mutex, Semaphore};

use super::LONGEST_WAIT;
use crate::{Failure, Message, Reaction};

const SHORTEST_WAIT: Duration = Duration::from_millis(100);
/// How long a health page is kept waiting.
const LOOK: Duration = Duration::from_secs(5);

/// A kind of broker.
#[async_trait]
pub(super) trait Broker: fmt::Debug + Send + Sync + 'static {
    type Connection: Clone + Send + Sync;

    /// Its name in messages for people.
    const NAME: &'static str;

    /// Connects and logs in.
    async fn dial(&self) -> Result<Self::Connection, Failure>;

    /// Publishes a message and waits until the broker has acknowledged it.
    async fn publish(
        &self,
        connection: &Self::Connection,
        message: &Message,
    ) -> Result<(), Trouble>;
}

/// Why a message was not acknowledged.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The connection is of no use any more.
    Broken(Failure),
    /// The broker said no; others may get through.
    Refused(Failure),
}

/// A broker and the one connection to it.
pub(super) struct Link<B: Broker> {
    broker: B,
    timeout: Duration,
    permits: Semaphore,
    state: Mutex<State<B::Connection>>,
}

struct State<C> {
    /// With the number by which a delivery tells that it is still the one it used.
    connection: Option<(C, u64)>,
    dialled: u64,
    /// In a row.
    failures: u32,
    last: String,
    next: Instant,
}

impl<B: Broker> Link<B> {
    /// At most `parallel` deliveries at once, each within `timeout`.
    pub(super) fn new(broker: B, parallel: usize, timeout: Duration) -> Self {
        Self {
            broker,
            timeout,
            permits: Semaphore::new(parallel.clamp(1, Semaphore::MAX_PERMITS)),
            state: Mutex::new(State {
                connection: None,
                dialled: 0,
                failures: 0,
                last: String::new(),
                next: Instant::now(),
            }),
        }
    }

    pub(super) async fn deliver(&self, message: &Message) -> Result<Reaction, Failure> {
        if message.hook.is_question() {
            let text = format!("{} does not answer, so it can't be asked", B::NAME);
            return Err(Failure::new(format!("{text}: {}", message.hook)));
        }
        let late = |what: &str| {
            let text = format!("{} {what} within {:?}", B::NAME, self.timeout);
            Failure::new(text)
        };
        let deadline = tokio::time::Instant::now() + self.timeout;
        let connected = tokio::time::timeout_at(deadline, async {
            let permit = self.permits.acquire().await;
            let permit = permit.map_err(|closed| Failure::because("closed", closed))?;
            Ok::<_, Failure>((permit, self.connection().await?))
        });
        let (_permit, (connection, number)) = connected
            .await
            .map_err(|_| late("could not be reached"))??;
        let published = self.broker.publish(&connection, message);
        match tokio::time::timeout_at(deadline, published).await {
            Ok(Ok(())) => {
                self.state.lock().await.failures = 0;
                Ok(Reaction::default())
            }
            Ok(Err(Trouble::Refused(failure))) => {
                self.state.lock().await.failures = 0;
                Err(failure)
            }
            Ok(Err(Trouble::Broken(failure))) => Err(self.lose(number, failure).await),
            Err(_) => Err(self.lose(number, late("did not acknowledge")).await),
        }
    }

    /// Whether there is a connection, or can be.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        match tokio::time::timeout(LOOK.min(self.timeout), self.connection()).await {
            Ok(connected) => connected.map(|_| ()),
            Err(_) => Err(Failure::new(format!("{} does not answer", B::NAME))),
        }
    }

    async fn connection(&self) -> Result<(B::Connection, u64), Failure> {
        // Those who come while one connects wait for what comes of it.
        let mut state = self.state.lock().await;
        if let Some(found) = &state.connection {
            return Ok(found.clone());
        }
        let now = Instant::now();
        if now < state.next {
            let wait = state.next - now;
            let text = format!("{} (next attempt in {wait:.1?})", state.last);
            return Err(Failure::new(text));
        }
        // Shorter than a delivery, so that a silent peer is known as one.
        let limit = self.timeout.mul_f64(2.0 / 3.0);
        let dialled = tokio::time::timeout(limit, self.broker.dial()).await;
        let dialled = dialled.unwrap_or_else(|_| {
            let text = format!("{} does not answer within {limit:.1?}", B::NAME);
            Err(Failure::new(text))
        });
        match dialled {
            Ok(connection) => {
                state.dialled += 1;
                let found = (connection, state.dialled);
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

    /// Forgets a connection, unless somebody has done so already.
    async fn lose(&self, number: u64, failure: Failure) -> Failure {
        let mut state = self.state.lock().await;
        if state
            .connection
            .as_ref()
            .is_some_and(|(_, of)| *of == number)
        {
            state.connection = None;
            state.fail(B::NAME, &failure);
            if state.failures == 1 {
                // It worked until now: what broke it may be over.
                state.next = Instant::now();
            }
        }
        failure
    }
}

impl<C> State<C> {
    fn fail(&mut self, broker: &str, failure: &Failure) {
        // Whoever delivers says so each time.
        if self.failures == 0 {
            tracing::warn!(broker, error = %failure, "not connected");
        }
        self.last = failure.text.clone();
        let doubled = SHORTEST_WAIT.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let wait = doubled.min(LONGEST_WAIT);
        self.next = Instant::now() + wait.mul_f64(rand::random_range(0.5..=1.0));
    }
}

impl<B: Broker> fmt::Debug for Link<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("broker", &self.broker)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
