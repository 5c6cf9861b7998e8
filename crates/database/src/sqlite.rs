//! SQLite in a file.

use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    DatabaseError, Durability, Row, Statement,
    pooled::Pooled,
    statement::{RowOf, bind},
};

/// Time limit for the lock of another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections in addition to the writer.
const MAX_READERS: u32 = 2;

/// Page cache of the writer, in KiB: large enough for the indexes that are written constantly.
const WRITER_CACHE_KIB: u32 = 16 * 1024;
/// Pages in the write-ahead log before a checkpoint: the larger, the fewer pages are copied twice.
const CHECKPOINT_PAGES: u32 = 4000;

/// An open file: one connection that writes, and some that read.
#[derive(Debug, Clone)]
pub(crate) struct File {
    writer: SqlitePool,
    readers: SqlitePool,
    path: Arc<Path>,
    /// Device and inode.
    identity: (u64, u64),
}

pub(crate) async fn open(path: &Path, durability: Durability) -> Result<File, DatabaseError> {
    let failed = |source| DatabaseError::Create {
        path: path.to_owned(),
        source,
    };
    create(path).map_err(failed)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(match durability {
            Durability::PowerLoss => SqliteSynchronous::Full,
            Durability::ProcessCrash => SqliteSynchronous::Normal,
        })
        .busy_timeout(BUSY_TIMEOUT);
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        // Pinging a local file detects nothing and costs a thread switch per transaction.
        .test_before_acquire(false)
        .connect_with(
            options
                .clone()
                .pragma("cache_size", format!("-{WRITER_CACHE_KIB}"))
                .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string()),
        )
        .await?;
    let readers = SqlitePoolOptions::new()
        .max_connections(MAX_READERS)
        .connect_lazy_with(options.read_only(true));
    Ok(File {
        writer,
        readers,
        path: path.into(),
        identity: identity(path).map_err(failed)?,
    })
}

impl File {
    /// Returns the connection that writes, once it is free.
    pub(crate) async fn writer(&self) -> Result<Pooled<Sqlite>, DatabaseError> {
        self.check()?;
        Ok(Pooled::new(Box::pin(self.writer.acquire()).await?))
    }

    pub(crate) fn readers(&self) -> Result<&SqlitePool, DatabaseError> {
        self.check()?;
        Ok(&self.readers)
    }

    /// Checks that the path still names the open file: writes to a deleted file would be lost.
    fn check(&self) -> Result<(), DatabaseError> {
        if identity(&self.path).ok() == Some(self.identity) {
            Ok(())
        } else {
            Err(DatabaseError::Replaced(PathBuf::from(&*self.path)))
        }
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Creates the directory and the file, readable only by this user. SQLite gives its other files the
/// same mode.
fn create(path: &Path) -> io::Result<()> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    Ok(())
}

pub(crate) async fn sqlite_rows<'e>(
    executor: impl sqlx::SqliteExecutor<'e>,
    statement: Statement,
) -> Result<Vec<Row>, DatabaseError> {
    let Statement { sql, values, .. } = statement;
    // Boxed to keep the futures of requests small.
    let rows = Box::pin(bind!(without_names(sql), values).fetch_all(executor)).await?;
    Ok(rows
        .into_iter()
        .map(|row| Row(RowOf::Sqlite(row)))
        .collect())
}

/// Replaces `$1`, `$2`, … by `?` if they are in order.
///
/// SQLite resolves a named parameter by a linear search, so a thousand of them take a million
/// steps.
pub(crate) fn without_names(sql: String) -> String {
    let mut pieces = sql.split('$');
    let mut unnamed = String::with_capacity(sql.len());
    unnamed.push_str(pieces.next().unwrap_or_default());
    for (piece, number) in pieces.zip(1_usize..) {
        let rest = piece.trim_start_matches(|c: char| c.is_ascii_digit());
        if piece[..piece.len() - rest.len()].parse() != Ok(number) {
            return sql;
        }
        unnamed.push('?');
        unnamed.push_str(rest);
    }
    unnamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordered_parameters_lose_their_names() {
        for (sql, unnamed) in [
            ("SELECT 1", "SELECT 1"),
            (
                "($1, CAST($2 AS BIGINT)), ($3)",
                "(?, CAST(? AS BIGINT)), (?)",
            ),
            ("x = $2 OR x = $1", "x = $2 OR x = $1"),
            ("x = $1 OR y = $1", "x = $1 OR y = $1"),
            ("x = $1 OR y = '$.a'", "x = $1 OR y = '$.a'"),
            ("$1$2", "??"),
        ] {
            assert_eq!(without_names(sql.to_owned()), unnamed);
        }
    }
}
