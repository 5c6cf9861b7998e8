//! What is done from time to time: grants that lapse, rows that nobody needs any more.

use std::{collections::BTreeMap, time::Duration};

use landfall_database::{Statement, Transaction};

use super::{
    QueueError, Shared,
    load::{parts, push_list},
    record::place,
    save::count,
    time::{MINUTE, millis, span},
};
use crate::JobState;

/// Rows of one transaction, so that others don't wait for long.
const SOME: i64 = 500;
/// How long it is remembered how much came in.
const THROUGHPUT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Some grants whose time to start was over at `now`.
pub(super) fn lapsed(now: i64) -> Statement {
    Statement::new(
        "SELECT number FROM queue_jobs WHERE state = 0 AND expires <= $1 ORDER BY expires LIMIT $2",
    )
    .with(now)
    .with(SOME)
}

/// Some jobs that ended before a time, without those that another node removes.
pub(super) fn ended(before: i64, is_postgres: bool) -> Statement {
    let lock = if is_postgres {
        " FOR UPDATE SKIP LOCKED"
    } else {
        ""
    };
    Statement::new(format!(
        "SELECT number, state, stored FROM queue_jobs \
         WHERE ended IS NOT NULL AND ended < $1 ORDER BY ended LIMIT $2{lock}"
    ))
    .with(before)
    .with(SOME)
}

/// Removes some events before a time, but the newest, whose number is the last that was given out.
pub(super) fn old_events(before: i64) -> Statement {
    Statement::new(
        "DELETE FROM queue_events WHERE at < $1 \
         AND number < (SELECT MAX(number) FROM queue_events) AND number IN \
         (SELECT number FROM queue_events ORDER BY number LIMIT $2)",
    )
    .with(before)
    .with(SOME)
}

/// Statements that change nothing and need the rights that grants need.
pub(super) fn probes() -> impl Iterator<Item = Statement> + Send {
    let inserts = ["queue_jobs", "queue_tokens", "queue_events"]
        .map(|table| format!("INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0"));
    let updates = [
        "queue_jobs SET state = state",
        "queue_counts SET jobs = jobs",
    ]
    .map(|change| format!("UPDATE {change} WHERE 1 = 0"));
    inserts.into_iter().chain(updates).map(Statement::new)
}

pub(super) async fn find_lapsed(shared: &Shared) -> Result<Vec<i64>, QueueError> {
    let now = millis(shared.settings.clock.now());
    let rows = shared.database.read(lapsed(now)).await?;
    let numbers = rows.iter().map(|row| row.number("number"));
    Ok(numbers.collect::<Result<_, _>>()?)
}

/// Removes what is older than it is kept; says how many jobs.
pub(super) async fn remove(shared: &Shared) -> Result<u64, QueueError> {
    let settings = &shared.settings;
    let now = millis(settings.clock.now());
    let mut removed = 0;
    loop {
        let some = remove_jobs(shared, now.saturating_sub(span(settings.keep))).await?;
        removed += some;
        if some < SOME.unsigned_abs() {
            break;
        }
    }
    let before = now.saturating_sub(span(settings.keep_events));
    while execute(shared, old_events(before)).await? >= SOME.unsigned_abs() {}
    let minute = now.saturating_sub(span(THROUGHPUT)) / MINUTE;
    let statement = Statement::new("DELETE FROM queue_throughput WHERE minute < $1");
    execute(shared, statement.with(minute)).await?;
    if let Some(period) = settings.quota_period.map(span).filter(|period| *period > 0) {
        // Uploads that were granted in the last period may still be running.
        let statement = Statement::new(
            "DELETE FROM queue_usage WHERE period < $1 AND (subject, period) IN \
             (SELECT subject, period FROM queue_usage WHERE period < $1 \
             GROUP BY subject, period HAVING SUM(reserved) <= 0)",
        );
        execute(shared, statement.with(now / period - 1)).await?;
    }
    Ok(removed)
}

async fn execute(shared: &Shared, statement: Statement) -> Result<u64, QueueError> {
    let mut transaction = shared.database.write().await?;
    let rows = transaction.execute(statement).await?;
    transaction.commit().await?;
    Ok(rows)
}

async fn remove_jobs(shared: &Shared, before: i64) -> Result<u64, QueueError> {
    let mut transaction = shared.database.write().await?;
    let mut numbers = Vec::new();
    let mut counts: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for row in transaction
        .fetch(ended(before, transaction.is_postgres()))
        .await?
    {
        numbers.push(row.number("number")?);
        let (jobs, bytes) = counts.entry(row.number("state")?).or_default();
        *jobs -= 1;
        if row.number("state")? == place(JobState::Completed) {
            *bytes = bytes.saturating_sub(row.number("stored")?);
        }
    }
    if numbers.is_empty() {
        return Ok(0);
    }
    delete(&mut transaction, &numbers).await?;
    count(&mut transaction, shared.slot, counts).await?;
    transaction.commit().await?;
    Ok(u64::try_from(numbers.len()).unwrap_or(u64::MAX))
}

async fn delete(transaction: &mut Transaction, numbers: &[i64]) -> Result<(), QueueError> {
    for table in [
        "queue_tokens WHERE job",
        "queue_parts WHERE job",
        "queue_jobs WHERE number",
    ] {
        for part in parts(numbers) {
            let mut statement = Statement::new(format!("DELETE FROM {table} IN "));
            push_list(&mut statement, part.iter().copied());
            transaction.execute(statement).await?;
        }
    }
    Ok(())
}
