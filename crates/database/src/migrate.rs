//! Tables and their versions.
//!
//! The tables of each part of the program have a name and a list of steps. A step is *expanding* if
//! programs that do not know it can go on using the tables, so that nodes can be replaced one after
//! the other, and *contracting* if they cannot. A release contains contracting steps only for what no
//! program of the release before uses any more.
//!
//! Not sqlx's migrator: it knows neither of these, and does not keep two processes from migrating one
//! SQLite file at the same time.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::{Connections, DatabaseError, Statement, Transaction};

/// One step of a list of tables. Steps are never changed once released; new ones are added.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    sqlite: &'static str,
    postgres: &'static str,
    is_contracting: bool,
}

impl Migration {
    /// Makes an expanding step of SQL for SQLite and PostgreSQL, each statement ended by `;`.
    #[must_use]
    pub const fn expand(sqlite: &'static str, postgres: &'static str) -> Self {
        Self {
            sqlite,
            postgres,
            is_contracting: false,
        }
    }

    /// Makes a contracting step: programs that do not know it refuse to use the tables.
    #[must_use]
    pub const fn contract(sqlite: &'static str, postgres: &'static str) -> Self {
        Self {
            sqlite,
            postgres,
            is_contracting: true,
        }
    }
}

/// A step that was applied to a database.
struct Applied {
    version: i64,
    checksum: String,
    is_contracting: bool,
}

impl Connections {
    /// Brings the tables called `name` to the version that `steps` lead to. Safe while other processes
    /// do the same. Connections [without migrations](Self::without_migrations) only check the version
    /// of tables that exist.
    ///
    /// # Errors
    /// The database fails, its tables were made by other steps, or a newer program has changed them so
    /// that this one cannot use them; without migrations, [`DatabaseError::Older`].
    ///
    /// # Cancel safety
    /// Dropped, it has done all or nothing.
    pub async fn migrate(&self, name: &str, steps: &[Migration]) -> Result<(), DatabaseError> {
        let mut transaction = match self.write().await {
            Ok(transaction) => transaction,
            Err(error) => return Err(self.explain(error).await),
        };
        if self.is_postgres() {
            // `CREATE TABLE IF NOT EXISTS` alone fails when two run at once.
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
        let applied = applied(&mut transaction, name).await?;
        let steps: Vec<_> = steps
            .iter()
            .map(|step| match self.is_postgres() {
                true => (step.postgres, step.is_contracting),
                false => (step.sqlite, step.is_contracting),
            })
            .collect();
        for (at, step) in applied.iter().enumerate() {
            let version = step.version;
            let name = name.to_owned();
            match steps.get(at) {
                Some((sql, _)) if checksum(sql) != step.checksum => {
                    return Err(DatabaseError::Changed { name, version });
                }
                None if step.is_contracting => return Err(DatabaseError::Newer { name, version }),
                _ => {}
            }
        }
        let missing = steps.get(applied.len()..).unwrap_or_default();
        if !missing.is_empty() && !applied.is_empty() && !self.may_migrate() {
            return Err(DatabaseError::Older {
                name: name.to_owned(),
                version: count(applied.len()),
                needed: count(steps.len()),
            });
        }
        for (at, (sql, is_contracting)) in missing.iter().enumerate() {
            transaction.script(sql).await?;
            let record = Statement::new(
                "INSERT INTO landfall_migrations (name, version, checksum, contracting) \
                 VALUES ($1, $2, $3, $4)",
            )
            .with(name)
            .with(count(applied.len() + at + 1))
            .with(checksum(sql))
            .with(i64::from(*is_contracting));
            transaction.execute(record).await?;
        }
        transaction.commit().await
    }
}

async fn applied(transaction: &mut Transaction, name: &str) -> Result<Vec<Applied>, DatabaseError> {
    let statement = Statement::new(
        "SELECT version, checksum, contracting FROM landfall_migrations WHERE name = $1 \
         ORDER BY version",
    );
    let rows = transaction.fetch(statement.with(name)).await?;
    rows.iter()
        .map(|row| {
            Ok(Applied {
                version: row.number("version")?,
                checksum: row.text("checksum")?,
                is_contracting: row.number("contracting")? != 0,
            })
        })
        .collect()
}

fn count(steps: usize) -> i64 {
    i64::try_from(steps).unwrap_or(i64::MAX)
}

fn checksum(sql: &str) -> String {
    let digest = Sha256::digest(sql);
    digest[..16].iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
