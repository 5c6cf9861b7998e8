//! PostgreSQL connections with time limits on every call, so that network faults cannot block them.
//!
//! While the server is known to be down, calls fail at once, and one task tries to connect.

mod hosts;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgArguments, PgPoolOptions, PgRow},
    query::Query,
};
use tokio::{
    sync::{Notify, OnceCell, watch},
    time::{error::Elapsed, sleep, timeout},
};

use self::hosts::Hosts;
use super::{Clock, DatabaseError, Durability, Row, Statement, Value, row::RowOf};

/// Per process.
const MAX_CONNECTIONS: u32 = 8;
const MAX_SESSIONS: u32 = 4;
const SESSION_TIMEOUT: Duration = Duration::from_secs(2);
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// The server cancels a statement a little earlier.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(8);
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(3600);
const TEST_AFTER: Duration = Duration::from_secs(15);
const TEST_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);
const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// Between two attempts to connect to a server that is down, with and without calls that wait.
const MIN_PROBE_DELAY: Duration = Duration::from_millis(100);
const MAX_PROBE_DELAY: Duration = Duration::from_secs(2);
/// A call waits this long for such an attempt.
const PROBE_PATIENCE: Duration = Duration::from_millis(300);
/// The server is a standby, or became one.
const READ_ONLY: &str = "25006";

#[derive(Debug, Default)]
struct Health {
    /// The last network or server failure. Older connections are tested before use.
    failed_at: Mutex<Option<Instant>>,
    /// The last change of the server. Older connections are not used.
    moved_at: Mutex<Option<Instant>>,
    /// Why the server is down, sent with each attempt of the task that looks for one.
    outage: watch::Sender<Option<String>>,
    /// A call waits for that task.
    wake: Notify,
}

impl Health {
    fn failed(&self) {
        *self.failed_at.lock() = Some(Instant::now());
    }

    fn failed_within(&self, age: Duration) -> bool {
        self.failed_at.lock().is_some_and(|at| at.elapsed() <= age)
    }

    fn moved_within(&self, age: Duration) -> bool {
        self.moved_at.lock().is_some_and(|at| at.elapsed() <= age)
    }

    /// Returns why the server is down, after an attempt if it was.
    async fn outage(&self) -> Option<String> {
        let mut outage = self.outage.subscribe();
        if outage.borrow_and_update().is_some() {
            self.wake.notify_one();
            // Late: it is still down.
            let _ = timeout(PROBE_PATIENCE, outage.changed()).await;
        }
        outage.borrow().clone()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) pool: PgPool,
    begin: Arc<str>,
    health: Arc<Health>,
    hosts: Arc<Hosts>,
    /// One of several hosts was chosen.
    chosen: Arc<OnceCell<()>>,
    /// False behind PgBouncer in transaction mode, which `statement-cache-capacity=0` in the URL indicates.
    is_persistent: bool,
}

impl Server {
    pub(crate) fn new(url: &str, durability: Durability) -> Result<Self, sqlx::Error> {
        Self::with_pool(
            url,
            durability,
            PgPoolOptions::new()
                .max_connections(MAX_CONNECTIONS)
                .acquire_timeout(ACQUIRE_TIMEOUT),
        )
    }

