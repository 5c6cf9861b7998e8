//! SQLite in a file.
//!
//! Statements of a transaction run on the task that calls them: a switch to another thread and back
//! costs more than most of them. So do reads of a few rows by an index. What may wait or is long runs on a blocking
//! thread: opening, waiting for another process's transaction, commits and other reads.

use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    DatabaseError, Durability, Row, Statement, Value,
    row::{RowOf, SqliteRow},
};

/// For the lock of another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// In addition to the writer.
const MAX_READERS: u32 = 2;
const MAX_PREPARED: usize = 256;

/// Large enough for the indexes that are written constantly.
const WRITER_CACHE_KIB: u32 = 16 * 1024;
/// The larger, the fewer pages are copied twice.
const CHECKPOINT_PAGES: u32 = 4000;

#[derive(Debug, Clone)]
pub(crate) struct File {
    writer: Arc<Pool>,
    readers: Arc<Pool>,
    identity: (u64, u64),
}

pub(crate) async fn open(path: &Path, durability: Durability) -> Result<File, DatabaseError> {
    let failed = |source| DatabaseError::Create {
        path: path.to_owned(),
        source,
    };
    create(path).map_err(failed)?;
    let file = File {
        writer: Pool::new(path, Access::Write(durability), 1),
        readers: Pool::new(path, Access::Read, MAX_READERS),
        identity: identity(path).map_err(failed)?,
    };
    file.writer.acquire().await?.reuse();
    Ok(file)
}

impl File {
    /// Starts a write transaction, when no other one is running.
    pub(crate) async fn begin(&self) -> Result<Session, DatabaseError> {
        self.check()?;
        self.writer.acquire().await?.begin().await
    }

    pub(crate) async fn read(&self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        self.check()?;
        let session = self.readers.acquire().await?;
        session.read(statement).await
    }

    /// Does not leave the calling task.
    pub(crate) async fn read_by_index(
        &self,
        statement: Statement,
    ) -> Result<Vec<Row>, DatabaseError> {
        self.check()?;
        let session = self.readers.acquire().await?;
        match fetch(&session.connection, &statement) {
            Err(error) if is_busy(&error) => session.read(statement).await,
            rows => {
                session.reuse();
                Ok(rows?)
            }
        }
    }

    /// Writes to a deleted file would be lost.
    fn check(&self) -> Result<(), DatabaseError> {
        let path = &self.writer.path;
        if identity(path).ok() == Some(self.identity) {
            Ok(())
        } else {
            Err(DatabaseError::Replaced(path.clone()))
        }
    }

    /// Everything runs in the calling task from now on, for simulations: their only thread must not wait.
    pub(crate) fn never_block(&self) {
        for pool in [&self.readers, &self.writer] {
            pool.never_blocks.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

#[derive(Debug, Clone, Copy)]
enum Access {
    Read,
    Write(Durability),
}

/// Connections of one kind are opened when they are needed.
#[derive(Debug)]
struct Pool {
    path: PathBuf,
    access: Access,
    max: u32,
    permits: Arc<Semaphore>,
    never_blocks: AtomicBool,
    idle: parking_lot::Mutex<Vec<Connection>>,
}

impl Pool {
    fn new(path: &Path, access: Access, max: u32) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            access,
            max,
            permits: Arc::new(Semaphore::new(max as usize)),
            never_blocks: AtomicBool::new(false),
            idle: parking_lot::Mutex::default(),
        })
    }

    async fn acquire(self: &Arc<Self>) -> Result<Session, DatabaseError> {
        let permit = timeout(ACQUIRE_TIMEOUT, self.permits.clone().acquire_owned());
        let permit = permit.await.map_err(|_| DatabaseError::NoConnection {
            timeout: ACQUIRE_TIMEOUT,
            reason: "all connections are in use".to_owned(),
        })?;
        let permit = permit.map_err(|_| DatabaseError::Closed)?;
        let idle = self.idle.lock().pop();
        let pool = self.clone();
        let connection = match idle {
            Some(connection) => connection,
            None => self.run(move || pool.connect()).await??,
        };
        Ok(Session {
            connection,
            pool: self.clone(),
            _permit: permit,
        })
    }

