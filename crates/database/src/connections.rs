//! Connections and transactions.

#[cfg(feature = "postgres")]
use std::time::Duration;

use sqlx::{AssertSqlSafe, SqlitePool, SqliteTransaction};
#[cfg(feature = "postgres")]
use sqlx::{Connection as _, PgConnection, PgPool, PgTransaction, postgres::PgPoolOptions};
#[cfg(feature = "postgres")]
use tokio::time::timeout;

use crate::{Database, DatabaseError, Durability, Row, Statement, Value, sqlite, statement::RowOf};

/// A query with its values, for either database.
macro_rules! bind {
    ($sql:ident, $values:ident) => {{
        // Statements are made of the program's own words (see `Statement`).
        let mut query = sqlx::query(AssertSqlSafe($sql));
        for value in $values {
            query = match value {
                Value::Number(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
                Value::NoText => query.bind(None::<String>),
                Value::NoNumber => query.bind(None::<i64>),
            };
        }
        query
    }};
}

/// Connections to PostgreSQL of one process.
#[cfg(feature = "postgres")]
const CONNECTIONS: u32 = 8;
/// How long somebody waits for a connection to PostgreSQL.
#[cfg(feature = "postgres")]
const PATIENCE: Duration = Duration::from_secs(5);

/// An open database. Cheap to clone; all clones share the connections, which belong to the runtime in
/// which it was opened.
#[derive(Debug, Clone)]
pub struct Connections {
    pools: Pools,
    is_lent: bool,
}

#[derive(Debug, Clone)]
enum Pools {
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
    #[cfg(feature = "postgres")]
    Postgres(PgPool),
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
            Self::Sqlite(path) => {
                let (writer, readers) = sqlite::open(path, durability).await?;
                Pools::Sqlite { writer, readers }
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => {
                let commit = match durability {
                    Durability::Power => "on",
                    Durability::Process => "off",
                };
                let options = url
                    .parse::<sqlx::postgres::PgConnectOptions>()?
                    .options([("synchronous_commit", commit)]);
                let pool = PgPoolOptions::new()
                    .max_connections(CONNECTIONS)
                    .acquire_timeout(PATIENCE)
                    .connect_lazy_with(options);
                Pools::Postgres(pool)
            }
        };
        Ok(Connections {
            pools,
            is_lent: false,
        })
    }
}

impl Connections {
    /// The same connections for somebody who may not close them: several parts of a program that share
    /// them take turns at writing, where on SQLite those with connections of their own would each try
    /// again and again until it is free.
    #[must_use]
    pub fn lend(&self) -> Self {
        Self {
            pools: self.pools.clone(),
            is_lent: true,
        }
    }

    /// Whether this is PostgreSQL, which other machines may share.
    #[must_use]
    pub const fn is_postgres(&self) -> bool {
        match self.pools {
            Pools::Sqlite { .. } => false,
            #[cfg(feature = "postgres")]
            Pools::Postgres(_) => true,
        }
    }

    /// Finds out why no connection becomes free: a pool tries again until its time is over, and then
    /// names no cause.
    pub(crate) async fn explain(&self, error: DatabaseError) -> DatabaseError {
        match (&self.pools, error) {
            #[cfg(feature = "postgres")]
            (Pools::Postgres(pool), DatabaseError::Sql(sqlx::Error::PoolTimedOut)) => {
                let options = pool.connect_options();
                let connected = timeout(PATIENCE, PgConnection::connect_with(&options)).await;
                DatabaseError::NoConnection {
                    timeout: PATIENCE,
                    reason: match connected {
                        Ok(Ok(_)) => "all connections are in use".to_owned(),
                        Ok(Err(error)) => error.to_string(),
                        Err(_) => "the server does not answer".to_owned(),
                    },
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
        Ok(Transaction(match &self.pools {
            // Not deferred: a transaction that first reads and then writes could fail in between.
            Pools::Sqlite { writer, .. } => {
                TransactionOf::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?)
            }
            #[cfg(feature = "postgres")]
            Pools::Postgres(pool) => TransactionOf::Postgres(pool.begin().await?),
        }))
    }

    /// Reads rows, beside whoever writes.
    ///
    /// # Errors
    /// The database can't be reached or doesn't understand.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn read(&self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        match &self.pools {
            Pools::Sqlite { readers, .. } => sqlite_rows(readers, statement).await,
            #[cfg(feature = "postgres")]
            Pools::Postgres(pool) => postgres_rows(pool, statement).await,
        }
    }

    /// Closes the connections, when those that are in use are free; does nothing to those that are
    /// [lent](Self::lend).
    pub async fn close(&self) {
        if self.is_lent {
            return;
        }
        match &self.pools {
            Pools::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            #[cfg(feature = "postgres")]
            Pools::Postgres(pool) => pool.close().await,
        }
    }
}

/// A transaction that writes; dropped, it never was.
#[derive(Debug)]
pub struct Transaction(TransactionOf);

#[derive(Debug)]
enum TransactionOf {
    Sqlite(SqliteTransaction<'static>),
    #[cfg(feature = "postgres")]
    Postgres(PgTransaction<'static>),
}

impl Transaction {
    /// Executes a statement and says how many rows it changed.
    ///
    /// # Errors
    /// The database failed; the transaction is then to be dropped.
    pub async fn execute(&mut self, statement: Statement) -> Result<u64, DatabaseError> {
        let Statement { sql, values } = statement;
        match &mut self.0 {
            TransactionOf::Sqlite(transaction) => {
                let query = bind!(sql, values);
                Ok(query.execute(&mut **transaction).await?.rows_affected())
            }
            #[cfg(feature = "postgres")]
            TransactionOf::Postgres(transaction) => {
                let query = bind!(sql, values);
                Ok(query.execute(&mut **transaction).await?.rows_affected())
            }
        }
    }

    /// Executes a statement and returns its rows.
    ///
    /// # Errors
    /// The database failed; the transaction is then to be dropped.
    pub async fn fetch(&mut self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        match &mut self.0 {
            TransactionOf::Sqlite(transaction) => sqlite_rows(&mut **transaction, statement).await,
            #[cfg(feature = "postgres")]
            TransactionOf::Postgres(transaction) => {
                postgres_rows(&mut **transaction, statement).await
            }
        }
    }

    /// Keeps all of it.
    ///
    /// # Errors
    /// The database failed; whether it was kept is then unknown.
    pub async fn commit(self) -> Result<(), DatabaseError> {
        match self.0 {
            TransactionOf::Sqlite(transaction) => transaction.commit().await?,
            #[cfg(feature = "postgres")]
            TransactionOf::Postgres(transaction) => transaction.commit().await?,
        }
        Ok(())
    }
}

async fn sqlite_rows<'e>(
    executor: impl sqlx::SqliteExecutor<'e>,
    statement: Statement,
) -> Result<Vec<Row>, DatabaseError> {
    let Statement { sql, values } = statement;
    let rows = bind!(sql, values).fetch_all(executor).await?;
    Ok(rows
        .into_iter()
        .map(|row| Row(RowOf::Sqlite(row)))
        .collect())
}

#[cfg(feature = "postgres")]
async fn postgres_rows<'e>(
    executor: impl sqlx::PgExecutor<'e>,
    statement: Statement,
) -> Result<Vec<Row>, DatabaseError> {
    let Statement { sql, values } = statement;
    let rows = bind!(sql, values).fetch_all(executor).await?;
    Ok(rows
        .into_iter()
        .map(|row| Row(RowOf::Postgres(row)))
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
