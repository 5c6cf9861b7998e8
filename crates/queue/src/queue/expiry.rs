use std::time::{Duration, SystemTime};

use landfall_database::{Statement, from_unix_millis, unix_millis};

use super::{Queue, QueueError, purge, transition::ExpireGrants, writer::WriteRequest};

/// The result of [`Queue::expire_grants`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpiredGrants {
    /// Number of expired grants.
    pub count: u64,
    /// Time of the next expiry.
    pub next: Option<SystemTime>,
}

pub(super) fn next_expiry(now: i64) -> Statement {
    Statement::new(
        "SELECT expires_at FROM queue_jobs WHERE state = 0 AND expires_at > $1 ORDER BY expires_at LIMIT 1",
    )
    .with(now)
}

impl Queue {
    /// Expires unused grants. Several processes may call it concurrently; the next call continues after a
    /// failure.
    pub async fn expire_grants(&self) -> Result<ExpiredGrants, QueueError> {
        // Read the clock first: a grant that expires meanwhile is the next expiry.
        let now = unix_millis(self.now());
        let mut count = 0;
        loop {
            let numbers = self.read(|shared| async move { purge::find_expired(&shared).await });
            let numbers = numbers.await?;
            if numbers.is_empty() {
                break;
            }
            count += self.write(ExpireGrants(numbers), WriteRequest::Run).await?;
        }
        let next = self.read(|shared| async move {
            let rows = shared.database.read(next_expiry(now)).await?;
            let first = rows.first().map(|row| row.number(0)).transpose()?;
            Ok(first.map(from_unix_millis))
        });
        Ok(ExpiredGrants {
            count,
            next: next.await?,
        })
    }

    /// Returns how long grants are valid.
    #[must_use]
    pub fn valid_for(&self) -> Duration {
        self.0.shared.settings.valid_for
    }
}