    pub(crate) fn sessions(url: &str) -> Result<Self, sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(MAX_SESSIONS)
            .acquire_timeout(SESSION_TIMEOUT)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    let settings = sqlx::raw_sql(
                        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; \
                         SET statement_timeout = 7000; SET lock_timeout = 5000; \
                         SET idle_in_transaction_session_timeout = 10000; \
                         SET synchronous_commit = on",
                    );
                    settings.execute(connection).await.map(drop)
                })
            });
        Self::with_pool(url, Durability::PowerLoss, pool)
    }

    fn with_pool(
        url: &str,
        durability: Durability,
        pool: PgPoolOptions,
    ) -> Result<Self, sqlx::Error> {
        let hosts = Hosts::parse(url)?;
        let health = Arc::<Health>::default();
        let tested = health.clone();
        let pool = pool
            .max_lifetime(MAX_LIFETIME)
            .idle_timeout(IDLE_TIMEOUT)
            // It costs a round trip for each statement; testing idle connections is enough.
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let has_moved = tested.moved_within(meta.age);
                let is_suspect = meta.idle_for >= TEST_AFTER || tested.failed_within(meta.age);
                Box::pin(async move {
                    if has_moved {
                        return Ok(false);
                    }
                    if is_suspect {
                        let ping = timeout(TEST_TIMEOUT, connection.ping()).await;
                        ping.map_err(|_| sqlx::Error::PoolTimedOut)??;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(hosts.first());
        let commit = match durability {
            Durability::PowerLoss => "on",
            Durability::ProcessCrash => "off",
        };
        // In the transaction and not in the session, which PgBouncer shares with other clients.
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; \
             SET LOCAL statement_timeout = 7000; SET LOCAL lock_timeout = 5000; \
             SET LOCAL idle_in_transaction_session_timeout = 10000; \
             SET LOCAL synchronous_commit = {commit}; \
             SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
        );
        Ok(Self {
            pool,
            begin: begin.into(),
            health,
            hosts: Arc::new(hosts),
            chosen: Arc::default(),
            is_persistent: !url.contains("statement-cache-capacity=0"),
        })
    }

    pub(crate) fn known_outage(&self) -> Option<String> {
        self.health.outage.borrow().clone()
    }

    async fn acquire(&self) -> Result<Session, DatabaseError> {
        if let Some(reason) = self.health.outage().await {
            return Err(DatabaseError::Down(reason));
        }
        if self.hosts.are_several() {
            let choose = || choose(&self.pool, &self.hosts, &self.health);
            let choose = self.chosen.get_or_try_init(choose);
            if let Err(reason) = Box::pin(choose).await {
                self.begin_outage(&reason);
                return Err(DatabaseError::Down(reason));
            }
        }
        let acquired = Box::pin(self.pool.acquire()).await;
        let connection = acquired.inspect_err(|error| {
            self.health.failed();
            if matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut) {
                self.begin_outage(&error.to_string());
            }
        })?;
        Ok(Session {
            connection: Some(connection),
            server: self.clone(),
        })
    }

    /// Makes calls fail at once until a task has found a server.
    fn begin_outage(&self, reason: &str) {
        let known = self.health.outage.send_replace(Some(reason.to_owned()));
        if known.is_some() {
            return;
        }
        let (pool, hosts, health) = (self.pool.clone(), self.hosts.clone(), self.health.clone());
        let users = Arc::downgrade(&self.chosen);
        tokio::spawn(async move {
            let mut delay = MIN_PROBE_DELAY;
            while users.strong_count() > 0 && !pool.is_closed() {
                match choose(&pool, &hosts, &health).await {
                    Ok(()) => return,
                    Err(reason) => drop(health.outage.send_replace(Some(reason))),
                }
                sleep(MIN_PROBE_DELAY).await;
                // Late: no call waits.
                let _ = timeout(delay, health.wake.notified()).await;
                delay = (delay * 2).min(MAX_PROBE_DELAY);
            }
        });
    }

    /// Starts a transaction and sets the clock.
    pub(crate) async fn begin(&self, clock: &Clock) -> Result<Session, DatabaseError> {
        let mut session = self.acquire().await?;
        if let Some(row) = session.simple(&self.begin).await?.first() {
            clock.set(sqlx::Row::try_get(row, 0)?);
        }
        Ok(session)
    }

    pub(crate) async fn read(&self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        let mut session = self.acquire().await?;
        // Otherwise PgBouncer could send parse and execute to different connections.
        if !self.is_persistent {
            session.simple("BEGIN READ ONLY").await?;
        }
        let rows = session.rows(statement).await?;
        if self.is_persistent {
            session.reuse();
        } else {
            session.end("COMMIT").await?;
        }
        Ok(rows)
    }

    /// The pool reports no cause.
    pub(crate) async fn explain(&self) -> String {
        let options = self.pool.connect_options();
        match timeout(ACQUIRE_TIMEOUT, PgConnection::connect_with(&options)).await {
            Ok(Ok(_)) => "all connections are in use".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the server does not answer".to_owned(),
        }
    }
}

