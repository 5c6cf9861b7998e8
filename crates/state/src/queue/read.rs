//! Reading jobs and events. Every statement uses an index.

use std::{collections::HashMap, time::SystemTime};

use landfall::upload::UploadId;

use super::{
    Job, JobEvent, JobId, JobState, MINUTE, Queue, QueueError, Scope, Shared, StaleFilter,
    StaleJob, Throughput, ThroughputQuery, Totals,
    record::{COLUMNS, Record, read_event, state_number},
};
use crate::sql::{Row, Statement, from_unix_millis, parts, replace_nul, unix_millis, unsigned};

const MAX_PAGE_LEN: usize = 1000;

/// The statement selects [`COLUMNS`]. Skips rows of a newer version, and adds unwritten progress.
pub(super) async fn records(
    shared: &Shared,
    statement: Statement,
) -> Result<Vec<Record>, QueueError> {
    let rows = shared.database.read(statement).await?;
    Ok(read_records(shared, &rows))
}

/// The statement finds at most one row, by an index.
pub(super) async fn record(
    shared: &Shared,
    statement: Statement,
) -> Result<Option<Record>, QueueError> {
    let rows = shared.database.read_by_index(statement).await?;
    Ok(read_records(shared, &rows).pop())
}

pub(super) fn read_records(shared: &Shared, rows: &[Row]) -> Vec<Record> {
    let read = |row| shared.unreadable_jobs.skip(row, Record::read(row));
    let mut records: Vec<_> = rows.iter().filter_map(read).collect();
    shared.reports.show(&mut records);
    records
}

fn jobs_where(condition: &str) -> Statement {
    Statement::new(format!(
        "SELECT {COLUMNS} FROM queue_jobs WHERE {condition}"
    ))
}

pub(super) fn by_number(number: i64) -> Statement {
    jobs_where("number = $1").with(number)
}

pub(super) fn by_numbers(numbers: &[i64]) -> Statement {
    jobs_where("number IN ").list(numbers.iter().copied())
}

pub(super) fn by_request(subject: &str, request_id: &str) -> Statement {
    jobs_where("subject = $1 AND request_id = $2")
        .with(replace_nul(subject))
        .with(replace_nul(request_id))
}

pub(super) fn by_upload(upload: &str) -> Statement {
    jobs_where("upload_id = $1 ORDER BY number DESC LIMIT 1").with(upload)
}

pub(super) fn by_token(hash: &str) -> Statement {
    jobs_where("number = (SELECT job_number FROM queue_tokens WHERE hash = $1)").with(hash)
}

impl Queue {
    /// Returns all uploads that are bound to a job, partial ones included.
    pub async fn uploads_of(&self, id: JobId) -> Result<Vec<UploadId>, QueueError> {
        let statement = Statement::new(
            "SELECT upload_id FROM queue_parts WHERE job_number = $1 UNION ALL \
             SELECT upload_id FROM queue_jobs WHERE number = $1 AND upload_id IS NOT NULL",
        );
        let mut uploads = Vec::new();
        for row in self.rows(statement.with(id.0)).await? {
            uploads.extend(UploadId::new(&row.text("upload_id")?).ok());
        }
        Ok(uploads)
    }

    /// Returns running jobs after `after`, by the minute of their last update; at most 1000. There are none left if
    /// it returns none.
    pub async fn stale_jobs(
        &self,
        filter: StaleFilter,
        after: Option<&Job>,
        limit: usize,
    ) -> Result<Vec<StaleJob>, QueueError> {
        let after = after.map(|job| (unix_millis(job.updated_at) / MINUTE, job.id.0));
        let limit = i64::try_from(limit.clamp(1, MAX_PAGE_LEN)).unwrap_or(i64::MAX);
        self.read(|shared| async move { stale_jobs(&shared, filter, after, limit).await })
            .await
    }

    /// Returns the activity since a time, for intervals with activity; it is kept for a week.
    pub async fn throughput(&self, query: &ThroughputQuery) -> Result<Vec<Throughput>, QueueError> {
        let mut statement = Statement::new("SELECT first AS minute");
        for column in ["bytes", "started", "completed", "failed"] {
            statement.push(&format!(", CAST(SUM({column}) AS BIGINT) AS {column}"));
        }
        let interval = query.interval.max(1);
        statement.push(&format!(
            " FROM (SELECT minute / {interval} * {interval} AS first, bytes, started, completed, \
             failed FROM queue_throughput WHERE minute >= $1"
        ));
        let mut statement = statement.with(unix_millis(query.since) / MINUTE);
        if let Some(node) = &query.node {
            let node = statement.bind(replace_nul(node));
            statement.push(&format!(" AND node = ${node}"));
        }
        statement.push(") AS found GROUP BY first ORDER BY first");
        let mut minutes = Vec::new();
        for row in self.rows(statement).await? {
            let figure = |column: &str| Ok::<_, QueueError>(unsigned(row.number(column)?));
            minutes.push(Throughput {
                minute: from_unix_millis(row.number("minute")?.saturating_mul(MINUTE)),
                bytes: figure("bytes")?,
                started: figure("started")?,
                completed: figure("completed")?,
                failed: figure("failed")?,
            });
        }
        Ok(minutes)
    }

