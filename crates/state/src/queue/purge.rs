//! Expires unused grants, and deletes ended jobs, old events and old counts, in batches.
//!
//! Ages are measured by the removal clock, so that a wrong wall clock deletes nothing. Deletes rows only, never an
//! upload. Keeps the latest event, whose number is needed.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use super::{
    JobId, JobState, MINUTE, Queue, QueueError, Shared, record::state_number, save::count,
    unit_of_work::RequiredRows,
};
use crate::sql::{Statement, Transaction, from_unix_millis, millis, unix_millis};

/// Per transaction, so that other writers do not wait long.
const BATCH_SIZE: i64 = 500;
const THROUGHPUT_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Selects unused grants that are due, after a time of expiry and a number.
pub(super) fn expired(now: i64, (at, number): (i64, i64)) -> Statement {
    Statement::new(
        "SELECT number, expires_at FROM queue_jobs WHERE state = 0 AND expires_at <= $1 \
         AND expires_at >= $2 AND (expires_at > $2 OR number > $3) \
         ORDER BY expires_at, number LIMIT $4",
    )
    .with(now)
    .with(at)
    .with(number)
    .with(BATCH_SIZE)
}

pub(super) fn next_expiry(now: i64) -> Statement {
    Statement::new(
        "SELECT expires_at FROM queue_jobs WHERE state = 0 AND expires_at > $1 ORDER BY expires_at LIMIT 1",
    )
    .with(now)
}

/// Skips jobs that another node is deleting.
pub(super) fn ended(before: i64, is_postgres: bool) -> Statement {
    let lock = if is_postgres {
        " FOR UPDATE SKIP LOCKED"
    } else {
        ""
    };
    Statement::new(format!(
        "SELECT number, state, upload_offset FROM queue_jobs \
         WHERE ended_at IS NOT NULL AND ended_at < $1 ORDER BY ended_at LIMIT $2{lock}"
    ))
    .with(before)
    .with(BATCH_SIZE)
}

/// Keeps the latest event, whose number is needed.
pub(super) fn old_events(before: i64) -> Statement {
    Statement::new(
        "DELETE FROM queue_events WHERE created_at < $1 \
         AND number < (SELECT MAX(number) FROM queue_events) AND number IN \
         (SELECT number FROM queue_events ORDER BY number LIMIT $2)",
    )
    .with(before)
    .with(BATCH_SIZE)
}

/// The latest event is kept, however old it is.
pub(super) async fn newest_time(shared: &Shared) -> Result<Option<SystemTime>, QueueError> {
    let newest = Statement::new("SELECT MAX(created_at) AS at FROM queue_events");
    let rows = shared.database.read(newest).await?;
    let at = rows.first().map(|row| row.opt_number("at")).transpose()?;
    Ok(at.flatten().map(from_unix_millis))
}

/// Statements without effect that need the same privileges as a grant.
pub(super) fn probes() -> impl Iterator<Item = Statement> + Send {
    let inserts = ["queue_jobs", "queue_tokens", "queue_events"]
        .map(|table| format!("INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0"));
    let updates = [
        "queue_jobs SET state = state",
        "queue_state_totals SET jobs = jobs",
    ]
    .map(|change| format!("UPDATE {change} WHERE 1 = 0"));
    inserts.into_iter().chain(updates).map(Statement::new)
}

/// The result of [`Queue::expire_grants`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpiredGrants {
    /// Number of expired grants.
    pub count: u64,
    /// Time of the next expiry.
    pub next: Option<SystemTime>,
}

impl Queue {
    /// Expires unused grants. Several processes may call it concurrently; the next call continues after a
    /// failure.
    pub async fn expire_grants(&self) -> Result<ExpiredGrants, QueueError> {
        // Read the clock first: a grant that expires meanwhile is the next expiry.
        let now = unix_millis(self.now());
        let (mut count, mut after) = (0, (i64::MIN, i64::MIN));
        loop {
            let agreed = self.0.shared.removal_clock.now().time();
            let rows = self.rows(expired(unix_millis(agreed), after)).await?;
            let numbers = rows.iter().map(|row| row.number("number"));
            let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
            let Some(last) = rows.last() else {
                break;
            };
            // Rows of a newer version are skipped and stay.
            after = (last.number("expires_at")?, last.number("number")?);
            let needs = RequiredRows::Jobs(numbers.clone());
            let expired = self.write(None, needs, move |work| {
                let expired = numbers.iter().filter(|number| work.expire(**number));
                expired.count()
            });
            count += u64::try_from(expired.await?).unwrap_or(u64::MAX);
        }
        let next = self.rows(next_expiry(now)).await?;
        let next = next
            .first()
            .map(|row| row.number("expires_at"))
            .transpose()?;
        let next = next.map(from_unix_millis);
        Ok(ExpiredGrants { count, next })
    }

    /// Expires unused grants and deletes old rows. Returns how many jobs expired and were deleted.
    ///
    /// Several processes may call it concurrently; the next call continues after a failure.
    pub async fn purge(&self) -> Result<(u64, u64), QueueError> {
        let expired = self.expire_grants().await?.count;
        let shared = self.0.shared.clone();
        let database = &self.0.shared.database;
        let removed = database.run(async move { remove(&shared).await });
        Ok((expired, removed.await?))
    }

