//! Reading jobs and events. Every statement walks an index.

use std::time::SystemTime;

use landfall::upload::UploadId;
use landfall_database::{Row, Statement};

use super::{
    Page, Query, QueueError, Scope, Shared, StaleFilter, StaleJob, Throughput, Totals,
    load::{parts, push_list},
    record::{COLUMNS, Record, clean, name_key, place, read_event, unsigned},
    search,
    time::{MINUTE, millis, time},
};
use crate::{JobState, job::JobEvent};

/// The most rows of a page.
const LONGEST_PAGE: usize = 1000;
/// Sorts behind all texts that begin with what stands before it.
const LAST: char = '\u{10ffff}';

/// The jobs that a statement with [`COLUMNS`] finds.
pub(super) async fn records(
    shared: &Shared,
    statement: Statement,
) -> Result<Vec<Record>, QueueError> {
    let rows = shared.database.read(statement).await?;
    Ok(readable(shared, &rows))
}

/// The jobs of rows, without those that another version wrote and this one cannot read.
fn readable(shared: &Shared, rows: &[Row]) -> Vec<Record> {
    let unreadable = &shared.tally.unreadable_jobs;
    let read = |row| unreadable.skip(row, Record::read(row));
    let mut records: Vec<_> = rows.iter().filter_map(read).collect();
    shared.reports.show(&mut records);
    records
}

/// The first of them.
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
    let mut statement =
        Statement::new(format!("SELECT {COLUMNS} FROM queue_jobs WHERE number IN "));
    push_list(&mut statement, numbers.iter().copied());
    statement
}

pub(super) fn by_request(subject: &str, request_id: &str) -> Statement {
    Statement::new(format!(
        "SELECT {COLUMNS} FROM queue_jobs WHERE subject = $1 AND request_id = $2"
    ))
    .with(clean(subject))
    .with(clean(request_id))
}

pub(super) fn by_upload(upload: &str) -> Statement {
    Statement::new(format!(
        "SELECT {COLUMNS} FROM queue_jobs WHERE upload = $1 ORDER BY number DESC LIMIT 1"
    ))
    .with(upload)
}

pub(super) fn by_token(hash: &str) -> Statement {
    Statement::new(format!(
        "SELECT {COLUMNS} FROM queue_jobs WHERE number = \
         (SELECT job FROM queue_tokens WHERE hash = $1)"
    ))
    .with(hash)
}

pub(super) async fn list(shared: &Shared, query: &Query) -> Result<Page, QueueError> {
    let limit = query.limit.clamp(1, LONGEST_PAGE);
    let one_more = i64::try_from(limit).unwrap_or(i64::MAX) + 1;
    let is_search = query.search.as_deref().is_some_and(|text| !text.is_empty());
    let mut records = if is_search && !search::are_few(shared, query).await? {
        search::search(shared, query, one_more).await?
    } else {
        records(shared, walk(query, one_more)).await?
    };
    let has_more = records.len() > limit;
    records.truncate(limit);
    Ok(Page {
        jobs: records.into_iter().map(|record| record.job).collect(),
        has_more,
    })
}

/// The jobs of a scope in the order of their numbers, each state on its own index.
pub(super) fn walk(query: &Query, limit: i64) -> Statement {
    let (order, beyond) = direction(query);
    let mut statement = Statement::new(format!("SELECT {COLUMNS} FROM ("));
    let limit = statement.bind(limit);
    let after = query.after.map(|after| statement.bind(after.0));
    let subject = match &query.scope {
        Scope::Subject(subject) => Some(statement.bind(clean(subject))),
        Scope::All => None,
    };
    let wanted = query.search.as_deref().filter(|text| !text.is_empty());
    let wanted = wanted.map(|text| begins_with(&mut statement, text));
    let mut states: Vec<_> = query.states.iter().map(|state| Some(*state)).collect();
    states.dedup();
    if states.is_empty() {
        states.push(None);
    }
    for (at, state) in states.into_iter().enumerate() {
        let mut conditions = Vec::new();
        if let Some(subject) = subject {
            conditions.push(format!("subject = ${subject}"));
        }
        if let Some(state) = state {
            conditions.push(format!("state = {}", place(state)));
        }
        if let Some(after) = after {
            conditions.push(format!("number {beyond} ${after}"));
        }
        if let Some((names, ids)) = &wanted {
            conditions.push(format!(
                "({} OR {} OR {} OR {})",
                names.on("name_key"),
                ids.on("subject"),
                ids.on("request_id"),
                ids.on("upload")
            ));
        }
        let union = if at == 0 { "" } else { " UNION ALL " };
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!("WHERE {} ", conditions.join(" AND "))
        };
        statement.push(&format!(
            "{union}SELECT * FROM (SELECT {COLUMNS} FROM queue_jobs {filter}\
             ORDER BY number {order} LIMIT ${limit}) AS s{at}"
        ));
    }
    statement.push(&format!(") AS jobs ORDER BY number {order} LIMIT ${limit}"));
    statement
}

