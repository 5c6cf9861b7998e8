//! The database of a Landfall server: SQLite in a file, or PostgreSQL for several nodes.
//!
//! Both take the same SQL, with parameters as `$1`, and values of three kinds: numbers, texts and
//! nothing. A [`Database`] says which; [`Connections`] is it, open and with its tables.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod clock;
mod connections;
mod lease;
#[cfg(feature = "postgres")]
mod listener;
mod migrate;
mod pooled;
#[cfg(feature = "postgres")]
mod postgres;
mod runtime;
mod sqlite;
mod statement;
mod transaction;

use std::{fmt, path::PathBuf};

#[cfg(feature = "postgres")]
pub use self::listener::Listener;
pub use self::{
    clock::{Clock, millis},
    connections::Connections,
    lease::{
        Acquisition, LeaseOwner, Leases, OwnedLease, Renewal, RowLease, RowLeases, WaitingRequest,
    },
    migrate::Migration,
    runtime::run_in,
    statement::{Column, Insert, Row, Statement, Value, parts, push_list},
    transaction::Transaction,
};

#[cfg(feature = "postgres")]
pub use self::lease::{LeaseNotice, LeaseNotices};

/// Which database.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A file, made together with its folder if missing. Several processes of one machine may share
    /// it; a network file system won't do.
    Sqlite(PathBuf),
    /// `postgres://user:password@host/name`, with libpq's parameters (`sslmode`, …).
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

/// How sure a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// It survives a loss of power.
    #[default]
    Power,
    /// It survives the end of the process, and on SQLite a loss of power leaves an older state.
    Process,
}

/// Something went wrong with the database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The folder or file of an SQLite database can't be made.
    #[error("the database {path} can't be made: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file of an SQLite database was deleted or replaced while it was open.
    #[error("the database file {0} was deleted or replaced; restart the server to use the new one")]
    Replaced(PathBuf),
    /// A newer program has changed the tables so that this one cannot use them.
    #[error(
        "the tables {name} are at version {version}, which this program is too old for; use the \
         newer version"
    )]
    Newer {
        /// The tables.
        name: String,
        /// Their version.
        version: i64,
    },
    /// The tables are older than this program, which may not change them.
    #[error(
        "the tables {name} are at version {version}, and this program needs {needed}; run \
         `landfall migrate` with the settings of the server, or start the server"
    )]
    Older {
        /// The tables.
        name: String,
        /// Their version.
        version: i64,
        /// The version that the program needs.
        needed: i64,
    },
    /// The tables were made by a program with the same version and other tables.
    #[error(
        "version {version} of the tables {name} was made by another program than this one; use \
         that program, or another database"
    )]
    Changed {
        /// The tables.
        name: String,
        /// The version that differs.
        version: i64,
    },
    /// A statement of the transaction had failed.
    #[error("the transaction was rolled back after an error")]
    Aborted,
    /// The database takes too long.
    #[error("the database didn't answer within {0:?}")]
    Slow(std::time::Duration),
    /// Notifications do not arrive.
    #[error(
        "notifications of PostgreSQL do not arrive on this connection; connect to PostgreSQL \
         directly, or through PgBouncer with pool_mode = session"
    )]
    NoNotifications,
    /// The runtime that has the connections has ended.
    #[error("the database is closed")]
    Closed,
    /// A row holds something that this program didn't write.
    #[error("a row of the database makes no sense: {0}")]
    Row(String),
    /// No connection to the database could be made or became free.
    #[error("no connection to the database within {timeout:?}: {reason}")]
    NoConnection {
        /// How long it was waited for.
        timeout: std::time::Duration,
        /// Why, as far as that is known.
        reason: String,
    },
    /// The database or the way to it failed.
    // Not its source as well: the message would be there twice.
    #[error("the database failed: {0}")]
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl DatabaseError {
    /// Whether a transaction that ran at the same time is the cause, so that the same statements may
    /// succeed at once: both inserted the same key, or each waited for the other.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                error.is_unique_violation() || matches!(&*code, "40001" | "40P01")
            }
            _ => false,
        }
    }

    /// Whether a statement or a row is the cause, rather than the database or the way to it: without
    /// that statement, the transaction would have been committed.
    #[must_use]
    pub fn is_of_statement(&self) -> bool {
        use sqlx::error::ErrorKind;
        match self {
            Self::Row(_) => true,
            Self::Sql(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                let is_postgres = code.len() == 5;
                if is_postgres {
                    // Data exceptions, violated constraints, syntax and limits of the program. Rights
                    // that are missing are missing for others as well.
                    return code != "42501"
                        && ["22", "23", "42", "54"]
                            .iter()
                            .any(|class| code.starts_with(class));
                }
                // SQLite: general errors, too large, constraint, mismatch, out of range.
                let primary = code.parse::<u32>().unwrap_or_default() & 0xff;
                error.kind() != ErrorKind::Other || matches!(primary, 1 | 18 | 19 | 20 | 25)
            }
            Self::Sql(error) => matches!(
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
