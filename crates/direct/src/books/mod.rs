//! The books: what the queue doesn't know of direct uploads, in the same database.

mod home;
mod row;
mod secret;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use landfall::upload::UploadId;
use landfall_database::{
    Connections, DatabaseError, Migration, Row, RowLease, RowLeases, Statement,
};
use tokio::runtime::Handle;

use self::{
    home::Home,
    row::{COLUMNS, clean, millis},
};
use crate::Record;

/// The name of the tables among others in the database.
const TABLES: &str = "direct";
const MIGRATIONS: &[Migration] = &[Migration::expand(
    include_str!("../../migrations/0001-direct.sqlite.sql"),
    include_str!("../../migrations/0001-direct.postgres.sql"),
)];
/// How long a lease outlasts its process.
const LEASE_TTL: Duration = Duration::from_secs(60);
/// Rows of one transaction, so that others don't wait for long.
const SOME: i64 = 500;

/// The books. Cheap to clone. Several processes may share them.
///
/// They may be used from any runtime; the connections belong to the one in which they were opened.
#[derive(Clone)]
pub struct Books {
    home: Arc<Home>,
    leases: RowLeases,
    prefix_key: [u8; 32],
}

impl fmt::Debug for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Books")
            .field("home", &self.home)
            .field("leases", &self.leases)
            .finish_non_exhaustive()
    }
}

/// Brings the tables of direct uploads to the version of this program.
///
/// # Errors
/// See [`Connections::migrate`].
///
/// # Cancel safety
/// Dropped, it has done all or nothing.
pub async fn migrate(database: &Connections) -> Result<(), DatabaseError> {
    database.migrate(TABLES, MIGRATIONS).await
}

impl Books {
    /// Makes or changes the tables. Has to be called in the runtime in which `connections` were opened,
    /// which has to run as long as the books are used.
    ///
    /// # Errors
    /// The database fails, or its tables are newer than this program.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn open(connections: Connections) -> Result<Self, DatabaseError> {
        migrate(&connections).await?;
        let runtime = Handle::current();
        let table = "direct_uploads";
        let leases = RowLeases::new(connections.clone(), runtime.clone(), table, LEASE_TTL);
        let home = Arc::new(Home {
            connections,
            runtime,
        });
        Ok(Self {
            prefix_key: secret::get_or_create(&home, "own_prefix").await?,
            home,
            leases,
        })
    }

    /// The secret from which the prefixes of callers' own keys are derived, the same on all nodes.
    pub(crate) const fn prefix_key(&self) -> &[u8; 32] {
        &self.prefix_key
    }

    /// Sets the lifetime of a [lease](Self::hold) whose process has died; a minute if not set.
    #[must_use]
    pub fn hold_for(mut self, span: Duration) -> Self {
        self.leases = self.leases.with_ttl(span);
        self
    }

    /// Writes one down by itself.
    ///
    /// # Errors
    /// The database failed or is slow; there is one with its id.
    ///
    /// # Cancel safety
    /// Dropped, it may be written down.
    pub async fn add(&self, record: &Record) -> Result<(), DatabaseError> {
        match self.execute(self.insert_statement(record)).await? {
            0 => Err(DatabaseError::InvalidRow(format!(
                "{} is there",
                record.id()
            ))),
            _ => Ok(()),
        }
    }

    /// Returns the statement that adds a record unless there is one with its id, for a transaction of
    /// the queue.
    #[must_use]
    pub fn insert_statement(&self, record: &Record) -> Statement {
        row::insert(record, self.home.connections.is_postgres())
    }

    /// One by its id.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn get(&self, id: &UploadId) -> Result<Option<Record>, DatabaseError> {
        let statement = format!("SELECT {COLUMNS} FROM direct_uploads WHERE id = $1");
        self.one(Statement::new(statement).with(id.as_str())).await
    }

    /// The newest one of this subject at a key, and in this bucket and with this multipart upload if
    /// they are named: clients don't know the bucket where hooks choose it.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn find(
        &self,
        subject: &str,
        bucket: Option<&str>,
        key: &str,
        multipart: Option<&str>,
    ) -> Result<Option<Record>, DatabaseError> {
        if has_zero(&[key, multipart.unwrap_or_default()]) {
            return Ok(None);
        }
        self.one(own(subject, bucket, key, multipart)).await
    }

    /// The newest one at a key, whoever's it is: for notifications of the bucket.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn at(&self, bucket: &str, key: &str) -> Result<Option<Record>, DatabaseError> {
        if has_zero(&[bucket, key]) {
            return Ok(None);
        }
        self.one(at(bucket, key)).await
    }

    /// Writes what has changed, if nobody has written since the record was read; reports whether it
    /// did, and then advances the record's version. Id, job, subject, way and place stay as they are.
    ///
    /// # Errors
    /// The database failed or is slow.
    ///
    /// # Cancel safety
    /// If dropped, it may have been written.
    pub async fn update(&self, record: &mut Record) -> Result<bool, DatabaseError> {
        let statement = row::update(record, self.home.now());
        let is_written = self.execute(statement).await? > 0;
        if is_written {
            record.version += 1;
        }
        Ok(is_written)
    }

    /// Writes in one statement what the sweeper found of these uploads (`stored`, `active_at`,
    /// `check_at`, `looks`), except those that somebody has written since or has the lease of.
    ///
    /// # Errors
    /// The database failed or is slow.
    ///
    /// # Cancel safety
    /// If dropped, it may have been written.
    pub async fn reschedule(&self, records: &[Record]) -> Result<(), DatabaseError> {
        if !records.is_empty() {
            let statement = row::reschedule(records, self.home.now());
            self.execute(statement).await?;
        }
        Ok(())
    }

    /// Writes that the client of an open upload was active, and that it is to be checked at `check_at`
    /// at the latest. Nothing is written while somebody has its lease.
    ///
    /// # Errors
    /// The database failed or is slow.
    ///
    /// # Cancel safety
    /// If dropped, it may have been written.
    pub async fn touch(
        &self,
        id: &UploadId,
        active_at: SystemTime,
        check_at: SystemTime,
    ) -> Result<(), DatabaseError> {
        let statement = row::touch(id, active_at, check_at, self.home.now());
        self.execute(statement).await?;
        Ok(())
    }

    /// Acquires the right to complete, cancel or expire an upload; `None` if another owner on any node
    /// has it, or there is no such upload.
    ///
    /// # Errors
    /// The database failed or is slow.
    ///
    /// # Cancel safety
    /// Dropped, the lease is released.
    pub async fn hold(&self, id: &UploadId) -> Result<Option<RowLease>, DatabaseError> {
        self.leases.acquire(id.as_str()).await
    }

    /// Claims the uploads that are to be checked by now and of which nobody has the lease, those that
    /// are overdue the longest if there are more than `limit`. They are due again after `again`, so that
    /// no other node checks them meanwhile.
    ///
    /// # Errors
    /// The database failed or is slow.
    ///
    /// # Cancel safety
    /// Dropped, they may have been put off.
    pub async fn due(
        &self,
        now: SystemTime,
        again: Duration,
        limit: usize,
    ) -> Result<Vec<Record>, DatabaseError> {
        let home = self.home.clone();
        let work = async move {
            let mut transaction = home.connections.write().await?;
            let rows = transaction
                .fetch(due(&home, now, now + again, limit))
                .await?;
            transaction.commit().await?;
            let read = |row| match row::read(row) {
                Ok(record) => Some(record),
                // One that can't be read must not keep the others from being checked.
                Err(error) => {
                    tracing::error!(%error, "failed to read a direct upload");
                    None
                }
            };
            Ok(rows.iter().filter_map(read).collect())
        };
        self.home.at_home(work).await
    }

    /// Forgets what ended before a time; says how many.
    ///
    /// # Errors
    /// The database failed or is slow; the next time does the rest.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn tidy(&self, before: SystemTime) -> Result<u64, DatabaseError> {
        let mut forgotten = 0;
        loop {
            let some = self.execute(tidy(before)).await?;
            forgotten += some;
            if some < SOME.unsigned_abs() {
                return Ok(forgotten);
            }
        }
    }

    async fn execute(&self, statement: Statement) -> Result<u64, DatabaseError> {
        let home = self.home.clone();
        self.home
            .at_home(async move { home.execute(statement).await })
            .await
    }

    async fn one(&self, statement: Statement) -> Result<Option<Record>, DatabaseError> {
        let home = self.home.clone();
        let rows = self
            .home
            .at_home(async move { home.connections.read(statement).await });
        let rows: Vec<Row> = rows.await?;
        rows.first().map(row::read).transpose()
    }
}

