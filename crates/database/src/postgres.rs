//! PostgreSQL connections with time limits on every call, so that network faults cannot block them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
};
use tokio::time::{error::Elapsed, timeout};

use crate::{
    DatabaseError, Durability, Row, Statement, pooled::Pooled, row::RowOf, statement::bind,
};

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

/// The time of the last network or server failure. Older connections are tested before use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health(Arc<Mutex<Option<Instant>>>);

impl Health {
    fn failed(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn failed_within(&self, age: Duration) -> bool {
        let failed = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|at| at.elapsed() <= age)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) pool: PgPool,
    pub(crate) begin: Arc<str>,
    health: Health,
    /// False behind PgBouncer in transaction mode, which `statement-cache-capacity=0` in the URL indicates.
    is_persistent: bool,
    /// Settings apply to the session, so that a statement needs no transaction.
    pub(crate) has_sessions: bool,
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
        let mut server = Self::with_pool(url, Durability::PowerLoss, pool)?;
        server.has_sessions = true;
        Ok(server)
    }

    fn with_pool(
        url: &str,
        durability: Durability,
        pool: PgPoolOptions,
    ) -> Result<Self, sqlx::Error> {
        // PgBouncer rejects this parameter, and no value here is a float.
        let options = url.parse::<PgConnectOptions>()?.extra_float_digits(None);
        let health = Health::default();
        let tested = health.clone();
        let pool = pool
            .max_lifetime(MAX_LIFETIME)
            .idle_timeout(IDLE_TIMEOUT)
            // It costs a round trip for each statement; testing idle connections is enough.
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let is_suspect = meta.idle_for >= TEST_AFTER || tested.failed_within(meta.age);
                Box::pin(async move {
                    if is_suspect {
                        let ping = timeout(TEST_TIMEOUT, connection.ping()).await;
                        ping.map_err(|_| sqlx::Error::PoolTimedOut)??;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
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
            is_persistent: !url.contains("statement-cache-capacity=0"),
            has_sessions: false,
        })
    }

    pub(crate) async fn acquire(&self) -> Result<Session, DatabaseError> {
        let acquired = Box::pin(self.pool.acquire()).await;
        if acquired.is_err() {
            self.health.failed();
        }
        Ok(Session {
            connection: Pooled::new(acquired?),
            health: self.health.clone(),
            is_persistent: self.is_persistent,
        })
    }

    pub(crate) async fn read(&self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        let mut session = self.acquire().await?;
        // Otherwise PgBouncer could send parse and execute to different connections.
        if !self.is_persistent {
            session.simple("BEGIN READ ONLY").await?;
        }
        let rows = session.rows(statement).await?;
        if !self.is_persistent {
            session.simple("COMMIT").await?;
        }
        session.connection.reuse();
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

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connection: Pooled,
    health: Health,
    is_persistent: bool,
}

impl Session {
    // The futures of sqlx are large: boxing them keeps the futures of requests small.

    pub(crate) async fn simple(&mut self, sql: &str) -> Result<Vec<PgRow>, DatabaseError> {
        let query = sqlx::raw_sql(AssertSqlSafe(sql));
        let done = Box::pin(query.fetch_all(self.connection.get()?));
        let done = timeout(STATEMENT_TIMEOUT, done).await;
        self.checked(done, STATEMENT_TIMEOUT)
    }

    pub(crate) async fn migrate(&mut self, sql: &'static str) -> Result<(), DatabaseError> {
        self.simple("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
            .await?;
        let query = sqlx::raw_sql(sql);
        let done = Box::pin(query.execute(self.connection.get()?));
        let done = timeout(MIGRATION_TIMEOUT, done).await;
        self.checked(done, MIGRATION_TIMEOUT).map(drop)
    }

    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<u64, DatabaseError> {
        let Statement { sql, values, .. } = statement;
        let query = bind!(sql, values).persistent(self.is_persistent);
        let done = Box::pin(query.execute(self.connection.get()?));
        let done = timeout(STATEMENT_TIMEOUT, done).await;
        Ok(self.checked(done, STATEMENT_TIMEOUT)?.rows_affected())
    }

    pub(crate) async fn rows(&mut self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        let Statement { sql, values, .. } = statement;
        let query = bind!(sql, values).persistent(self.is_persistent);
        let done = Box::pin(query.fetch_all(self.connection.get()?));
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
            Ok(Err(error @ sqlx::Error::Database(_))) => return Err(error.into()),
            Ok(Err(error)) => error.into(),
            Err(_) => DatabaseError::Timeout(limit),
        };
        self.health.failed();
        self.connection.close();
        Err(error)
    }
}