    /// Deletes an ended job, not its upload; returns whether there was one. Its usage of the quota remains.
    pub async fn delete_ended(&self, job: JobId) -> Result<bool, QueueError> {
        let shared = self.0.shared.clone();
        // A concurrent call waits, and then finds no row.
        let lock = match shared.database.is_postgres() {
            true => " FOR UPDATE",
            false => "",
        };
        let statement = Statement::new(format!(
            "SELECT number, state, upload_offset FROM queue_jobs \
             WHERE number = $1 AND ended_at IS NOT NULL{lock}"
        ));
        let removed = async move { remove_jobs(&shared, statement.with(job.0)).await };
        Ok(self.0.shared.database.run(removed).await? > 0)
    }

    /// Deletes a job that failed before it had an upload, so that a mended request can have its
    /// request id; returns whether there was one.
    ///
    /// # Errors
    /// The database failed.
    pub async fn delete_denied(&self, subject: &str, request_id: &str) -> Result<bool, QueueError> {
        let job = self.by_request(subject, request_id).await?;
        match job.filter(|job| job.state == JobState::Failed && job.upload_id.is_none()) {
            Some(job) => self.delete_ended(job.id).await,
            None => Ok(false),
        }
    }
}

/// Returns the number of deleted jobs.
async fn remove(shared: &Shared) -> Result<u64, QueueError> {
    let settings = &shared.settings;
    let now = unix_millis(shared.removal_clock.now().time());
    let mut removed = 0;
    loop {
        let before = now.saturating_sub(millis(settings.retention));
        let old = ended(before, shared.database.is_postgres());
        let count = remove_jobs(shared, old).await?;
        removed += count;
        if count < BATCH_SIZE.unsigned_abs() {
            break;
        }
    }
    let before = now.saturating_sub(millis(settings.event_retention));
    while shared.database.execute(old_events(before)).await? >= BATCH_SIZE.unsigned_abs() {}
    let minute = now.saturating_sub(millis(THROUGHPUT_RETENTION)) / MINUTE;
    let statement = Statement::new("DELETE FROM queue_throughput WHERE minute < $1");
    shared.database.execute(statement.with(minute)).await?;
    if let Some(period) = settings
        .quota_period
        .map(millis)
        .filter(|period| *period > 0)
    {
        // Keep the last period: uploads granted in it may still be running.
        let statement = Statement::new(
            "DELETE FROM queue_usage WHERE quota_period < $1 AND (subject, quota_period) IN \
             (SELECT subject, quota_period FROM queue_usage WHERE quota_period < $1 \
             GROUP BY subject, quota_period HAVING SUM(reserved_bytes) <= 0)",
        );
        shared
            .database
            .execute(statement.with(now / period - 1))
            .await?;
    }
    Ok(removed)
}

/// The selected rows are locked, so that no other transaction deletes and counts them as well.
async fn remove_jobs(shared: &Shared, selected: Statement) -> Result<u64, QueueError> {
    let mut transaction = shared.database.write().await?;
    let mut numbers = Vec::new();
    let mut counts: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for row in transaction.fetch(selected).await? {
        numbers.push(row.number("number")?);
        let (jobs, bytes) = counts.entry(row.number("state")?).or_default();
        *jobs -= 1;
        if row.number("state")? == state_number(JobState::Completed) {
            *bytes = bytes.saturating_sub(row.number("upload_offset")?);
        }
    }
    if numbers.is_empty() {
        return Ok(0);
    }
    delete(&mut transaction, &numbers).await?;
    count(&mut transaction, counts).await?;
    transaction.commit().await?;
    Ok(u64::try_from(numbers.len()).unwrap_or(u64::MAX))
}

async fn delete(transaction: &mut Transaction, numbers: &[i64]) -> Result<(), QueueError> {
    // A deleted job that failed is no longer subtracted from the files of its link.
    let release = |part: &[i64]| {
        let failed = "j.state IN (4, 5, 6) AND j.number IN ";
        let mut statement = Statement::new(format!(
            "UPDATE queue_links SET files = files - (SELECT COUNT(*) FROM queue_jobs AS j \
             WHERE j.subject = queue_links.subject AND {failed}"
        ))
        .list(part.iter().copied());
        statement.push(&format!(
            ") WHERE subject IN (SELECT j.subject FROM queue_jobs AS j WHERE {failed}"
        ));
        let mut statement = statement.list(part.iter().copied());
        statement.push(")");
        statement
    };
    transaction.execute_parts(numbers, release).await?;
    for table in [
        "queue_tokens WHERE job_number",
        "queue_parts WHERE job_number",
        "queue_jobs WHERE number",
    ] {
        let delete = |part: &[i64]| {
            Statement::new(format!("DELETE FROM {table} IN ")).list(part.iter().copied())
        };
        transaction.execute_parts(numbers, delete).await?;
    }
    Ok(())
}
