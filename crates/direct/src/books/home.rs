//! The connections, and how they are used from other runtimes.

use std::time::Duration;

use landfall_database::{Connections, DatabaseError, Statement, Transaction};
use tokio::{runtime::Handle, task::JoinSet, time::timeout};

/// How long somebody waits for the database.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Home {
    pub(super) connections: Connections,
    /// Where they were opened.
    pub(super) runtime: Handle,
}

impl Home {
    /// The time that all processes agree on, which is the database's, in milliseconds since 1970: SQL.
    pub(super) const fn now(&self) -> &'static str {
        if self.connections.is_postgres() {
            "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
        } else {
            "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
        }
    }

    /// Does something in the runtime that has the connections; dropped, it is left undone, or nobody
    /// knows.
    pub(super) async fn at_home<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, DatabaseError>> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let work = patiently(work);
        if Handle::try_current().is_ok_and(|here| here.id() == self.runtime.id()) {
            return work.await;
        }
        let mut task = JoinSet::new();
        task.spawn_on(work, &self.runtime);
        match task.join_next().await {
            Some(Ok(result)) => result,
            _ => Err(DatabaseError::Closed),
        }
    }

    /// Begins a transaction that writes.
    pub(super) async fn begin(&self) -> Result<Transaction, DatabaseError> {
        let mut transaction = self.connections.write().await?;
        if self.connections.is_postgres() {
            // A process that stands still in the middle must not keep the others from going on.
            let limits = "SELECT set_config('idle_in_transaction_session_timeout', '10000', true), \
                 set_config('lock_timeout', '10000', true)";
            transaction.fetch(Statement::new(limits)).await?;
        }
        Ok(transaction)
    }

    /// Executes one statement and says how many rows it changed.
    pub(super) async fn execute(&self, statement: Statement) -> Result<u64, DatabaseError> {
        let mut transaction = self.begin().await?;
        let changed = transaction.execute(statement).await?;
        transaction.commit().await?;
        Ok(changed)
    }
}

async fn patiently<T>(
    work: impl Future<Output = Result<T, DatabaseError>>,
) -> Result<T, DatabaseError> {
    timeout(PATIENCE, work)
        .await
        .unwrap_or(Err(DatabaseError::Slow(PATIENCE)))
}
