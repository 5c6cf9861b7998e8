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
use super::postgres::Server;
use super::{
    Clock, Database, DatabaseError, Durability, Row, Statement, Transaction,
    sqlite::{self, File},
    transaction::{Connection, Network},
    unsigned,
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
    network: Option<Arc<dyn Network>>,
    is_urgent: bool,
    pub(crate) can_migrate: bool,
}

/// The connections that a PostgreSQL server accepts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capacity {
    /// `max_connections` without those that are reserved.
    pub accepted: u64,
    /// Open ones, of all its users.
    pub open: u64,
    /// Running nodes that store events in this database, as far as it is known.
    pub nodes: u64,
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
        self.open_with(durability, Connections::DEFAULT_MAX).await
    }

    /// Like [`open`](Self::open), with at most `max_connections` to PostgreSQL instead of 5, including that of all
    /// [listeners](Connections::listener). They are opened when needed, and closed a minute after the last use.
    pub async fn open_with(
        &self,
        durability: Durability,
        max_connections: u32,
    ) -> Result<Connections, DatabaseError> {
        // SQLite has a writer and a few readers.
        #[cfg(not(feature = "postgres"))]
        let _ = max_connections;
        match self {
            Self::Sqlite(path) => {
                let file = sqlite::open(path, durability).await?;
                Ok(Connections::new(Pools::Sqlite(file)))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => Connections::to_postgres(url, durability, max_connections),
        }
    }
}

#[cfg(feature = "postgres")]
impl Connections {
    /// Creates the connections of [`Database::open_with`] in the current runtime; none is opened yet.
    ///
    /// # Errors
    /// The URL is invalid.
    pub fn to_postgres(
        url: &str,
        durability: Durability,
        max_connections: u32,
    ) -> Result<Self, DatabaseError> {
        let server = Server::new(url, durability, max_connections)?;
        Ok(Self::new(Pools::Postgres(server)))
    }

    /// `None` for SQLite.
    pub(super) const fn postgres(&self) -> Option<&Server> {
        match &self.pools {
            Pools::Sqlite(_) => None,
            Pools::Postgres(server) => Some(server),
        }
    }
}

impl Connections {
    /// The default of `max_connections`.
    pub const DEFAULT_MAX: u32 = 5;

