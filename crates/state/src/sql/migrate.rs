//! Migrations of tables.
//!
//! Each part of the program has a named set of tables with a list of steps. A step is *expanding*
//! if programs that do not know it can still use the tables, so that nodes can be updated one by
//! one; otherwise it is *contracting*, and older programs reject the tables. A release may contain a
//! contracting step only for what the previous release no longer uses; this one has none.
//!
//! sqlx's migrator has neither kind, and does not keep two processes from migrating one SQLite file
//! at the same time.

use sha2::{Digest as _, Sha256};

use super::{Connections, DatabaseError, Statement};

/// One step of a set of tables. Released steps never change; new ones are added.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    sqlite: &'static str,
    postgres: &'static str,
}

impl Migration {
    /// Creates an expanding step from SQL for SQLite and PostgreSQL; each statement ends with `;`.
    pub const fn expand(sqlite: &'static str, postgres: &'static str) -> Self {
        Self { sqlite, postgres }
    }
}

/// An expanding step from the files of this name in `migrations`.
macro_rules! expand {
    ($name:literal) => {
        $crate::sql::Migration::expand(
            include_str!(concat!("../../migrations/", $name, ".sqlite.sql")),
            include_str!(concat!("../../migrations/", $name, ".postgres.sql")),
        )
    };
}
pub(crate) use expand;

impl Connections {
    /// Applies the missing steps of the tables `name`. Safe while other processes do the same.
    ///
    /// Connections [without migrations](Self::without_migrations) only check the version of
    /// existing tables.
    ///
    /// # Errors
    /// The database failed, other steps created its tables, or a newer program changed them so that
    /// this one cannot use them; without migrations, [`DatabaseError::OlderSchema`].
    ///
    /// # Cancel safety
    /// Dropped, either all or no steps were applied.
    pub async fn migrate(&self, name: &str, steps: &[Migration]) -> Result<(), DatabaseError> {
        let mut transaction = self.write().await?;
        if self.is_postgres() {
            // `CREATE TABLE IF NOT EXISTS` fails if two sessions execute it concurrently.
            let lock = Statement::new("SELECT pg_advisory_xact_lock(7002461338)");
            transaction.execute(lock).await?;
        }
        transaction
            .execute(Statement::new(
                "CREATE TABLE IF NOT EXISTS landfall_migrations (name TEXT NOT NULL, \
                 version BIGINT NOT NULL, checksum TEXT NOT NULL, contracting BIGINT NOT NULL, \
                 PRIMARY KEY (name, version))",
            ))
            .await?;
        let applied = Statement::new(
            "SELECT version, checksum, contracting FROM landfall_migrations WHERE name = $1 \
             ORDER BY version",
        );
        let applied = transaction.fetch(applied.with(name)).await?;
        let steps: Vec<_> = steps
            .iter()
            .map(|step| match self.is_postgres() {
                true => step.postgres,
                false => step.sqlite,
            })
            .collect();
        for (at, step) in applied.iter().enumerate() {
            let version = step.number("version")?;
            let name = name.to_owned();
            match steps.get(at) {
                Some(sql) if checksum(sql) != step.text("checksum")? => {
                    return Err(DatabaseError::Changed { name, version });
                }
                None if step.number("contracting")? != 0 => {
                    return Err(DatabaseError::NewerSchema { name, version });
                }
                _ => {}
            }
        }
        let missing = steps.get(applied.len()..).unwrap_or_default();
        if !missing.is_empty() && !applied.is_empty() && !self.can_migrate {
            return Err(DatabaseError::OlderSchema {
                name: name.to_owned(),
                version: count(applied.len()),
                needed: count(steps.len()),
            });
        }
        for (at, sql) in missing.iter().enumerate() {
            transaction.script(sql).await?;
            let record = Statement::new(
                "INSERT INTO landfall_migrations (name, version, checksum, contracting) \
                 VALUES ($1, $2, $3, 0)",
            )
            .with(name)
            .with(count(applied.len() + at + 1))
            .with(checksum(sql));
            transaction.execute(record).await?;
        }
        transaction.commit().await
    }
}

fn count(steps: usize) -> i64 {
    i64::try_from(steps).unwrap_or(i64::MAX)
}

fn checksum(sql: &str) -> String {
    hex::encode(&Sha256::digest(sql)[..16])
}
