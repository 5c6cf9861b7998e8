//! The repository of records, in the database of the upload queue.

mod row;

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use landfall::upload::UploadId;
use landfall_state::sql::{
    Connections, DatabaseError, Migration, RowLease, RowLeases, Statement, replace_nul, unix_millis,
};

use self::row::COLUMNS;
use crate::Record;

const TABLES: &str = "direct";
const MIGRATIONS: &[Migration] = &[Migration::expand(
    include_str!("../../migrations/0001-direct.sqlite.sql"),
    include_str!("../../migrations/0001-direct.postgres.sql"),
)];
const LEASE_TTL: Duration = Duration::from_secs(60);
/// Other transactions must not wait for long.
const BATCH_SIZE: i64 = 500;

/// The repository of direct uploads. Cheap to clone; several processes may share the tables.
///
/// It can be used from any runtime. The connections belong to the one in which they were opened.
///
/// # Errors
/// All methods fail if the database fails, or does not respond within ten seconds.
///
/// # Cancel safety
/// Reads may be dropped. A dropped write may have taken effect.
#[derive(Clone)]
pub struct Repository {
    connections: Connections,
    leases: RowLeases,
    prefix_key: [u8; 32],
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("connections", &self.connections)
            .field("leases", &self.leases)
            .finish_non_exhaustive()
    }
}

/// Migrates the tables of direct uploads.
///
/// # Errors
/// See [`Connections::migrate`].
///
/// # Cancel safety
/// Dropped, either all or no migrations were applied.
pub async fn migrate(database: &Connections) -> Result<(), DatabaseError> {
    database.migrate(TABLES, MIGRATIONS).await
}

impl Repository {
    /// Opens the repository and migrates its tables.
    ///
    /// Call it in the runtime in which `connections` were opened. That runtime must outlive the
    /// repository.
    ///
    /// # Errors
    /// The database failed, or its tables are newer than this program.
    ///
    /// # Cancel safety
    /// Safe to cancel.
    pub async fn open(connections: Connections) -> Result<Self, DatabaseError> {
        migrate(&connections).await?;
        Ok(Self {
            prefix_key: get_or_create(&connections, "client_key_prefix").await?,
            leases: RowLeases::new(connections.clone(), "direct_uploads", LEASE_TTL),
            connections,
        })
    }

    pub(crate) const fn prefix_key(&self) -> &[u8; 32] {
        &self.prefix_key
    }

    /// Inserts a record. Fails if a record with this id exists, too.
    pub async fn insert(&self, record: &Record) -> Result<(), DatabaseError> {
        match self.execute(self.insert_statement(record)).await? {
            0 => Err(DatabaseError::InvalidRow(format!("{} exists", record.id()))),
            _ => Ok(()),
        }
    }

    /// Returns the statement that inserts a record unless its id exists, for a transaction of the queue.
    #[must_use]
    pub fn insert_statement(&self, record: &Record) -> Statement {
        row::insert(record)
    }

    /// Returns a record by its id.
    pub async fn get(&self, id: &UploadId) -> Result<Option<Record>, DatabaseError> {
        let statement = format!("SELECT {COLUMNS} FROM direct_uploads WHERE id = $1");
        let statement = Statement::new(statement).with(id.as_str());
        self.fetch_one(statement).await
    }

    /// Returns the newest record of a subject with this key.
    ///
    /// Clients do not know the bucket if a hook selects it: it and the multipart upload are optional.
    pub async fn find(
        &self,
        subject: &str,
        bucket: Option<&str>,
        key: &str,
        multipart: Option<&str>,
    ) -> Result<Option<Record>, DatabaseError> {
        if has_nul(&[key, multipart.unwrap_or_default()]) {
            return Ok(None);
        }
        let statement = Statement::new(format!(
            "SELECT {COLUMNS} FROM direct_uploads WHERE subject = $1 AND object_key = $2"
        ));
        let mut statement = statement.with(replace_nul(subject)).with(key);
        for (column, value) in [("bucket", bucket), ("multipart_upload_id", multipart)] {
            if let Some(value) = value {
                let number = statement.bind(value);
                statement.push(&format!(" AND {column} = ${number}"));
            }
        }
        statement.push(" ORDER BY number DESC LIMIT 1");
        self.fetch_one(statement).await
    }