    fn new(pools: Pools) -> Self {
        Self {
            pools,
            runtime: Handle::current(),
            clock: Clock::default(),
            is_writable: Arc::new(AtomicBool::new(true)),
            is_shared: false,
            network: None,
            is_urgent: false,
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

    /// Returns a handle to the same connections for a simulated node: its calls pass a network and never leave its
    /// task, and its work runs in the current runtime.
    #[doc(hidden)]
    #[must_use]
    pub fn simulated(&self, network: Arc<dyn Network>) -> Self {
        match &self.pools {
            Pools::Sqlite(file) => file.never_block(),
            #[cfg(feature = "postgres")]
            Pools::Postgres(_) => {}
        }
        Self {
            network: Some(network),
            runtime: Handle::current(),
            ..self.share()
        }
    }

    /// Returns a [shared](Self::share) handle for few and short calls that must not wait for others: one of the
    /// connections to PostgreSQL serves only these.
    pub fn urgent(&self) -> Self {
        Self {
            is_urgent: true,
            ..self.share()
        }
    }

    async fn send_request(&self) -> Result<(), DatabaseError> {
        match &self.network {
            Some(network) => network.request().await,
            None => Ok(()),
        }
    }

    async fn receive_response(&self) -> Result<(), DatabaseError> {
        match &self.network {
            Some(network) => network.response().await,
            None => Ok(()),
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

    /// Returns whether a [listener](Self::listener) can receive notifications: not on SQLite, and not through
    /// PgBouncer in transaction mode, which `statement-cache-capacity=0` in the URL indicates.
    pub fn has_notifications(&self) -> bool {
        match &self.pools {
            Pools::Sqlite(_) => false,
            #[cfg(feature = "postgres")]
            Pools::Postgres(server) => server.has_notifications(),
        }
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

    /// Returns why the last attempt to connect failed, within a minute and unless a later one succeeded.
    ///
    /// It is the message of PostgreSQL and `(SQLSTATE code)`, or `it is read-only` of a standby.
    #[must_use]
    pub fn connect_error(&self) -> Option<String> {
        match &self.pools {
            Pools::Sqlite(_) => None,
            #[cfg(feature = "postgres")]
            Pools::Postgres(server) => server.connect_error(),
        }
    }

    /// Starts a transaction that writes. On SQLite there is one at a time: others wait.
    pub async fn write(&self) -> Result<Transaction, DatabaseError> {
        self.send_request().await?;
        let begun = match &self.pools {
            Pools::Sqlite(file) => file.begin().await.map(Connection::Sqlite),
            #[cfg(feature = "postgres")]
            Pools::Postgres(server) => {
                let begun = server.begin(&self.clock, self.is_urgent).await;
                begun.map(Connection::Postgres)
            }
        };
        let connection = begun.inspect_err(|_| self.is_writable.store(false, Ordering::Relaxed))?;
        let (clock, is_writable) = (self.clock.clone(), self.is_writable.clone());
        let network = self.network.clone();
        Ok(Transaction::new(connection, clock, is_writable, network))
    }

    /// Reads rows, concurrently with writers.
    pub async fn read(&self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        self.send_request().await?;
        let rows = match &self.pools {
            Pools::Sqlite(file) => file.read(statement).await,
            #[cfg(feature = "postgres")]
            Pools::Postgres(server) => server.read(statement, self.is_urgent).await,
        }?;
        self.receive_response().await?;
        Ok(rows)
    }

    /// Executes a statement that may write, in a separate transaction, and returns its rows.
    ///
    /// On PostgreSQL it is one round trip, and the transaction survives a power loss.
    pub async fn fetch(&self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        let rows = match &self.pools {
            Pools::Sqlite(_) => {
                let mut transaction = self.write().await?;
                let rows = transaction.fetch(statement).await?;
                transaction.commit().await?;
                return Ok(rows);
            }
            #[cfg(feature = "postgres")]
            Pools::Postgres(server) => {
                self.send_request().await?;
                server.fetch(statement, self.is_urgent).await?
            }
        };
        self.receive_response().await?;
        Ok(rows)
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

    /// Returns how many connections the PostgreSQL server accepts, and how many nodes share it.
    ///
    /// # Errors
    /// The database failed, or is SQLite.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn capacity(&self) -> Result<Capacity, DatabaseError> {
        let number = async |sql: &str| {
            let rows = self.read(Statement::new(sql)).await?;
            let row = rows.first();
            row.map_or(Ok(0), |row| row.number("n")).map(unsigned)
        };
        let accepted = number(
            "SELECT CAST(current_setting('max_connections') AS BIGINT) \
             - CAST(current_setting('superuser_reserved_connections') AS BIGINT) \
             - CAST(coalesce(current_setting('reserved_connections', true), '0') AS BIGINT) AS n",
        )
        .await?;
        let open =
            "SELECT COUNT(*) AS n FROM pg_stat_activity WHERE backend_type = 'client backend'";
        let open = number(open).await?;
        let exists = "SELECT CAST(to_regclass('outbox_nodes') IS NOT NULL AS INT)::BIGINT AS n";
        let nodes = match number(exists).await? {
            0 => 0,
            _ => {
                let now = self.now_sql();
                let live = "SELECT COUNT(*) AS n FROM outbox_nodes WHERE expires_at >";
                number(&format!("{live} {now}")).await?
            }
        };
        Ok(Capacity {
            accepted,
            open,
            nodes,
        })
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
            Pools::Postgres(server) => server.close().await,
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