    /// Returns the nodes with activity since a time; at most 100.
    pub async fn throughput_nodes(&self, since: SystemTime) -> Result<Vec<String>, QueueError> {
        let statement = Statement::new(
            "SELECT DISTINCT node FROM queue_throughput WHERE minute >= $1 AND node <> '' \
             ORDER BY node LIMIT 100",
        );
        let rows = self
            .rows(statement.with(unix_millis(since) / MINUTE))
            .await?;
        rows.iter().map(|row| Ok(row.text("node")?)).collect()
    }
}

async fn stale_jobs(
    shared: &Shared,
    filter: StaleFilter,
    mut after: Option<(i64, i64)>,
    limit: i64,
) -> Result<Vec<StaleJob>, QueueError> {
    let mut found = Vec::new();
    // Skipped rows alone are not the end.
    while found.is_empty() {
        let rows = shared.database.read(stale(filter, after, limit)).await?;
        let Some(last) = rows.last() else {
            break;
        };
        after = Some((last.number("updated_minute")?, last.number("number")?));
        found = read_records(shared, &rows);
    }
    let numbers: Vec<_> = found.iter().map(|record| record.job.id.0).collect();
    let mut parts_of: HashMap<i64, Vec<UploadId>> = HashMap::new();
    for part in parts(&numbers) {
        let statement =
            Statement::new("SELECT job_number, upload_id FROM queue_parts WHERE job_number IN ")
                .list(part.iter().copied());
        for row in shared.database.read(statement).await? {
            let uploads = parts_of.entry(row.number("job_number")?).or_default();
            uploads.extend(UploadId::new(&row.text("upload_id")?).ok());
        }
    }
    let stale = found.into_iter().map(
        |Record {
             job, prepared_end, ..
         }| {
            let mut uploads = parts_of.remove(&job.id.0).unwrap_or_default();
            uploads.extend(
                job.upload_id
                    .as_deref()
                    .and_then(|id| UploadId::new(id).ok()),
            );
            StaleJob {
                job,
                prepared_end,
                uploads,
            }
        },
    );
    Ok(stale.collect())
}

pub(super) fn stale(filter: StaleFilter, after: Option<(i64, i64)>, limit: i64) -> Statement {
    let (since, before) = (unix_millis(filter.since), unix_millis(filter.before));
    let (minute, number) = after.unwrap_or((since / MINUTE, i64::MIN));
    // The states are literals, so that the partial index is used.
    jobs_where(
        "state IN (1, 2) AND updated_at >= $1 AND updated_at < $2 \
         AND updated_minute >= $3 AND updated_minute <= $4 \
         AND (updated_minute > $3 OR number > $5) ORDER BY updated_minute, number LIMIT $6",
    )
    .with(since)
    .with(before)
    .with(minute)
    .with(before / MINUTE)
    .with(number)
    .with(limit)
}

pub(super) fn events_of(scope: &Scope, after: i64, until: i64, limit: usize) -> Statement {
    let limit = i64::try_from(limit.clamp(1, MAX_PAGE_LEN)).unwrap_or(i64::MAX);
    let mut statement = Statement::new(
        "SELECT number, kind, created_at, job_json FROM queue_events \
         WHERE number > $1 AND number <= $2",
    )
    .with(after)
    .with(until)
    .with(limit);
    if let Scope::Subject(subject) = scope {
        let subject = statement.bind(replace_nul(subject));
        statement.push(&format!(" AND subject = ${subject}"));
    }
    statement.push(" ORDER BY number LIMIT $3");
    statement
}

/// `until` is at most the [horizon](super::numbers::horizon): events behind it may be incomplete.
pub(super) async fn events(
    shared: &Shared,
    scope: &Scope,
    after: i64,
    until: i64,
    limit: usize,
) -> Result<Vec<JobEvent>, QueueError> {
    let mut events = Vec::new();
    let mut after = after;
    loop {
        let statement = events_of(scope, after, until, limit);
        let rows = shared.database.read(statement).await?;
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
