//! The connections, and how they are used from other runtimes.

use std::time::Duration;

use landfall_database::{Connections, DatabaseError, Statement, run_in};
use tokio::{runtime::Handle, time::timeout};

/// How long somebody waits for the database.
const PATIENCE: Duration = Duration::from_secs(10);

/// The time of the database in milliseconds since 1970: SQL.
macro_rules! now {
    (postgres) => {
        "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
    };
    (sqlite) => {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
}
pub(super) use now;

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
            now!(postgres)
        } else {
            now!(sqlite)
        }
    }

    /// Does something in the runtime that has the connections; dropped, it is left undone, or nobody
    /// knows.
    pub(super) async fn at_home<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, DatabaseError>> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let work = timeout(PATIENCE, work);
        match run_in(&self.runtime, work).await {
            Some(Ok(done)) => done,
            Some(Err(_)) => Err(DatabaseError::Timeout(PATIENCE)),
            None => Err(DatabaseError::Closed),
        }
    }

    /// Executes one statement and says how many rows it changed.
    pub(super) async fn execute(&self, statement: Statement) -> Result<u64, DatabaseError> {
        let mut transaction = self.connections.write().await?;
        let changed = transaction.execute(statement).await?;
        transaction.commit().await?;
        Ok(changed)
    }
}
