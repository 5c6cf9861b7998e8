//! PostgreSQL connections with time limits on every call, so that network faults cannot block them.
//!
//! While the server is known to be down, calls fail at once, and one task tries to connect.

mod hosts;
mod notifications;
mod pool;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sqlx::{
    AssertSqlSafe, PgConnection, Postgres,
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::Query,
};
use tokio::{
    sync::{Notify, OnceCell, watch},
    time::{error::Elapsed, sleep, timeout},
};

pub(crate) use self::notifications::{Notifications, Subscription};
use self::{
    hosts::Hosts,
    pool::{Connector, Pool, Pooled},
};
use super::{Clock, DatabaseError, Durability, Row, Statement, Value, row::RowOf};

pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// The server cancels a statement a little earlier.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(8);
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(3600);
/// Between two attempts to connect to a server that is down, with and without calls that wait.
const MIN_PROBE_DELAY: Duration = Duration::from_millis(100);
const MAX_PROBE_DELAY: Duration = Duration::from_secs(2);
/// A call waits this long for such an attempt.
const PROBE_PATIENCE: Duration = Duration::from_millis(300);
/// Of connections to the server itself; `fetch` relies on them.
const SESSION_SETTINGS: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; \
     SET statement_timeout = 7000; SET lock_timeout = 5000; \
     SET idle_in_transaction_session_timeout = 10000; SET synchronous_commit = on";
/// The server is a standby, or became one.
const READ_ONLY: &str = "25006";
/// The class of errors of a server that stops, or that ended the connection.
const STOPPED: &str = "57P";

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
    pool: Pool,
    /// Starts a transaction with the durability of the database.
    begin: Arc<str>,
    /// Starts one whose commit survives a power loss.
    begin_durable: Arc<str>,
    pub(crate) notifications: Notifications,
    health: Arc<Health>,
    hosts: Arc<Hosts>,
    /// One of several hosts was chosen.
    chosen: Arc<OnceCell<()>>,
    /// False behind PgBouncer in transaction mode, which `statement-cache-capacity=0` in the URL indicates.
    is_persistent: bool,
}

impl Server {
    /// At most `max` connections are open, including that of the notifications.
    pub(crate) fn new(url: &str, durability: Durability, max: u32) -> Result<Self, sqlx::Error> {
        let hosts = Hosts::parse(url)?;
        let health = Arc::<Health>::default();
        let is_persistent = !url.contains("statement-cache-capacity=0");
        let (max, settings) = match is_persistent {
            true => (max.saturating_sub(1), SESSION_SETTINGS),
            false => (max, ""),
        };
        let commit = match durability {
            Durability::PowerLoss => "on",
            Durability::ProcessCrash => "off",
        };
        let (first, has_others) = (hosts.first(), hosts.are_several());
        let connector = Connector::new(first, settings, has_others, health.clone());
        Ok(Self {
            pool: Pool::new(connector, max)?,
            begin: begin(commit).into(),
            begin_durable: begin("on").into(),
            notifications: Notifications::default(),
            health,
            hosts: Arc::new(hosts),
            chosen: Arc::default(),
            is_persistent,
        })
    }

    /// Returns whether notifications can arrive.
    pub(crate) fn has_notifications(&self) -> bool {
        self.is_persistent
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        self.pool.options()
    }

    /// Returns why the last attempt to connect failed.
    pub(crate) fn connect_error(&self) -> Option<String> {
        self.known_outage().or_else(|| self.pool.failure())
    }

