//! The database of a Landfall server: SQLite in a file, or PostgreSQL for several nodes.
//!
//! Both take the same SQL, with parameters as `$1`, and values of three kinds: numbers, texts and
//! nothing. A [`Database`] says which; [`Connections`] is it, open and with its tables.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod connections;
mod migrate;
mod sqlite;
mod statement;

use std::{fmt, path::PathBuf};

pub use self::{
    connections::{Connections, Transaction},
    migrate::Migration,
    statement::{Row, Statement, Value},
};

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
    /// The database is newer than this program.
    #[error("the database has tables of a newer version of this program ({name} {version})")]
    Newer {
        /// Whose tables.
        name: String,
        /// Their version.
        version: i64,
    },
    /// The database takes too long.
    #[error("the database didn't answer within {0:?}")]
    Slow(std::time::Duration),
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
