//! Tables and their versions.
//!
//! Not sqlx's migrator: that one doesn't keep two processes from migrating one SQLite file at once.

use crate::{Connections, DatabaseError, Statement};

/// One step of somebody's tables. Steps are never changed once released; new ones are added.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// SQL for SQLite; several statements end in `;`.
    pub sqlite: &'static str,
    /// SQL for PostgreSQL.
    pub postgres: &'static str,
}

impl Connections {
    /// Brings the tables called `name` to the version that `steps` lead to. Safe beside other
    /// processes that do the same.
    ///
    /// # Errors
    /// The database fails, or its tables are newer.
    ///
    /// # Cancel safety
    /// Dropped, it has done all or nothing.
    pub async fn migrate(&self, name: &str, steps: &[Migration]) -> Result<(), DatabaseError> {
        let mut transaction = match self.write().await {
            Ok(transaction) => transaction,
            Err(error) => return Err(self.explain(error).await),
        };
        if self.is_postgres() {
            // `CREATE TABLE IF NOT EXISTS` alone doesn't stand two that run at once.
            let lock = Statement::new("SELECT pg_advisory_xact_lock(7002461338)");
            transaction.execute(lock).await?;
        }
        let table = "CREATE TABLE IF NOT EXISTS landfall_versions \
                     (name TEXT PRIMARY KEY, version BIGINT NOT NULL)";
        transaction.execute(Statement::new(table)).await?;
        let current =
            Statement::new("SELECT version FROM landfall_versions WHERE name = $1").with(name);
        let version = match transaction.fetch(current).await?.first() {
            Some(row) => row.number(0)?,
            None => 0,
        };
        let done = usize::try_from(version).unwrap_or_default();
        if done > steps.len() {
            let name = name.to_owned();
            return Err(DatabaseError::Newer { name, version });
        }
        for step in &steps[done..] {
            let sql = if self.is_postgres() {
                step.postgres
            } else {
                step.sqlite
            };
            for statement in sql.split_inclusive(';').filter(|one| one.contains(';')) {
                transaction.execute(Statement::new(statement)).await?;
            }
        }
        let reached = i64::try_from(steps.len()).unwrap_or(i64::MAX);
        let note = Statement::new(
            "INSERT INTO landfall_versions (name, version) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET version = excluded.version",
        );
        transaction.execute(note.with(name).with(reached)).await?;
        transaction.commit().await
    }
}