/// Makes new connections those to a server that accepts them.
async fn choose(pool: &PgPool, hosts: &Hosts, health: &Health) -> Result<(), String> {
    pool.set_connect_options(hosts.find().await?);
    if hosts.are_several() {
        *health.moved_at.lock() = Some(Instant::now());
    }
    drop(health.outage.send_replace(None));
    Ok(())
}

/// Dropped before [`reuse`](Self::reuse), its connection is closed at once: it may be inside a transaction, or
/// wait for a server that does not respond.
#[derive(Debug)]
pub(crate) struct Session {
    /// `None` after a failure of anything but a statement.
    connection: Option<PoolConnection<Postgres>>,
    server: Server,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}

impl Session {
    fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        let connection = self.connection.as_deref_mut();
        connection.ok_or(sqlx::Error::PoolClosed)
    }

    fn reuse(mut self) {
        drop(self.connection.take());
    }

    /// Sends no message to the server.
    fn close(&mut self) {
        drop(self.connection.take().map(PoolConnection::detach));
    }

    pub(crate) async fn end(mut self, sql: &str) -> Result<(), DatabaseError> {
        self.simple(sql).await?;
        self.reuse();
        Ok(())
    }

    // The futures of sqlx are large: boxing them keeps the futures of requests small.

    async fn simple(&mut self, sql: &str) -> Result<Vec<PgRow>, DatabaseError> {
        let query = sqlx::raw_sql(AssertSqlSafe(sql));
        let done = Box::pin(query.fetch_all(self.connection()?));
        let done = timeout(STATEMENT_TIMEOUT, done).await;
        self.checked(done, STATEMENT_TIMEOUT)
    }

    pub(crate) async fn migrate(&mut self, sql: &'static str) -> Result<(), DatabaseError> {
        self.simple("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
            .await?;
        let query = sqlx::raw_sql(sql);
        let done = Box::pin(query.execute(self.connection()?));
        let done = timeout(MIGRATION_TIMEOUT, done).await;
        self.checked(done, MIGRATION_TIMEOUT).map(drop)
    }

    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<u64, DatabaseError> {
        let query = bind(statement).persistent(self.server.is_persistent);
        let done = Box::pin(query.execute(self.connection()?));
        let done = timeout(STATEMENT_TIMEOUT, done).await;
        Ok(self.checked(done, STATEMENT_TIMEOUT)?.rows_affected())
    }

    pub(crate) async fn rows(&mut self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        let query = bind(statement).persistent(self.server.is_persistent);
        let done = Box::pin(query.fetch_all(self.connection()?));
        let done = timeout(STATEMENT_TIMEOUT, done).await;
        let rows = self.checked(done, STATEMENT_TIMEOUT)?;
        let rows = rows.into_iter().map(|row| Row(RowOf::Postgres(row)));
        Ok(rows.collect())
    }

    /// Closes the connection after a failure of anything but the statement.
    fn checked<T>(
        &mut self,
        done: Result<Result<T, sqlx::Error>, Elapsed>,
        limit: Duration,
    ) -> Result<T, DatabaseError> {
        let error = match done {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(sqlx::Error::Database(error)))
                if error.code().as_deref() == Some(READ_ONLY)
                    && self.server.hosts.are_several() =>
            {
                self.server.begin_outage(error.message());
                sqlx::Error::Database(error).into()
            }
            Ok(Err(error @ sqlx::Error::Database(_))) => return Err(error.into()),
            Ok(Err(error)) => error.into(),
            Err(_) => DatabaseError::Timeout(limit),
        };
        self.server.health.failed();
        self.close();
        Err(error)
    }
}

fn bind(statement: Statement) -> Query<'static, Postgres, PgArguments> {
    // `Statement` takes its SQL from the program alone.
    let query = sqlx::query(AssertSqlSafe(statement.sql));
    let values = statement.values.into_iter();
    values.fold(query, |query, value| match value {
        Value::Number(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
    })
}
