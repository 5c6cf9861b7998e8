//! A write transaction, with the same methods on SQLite and PostgreSQL.
//!
//! A statement that failed, or whose future was dropped, makes `commit` fail, so that nothing is committed in part. The
//! outcome of commits is recorded for the readiness check.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;

#[cfg(feature = "postgres")]
use super::postgres;
use super::{Clock, DatabaseError, Row, Statement, parts, sqlite};

/// The network to the database in a simulation, which may delay or lose calls.
#[doc(hidden)]
#[async_trait]
pub trait Network: std::fmt::Debug + Send + Sync {
    /// A call passes before its effect. An error: it has none.
    async fn request(&self) -> Result<(), DatabaseError>;

    /// A call passes after its effect. An error: the caller does not know whether it had one.
    async fn response(&self) -> Result<(), DatabaseError>;
}

/// A write transaction, rolled back when dropped.
///
/// Each statement sees what was committed before it (READ COMMITTED on PostgreSQL). On SQLite there
/// is one transaction at a time. On PostgreSQL a statement is cancelled after 7 seconds, or after
/// waiting 5 seconds for a lock.
///
/// # Errors
/// After a statement failed or was dropped, the transaction cannot be committed: drop it.
#[derive(Debug)]
pub struct Transaction {
    connection: Connection,
    clock: Clock,
    /// A statement failed or was cancelled, so that nothing may be committed.
    is_failed: bool,
    is_writable: Arc<AtomicBool>,
    network: Option<Arc<dyn Network>>,
}

#[derive(Debug)]
pub(crate) enum Connection {
    Sqlite(sqlite::Session),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Session),
}

impl Transaction {
    pub(crate) fn new(
        connection: Connection,
        clock: Clock,
        is_writable: Arc<AtomicBool>,
        network: Option<Arc<dyn Network>>,
    ) -> Self {
        Self {
            connection,
            clock,
            is_failed: false,
            is_writable,
            network,
        }
    }

    /// Returns the time in milliseconds since 1970, for comparisons within this transaction.
    pub fn now(&self) -> i64 {
        self.clock.millis()
    }

    /// Returns whether this is PostgreSQL, where other transactions write concurrently.
    pub const fn is_postgres(&self) -> bool {
        !matches!(self.connection, Connection::Sqlite(_))
    }

    /// Executes a statement and returns the number of rows it changed.
    pub async fn execute(&mut self, statement: Statement) -> Result<u64, DatabaseError> {
        self.is_failed = true;
        let rows = match &mut self.connection {
            Connection::Sqlite(session) => session.execute(&statement)?,
            #[cfg(feature = "postgres")]
            Connection::Postgres(session) => session.execute(statement).await?,
        };
        self.is_failed = false;
        Ok(rows)
    }

    /// Executes statements one after the other, and returns the number of rows they changed.
    pub async fn execute_all(&mut self, statements: Vec<Statement>) -> Result<u64, DatabaseError> {
        let mut rows = 0;
        for statement in statements {
            rows += self.execute(statement).await?;
        }
        Ok(rows)
    }

    /// Executes a statement for each [part](parts) of `rows`, and returns the number of rows they
    /// changed.
    pub async fn execute_parts<'a, T: Sync>(
        &mut self,
        rows: &'a [T],
        create: impl Fn(&'a [T]) -> Statement + Send,
    ) -> Result<u64, DatabaseError> {
        let mut changed = 0;
        for part in parts(rows) {
            changed += self.execute(create(part)).await?;
        }
        Ok(changed)
    }

    /// Executes a statement for each [part](parts) of `rows`, and returns their rows.
    pub async fn fetch_parts<'a, T: Sync>(
        &mut self,
        rows: &'a [T],
        create: impl Fn(&'a [T]) -> Statement + Send,
    ) -> Result<Vec<Row>, DatabaseError> {
        let mut found = Vec::new();
        for part in parts(rows) {
            found.extend(self.fetch(create(part)).await?);
        }
        Ok(found)
    }

    /// Executes a statement and returns its rows.
    pub async fn fetch(&mut self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        self.is_failed = true;
        let rows = match &mut self.connection {
            Connection::Sqlite(session) => session.fetch(&statement)?,
            #[cfg(feature = "postgres")]
            Connection::Postgres(session) => session.rows(statement).await?,
        };
        self.is_failed = false;
        Ok(rows)
    }

    /// The statements end with `;` and have no time limit.
    pub(crate) async fn script(&mut self, sql: &'static str) -> Result<(), DatabaseError> {
        self.is_failed = true;
        match &mut self.connection {
            Connection::Sqlite(session) => session.script(sql)?,
            #[cfg(feature = "postgres")]
            Connection::Postgres(session) => session.migrate(sql).await?,
        }
        self.is_failed = false;
        Ok(())
    }

    /// Commits the transaction.
    ///
    /// # Errors
    /// The database failed, and it is unknown whether it committed; or [`DatabaseError::Aborted`],
    /// and nothing was committed.
    pub async fn commit(self) -> Result<(), DatabaseError> {
        if self.is_failed {
            return Err(DatabaseError::Aborted);
        }
        let (is_writable, network) = (self.is_writable.clone(), self.network.clone());
        let mut committed = self.end("COMMIT").await;
        if let Some(network) = network {
            committed = committed.and(network.response().await);
        }
        is_writable.store(committed.is_ok(), Ordering::Relaxed);
        committed
    }

    /// Rolls back and keeps the connection.
    ///
    /// # Errors
    /// The database failed; the transaction is rolled back nevertheless.
    pub async fn rollback(self) -> Result<(), DatabaseError> {
        self.end("ROLLBACK").await
    }

    async fn end(self, sql: &'static str) -> Result<(), DatabaseError> {
        match self.connection {
            Connection::Sqlite(session) => session.end(sql).await,
            #[cfg(feature = "postgres")]
            Connection::Postgres(session) => session.end(sql).await,
        }
    }
}
