//! The books: what the queue doesn't know of direct uploads, in the same database.

mod hold;
mod home;
mod row;
mod secret;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use landfall::upload::UploadId;
use landfall_database::{Connections, DatabaseError, Migration, Row, Statement};
use tokio::runtime::Handle;

pub use self::hold::Hold;
use self::{
    home::Home,
    row::{COLUMNS, clean, millis},
};
use crate::{Record, Standing};

/// The name of the tables among others in the database.
const TABLES: &str = "direct";
const MIGRATIONS: &[Migration] = &[Migration {
    sqlite: include_str!("../../migrations/0001-direct.sqlite.sql"),
    postgres: include_str!("../../migrations/0001-direct.postgres.sql"),
}];
/// How long a hold outlasts its process.
const HOLD: Duration = Duration::from_secs(60);
/// Rows of one transaction, so that others don't wait for long.
const SOME: i64 = 500;

/// The books. Cheap to clone. Several processes may share them.
///
/// They may be used from any runtime; the connections belong to the one in which they were opened.
#[derive(Clone)]
pub struct Books {
    home: Arc<Home>,
    hold: Duration,
    prefix_key: [u8; 32],
}

impl fmt::Debug for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Books")
            .field("home", &self.home)
            .field("hold", &self.hold)
            .finish_non_exhaustive()
    }
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
        connections.migrate(TABLES, MIGRATIONS).await?;
        let home = Arc::new(Home {
            connections,
            runtime: Handle::current(),
        });
        Ok(Self {
            prefix_key: secret::get_or_create(&home, "own_prefix").await?,
            home,
            hold: HOLD,
        })
    }

    /// The secret from which the prefixes of callers' own keys are derived, the same on all nodes.
    pub(crate) const fn prefix_key(&self) -> &[u8; 32] {
        &self.prefix_key
    }

    /// Changes for how long others wait for a [hold](Self::hold) whose process has died; a minute if
    /// not set.
    #[must_use]
    pub const fn hold_for(mut self, span: Duration) -> Self {
        self.hold = span;
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
        let home = self.home.clone();
        let statement = self.addition(record)?;
        let added = self
            .home
            .at_home(async move { home.execute(statement).await });
        match added.await? {
            0 => Err(DatabaseError::Row(format!("{} is there", record.id()))),
            _ => Ok(()),
        }
    }

    /// What writes one down, if there is none with its id: for somebody else's transaction.
    ///
    /// # Errors
    /// Its description can't be written down.
    pub fn addition(&self, record: &Record) -> Result<Statement, DatabaseError> {
        row::insert(record, self.home.now())
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

    /// Writes down what has changed, if it still stands as `from`; says whether it did. Id, job,
    /// subject, way and place stay as they are, and so does a multipart upload once there is one.
    ///
    /// # Errors
    /// The database failed or is slow.
    ///
    /// # Cancel safety
    /// Dropped, it may be written down.
    pub async fn change(&self, record: &Record, from: Standing) -> Result<bool, DatabaseError> {
        let home = self.home.clone();
        let statement = row::update(record, from, home.now())?;
        let changed = self
            .home
            .at_home(async move { home.execute(statement).await });
        Ok(changed.await? > 0)
    }

    /// Keeps all others, on all nodes, from completing, cancelling or expiring one; `None` if somebody
    /// is at it, or there is none. It is let go when dropped, or a while after its process has died.
    ///
    /// # Errors
    /// The database failed or is slow.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn hold(&self, id: &UploadId) -> Result<Option<Hold>, DatabaseError> {
        let taken = Hold::take(self.home.clone(), id.clone(), self.hold);
        self.home.to_the_end(taken).await
    }

    /// Those that are to be looked at by now and that nobody holds, longest overdue first. They are
    /// put off by `again`, so that no other node looks at them meanwhile.
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
            let mut transaction = home.begin().await?;
            let rows = transaction.fetch(due(&home, now, limit)).await?;
            let again = now + again;
            let mut records = Vec::with_capacity(rows.len());
            for row in &rows {
                let number = row.number(13)?;
                let later =
                    Statement::new("UPDATE direct_uploads SET check_at = $1 WHERE number = $2");
                let later = later.with(millis(again)).with(number);
                transaction.execute(later).await?;
                match row::read(row) {
                    Ok(mut record) => {
                        record.check_at = Some(again);
                        records.push(record);
                    }
                    // One that can't be read must not keep the others from being looked at.
                    Err(error) => tracing::error!(%error, "a direct upload can't be looked at"),
                }
            }
            transaction.commit().await?;
            Ok(records)
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
            let home = self.home.clone();
            let statement = tidy(before);
            let some = self
                .home
                .at_home(async move { home.execute(statement).await });
            let some = some.await?;
            forgotten += some;
            if some < SOME.unsigned_abs() {
                return Ok(forgotten);
            }
        }
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
            let number = statement.give(value);
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

fn due(home: &Home, now: SystemTime, limit: usize) -> Statement {
    let skip = if home.connections.is_postgres() {
        "FOR UPDATE SKIP LOCKED"
    } else {
        ""
    };
    let held = home.now();
    Statement::new(format!(
        "SELECT {COLUMNS}, number FROM direct_uploads WHERE check_at IS NOT NULL AND check_at <= $1 \
         AND held_until <= {held} ORDER BY check_at LIMIT $2 {skip}"
    ))
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