pub(super) const fn direction(query: &Query) -> (&'static str, &'static str) {
    if query.newest_first {
        ("DESC", "<")
    } else {
        ("ASC", ">")
    }
}

/// The places of values between which a text has to be.
pub(super) struct Between(usize, usize);

impl Between {
    pub(super) fn on(&self, column: &str) -> String {
        let Self(first, last) = self;
        format!("({column} >= ${first} AND {column} < ${last})")
    }
}

/// Gives the values for names, which are compared without case, and for all else.
pub(super) fn begins_with(statement: &mut Statement, text: &str) -> (Between, Between) {
    let mut between = |text: String| {
        let last = format!("{text}{LAST}");
        Between(statement.bind(text), statement.bind(last))
    };
    (between(name_key(&clean(text))), between(clean(text)))
}

pub(super) async fn uploads_of(shared: &Shared, job: i64) -> Result<Vec<UploadId>, QueueError> {
    let statement = Statement::new(
        "SELECT upload FROM queue_parts WHERE job = $1 UNION ALL \
         SELECT upload FROM queue_jobs WHERE number = $1 AND upload IS NOT NULL",
    );
    let mut uploads = Vec::new();
    for row in shared.database.read(statement.with(job)).await? {
        uploads.extend(UploadId::new(&row.text("upload")?).ok());
    }
    Ok(uploads)
}

pub(super) async fn stale_jobs(
    shared: &Shared,
    filter: StaleFilter,
    after: Option<(i64, i64)>,
    limit: usize,
) -> Result<Vec<StaleJob>, QueueError> {
    let limit = i64::try_from(limit.clamp(1, LONGEST_PAGE)).unwrap_or(i64::MAX);
    let found = records(shared, stale(filter, after, limit)).await?;
    let numbers: Vec<_> = found.iter().map(|record| record.job.id.0).collect();
    let mut all: Vec<_> = found
        .into_iter()
        .map(|record| StaleJob {
            ending: record.ending,
            uploads: Vec::new(),
            job: record.job,
        })
        .collect();
    for part in parts(&numbers) {
        let mut statement = Statement::new("SELECT job, upload FROM queue_parts WHERE job IN ");
        push_list(&mut statement, part.iter().copied());
        for row in shared.database.read(statement).await? {
            let job = row.number("job")?;
            if let Some(one) = all.iter_mut().find(|one| one.job.id.0 == job) {
                one.uploads.extend(UploadId::new(&row.text("upload")?).ok());
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

/// Running jobs by the minute of their last update and their number.
pub(super) fn stale(filter: StaleFilter, after: Option<(i64, i64)>, limit: i64) -> Statement {
    let (since, before) = (millis(filter.since), millis(filter.before));
    let (minute, number) = after.unwrap_or((since / MINUTE, i64::MIN));
    // The states are part of the text, so that the partial index is used.
    Statement::new(format!(
        "SELECT {COLUMNS} FROM queue_jobs WHERE state IN (1, 2) AND updated >= $1 AND updated < $2 \
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
    let limit = i64::try_from(limit.clamp(1, LONGEST_PAGE)).unwrap_or(i64::MAX);
    let mut statement =
        Statement::new("SELECT number, kind, at, body FROM queue_events WHERE number > $1")
            .with(after)
            .with(limit);
    if let Scope::Subject(subject) = scope {
        let subject = statement.bind(clean(subject));
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
            events.extend(shared.tally.unreadable_events.skip(row, read_event(row)));
        }
        // What was skipped must not look like the end.
        if rows.len() < limit || events.len() >= limit {
            events.truncate(limit);
            return Ok(events);
        }
    }
}

pub(super) async fn totals(shared: &Shared) -> Result<Totals, QueueError> {
    let statement = Statement::new(
        "SELECT state, CAST(SUM(jobs) AS BIGINT) AS jobs, CAST(SUM(bytes) AS BIGINT) AS bytes \
         FROM queue_counts GROUP BY state",
    );
    let mut totals = Totals {
        jobs: JobState::ALL.map(|state| (state.as_str(), 0)).into(),
        completed_bytes: 0,
    };
    for row in shared.database.read(statement).await? {
        let state = row.number("state")?;
        let Some(state) = JobState::ALL.into_iter().find(|one| place(*one) == state) else {
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
    .with(millis(since) / MINUTE);
    let mut minutes = Vec::new();
    for row in shared.database.read(statement).await? {
        let figure = |at| Ok::<_, QueueError>(unsigned(row.number(at)?));
        minutes.push(Throughput {
            minute: time(row.number("minute")?.saturating_mul(MINUTE)),
            bytes: figure(1)?,
            started: figure(2)?,
            completed: figure(3)?,
            failed: figure(4)?,
        });
    }
    Ok(minutes)
}
