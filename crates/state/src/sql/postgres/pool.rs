//! The connections to one PostgreSQL, in a pool of deadpool: opened when they are needed, closed when they are idle.
//!
//! They belong to the runtime in which the pool was created; callers of other runtimes may use them. A caller
//! must not hold one connection while it waits for another. While the server rejects further connections, callers
//! share those that there are.
//!
//! The pool of sqlx does not fit: it hides why it could not connect, it connects in the runtime of the caller, and
//! it returns each connection after one more round trip, which has no time limit.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use deadpool::managed::{
    self, Manager, Metrics, Object, PoolError, QueueMode, RecycleError, RecycleResult, WeakPool,
};
use parking_lot::Mutex;
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use super::{ACQUIRE_TIMEOUT, Health, STATEMENT_TIMEOUT};
use crate::sql::DatabaseError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const TEST_AFTER: Duration = Duration::from_secs(15);
const TEST_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const IDLE_INTERVAL: Duration = Duration::from_secs(15);
const FAILURE_LIFETIME: Duration = Duration::from_secs(60);
/// After the server rejected a connection.
const RETRY_DELAY: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
pub(super) struct Pool {
    open: managed::Pool<Connector>,
    max: u32,
    permits: Arc<Semaphore>,
    /// Urgent calls need none of these, so that they wait for each other only.
    ordinary: Arc<Semaphore>,
    runtime: Handle,
}

#[derive(Debug)]
struct Permits {
    _ordinary: Option<OwnedSemaphorePermit>,
    _permit: OwnedSemaphorePermit,
}

/// A connection, which returns to the pool when it is dropped.
#[derive(Debug)]
pub(super) struct Pooled {
    open: Option<Object<Connector>>,
    /// Dropped after the connection has returned.
    _permits: Permits,
}

impl Pooled {
    /// `None` after [`close`](Self::close).
    pub(super) fn connection(&mut self) -> Option<&mut PgConnection> {
        self.open.as_deref_mut()
    }

    /// Closes the connection without a message to the server.
    pub(super) fn close(&mut self) {
        drop(self.open.take().map(Object::take));
    }
}

impl Pool {
    /// Creates a pool of at most `max` connections; the last one is for urgent calls.
    pub(super) fn new(connector: Connector, max: u32) -> Result<Self, sqlx::Error> {
        let max = max.max(1);
        let permits = |count: u32| Arc::new(Semaphore::new(count as usize));
        let open = managed::Pool::builder(connector).max_size(max as usize);
        // The newest is used, so that the others become old.
        let open = open.queue_mode(QueueMode::Lifo).build();
        let open = open.map_err(|error| sqlx::Error::Configuration(error.into()))?;
        tokio::spawn(close_idle(open.weak()));
        Ok(Self {
            open,
            max,
            permits: permits(max),
            ordinary: permits((max - 1).max(1)),
            runtime: Handle::current(),
        })
    }

    pub(super) fn options(&self) -> PgConnectOptions {
        self.open.manager().options.lock().clone()
    }

    /// Sets the server of new connections.
    pub(super) fn set_options(&self, options: PgConnectOptions) {
        let connector = self.open.manager();
        *connector.options.lock() = options;
        *connector.failure.lock() = None;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.open.is_closed()
    }

    fn is_connected(&self) -> bool {
        self.open.status().size > 0
    }

    /// Returns whether there are connections, only too few, and the server answers.
    pub(super) fn is_exhausted(&self) -> bool {
        let failure = self.open.manager().failure.lock();
        self.is_connected() && failure.as_ref().is_none_or(|failure| failure.is_answer)
    }

    /// Returns why the last attempt to connect failed, if that was lately.
    pub(super) fn failure(&self) -> Option<String> {
        let failure = self.open.manager().failure.lock();
        let failure = failure.as_ref()?;
        let is_recent = failure.retry_at.elapsed() < FAILURE_LIFETIME;
        is_recent.then(|| failure.reason.clone())
    }

    /// Returns an idle connection, or opens one.
    ///
    /// # Errors
    /// [`DatabaseError::NoConnection`] after [`ACQUIRE_TIMEOUT`], or the error of the server if a repetition is
    /// of no use.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub(super) async fn acquire(&self, is_urgent: bool) -> Result<Pooled, DatabaseError> {
        // Boxed: the futures of callers nest too deep for the compiler otherwise.
        let acquired = timeout(ACQUIRE_TIMEOUT, Box::pin(self.acquire_any(is_urgent))).await;
        acquired.unwrap_or_else(|_| {
            let in_use = || "all connections of this process are in use".to_owned();
            Err(DatabaseError::NoConnection {
                timeout: ACQUIRE_TIMEOUT,
                reason: self.failure().unwrap_or_else(in_use),
            })
        })
    }

    async fn acquire_any(&self, is_urgent: bool) -> Result<Pooled, DatabaseError> {
        loop {
            let permits = self.permits(is_urgent).await.ok_or(DatabaseError::Closed)?;
            let open = self.open.clone();
            // In a task: a caller without patience must not interrupt the attempt to connect.
            let acquired = self
                .runtime
                .spawn(async move { (open.get().await, permits) });
            let (acquired, permits) = acquired.await.map_err(|_| DatabaseError::Closed)?;
            match acquired {
                Ok(open) => {
                    return Ok(Pooled {
                        open: Some(open),
                        _permits: permits,
                    });
                }
                Err(PoolError::Backend(error)) => {
                    if !self.open.manager().is_transient(&error) && !self.is_connected() {
                        return Err(error.into());
                    }
                    // Held for a while: the others are as many as the open connections.
                    self.runtime.spawn(async move {
                        sleep(RETRY_DELAY).await;
                        drop(permits);
                    });
                }
                Err(_) => return Err(DatabaseError::Closed),
            }
        }
    }

    /// `None` if the pool is closed.
    async fn permits(&self, is_urgent: bool) -> Option<Permits> {
        let ordinary = match is_urgent {
            true => None,
            false => Some(self.ordinary.clone().acquire_owned().await.ok()?),
        };
        Some(Permits {
            _ordinary: ordinary,
            _permit: self.permits.clone().acquire_owned().await.ok()?,
        })
    }

    /// Waits for the calls that use a connection, and closes all.
    pub(super) async fn close(&self) {
        let _ = timeout(STATEMENT_TIMEOUT, self.permits.acquire_many(self.max)).await;
        self.permits.close();
        self.ordinary.close();
        let idle = self.open.retain(|_, _| false).removed;
        self.open.close();
        close_all(idle).await;
    }
}

