//! Reading jobs and events. Every statement uses an index.

use std::time::SystemTime;

use landfall::upload::UploadId;
use landfall_database::{Row, Statement, from_unix_millis, replace_nul, unix_millis, unsigned};

use super::{
    MINUTE, QueueError, Scope, Shared, StaleFilter, StaleJob, Throughput, Totals,
    load::parts,
    record::{COLUMNS, Record, read_event, state_number},
};
use crate::{JobEvent, JobState};

const MAX_PAGE_LEN: usize = 1000;

/// The statement selects [`COLUMNS`].
pub(super) async fn records(
    shared: &Shared,
    statement: Statement,
) -> Result<Vec<Record>, QueueError> {
    let rows = shared.database.read(statement).await?;
    Ok(readable(shared, &rows))
}

/// Skips rows of a newer version, and adds unwritten progress.
fn readable(shared: &Shared, rows: &[Row]) -> Vec<Record> {
    let unreadable = &shared.unreadable_jobs;
    let read = |row| unreadable.skip(row, Record::read(row));
    let mut records: Vec<_> = rows.iter().filter_map(read).collect();
    shared.reports.show(&mut records);
    records
}

pub(super) async fn record(
    shared: &Shared,
    statement: Statement,
) -> Result<Option<Record>, QueueError> {
    Ok(records(shared, statement).await?.into_iter().next())
}

pub(super) fn by_number(number: i64) -> Statement {
    Statement::new(format!(
        "SELECT {COLUMNS} FROM queue_jobs WHERE number = $1"
    ))
    .with(number)
}

pub(super) fn by_numbers(numbers: &[i64]) -> Statement {
    Statement::new(format!("SELECT {COLUMNS} FROM queue_jobs WHERE number IN "))
        .list(numbers.iter().copied())
}

pub(super) fn by_request(subject: &str, request_id: &str) -> Statement {
    Statement::new(format!(
        "SELECT {COLUMNS} FROM queue_jobs WHERE subject = $1 AND request_id = $2"
    ))
    .with(replace_nul(subject))
    .with(replace_nul(request_id))
}

pub(super) fn by_upload(upload: &str) -> Statement {
    Statement::new(format!(
        "SELECT {COLUMNS} FROM queue_jobs WHERE upload_id = $1 ORDER BY number DESC LIMIT 1"
    ))
    .with(upload)
}

pub(super) fn by_token(hash: &str) -> Statement {
    Statement::new(format!(
        "SELECT {COLUMNS} FROM queue_jobs WHERE number = \
         (SELECT job_number FROM queue_tokens WHERE hash = $1)"
    ))
    .with(hash)
}

pub(super) async fn uploads_of(shared: &Shared, job: i64) -> Result<Vec<UploadId>, QueueError> {
    let statement = Statement::new(
        "SELECT upload_id FROM queue_parts WHERE job_number = $1 UNION ALL \
         SELECT upload_id FROM queue_jobs WHERE number = $1 AND upload_id IS NOT NULL",
    );
    let mut uploads = Vec::new();
    for row in shared.database.read(statement.with(job)).await? {
        uploads.extend(UploadId::new(&row.text("upload_id")?).ok());
    }
    Ok(uploads)
}

pub(super) async fn stale_jobs(
    shared: &Shared,
    filter: StaleFilter,
    after: Option<(i64, i64)>,
    limit: usize,
) -> Result<Vec<StaleJob>, QueueError> {
    let limit = i64::try_from(limit.clamp(1, MAX_PAGE_LEN)).unwrap_or(i64::MAX);
    let found = records(shared, stale(filter, after, limit)).await?;
    let numbers: Vec<_> = found.iter().map(|record| record.job.id.0).collect();
    let mut all: Vec<_> = found
        .into_iter()
        .map(|record| StaleJob {
            prepared_end: record.prepared_end,
            uploads: Vec::new(),
            job: record.job,
        })
        .collect();
    for part in parts(&numbers) {
        let statement =
            Statement::new("SELECT job_number, upload_id FROM queue_parts WHERE job_number IN ")
                .list(part.iter().copied());
        for row in shared.database.read(statement).await? {
            let job = row.number("job_number")?;
            if let Some(one) = all.iter_mut().find(|one| one.job.id.0 == job) {
                one.uploads
                    .extend(UploadId::new(&row.text("upload_id")?).ok());
            }
        }
    }
    for one in &mut all {
        let upload = one.job.upload_id.as_deref();
        one.uploads
            .extend(upload.and_then(|id| UploadId::new(id).ok()));
    }
    Ok(all)
}

