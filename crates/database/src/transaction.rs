//! Transactions that write.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sqlx::Sqlite;

#[cfg(feature = "postgres")]
use crate::postgres::{Server, Session};
use crate::{
    Clock, DatabaseError, Row, Statement,
    connections::{bind, sqlite_rows},
    pooled::Pooled,
    sqlite::without_names,
};

/// A transaction that writes; dropped, it never was.
///
/// It reads what was committed before each statement (READ COMMITTED on PostgreSQL); on SQLite there
/// is one at a time. On PostgreSQL no statement takes longer than 8 seconds, or waits for a lock for
/// longer than 5.
#[derive(Debug)]
pub struct Transaction {
    connection: Connection,
    clock: Clock,
    /// A statement failed or was dropped, so that nothing may be committed.
    is_failed: bool,
    /// Set to whether a commit succeeded.
    is_writable: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Connection {
    Sqlite(Pooled<Sqlite>),
    #[cfg(feature = "postgres")]
    Postgres(Session),
}

impl Transaction {
    pub(crate) async fn begin_sqlite(
        mut connection: Pooled<Sqlite>,
        clock: Clock,
    ) -> Result<Self, DatabaseError> {
        // Not deferred: a transaction that first reads and then writes could fail in between.
        sqlx::query("BEGIN IMMEDIATE")
            .execute(connection.get()?)
            .await?;
        Ok(Self {
            connection: Connection::Sqlite(connection),
            clock,
            is_failed: false,
            is_writable: Arc::default(),
        })
    }

    #[cfg(feature = "postgres")]
    pub(crate) async fn begin_postgres(
        server: &Server,
        clock: Clock,
    ) -> Result<Self, DatabaseError> {
        let mut session = server.acquire().await?;
        let rows = session.simple(&server.begin).await?;
        if let Some(row) = rows.first() {
            clock.set(sqlx::Row::try_get(row, 0)?);
        }
        Ok(Self {
            connection: Connection::Postgres(session),
            clock,
            is_failed: false,
            is_writable: Arc::default(),
        })
    }

    /// Has the outcome of the commit written to a flag.
    pub(crate) fn tracked(mut self, is_writable: Arc<AtomicBool>) -> Self {
        self.is_writable = is_writable;
        self
    }

    /// Returns the time, in milliseconds since 1970, for everything that this transaction compares.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.clock.millis()
    }

    /// Whether this is PostgreSQL, where other transactions write at the same time.
    #[must_use]
    pub const fn is_postgres(&self) -> bool {
        match self.connection {
            Connection::Sqlite(_) => false,
            #[cfg(feature = "postgres")]
            Connection::Postgres(_) => true,
        }
    }

    /// Executes a statement and returns how many rows it changed.
    ///
    /// # Errors
    /// The database failed; the transaction is then to be dropped.
    ///
    /// # Cancel safety
    /// Dropped, the transaction cannot be committed any more.
    pub async fn execute(&mut self, statement: Statement) -> Result<u64, DatabaseError> {
        self.is_failed = true;
        let rows = match &mut self.connection {
            Connection::Sqlite(connection) => {
                let Statement { sql, values, .. } = statement;
                let query = bind!(without_names(sql), values);
                let done = Box::pin(query.execute(connection.get()?));
                done.await?.rows_affected()
            }
            #[cfg(feature = "postgres")]
            Connection::Postgres(session) => session.execute(statement).await?,
        };
        self.is_failed = false;
        Ok(rows)
    }

    /// Executes a statement and returns its rows.
    ///
    /// # Errors
    /// The database failed; the transaction is then to be dropped.
    ///
    /// # Cancel safety
    /// Dropped, the transaction cannot be committed any more.
    pub async fn fetch(&mut self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        self.is_failed = true;
        let rows = match &mut self.connection {
            Connection::Sqlite(connection) => sqlite_rows(connection.get()?, statement).await?,
            #[cfg(feature = "postgres")]
            Connection::Postgres(session) => session.rows(statement).await?,
        };
        self.is_failed = false;
        Ok(rows)
    }

    /// Executes several statements without values, each ended by `;`, however long that takes.
    pub(crate) async fn script(&mut self, sql: &'static str) -> Result<(), DatabaseError> {
        self.is_failed = true;
        match &mut self.connection {
            Connection::Sqlite(connection) => {
                sqlx::raw_sql(sql).execute(connection.get()?).await?;
            }
            #[cfg(feature = "postgres")]
            Connection::Postgres(session) => session.migrate(sql).await?,
        }
        self.is_failed = false;
        Ok(())
    }

    /// Commits.
    ///
    /// # Errors
    /// The database failed; whether it committed is then unknown. A statement failed before: nothing
    /// was committed.
    pub async fn commit(self) -> Result<(), DatabaseError> {
        if self.is_failed {
            return Err(DatabaseError::Aborted);
        }
        let is_writable = self.is_writable.clone();
        let committed = self.end("COMMIT").await;
        is_writable.store(committed.is_ok(), Ordering::Relaxed);
        committed
    }

    /// Takes everything back, and keeps the connection.
    ///
    /// # Errors
    /// The database failed; everything is taken back all the same.
    pub async fn rollback(self) -> Result<(), DatabaseError> {
        self.end("ROLLBACK").await
    }

    async fn end(self, sql: &'static str) -> Result<(), DatabaseError> {
        match self.connection {
            Connection::Sqlite(mut connection) => {
                Box::pin(sqlx::query(sql).execute(connection.get()?)).await?;
                connection.reuse();
            }
            #[cfg(feature = "postgres")]
            Connection::Postgres(mut session) => {
                session.simple(sql).await?;
                session.connection.reuse();
            }
        }
        Ok(())
    }
}
