//! An open database.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    Clock, Database, DatabaseError, Durability, Row, Statement, Transaction, sqlite, sqlite::File,
    statement::RowOf,
};
#[cfg(feature = "postgres")]
use crate::{
    listener::Listener,
    postgres::{ACQUIRE_TIMEOUT, Server},
};

/// A query with its values, for either database.
macro_rules! bind {
    ($sql:expr, $values:expr) => {{
        // Statements are made of the program's own words (see `Statement`).
        let mut query = sqlx::query(sqlx::AssertSqlSafe($sql));
        for value in $values {
            query = match value {
                crate::Value::Number(number) => query.bind(number),
                crate::Value::Text(text) => query.bind(text),
                crate::Value::NoText => query.bind(None::<String>),
                crate::Value::NoNumber => query.bind(None::<i64>),
            };
        }
        query
    }};
}
pub(crate) use bind;

/// An open database. Cheap to clone; all clones share the connections, which belong to the runtime in
/// which it was opened.
#[derive(Debug, Clone)]
pub struct Connections {
    pools: Pools,
    clock: Clock,
    /// The last transaction that wrote was committed.
    is_writable: Arc<AtomicBool>,
    is_lent: bool,
    may_migrate: bool,
}

#[derive(Debug, Clone)]
enum Pools {
    Sqlite(File),
    #[cfg(feature = "postgres")]
    Postgres(Server),
}

impl Database {
    /// Opens it. PostgreSQL needn't be there yet: what needs it then fails, and works later.
    ///
    /// # Errors
    /// The file can't be made or is no database; the address can't be read.
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
    /// Opens few connections to PostgreSQL whose sessions belong to this program, so that a statement
    /// needs no transaction around it: not for PgBouncer in transaction mode.
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
            clock: Clock::default(),
            is_writable: Arc::new(AtomicBool::new(true)),
            is_lent: false,
            may_migrate: true,
        }
    }

    /// The same connections for a part of the program that may not close them: several parts share
    /// them and take turns at writing, where on SQLite those with connections of their own would each
    /// try again and again until it is free.
    #[must_use]
    pub fn lend(&self) -> Self {
        Self {
            is_lent: true,
            ..self.clone()
        }
    }

    /// For tools that work while a server runs: tables that exist are checked and not changed.
    #[must_use]
    pub const fn without_migrations(mut self) -> Self {
        self.may_migrate = false;
        self
    }

    pub(crate) const fn may_migrate(&self) -> bool {
        self.may_migrate
    }

    /// Sets the clock that transactions show, for tests.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The clock of the database.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether this is PostgreSQL, which other machines may share.
    #[must_use]
    pub const fn is_postgres(&self) -> bool {
        match self.pools {
            Pools::Sqlite(_) => false,
            #[cfg(feature = "postgres")]
            Pools::Postgres(_) => true,
        }
    }

    /// Finds out why no connection becomes free: a pool tries again until its time is over, and then
    /// names no cause.
    pub(crate) async fn explain(&self, error: DatabaseError) -> DatabaseError {
        match (&self.pools, error) {
            #[cfg(feature = "postgres")]
            (Pools::Postgres(server), DatabaseError::Sql(sqlx::Error::PoolTimedOut)) => {
                DatabaseError::NoConnection {
                    timeout: ACQUIRE_TIMEOUT,
                    reason: server.explain().await,
                }
            }
            (_, error) => error,
        }
    }

    /// Begins a transaction that writes. On SQLite there is one at a time: it waits for the others.
    ///
    /// # Errors
    /// The database can't be reached.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn write(&self) -> Result<Transaction, DatabaseError> {
        let clock = self.clock.clone();
        let begun = match &self.pools {
            Pools::Sqlite(file) => match file.writer().await {
                Ok(connection) => Box::pin(Transaction::begin_sqlite(connection, clock)).await,
                Err(error) => Err(error),
            },
            #[cfg(feature = "postgres")]
            Pools::Postgres(server) => Transaction::begin_postgres(server, clock).await,
        };
        if begun.is_err() {
            self.is_writable.store(false, Ordering::Relaxed);
        }
        Ok(begun?.tracked(self.is_writable.clone()))
    }

    /// Reads rows, while others write.
    ///
    /// # Errors
    /// The database can't be reached or doesn't understand.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn read(&self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        match &self.pools {
            Pools::Sqlite(file) => sqlite_rows(file.readers()?, statement).await,
            #[cfg(feature = "postgres")]
            Pools::Postgres(server) => server.read(statement).await,
        }
    }

    /// Executes one statement as a transaction of its own, and returns its rows.
    ///
    /// # Errors
    /// The database failed; the statement may have been executed.
    ///
    /// # Cancel safety
    /// Dropped, the statement may have been executed.
    pub(crate) async fn run(&self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        #[cfg(feature = "postgres")]
        if let Pools::Postgres(server) = &self.pools
            && server.has_sessions
        {
            return server.read(statement).await;
        }
        let mut transaction = self.write().await?;
        let rows = transaction.fetch(statement).await?;
        transaction.commit().await?;
        Ok(rows)
    }

    /// Connects to PostgreSQL for notifications.
    ///
    /// # Errors
    /// The database failed, or is SQLite.
    #[cfg(feature = "postgres")]
    pub async fn listener(&self) -> Result<Listener, DatabaseError> {
        match &self.pools {
            Pools::Sqlite(_) => Err(DatabaseError::NoNotifications),
            Pools::Postgres(server) => match Listener::connect(&server.pool).await {
                Ok(listener) => Ok(listener),
                Err(error) => Err(self.explain(error).await),
            },
        }
    }

    /// Checks that the tables of `probes` can be written, for readiness: rights may have been revoked,
    /// the file deleted, or the disk full. Each probe is a statement that changes nothing, such as an
    /// `UPDATE` of no row.
    ///
    /// # Errors
    /// What keeps it from being written.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn check(
        &self,
        probes: impl IntoIterator<Item = Statement> + Send,
    ) -> Result<(), DatabaseError> {
        // A full disk shows only in a change.
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

    /// Closes the connections, when those that are in use are free; does nothing to those that are
    /// [lent](Self::lend).
    pub async fn close(&self) {
        if self.is_lent {
            return;
        }
        match &self.pools {
            Pools::Sqlite(file) => file.close().await,
            #[cfg(feature = "postgres")]
            Pools::Postgres(server) => server.pool.close().await,
        }
    }
}

pub(crate) async fn sqlite_rows<'e>(
    executor: impl sqlx::SqliteExecutor<'e>,
    statement: Statement,
) -> Result<Vec<Row>, DatabaseError> {
    let Statement { sql, values, .. } = statement;
    // Boxed, it is not part of every request's future.
    let rows = Box::pin(bind!(sqlite::without_names(sql), values).fetch_all(executor)).await?;
    Ok(rows
        .into_iter()
        .map(|row| Row(RowOf::Sqlite(row)))
        .collect())
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named_as_the_cause() {
        // Nobody listens on port 1.
        let database = Database::Postgres("postgres://u:p@127.0.0.1:1/x".to_owned());
        let connections = database.open(Durability::Power).await.unwrap();
        let error = connections.migrate("test", &[]).await.unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with("no connection to the database"),
            "{error}"
        );
        assert!(error.contains("refused"), "{error}");
    }
}