pub(super) fn stale(filter: StaleFilter, after: Option<(i64, i64)>, limit: i64) -> Statement {
    let (since, before) = (unix_millis(filter.since), unix_millis(filter.before));
    let (minute, number) = after.unwrap_or((since / MINUTE, i64::MIN));
    // The states are literals, so that the partial index is used.
    Statement::new(format!(
        "SELECT {COLUMNS} FROM queue_jobs WHERE state IN (1, 2) AND updated_at >= $1 AND updated_at < $2 \
         AND updated_minute >= $3 AND updated_minute <= $4 \
         AND (updated_minute > $3 OR number > $5) ORDER BY updated_minute, number LIMIT $6"
    ))
    .with(since)
    .with(before)
    .with(minute)
    .with(before / MINUTE)
    .with(number)
    .with(limit)
}

pub(super) fn events_of(scope: &Scope, after: i64, limit: usize) -> Statement {
    let limit = i64::try_from(limit.clamp(1, MAX_PAGE_LEN)).unwrap_or(i64::MAX);
    let mut statement = Statement::new(
        "SELECT number, kind, created_at, job_json FROM queue_events WHERE number > $1",
    )
    .with(after)
    .with(limit);
    if let Scope::Subject(subject) = scope {
        let subject = statement.bind(replace_nul(subject));
        statement.push(&format!(" AND subject = ${subject}"));
    }
    statement.push(" ORDER BY number LIMIT $2");
    statement
}

pub(super) async fn events(
    shared: &Shared,
    scope: &Scope,
    after: i64,
    limit: usize,
) -> Result<Vec<JobEvent>, QueueError> {
    let mut events = Vec::new();
    let mut after = after;
    loop {
        let rows = shared.database.read(events_of(scope, after, limit)).await?;
        for row in &rows {
            after = after.max(row.number("number")?);
            events.extend(shared.unreadable_events.skip(row, read_event(row)));
        }
        // Skipped rows do not end the page.
        if rows.len() < limit || events.len() >= limit {
            events.truncate(limit);
            return Ok(events);
        }
    }
}

pub(super) async fn totals(shared: &Shared) -> Result<Totals, QueueError> {
    let statement = Statement::new(
        "SELECT state, CAST(SUM(jobs) AS BIGINT) AS jobs, CAST(SUM(bytes) AS BIGINT) AS bytes \
         FROM queue_state_totals GROUP BY state",
    );
    let mut totals = Totals {
        jobs: JobState::ALL.map(|state| (state.as_str(), 0)).into(),
        completed_bytes: 0,
    };
    for row in shared.database.read(statement).await? {
        let state = row.number("state")?;
        let Some(state) = JobState::ALL
            .into_iter()
            .find(|one| state_number(*one) == state)
        else {
            continue;
        };
        totals
            .jobs
            .insert(state.as_str(), unsigned(row.number("jobs")?));
        if state == JobState::Completed {
            totals.completed_bytes = unsigned(row.number("bytes")?);
        }
    }
    Ok(totals)
}

pub(super) async fn throughput(
    shared: &Shared,
    since: SystemTime,
) -> Result<Vec<Throughput>, QueueError> {
    let statement = Statement::new(
        "SELECT minute, CAST(SUM(bytes) AS BIGINT), CAST(SUM(started) AS BIGINT), \
         CAST(SUM(completed) AS BIGINT), CAST(SUM(failed) AS BIGINT) \
         FROM queue_throughput WHERE minute >= $1 GROUP BY minute ORDER BY minute",
    )
    .with(unix_millis(since) / MINUTE);
    let mut minutes = Vec::new();
    for row in shared.database.read(statement).await? {
        let figure = |at| Ok::<_, QueueError>(unsigned(row.number(at)?));
        minutes.push(Throughput {
            minute: from_unix_millis(row.number("minute")?.saturating_mul(MINUTE)),
            bytes: figure(1)?,
            started: figure(2)?,
            completed: figure(3)?,
            failed: figure(4)?,
        });
    }
    Ok(minutes)
}
