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
        .connect_with(options.clone())
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