    /// Returns the newest record of an object, for bucket notifications.
    pub async fn find_by_object(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<Option<Record>, DatabaseError> {
        if has_nul(&[bucket, key]) {
            return Ok(None);
        }
        let statement = Statement::new(format!(
            "SELECT {COLUMNS} FROM direct_uploads WHERE bucket = $1 AND object_key = $2 \
             ORDER BY number DESC LIMIT 1"
        ));
        self.fetch_one(statement.with(bucket).with(key)).await
    }

    /// Writes a changed record unless it was written since it was read; returns whether it did.
    ///
    /// It then advances the record's version. Id, job, subject, mode and object never change.
    pub async fn update(&self, record: &mut Record) -> Result<bool, DatabaseError> {
        let statement = row::update(record, self.connections.now_sql());
        let is_written = self.execute(statement).await? > 0;
        if is_written {
            record.version += 1;
        }
        Ok(is_written)
    }

    /// Writes `stored`, `active_at`, `next_check_at` and `check_count`, as the sweeper has found them, except
    /// for uploads that were written since or are leased.
    pub async fn reschedule(&self, records: &[Record]) -> Result<(), DatabaseError> {
        if !records.is_empty() {
            let statement = row::reschedule(records, self.connections.now_sql());
            self.execute(statement).await?;
        }
        Ok(())
    }

    /// Records activity of the client of an open upload, to be checked at `next_check_at` at the latest.
    /// Nothing is written while the upload is leased.
    pub async fn touch(
        &self,
        id: &UploadId,
        active_at: SystemTime,
        next_check_at: SystemTime,
    ) -> Result<(), DatabaseError> {
        let statement = row::touch(id, active_at, next_check_at, self.connections.now_sql());
        self.execute(statement).await?;
        Ok(())
    }

    /// Acquires the lease of an upload, which is needed to complete, cancel or expire it.
    ///
    /// Returns `None` if any node holds the lease, or there is no such upload.
    ///
    /// # Cancel safety
    /// Dropped, the lease is released.
    pub async fn acquire_lease(&self, id: &UploadId) -> Result<Option<RowLease>, DatabaseError> {
        self.leases.acquire(id.as_str()).await
    }

    /// Claims uploads that are due for a check and not leased, at most `limit`, longest overdue
    /// first.
    ///
    /// They are due again after `retry_after`, so that no other node checks them meanwhile.
    pub async fn due_for_check(
        &self,
        now: SystemTime,
        retry_after: Duration,
        limit: usize,
    ) -> Result<Vec<Record>, DatabaseError> {
        let connections = self.connections.clone();
        let work = async move {
            let mut transaction = connections.write().await?;
            let due = due(&connections, now, now + retry_after, limit);
            let rows = transaction.fetch(due).await?;
            transaction.commit().await?;
            let read = |row| match row::read(row) {
                Ok(record) => Some(record),
                // An invalid row must not block the others.
                Err(error) => {
                    tracing::error!(%error, "failed to read direct upload");
                    None
                }
            };
            Ok(rows.iter().filter_map(read).collect())
        };
        self.connections.run_in_time(work).await
    }

    /// Deletes the records of uploads that ended before a time; returns their number. The next call continues
    /// after an error.
    pub async fn purge(&self, before: SystemTime) -> Result<u64, DatabaseError> {
        let mut purged = 0;
        loop {
            let purge = Statement::new(
                "DELETE FROM direct_uploads WHERE number IN (SELECT number FROM direct_uploads \
                 WHERE ended_at IS NOT NULL AND ended_at < $1 ORDER BY ended_at LIMIT $2)",
            );
            let purge = purge.with(unix_millis(before)).with(BATCH_SIZE);
            let deleted = self.execute(purge).await?;
            purged += deleted;
            if deleted < BATCH_SIZE.unsigned_abs() {
                return Ok(purged);
            }
        }
    }

    async fn execute(&self, statement: Statement) -> Result<u64, DatabaseError> {
        let connections = self.connections.clone();
        let work = async move { connections.execute(statement).await };
        self.connections.run_in_time(work).await
    }

    async fn fetch_one(&self, statement: Statement) -> Result<Option<Record>, DatabaseError> {
        let connections = self.connections.clone();
        let work = async move { connections.read(statement).await };
        let rows = self.connections.run_in_time(work).await?;
        rows.first().map(row::read).transpose()
    }
}

/// PostgreSQL rejects NUL in a text; no record has it then.
fn has_nul(texts: &[&str]) -> bool {
    texts.iter().any(|text| text.contains('\0'))
}

fn due(
    connections: &Connections,
    now: SystemTime,
    retry_after: SystemTime,
    limit: usize,
) -> Statement {
    let skip = if connections.is_postgres() {
        "FOR UPDATE SKIP LOCKED"
    } else {
        ""
    };
    let held = connections.now_sql();
    Statement::new(format!(
        "WITH due AS MATERIALIZED (SELECT number FROM direct_uploads \
         WHERE next_check_at IS NOT NULL AND next_check_at <= $2 AND lease_expires_at <= {held} \
         ORDER BY next_check_at LIMIT $3 {skip}) \
         UPDATE direct_uploads SET next_check_at = $1 WHERE number IN (SELECT number FROM due) \
         RETURNING {COLUMNS}"
    ))
    .with(unix_millis(retry_after))
    .with(unix_millis(now))
    .with(i64::try_from(limit).unwrap_or(i64::MAX))
}

async fn get_or_create(connections: &Connections, name: &str) -> Result<[u8; 32], DatabaseError> {
    if let Some(secret) = get(connections, name).await? {
        return Ok(secret);
    }
    let digits = hex::encode(rand::random::<[u8; 32]>());
    // If several nodes start at once, the first one creates it.
    let create = Statement::new(
        "INSERT INTO direct_secrets (name, secret) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
    );
    let create = create.with(name).with(digits);
    connections.execute(create).await?;
    let missing = || DatabaseError::InvalidRow(format!("the secret {name} is missing"));
    get(connections, name).await?.ok_or_else(missing)
}

async fn get(connections: &Connections, name: &str) -> Result<Option<[u8; 32]>, DatabaseError> {
    let select = Statement::new("SELECT secret FROM direct_secrets WHERE name = $1").with(name);
    let rows = connections.read(select).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let damaged = || {
        let why = format!("the secret {name} does not have 64 hexadecimal digits");
        DatabaseError::InvalidRow(why)
    };
    parse(&row.text("secret")?).map(Some).ok_or_else(damaged)
}

fn parse(digits: &str) -> Option<[u8; 32]> {
    let mut secret = [0; 32];
    hex::decode_to_slice(digits, &mut secret).ok()?;
    Some(secret)
}

#[cfg(test)]
mod secret_tests {
    use super::*;

