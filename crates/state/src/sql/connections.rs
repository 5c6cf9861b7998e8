//! An open database of either kind: reads, write transactions, and the runtime in which they must run.
//!
//! The connections belong to the runtime in which the database was opened. Callers in other runtimes use `run`,
//! `run_in_time` or `read_by_index`; the last two wait for at most ten seconds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, task::JoinSet, time::timeout};

#[cfg(feature = "postgres")]
use super::postgres::{ACQUIRE_TIMEOUT, Server};
use super::{
    Clock, Database, DatabaseError, Durability, Row, Statement, Transaction,
    sqlite::{self, File},
    transaction::Connection,
};

const TIMEOUT: Duration = Duration::from_secs(10);

/// An open database. Cheap to clone; all clones share the connections.
///
/// The connections belong to the runtime in which the database was opened.
///
/// # Errors
/// All methods fail if the database cannot be reached, or fails.
///
/// # Cancel safety
/// Reads may be dropped. A dropped write may or may not have been executed.
#[derive(Debug, Clone)]
pub struct Connections {
    pools: Pools,
    runtime: Handle,
    clock: Clock,
    is_writable: Arc<AtomicBool>,
    is_shared: bool,
    pub(crate) can_migrate: bool,
}

#[derive(Debug, Clone)]
enum Pools {
    Sqlite(File),
    #[cfg(feature = "postgres")]
    Postgres(Server),
}

impl Database {
    /// Opens the database. PostgreSQL may be unavailable: calls fail until it can be reached.
    ///
    /// # Errors
    /// The SQLite file cannot be created or opened, or the PostgreSQL URL is invalid.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn open(&self, durability: Durability) -> Result<Connections, DatabaseError> {
        let pools = match self {
            Self::Sqlite(path) => Pools::Sqlite(sqlite::open(path, durability).await?),
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => Pools::Postgres(Server::new(url, durability)?),
        };
        Ok(Connections::new(pools))
    }
}

#[cfg(feature = "postgres")]
impl Connections {
    /// Opens a few PostgreSQL connections with session settings, on which [`read`](Self::read) also
    /// executes statements that write, without a transaction.
    ///
    /// They cannot go through PgBouncer in transaction mode.
    ///
    /// # Errors
    /// The URL cannot be parsed.
    pub fn sessions(url: &str) -> Result<Self, DatabaseError> {
        Ok(Self::new(Pools::Postgres(Server::sessions(url)?)))
    }
}

impl Connections {
    fn new(pools: Pools) -> Self {
        Self {
            pools,
            runtime: Handle::current(),
            clock: Clock::default(),
            is_writable: Arc::new(AtomicBool::new(true)),
            is_shared: false,
            can_migrate: true,
        }
    }

    /// Returns a handle to the same connections that does not close them.
    ///
    /// Parts of the program that share connections queue for the SQLite writer. With separate
    /// connections each would poll until the file is unlocked.
    pub fn share(&self) -> Self {
        Self {
            is_shared: true,
            ..self.clone()
        }
    }

    /// Disables migrations, for tools that run next to a server: existing tables are only checked.
    #[must_use]
    pub const fn without_migrations(mut self) -> Self {
        self.can_migrate = false;
        self
    }

