//! How far events were moved, and who moves them: a row of the database.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use landfall_database::{Connections, DatabaseError, Migration, Statement, Transaction};

use super::LEASE;

/// The name of the table among others in the database.
const TABLES: &str = "relay";
const MIGRATIONS: &[Migration] = &[Migration::expand(
    include_str!("../../migrations/0001-relay.sqlite.sql"),
    include_str!("../../migrations/0001-relay.postgres.sql"),
)];

/// See the module.
#[derive(Debug)]
pub(super) struct Place {
    database: Connections,
    me: String,
}

/// Where events are to be moved from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// The last event that was moved.
    pub(super) number: i64,
    /// How long ago nothing was left to move.
    pub(super) behind: Duration,
}

impl Place {
    /// Opens it; a new one begins after the event `newest`.
    pub(super) async fn open(database: Connections, newest: i64) -> Result<Self, DatabaseError> {
        database.migrate(TABLES, MIGRATIONS).await?;
        let me = format!("{:016x}", rand::random::<u64>());
        let place = Self { database, me };
        let mut transaction = place.database.write().await?;
        let now = place.now(&mut transaction).await?;
        // Of several that do so at once, one adds the row: the others wait for it.
        if place.database.is_postgres() {
            let lock = Statement::new("LOCK TABLE relay_place IN EXCLUSIVE MODE");
            transaction.execute(lock).await?;
        }
        let first = Statement::new(
            "INSERT INTO relay_place (number, caught_up, holder, held_until) \
             SELECT CAST($1 AS BIGINT), CAST($2 AS BIGINT), NULL, 0 \
             WHERE NOT EXISTS (SELECT 1 FROM relay_place)",
        );
        transaction.execute(first.with(newest).with(now)).await?;
        transaction.commit().await?;
        Ok(place)
    }

    /// Takes or keeps the place, unless somebody else has it.
    pub(super) async fn hold(&self) -> Result<Option<Found>, DatabaseError> {
        let mut transaction = self.database.write().await?;
        let now = self.now(&mut transaction).await?;
        let hold = Statement::new(
            "UPDATE relay_place SET holder = $1, held_until = $2 \
             WHERE holder = $1 OR holder IS NULL OR held_until <= $3 RETURNING number, caught_up",
        )
        .with(self.me.as_str())
        .with(now.saturating_add(lease()))
        .with(now);
        let found = match transaction.fetch(hold).await?.first() {
            None => None,
            Some(row) => {
                let behind = now.saturating_sub(row.number(1)?).max(0);
                Some(Found {
                    number: row.number(0)?,
                    behind: Duration::from_millis(behind.unsigned_abs()),
                })
            }
        };
        transaction.commit().await?;
        Ok(found)
    }

    /// Notes how far it is, and leaves the place if that is all; false if somebody else has it now.
    pub(super) async fn note(&self, number: i64, is_all: bool) -> Result<bool, DatabaseError> {
        let mut transaction = self.database.write().await?;
        let now = self.now(&mut transaction).await?;
        let note = Statement::new(
            "UPDATE relay_place SET number = $1, held_until = $2, \
             holder = CASE WHEN $3 = 1 THEN NULL ELSE holder END, \
             caught_up = CASE WHEN $3 = 1 THEN $4 ELSE caught_up END WHERE holder = $5",
        )
        .with(number)
        .with(now.saturating_add(lease()))
        .with(i64::from(is_all))
        .with(now)
        .with(self.me.as_str());
        let noted = transaction.execute(note).await?;
        transaction.commit().await?;
        Ok(noted > 0)
    }

    /// Leaves the place to whoever comes.
    pub(super) async fn let_go(&self) -> Result<(), DatabaseError> {
        let mut transaction = self.database.write().await?;
        let leave = Statement::new("UPDATE relay_place SET holder = NULL WHERE holder = $1");
        transaction.execute(leave.with(self.me.as_str())).await?;
        transaction.commit().await
    }

    /// What time it is, for all who share the database.
    async fn now(&self, transaction: &mut Transaction) -> Result<i64, DatabaseError> {
        if self.database.is_postgres() {
            let clock = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";
            let rows = transaction.fetch(Statement::new(clock)).await?;
            if let Some(row) = rows.first() {
                return row.number(0);
            }
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX))
    }
}

fn lease() -> i64 {
    i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX)
}