/// Opens and tests connections.
#[derive(Debug)]
pub(super) struct Connector {
    options: Mutex<PgConnectOptions>,
    /// Statements for a new connection; empty behind PgBouncer, which shares it with other clients.
    settings: &'static str,
    /// Another server may take over from one that cannot be reached.
    has_others: bool,
    health: Arc<Health>,
    /// Of the last attempt.
    failure: Mutex<Option<Failure>>,
}

#[derive(Debug)]
struct Failure {
    reason: String,
    /// It is the server's.
    is_answer: bool,
    retry_at: Instant,
}

impl Connector {
    pub(super) fn new(
        options: PgConnectOptions,
        settings: &'static str,
        has_others: bool,
        health: Arc<Health>,
    ) -> Self {
        Self {
            options: Mutex::new(options),
            settings,
            has_others,
            health,
            failure: Mutex::default(),
        }
    }

    /// Returns whether the server may accept the next connection: it starts, or has too many.
    fn is_transient(&self, error: &sqlx::Error) -> bool {
        match error {
            sqlx::Error::Io(_) => !self.has_others,
            sqlx::Error::PoolTimedOut => true,
            sqlx::Error::Database(error) => error
                .code()
                .is_some_and(|code| code.starts_with("53") || code.starts_with("57P")),
            _ => false,
        }
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let options = self.options.lock().clone();
        let mut connection = PgConnection::connect_with(&options).await?;
        if !self.settings.is_empty() {
            sqlx::raw_sql(self.settings)
                .execute(&mut connection)
                .await?;
        }
        Ok(connection)
    }
}

impl Manager for Connector {
    type Type = PgConnection;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<PgConnection, sqlx::Error> {
        let is_early = |failure: &Failure| Instant::now() < failure.retry_at;
        if self.failure.lock().as_ref().is_some_and(is_early) {
            return Err(sqlx::Error::PoolTimedOut);
        }
        let connected = timeout(CONNECT_TIMEOUT, Box::pin(self.connect())).await;
        let connected = connected.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        let failed = connected.as_ref().err().map(|error| Failure {
            reason: message(error),
            is_answer: matches!(error, sqlx::Error::Database(_)),
            retry_at: match self.is_transient(error) {
                true => Instant::now() + RETRY_DELAY,
                false => Instant::now(),
            },
        });
        let mut failure = self.failure.lock();
        if let (None, Some(Failure { reason, .. })) = (&*failure, &failed) {
            tracing::warn!(reason, "failed to connect to the database");
        }
        *failure = failed;
        connected
    }

    async fn recycle(
        &self,
        connection: &mut PgConnection,
        metrics: &Metrics,
    ) -> RecycleResult<sqlx::Error> {
        let age = metrics.age();
        if age > MAX_LIFETIME || self.health.moved_within(age) {
            return Err(RecycleError::message("too old"));
        }
        if metrics.last_used() >= TEST_AFTER || self.health.failed_within(age) {
            let ping = timeout(TEST_TIMEOUT, Box::pin(connection.ping())).await;
            ping.map_err(|_| RecycleError::message("no answer"))??;
        }
        Ok(())
    }
}

async fn close_idle(open: WeakPool<Connector>) {
    loop {
        sleep(IDLE_INTERVAL).await;
        let Some(open) = open.upgrade() else { return };
        let is_young = |_: &_, metrics: Metrics| {
            metrics.last_used() < IDLE_TIMEOUT && metrics.age() < MAX_LIFETIME
        };
        close_all(open.retain(is_young).removed).await;
    }
}

async fn close_all(connections: Vec<PgConnection>) {
    for connection in connections {
        // Only politeness.
        let _ = timeout(TEST_TIMEOUT, connection.close()).await;
    }
}

/// Returns the message of the server and its code: the message depends on the language.
pub(super) fn message(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.code() {
            Some(code) => format!("{} (SQLSTATE {code})", error.message()),
            None => error.message().to_owned(),
        },
        sqlx::Error::PoolTimedOut => "the server does not answer".to_owned(),
        error => error.to_string(),
    }
}