    /// Returns why a connection that is not of the pool failed, by another one.
    pub(crate) async fn explain(&self) -> String {
        let tested = self.hosts.test_in_time(&self.pool.options()).await;
        let reason = || "the server rejected the connection until now".to_owned();
        tested.err().unwrap_or_else(reason)
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    pub(crate) fn known_outage(&self) -> Option<String> {
        self.health.outage.borrow().clone()
    }

    /// Returns once one of several hosts is chosen and the server is not known to be down.
    pub(crate) async fn available(&self) -> Result<(), DatabaseError> {
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
        Ok(())
    }

    async fn acquire(&self, is_urgent: bool) -> Result<Session, DatabaseError> {
        self.available().await?;
        let acquired = Box::pin(self.pool.acquire(is_urgent)).await;
        let connection = acquired.inspect_err(|error| {
            self.health.failed();
            let reason = match error {
                DatabaseError::NoConnection { reason, .. } => reason.clone(),
                DatabaseError::Postgres(error @ sqlx::Error::Io(_)) => error.to_string(),
                _ => return,
            };
            if self.hosts.are_several() || !self.pool.is_exhausted() {
                self.begin_outage(&reason);
            }
        })?;
        Ok(Session {
            connection,
            is_reusable: false,
            server: self.clone(),
        })
    }

    /// Makes calls fail at once until a task has found a server.
    fn begin_outage(&self, reason: &str) {
        let known = self.health.outage.send_replace(Some(reason.to_owned()));
        if known.is_some() {
            return;
        }
        tracing::warn!(reason, "the database is down");
        let (pool, hosts, health) = (self.pool.clone(), self.hosts.clone(), self.health.clone());
        let users = Arc::downgrade(&self.chosen);
        tokio::spawn(async move {
            let mut delay = MIN_PROBE_DELAY;
            while users.strong_count() > 0 && !pool.is_closed() {
                match choose(&pool, &hosts, &health).await {
                    Ok(()) => {
                        tracing::info!("the database is available again");
                        return;
                    }
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
    pub(crate) async fn begin(
        &self,
        clock: &Clock,
        is_urgent: bool,
    ) -> Result<Session, DatabaseError> {
        let mut session = self.acquire(is_urgent).await?;
        if let Some(row) = session.simple(&self.begin).await?.first() {
            clock.set(sqlx::Row::try_get(row, 0)?);
        }
        Ok(session)
    }

    pub(crate) async fn read(
        &self,
        statement: Statement,
        is_urgent: bool,
    ) -> Result<Vec<Row>, DatabaseError> {
        Box::pin(self.single(statement, "BEGIN READ ONLY", is_urgent)).await
    }

    /// Executes a statement that may write, in a separate transaction.
    pub(crate) async fn fetch(
        &self,
        statement: Statement,
        is_urgent: bool,
    ) -> Result<Vec<Row>, DatabaseError> {
        Box::pin(self.single(statement, &self.begin_durable, is_urgent)).await
    }

    async fn single(
        &self,
        statement: Statement,
        begin: &str,
        is_urgent: bool,
    ) -> Result<Vec<Row>, DatabaseError> {
        let mut session = self.acquire(is_urgent).await?;
        // Otherwise PgBouncer could send parse and execute to different connections.
        if !self.is_persistent {
            session.simple(begin).await?;
        }
        let rows = session.rows(statement).await;
        if self.is_persistent {
            let rows = rows?;
            session.reuse();
            return Ok(rows);
        }
        let end = if rows.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = session.end(end).await;
        let rows = rows?;
        ended?;
        Ok(rows)
    }
}

/// The settings are those of the transaction and not of the session, which PgBouncer shares with other clients.
fn begin(commit: &str) -> String {
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; \
         SET LOCAL statement_timeout = 7000; SET LOCAL lock_timeout = 5000; \
         SET LOCAL idle_in_transaction_session_timeout = 10000; \
         SET LOCAL synchronous_commit = {commit}; \
         SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
    )
}

/// Makes new connections those to a server that accepts them.
async fn choose(pool: &Pool, hosts: &Hosts, health: &Health) -> Result<(), String> {
    pool.set_options(hosts.find().await?);
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
    connection: Pooled,
    is_reusable: bool,
    server: Server,
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.is_reusable {
            self.connection.close();
        }
    }
}

impl Session {
    /// Fails after a failure of anything but a statement.
    fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.connection.connection().ok_or(sqlx::Error::PoolClosed)
    }

    fn reuse(mut self) {
        self.is_reusable = true;
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
            Ok(Err(sqlx::Error::Database(error))) => {
                let are_several = self.server.hosts.are_several();
                let code = error.code().unwrap_or_default();
                let is_lost = code.starts_with(STOPPED) || (code == READ_ONLY && are_several);
                if is_lost && are_several {
                    self.server.begin_outage(error.message());
                }
                let error = sqlx::Error::Database(error).into();
                if !is_lost {
                    return Err(error);
                }
                error
            }
            Ok(Err(error)) => {
                // The pool would try this host until its timeout; another one may have taken over.
                if matches!(error, sqlx::Error::Io(_)) && self.server.hosts.are_several() {
                    self.server.begin_outage(&error.to_string());
                }
                error.into()
            }
            Err(_) => DatabaseError::Timeout(limit),
        };
        self.server.health.failed();
        self.connection.close();
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