    /// Runs work on a blocking thread.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DatabaseError> {
        match self.never_blocks.load(Ordering::Relaxed) {
            true => Ok(work()),
            false => blocking(work).await,
        }
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = match self.access {
            Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Access::Write(_) => OpenFlags::SQLITE_OPEN_READ_WRITE,
        };
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.set_prepared_statement_cache_capacity(MAX_PREPARED);
        connection.busy_timeout(BUSY_TIMEOUT)?;
        if let Access::Write(durability) = self.access {
            let synchronous = match durability {
                Durability::PowerLoss => "FULL",
                Durability::ProcessCrash => "NORMAL",
            };
            // `temp_store`: the statement journal of an insert of many rows would be a file in /tmp.
            let settings = format!(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; \
                 PRAGMA foreign_keys = ON; PRAGMA cache_size = -{WRITER_CACHE_KIB}; \
                 PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; PRAGMA temp_store = MEMORY"
            );
            // For the first line SQLite does not always wait for another process that opens or closes the file.
            let begun = Instant::now();
            while let Err(error) = connection.execute_batch(&settings) {
                if !is_busy(&error) || begun.elapsed() >= BUSY_TIMEOUT {
                    return Err(error);
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        // A task must not wait for a lock: see `Session::run_patiently`.
        connection.busy_timeout(Duration::ZERO)?;
        Ok(connection)
    }

    async fn close(&self) {
        if let Ok(all) = self.permits.acquire_many(self.max).await {
            self.permits.close();
            drop(all);
        }
        let idle = std::mem::take(&mut *self.idle.lock());
        // The last connection of a file writes the log back to it.
        let _ = blocking(move || drop(idle)).await;
    }
}

/// Dropped before [`reuse`](Self::reuse), it is closed: it may be inside a transaction.
#[derive(Debug)]
pub(crate) struct Session {
    connection: Connection,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Session {
    /// When no other process has a write transaction.
    async fn begin(self) -> Result<Self, DatabaseError> {
        // Not deferred: upgrading a read transaction to a write can fail.
        const BEGIN: &str = "BEGIN IMMEDIATE";
        match simple(&self.connection, BEGIN) {
            Err(error) if is_busy(&error) => {
                let (session, ()) = self
                    .run_patiently(|connection| simple(connection, BEGIN))
                    .await?;
                Ok(session)
            }
            done => Ok(done.map(|()| self)?),
        }
    }

    async fn read(self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        let read = move |connection: &Connection| fetch(connection, &statement);
        let (session, rows) = self.run_patiently(read).await?;
        session.reuse();
        Ok(rows)
    }

    pub(crate) fn execute(&self, statement: &Statement) -> Result<u64, DatabaseError> {
        fetch(&self.connection, statement)?;
        Ok(self.connection.changes())
    }

    pub(crate) fn fetch(&self, statement: &Statement) -> Result<Vec<Row>, DatabaseError> {
        Ok(fetch(&self.connection, statement)?)
    }

    pub(crate) fn script(&self, sql: &str) -> Result<(), DatabaseError> {
        Ok(self.connection.execute_batch(sql)?)
    }

    pub(crate) async fn end(self, sql: &'static str) -> Result<(), DatabaseError> {
        let (session, ()) = self.run(|connection| simple(connection, sql)).await?;
        session.reuse();
        Ok(())
    }

    /// Runs work on a blocking thread, where it waits for locks of other processes.
    async fn run_patiently<T: Send + 'static>(
        self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<(Self, T), DatabaseError> {
        self.run(|connection| {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            let done = work(connection)?;
            connection.busy_timeout(Duration::ZERO)?;
            Ok(done)
        })
        .await
    }

    /// Runs work on a blocking thread. After an error the connection is closed.
    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<(Self, T), DatabaseError> {
        let pool = Arc::clone(&self.pool);
        let done = pool.run(move || work(&self.connection).map(|done| (self, done)));
        Ok(done.await??)
    }

    fn reuse(self) {
        self.pool.idle.lock().push(self.connection);
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DatabaseError> {
    spawn_blocking(work)
        .await
        .map_err(|_| DatabaseError::Closed)
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

fn simple(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

fn fetch(connection: &Connection, statement: &Statement) -> rusqlite::Result<Vec<Row>> {
    let mut prepared = connection.prepare_cached(&numbered(&statement.sql))?;
    for (at, value) in (1_usize..).zip(&statement.values) {
        match value {
            Value::Number(number) => prepared.raw_bind_parameter(at, number)?,
            Value::Text(text) => prepared.raw_bind_parameter(at, text)?,
        }
    }
    let columns: Arc<[String]> = prepared.column_names().map(Into::into).collect();
    let mut found = Vec::new();
    let mut rows = prepared.raw_query();
    while let Some(row) = rows.next()? {
        let values = (0..columns.len()).map(|at| row.get(at));
        found.push(Row(RowOf::Sqlite(SqliteRow {
            columns: columns.clone(),
            values: values.collect::<Result<_, _>>()?,
        })));
    }
    Ok(found)
}

/// SQLite takes `$1` for a name, and resolves it by a linear search.
fn numbered(sql: &str) -> String {
    let mut pieces = sql.split('$');
    let mut numbered = String::with_capacity(sql.len());
    numbered.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let is_number = piece.starts_with(|c: char| c.is_ascii_digit());
        numbered.push(if is_number { '?' } else { '$' });
        numbered.push_str(piece);
    }
    numbered
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Readable only by this user. SQLite gives its other files the same mode.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As processes do that start side by side.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_new_file_may_be_opened_by_several_at_once() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..40 {
            let path = dir.path().join(number.to_string());
            let open = |_| {
                let path = path.clone();
                tokio::spawn(async move { open(&path, Durability::ProcessCrash).await })
            };
            let opened: Vec<_> = (0..6).map(open).collect();
            for file in opened {
                file.await.unwrap().unwrap().close().await;
            }
        }
    }

    #[test]
    fn parameters_are_numbered() {
        for (sql, expected) in [
            ("SELECT 1", "SELECT 1"),
            (
                "($1, CAST($2 AS BIGINT)), ($3)",
                "(?1, CAST(?2 AS BIGINT)), (?3)",
            ),
            ("x = $2 OR x = $1", "x = ?2 OR x = ?1"),
            ("x = $1 OR y = '$.a'", "x = ?1 OR y = '$.a'"),
            ("$1$12", "?1?12"),
        ] {
            assert_eq!(numbered(sql), expected);
        }
    }
}