    /// Sets the clock of the transactions, for tests.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Returns the runtime in which the database was opened.
    pub const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Runs work with these connections in [their runtime](Self::runtime), in place if it is the
    /// current one.
    ///
    /// # Errors
    /// The error of the work, or [`DatabaseError::Closed`] if the runtime was shut down.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work.
    pub async fn run<T: Send + 'static, E: From<DatabaseError> + Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        if Handle::try_current().is_ok_and(|here| here.id() == self.runtime.id()) {
            return work.await;
        }
        let mut task = JoinSet::new();
        task.spawn_on(work, &self.runtime);
        match task.join_next().await {
            Some(Ok(done)) => done,
            _ => Err(DatabaseError::Closed.into()),
        }
    }

    /// Like [`run`](Self::run), for at most ten seconds; then [`DatabaseError::Timeout`].
    pub async fn run_in_time<T: Send + 'static, E: From<DatabaseError> + Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        self.run(async {
            let done = timeout(TIMEOUT, work).await;
            done.unwrap_or_else(|_| Err(DatabaseError::Timeout(TIMEOUT).into()))
        })
        .await
    }

    /// Returns SQL for the time of the database in milliseconds since 1970.
    ///
    /// On PostgreSQL it is the start of the transaction: after waiting for a row it is early, so that
    /// no lease seems to have expired.
    pub const fn now_sql(&self) -> &'static str {
        if self.is_postgres() {
            "CAST(EXTRACT(EPOCH FROM now()) * 1000 AS BIGINT)"
        } else {
            "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
        }
    }

    /// Returns the clock of the database.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns whether this is PostgreSQL, which other machines may share.
    pub const fn is_postgres(&self) -> bool {
        !matches!(self.pools, Pools::Sqlite(_))
    }

    /// Returns [`DatabaseError::Down`] if the database is known to be down, without a call.
    ///
    /// It is tried in the background, so that this ends soon after the outage.
    #[must_use]
    pub fn known_outage(&self) -> Option<DatabaseError> {
        match &self.pools {
            Pools::Sqlite(_) => None,
            #[cfg(feature = "postgres")]
            Pools::Postgres(server) => server.known_outage().map(DatabaseError::Down),
        }
    }

    /// The connection pool only reports a timeout.
    pub(crate) async fn explain(&self, error: DatabaseError) -> DatabaseError {
        match (&self.pools, error) {
            #[cfg(feature = "postgres")]
            (Pools::Postgres(server), DatabaseError::Postgres(sqlx::Error::PoolTimedOut)) => {
                DatabaseError::NoConnection {
                    timeout: ACQUIRE_TIMEOUT,
                    reason: server.explain().await,
                }
            }
            (_, error) => error,
        }
    }

    /// Starts a transaction that writes. On SQLite there is one at a time: others wait.
    pub async fn write(&self) -> Result<Transaction, DatabaseError> {
        let begun = match &self.pools {
            Pools::Sqlite(file) => file.begin().await.map(Connection::Sqlite),
            #[cfg(feature = "postgres")]
            Pools::Postgres(server) => server.begin(&self.clock).await.map(Connection::Postgres),
        };
        let connection = begun.inspect_err(|_| self.is_writable.store(false, Ordering::Relaxed))?;
        let (clock, is_writable) = (self.clock.clone(), self.is_writable.clone());
        Ok(Transaction::new(connection, clock, is_writable))
    }

    /// Reads rows, concurrently with writers.
    pub async fn read(&self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        match &self.pools {
            Pools::Sqlite(file) => file.read(statement).await,
            #[cfg(feature = "postgres")]
            Pools::Postgres(server) => server.read(statement).await,
        }
    }

    /// Reads a few rows that an index finds, from any runtime and for at most ten seconds.
    ///
    /// On SQLite this runs in the calling task: switches to another thread and back cost more than the read.
    ///
    /// # Errors
    /// As [`run_in_time`](Self::run_in_time).
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn read_by_index(&self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        match &self.pools {
            Pools::Sqlite(file) => timeout(TIMEOUT, file.read_by_index(statement))
                .await
                .unwrap_or(Err(DatabaseError::Timeout(TIMEOUT))),
            #[cfg(feature = "postgres")]
            Pools::Postgres(_) => {
                let this = self.clone();
                self.run_in_time(async move { this.read(statement).await })
                    .await
            }
        }
    }

    /// `None` for SQLite.
    #[cfg(feature = "postgres")]
    pub(super) const fn postgres_pool(&self) -> Option<&sqlx::PgPool> {
        match &self.pools {
            Pools::Sqlite(_) => None,
            Pools::Postgres(server) => Some(&server.pool),
        }
    }

    /// Executes a statement in one transaction and returns the number of changed rows.
    pub async fn execute(&self, statement: Statement) -> Result<u64, DatabaseError> {
        let mut transaction = self.write().await?;
        let changed = transaction.execute(statement).await?;
        transaction.commit().await?;
        Ok(changed)
    }

    /// Checks that tables can be written, for the readiness check.
    ///
    /// Privileges may have been revoked, the file deleted, or the disk may be full. Each probe is a
    /// statement without effect, such as an `UPDATE` of no row.
    ///
    /// # Errors
    /// The reason why a table cannot be written.
    pub async fn check(
        &self,
        probes: impl IntoIterator<Item = Statement> + Send,
    ) -> Result<(), DatabaseError> {
        // A full disk is detected only by a change.
        let has_failed = !self.is_writable.load(Ordering::Relaxed);
        let mut transaction = self.write().await?;
        for probe in probes {
            transaction.execute(probe).await?;
        }
        if !has_failed {
            return transaction.rollback().await;
        }
        let change = "UPDATE landfall_migrations SET version = version";
        transaction.execute(Statement::new(change)).await?;
        transaction.commit().await
    }

    /// Closes the connections when they are idle; a [shared](Self::share) handle does nothing.
    pub async fn close(&self) {
        if self.is_shared {
            return;
        }
        match &self.pools {
            Pools::Sqlite(file) => file.close().await,
            #[cfg(feature = "postgres")]
            Pools::Postgres(server) => server.pool.close().await,
        }
    }
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[tokio::test]
    async fn connection_refused_is_reported_as_the_cause() {
        // No server listens on port 1.
        let database = Database::Postgres("postgres://u:p@127.0.0.1:1/x".to_owned());
        let connections = database.open(Durability::PowerLoss).await.unwrap();
        let error = connections.migrate("test", &[]).await.unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with("no connection to the database"),
            "{error}"
        );
        assert!(error.contains("refused"), "{error}");
    }
}
