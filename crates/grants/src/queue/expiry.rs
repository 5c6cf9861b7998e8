//! The expiry of grants that were not used in time.

use std::time::{Duration, SystemTime};

use landfall_database::Statement;

use super::{
    Queue, QueueError,
    advance::Lapse,
    tidy,
    time::{millis, time},
    writer::Command,
};

/// What came of an expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpiredGrants {
    /// Grants that expired.
    pub count: u64,
    /// When the next one of those that are granted now expires.
    pub next: Option<SystemTime>,
}

/// The time at which the next grant expires after `now`.
pub(super) fn next_expiry(now: i64) -> Statement {
    Statement::new(
        "SELECT expires FROM queue_jobs WHERE state = 0 AND expires > $1 ORDER BY expires LIMIT 1",
    )
    .with(now)
}

impl Queue {
    /// Expires grants that were not used in time. Several processes may do this at a time.
    ///
    /// # Errors
    /// The database failed or is slow; the next time does the rest.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn expire_grants(&self) -> Result<ExpiredGrants, QueueError> {
        // Read before: what expires meanwhile is the next.
        let now = millis(self.now());
        let mut count = 0;
        loop {
            let shared = self.shared();
            let numbers = self.read(async move { tidy::find_lapsed(&shared).await });
            let numbers = numbers.await?;
            if numbers.is_empty() {
                break;
            }
            count += self.write(Lapse(numbers), Command::Do).await?;
        }
        let shared = self.shared();
        let next = self.read(async move {
            let rows = shared.database.read(next_expiry(now)).await?;
            let first = rows.first().map(|row| row.number(0)).transpose()?;
            Ok(first.map(time))
        });
        Ok(ExpiredGrants {
            count,
            next: next.await?,
        })
    }

    /// The time for which grants are valid.
    #[must_use]
    pub fn valid_for(&self) -> Duration {
        self.0.shared.settings.valid_for
    }
}
