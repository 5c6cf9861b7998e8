//! A database in a file.

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

use crate::{DatabaseError, Durability, pooled::Pooled};

/// How long a writer waits for another process's transaction.
const BUSY: Duration = Duration::from_secs(10);
/// Connections besides the one that writes.
const READERS: u32 = 2;

/// Memory for pages of the connection that writes, in KiB: indexes that are written all the time fit in.
const WRITER_CACHE_KIB: u32 = 16 * 1024;
/// Pages in the log before they are copied to the file. The more there are, the fewer are copied twice.
const CHECKPOINT_PAGES: u32 = 4000;

/// An open file: the connection that writes, and those that read.
#[derive(Debug, Clone)]
pub(crate) struct File {
    writer: SqlitePool,
    readers: SqlitePool,
    path: Arc<Path>,
    /// Device and inode.
    identity: (u64, u64),
}

pub(crate) async fn open(path: &Path, durability: Durability) -> Result<File, DatabaseError> {
    let failed = |source| DatabaseError::File {
        path: path.to_owned(),
        source,
    };
    create(path).map_err(failed)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(match durability {
            Durability::Power => SqliteSynchronous::Full,
            Durability::Process => SqliteSynchronous::Normal,
        })
        .busy_timeout(BUSY);
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        // A ping of a file finds out nothing, and costs each transaction a turn of its thread.
        .test_before_acquire(false)
        .connect_with(
            options
                .clone()
                .pragma("cache_size", format!("-{WRITER_CACHE_KIB}"))
                .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string()),
        )
        .await?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .connect_lazy_with(options.read_only(true));
    Ok(File {
        writer,
        readers,
        path: path.into(),
        identity: identity(path).map_err(failed)?,
    })
}

impl File {
    /// The connection that writes, once it is free.
    pub(crate) async fn writer(&self) -> Result<Pooled<Sqlite>, DatabaseError> {
        self.check()?;
        Ok(Pooled::new(Box::pin(self.writer.acquire()).await?))
    }

    pub(crate) fn readers(&self) -> Result<&SqlitePool, DatabaseError> {
        self.check()?;
        Ok(&self.readers)
    }

    /// Checks that the path still names the file that is open: what is written to a deleted file is
    /// lost with the process.
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

/// Makes the folder and the file, so that no other user may read them; SQLite gives the files beside
/// it the same mode.
fn create(path: &Path) -> io::Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
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

/// Removes the numbers of parameters that are in order: SQLite searches the name of a parameter in a
/// list, so a thousand names take a million steps.
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
    fn parameters_in_order_have_no_names() {
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
