//! The database of a Landfall server: SQLite in a file, or PostgreSQL for several nodes.
//!
//! Both execute the same SQL, with parameters written as `$1` and values that are integers, texts
//! or NULL. [`Database`] selects the database; [`Connections`] is an open one.
//!
//! On SQLite one transaction writes at a time, so parts of a program [share](Connections::share)
//! connections and wait in turn. Leases are stored in the rows that they protect ([`RowLeases`]);
//! only the clock of the database decides whether one has expired.

mod clock;
mod connections;
mod convert;
#[cfg(feature = "postgres")]
mod listener;
mod migrate;
#[cfg(feature = "postgres")]
mod postgres;
mod row;
mod row_lease;
mod sqlite;
mod statement;
mod transaction;

use std::{fmt, path::PathBuf};

use rusqlite::{ErrorCode, ffi};

#[cfg(feature = "postgres")]
pub use self::listener::Listener;
pub(crate) use self::migrate::expand;
pub use self::{
    clock::Clock,
    connections::{Capacity, Connections},
    convert::{from_unix_millis, millis, replace_nul, signed, unix_millis, unsigned},
    migrate::Migration,
    row::Row,
    row_lease::{RowLease, RowLeases},
    statement::{Insert, Statement, Value, in_parts, parts, push_list},
    transaction::{Network, Transaction},
};

/// The database to open.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A file, created together with its directory if missing. Several processes of one machine may
    /// share it. Network file systems are not supported.
    Sqlite(PathBuf),
    /// `postgres://user:password@host/name`, with libpq's parameters (`sslmode`, …).
    ///
    /// Of several hosts (`host1:5432,host2:5432`), the first is used that can write.
    #[cfg(feature = "postgres")]
    Postgres(String),
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            // The address may hold a password.
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => f.write_str("Postgres(..)"),
        }
    }
}

/// The failures that a committed transaction survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A power loss.
    #[default]
    PowerLoss,
    /// A crash of the process. After a power loss SQLite may return to an older state.
    ProcessCrash,
}

/// A database error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The directory or file of an SQLite database cannot be created.
    #[error("cannot create the database {path}: {source}")]
    Create {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file of an SQLite database was deleted or replaced while it was open.
    #[error("the database file {0} was deleted or replaced; restart the server to use the new one")]
    Replaced(PathBuf),
    /// A newer program changed the tables, and this one cannot use them.
    #[error(
        "the tables {name} are at version {version}, which this program is too old for; use the \
         newer version"
    )]
    NewerSchema {
        /// The tables.
        name: String,
        /// Their version.
        version: i64,
    },
    /// The tables are older than this program, and it must not migrate them.
    #[error(
        "the tables {name} are at version {version}, and this program needs {needed}; run \
         `landfall migrate` with the settings of the server, or start the server"
    )]
    OlderSchema {
        /// The tables.
        name: String,
        /// Their version.
        version: i64,
        /// The version that the program needs.
        needed: i64,
    },
    /// A different program created the tables at the same version.
    #[error(
        "version {version} of the tables {name} was created by another program; use that program, \
         or another database"
    )]
    Changed {
        /// The tables.
        name: String,
        /// The version that differs.
        version: i64,
    },
    /// An earlier statement of the transaction failed.
    #[error("the transaction was rolled back after an error")]
    Aborted,
    /// A call exceeded its time limit.
    #[error("the database did not respond within {0:?}")]
    Timeout(std::time::Duration),
    /// Notifications do not arrive on this connection.
    #[error(
        "notifications of PostgreSQL do not arrive on this connection; append \
         statement-cache-capacity=0 to the URL if it is that of PgBouncer in transaction mode"
    )]
    NoNotifications,
    /// The connection for notifications was lost.
    #[error("the connection for notifications of PostgreSQL was lost")]
    NotificationsLost,
    /// The runtime of the connections was shut down.
    #[error("the database is closed")]
    Closed,
    /// A row holds values that this program did not write.
    #[error("invalid database row: {0}")]
    InvalidRow(String),
    /// The pool could not provide a connection in time.
    #[error("no connection to the database within {timeout:?}: {reason}")]
    NoConnection {
        /// The time limit.
        timeout: std::time::Duration,
        /// The cause, as far as it is known.
        reason: String,
    },
    /// The database is known to be down. It is tried in the background.
    #[error("the database is down: {0}")]
    Down(String),
    // The errors below are not a `#[source]` as well: the message would be printed twice.
    /// A statement or the file of SQLite failed.
    #[error("database error: {0}")]
    Sqlite(rusqlite::Error),
    /// A statement or the connection of PostgreSQL failed.
    #[cfg(feature = "postgres")]
    #[error("database error: {0}")]
    Postgres(sqlx::Error),
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

#[cfg(feature = "postgres")]
impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        Self::Postgres(error)
    }
}

impl DatabaseError {
    /// Returns whether a concurrent transaction caused the error, so that a retry may succeed.
    ///
    /// Both inserted the same key, or they deadlocked.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Sqlite(error) => matches!(
                error.sqlite_extended_error_code(),
                Some(ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY)
            ),
            #[cfg(feature = "postgres")]
            Self::Postgres(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                error.is_unique_violation() || matches!(&*code, "40001" | "40P01")
            }
            _ => false,
        }
    }

    /// Returns whether the statement or its rows caused the error, and not the connection or
    /// server.
    ///
    /// Without that statement, the transaction would have been committed.
    pub fn is_statement_error(&self) -> bool {
        match self {
            Self::InvalidRow(_) => true,
            Self::Sqlite(error) => error.sqlite_error_code().is_none_or(|code| {
                matches!(
                    code,
                    ErrorCode::Unknown
                        | ErrorCode::TooBig
                        | ErrorCode::ConstraintViolation
                        | ErrorCode::TypeMismatch
                        | ErrorCode::ParameterOutOfRange
                )
            }),
            #[cfg(feature = "postgres")]
            Self::Postgres(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                // Data exceptions, violated constraints, syntax errors and exceeded limits. A
                // missing privilege would fail other statements as well.
                code != "42501"
                    && ["22", "23", "42", "54"]
                        .iter()
                        .any(|class| code.starts_with(class))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(error) => matches!(
                error,
                sqlx::Error::ColumnDecode { .. }
                    | sqlx::Error::ColumnNotFound(_)
                    | sqlx::Error::ColumnIndexOutOfBounds { .. }
                    | sqlx::Error::Decode(_)
                    | sqlx::Error::Encode(_)
                    | sqlx::Error::TypeNotFound { .. }
            ),
            _ => false,
        }
    }
}
