//! What the settings of the server's own memory mean.

use std::path::PathBuf;

use super::Secret;

/// What the server keeps beside uploads, and where.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The folder; `None` is the usual one.
    pub dir: Option<PathBuf>,
    /// The database, if it isn't a file in that folder.
    pub database: Option<Database>,
    /// What this server is called among several; `None` is the name of the machine.
    pub node: Option<String>,
}

/// A database.
#[derive(Clone, Debug, PartialEq)]
pub enum Database {
    /// A file of SQLite.
    File(PathBuf),
    /// A PostgreSQL server, by its URL.
    Postgres(Secret),
}