    #[test]
    fn only_whole_secrets_are_read() {
        let digits = format!("00ff{}", "1a".repeat(30));
        let secret = parse(&digits).unwrap();
        assert_eq!((secret[0], secret[1], secret[31]), (0, 0xff, 0x1a));
        for damaged in [
            "",
            "00",
            &digits[1..],
            &format!("{}g", &digits[1..]),
            &"ü".repeat(32),
        ] {
            assert_eq!(parse(damaged), None, "{damaged}");
        }
    }
}

#[cfg(test)]
mod migration_tests {
    use sha2::{Digest as _, Sha256};

    /// A database that has applied a step refuses a program in which its text is another one, be it a comment.
    #[test]
    fn the_text_of_an_applied_step_never_changes() {
        let steps = [
            (
                include_bytes!("../../migrations/0001-direct.sqlite.sql").as_slice(),
                "df784d9126e6f2e3c65d0c7fd1f9a252ab473a3aaf8baf5e970285f660cd17bd",
            ),
            (
                include_bytes!("../../migrations/0001-direct.postgres.sql").as_slice(),
                "f1098dc1e908602a9bf6bd9430826e247df361a913445bad2205d5ab3501854d",
            ),
        ];
        for (text, hash) in steps {
            assert_eq!(hex::encode(Sha256::digest(text)), hash);
        }
    }
}
