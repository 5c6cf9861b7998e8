use std::time::Duration;

use landfall_database::{Connections, DatabaseError, run_in};
use tokio::{runtime::Handle, time::timeout};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Milliseconds since 1970.
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
pub(super) struct DatabaseRuntime {
    pub(super) connections: Connections,
    pub(super) runtime: Handle,
}

impl DatabaseRuntime {
    /// SQL for the database's time, which all processes share.
    pub(super) const fn now(&self) -> &'static str {
        if self.connections.is_postgres() {
            now!(postgres)
        } else {
            now!(sqlite)
        }
    }

    /// # Cancel safety
    /// Dropped, the work may or may not have been done.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, DatabaseError>> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let work = timeout(TIMEOUT, work);
        match run_in(&self.runtime, work).await {
            Some(Ok(done)) => done,
            Some(Err(_)) => Err(DatabaseError::Timeout(TIMEOUT)),
            None => Err(DatabaseError::Closed),
        }
    }
}