/// PostgreSQL takes no such texts, so nothing is written down under them.
fn has_zero(texts: &[&str]) -> bool {
    texts.iter().any(|text| text.contains('\0'))
}

fn own(subject: &str, bucket: Option<&str>, key: &str, multipart: Option<&str>) -> Statement {
    let mut statement = Statement::new(format!(
        "SELECT {COLUMNS} FROM direct_uploads WHERE subject = $1 AND key = $2"
    ))
    .with(clean(subject))
    .with(key);
    for (column, value) in [("bucket", bucket), ("multipart", multipart)] {
        if let Some(value) = value {
            let number = statement.bind(value);
            statement.push(&format!(" AND {column} = ${number}"));
        }
    }
    statement.push(" ORDER BY number DESC LIMIT 1");
    statement
}

fn at(bucket: &str, key: &str) -> Statement {
    Statement::new(format!(
        "SELECT {COLUMNS} FROM direct_uploads WHERE bucket = $1 AND key = $2 \
         ORDER BY number DESC LIMIT 1"
    ))
    .with(bucket)
    .with(key)
}

fn due(home: &Home, now: SystemTime, again: SystemTime, limit: usize) -> Statement {
    let skip = if home.connections.is_postgres() {
        "FOR UPDATE SKIP LOCKED"
    } else {
        ""
    };
    let held = home.now();
    Statement::new(format!(
        "WITH due AS MATERIALIZED (SELECT number FROM direct_uploads \
         WHERE check_at IS NOT NULL AND check_at <= $2 AND lease_expires_at <= {held} \
         ORDER BY check_at LIMIT $3 {skip}) \
         UPDATE direct_uploads SET check_at = $1 WHERE number IN (SELECT number FROM due) \
         RETURNING {COLUMNS}"
    ))
    .with(millis(again))
    .with(millis(now))
    .with(i64::try_from(limit).unwrap_or(i64::MAX))
}

fn tidy(before: SystemTime) -> Statement {
    Statement::new(
        "DELETE FROM direct_uploads WHERE number IN (SELECT number FROM direct_uploads \
         WHERE ended IS NOT NULL AND ended < $1 ORDER BY ended LIMIT $2)",
    )
    .with(millis(before))
    .with(SOME)
}
