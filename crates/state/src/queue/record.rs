//! Jobs as rows of the database.

use std::time::{Duration, SystemTime};

use super::{Job, JobEnd, JobEvent, JobEventKind, JobId, JobState, MINUTE, QueueError};
use crate::sql::{
    Row, Statement, Value, from_unix_millis, replace_nul, signed, unix_millis, unsigned,
};

/// As they are read and written. The first [`FIXED`] never change, the last [`BINDING`] only when an upload is bound or denied.
pub(super) const COLUMNS: &str = "number, subject, request_id, filename, filename_key, filetype, \
     request_fingerprint, max_size, metadata, quota_period, created_at, expires_at, \
     state, reason, size, upload_offset, rate, rate_measured_at, node, prepared_end, \
     reserved_bytes, etag, started_at, updated_at, updated_minute, ended_at, \
     upload_id, upload_fingerprint, client";
const TYPES: [&str; FIXED + CHANGING] = [
    "BIGINT", "TEXT", "TEXT", "TEXT", "TEXT", "TEXT", "BIGINT", "BIGINT", "TEXT", "BIGINT",
    "BIGINT", "BIGINT", "BIGINT", "TEXT", "BIGINT", "BIGINT", "BIGINT", "BIGINT", "TEXT", "TEXT",
    "BIGINT", "TEXT", "BIGINT", "BIGINT", "BIGINT", "BIGINT", "TEXT", "TEXT", "TEXT",
];
const FIXED: usize = 12;
const CHANGING: usize = 17;
const BINDING: usize = 3;
/// In bytes; index entries of PostgreSQL are limited to 2704 bytes.
pub(super) const MAX_ID_LEN: usize = 1024;
const FILENAME_KEY_CHARS: usize = 128;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) job: Job,
    /// `None` without a grant.
    pub(super) request_fingerprint: Option<i64>,
    pub(super) upload_fingerprint: Option<String>,
    /// See [`Queue::prepare_end`](super::Queue::prepare_end).
    pub(super) prepared_end: Option<JobEnd>,
    pub(super) quota_period: i64,
    pub(super) reserved_bytes: u64,
    /// In milliseconds since 1970; when the last byte was received.
    pub(super) rate_measured_at: i64,
}

impl Record {
    pub(super) fn new(job: Job, now: i64) -> Self {
        Self {
            job,
            request_fingerprint: None,
            upload_fingerprint: None,
            prepared_end: None,
            quota_period: 0,
            reserved_bytes: 0,
            rate_measured_at: now,
        }
    }

    pub(super) fn read(row: &Row) -> Result<Self, QueueError> {
        let length = |column: &str| Ok::<_, QueueError>(row.opt_number(column)?.map(unsigned));
        let number = |column: &str| Ok::<_, QueueError>(unsigned(row.number(column)?));
        let moment = |column: &str| Ok::<_, QueueError>(from_unix_millis(row.number(column)?));
        let maybe_moment =
            |column: &str| Ok::<_, QueueError>(row.opt_number(column)?.map(from_unix_millis));
        let (offset, rate_measured_at) =
            (number("upload_offset")?, row.number("rate_measured_at")?);
        let metadata = row.text("metadata")?;
        let metadata = serde_json::from_str(&metadata)
            .map_err(|error| QueueError::InvalidRow(format!("metadata: {error}")))?;
        let job = Job {
            id: JobId(row.number("number")?),
            subject: row.opt_text("subject")?,
            request_id: row.text("request_id")?,
            filename: row.opt_text("filename")?,
            filetype: row.opt_text("filetype")?,
            max_size: length("max_size")?,
            metadata,
            created_at: moment("created_at")?,
            expires_at: moment("expires_at")?,
            state: state_from_number(row.number("state")?)?,
            reason: row.opt_text("reason")?,
            size: length("size")?,
            offset,
            etag: row.opt_text("etag")?,
            rate: number("rate")?,
            received_at: (offset > 0).then(|| from_unix_millis(rate_measured_at)),
            upload_id: row.opt_text("upload_id")?,
            client: row.opt_text("client")?.and_then(|text| text.parse().ok()),
            node: row.opt_text("node")?,
            started_at: maybe_moment("started_at")?,
            updated_at: moment("updated_at")?,
            ended_at: maybe_moment("ended_at")?,
        };
        let prepared_end = row.opt_text("prepared_end")?;
        Ok(Self {
            job,
            request_fingerprint: row.opt_number("request_fingerprint")?,
            upload_fingerprint: row.opt_text("upload_fingerprint")?,
            prepared_end: prepared_end.and_then(|text| parse_end(&text)),
            quota_period: row.number("quota_period")?,
            reserved_bytes: number("reserved_bytes")?,
            rate_measured_at,
        })
    }

    fn fixed_values(&self) -> [Value; FIXED] {
        let job = &self.job;
        let filename_key = job.filename.as_deref().map(filename_key);
        [
            job.id.0.into(),
            text(job.subject.as_deref()),
            text(Some(&job.request_id)),
            text(job.filename.as_deref()),
            text(filename_key.as_deref()),
            text(job.filetype.as_deref()),
            self.request_fingerprint.into(),
            number(job.max_size),
            text(Some(&json(&job.metadata))),
            self.quota_period.into(),
            unix_millis(job.created_at).into(),
            unix_millis(job.expires_at).into(),
        ]
    }

    fn changing_values(&self) -> [Value; CHANGING] {
        let job = &self.job;
        let moment = |at: Option<SystemTime>| Value::from(at.map(unix_millis));
        [
            state_number(job.state).into(),
            text(job.reason.as_deref()),
            number(job.size),
            signed(job.offset).into(),
            signed(job.rate).into(),
            self.rate_measured_at.into(),
            text(job.node.as_deref()),
            self.prepared_end.as_ref().and_then(format_end).into(),
            signed(self.reserved_bytes).into(),
            text(job.etag.as_deref()),
            moment(job.started_at),
            unix_millis(job.updated_at).into(),
            (unix_millis(job.updated_at) / MINUTE).into(),
            moment(job.ended_at),
            text(job.upload_id.as_deref()),
            text(self.upload_fingerprint.as_deref()),
            job.client.map(|client| client.to_string()).into(),
        ]
    }
}

pub(super) fn insert(records: &[&Record]) -> Statement {
    let head = format!("INSERT INTO queue_jobs ({COLUMNS}) SELECT * FROM");
    let rows = records.iter().map(|record| {
        let mut values = record.fixed_values().into_iter();
        let mut changing = record.changing_values().into_iter();
        std::array::from_fn(|_| {
            values
                .next()
                .or_else(|| changing.next())
                .unwrap_or(Value::Text(None))
        })
    });
    Statement::from_rows(&head, rows, TYPES, "")
}

/// Updates the jobs whose uploads were bound or denied.
pub(super) fn update_bound(records: &[&Record]) -> Statement {
    update_columns::<{ 1 + CHANGING }>(records)
}

/// Updates other jobs. Setting an indexed column rewrites the index, even with the same value.
pub(super) fn update(records: &[&Record]) -> Statement {
    update_columns::<{ 1 + CHANGING - BINDING }>(records)
}

/// `N` - 1 columns, by their number.
fn update_columns<const N: usize>(records: &[&Record]) -> Statement {
    let columns = COLUMNS.split(", ").skip(FIXED).take(N - 1).enumerate();
    let changes: Vec<_> = columns
        .map(|(at, column)| format!("{column} = v.column{}", at + 2))
        .collect();
    let head = format!("UPDATE queue_jobs SET {} FROM", changes.join(", "));
    let mut types = ["BIGINT"; N];
    for (changing, of_column) in types[1..].iter_mut().zip(&TYPES[FIXED..]) {
        *changing = of_column;
    }
    let rows = records.iter().map(|record| {
        let mut changing = record.changing_values().into_iter();
        std::array::from_fn::<_, N, _>(|at| match at {
            0 => record.job.id.0.into(),
            _ => changing.next().unwrap_or(Value::Text(None)),
        })
    });
    Statement::from_rows(&head, rows, types, "WHERE queue_jobs.number = v.column1")
}

/// Reads the columns `number, kind, created_at, job_json`.
pub(super) fn read_event(row: &Row) -> Result<JobEvent, QueueError> {
    let number = row.number("number")?;
    let kind = usize::try_from(row.number("kind")?).ok();
    let kind = kind.and_then(|at| JobEventKind::ALL.get(at).copied());
    let kind =
        kind.ok_or_else(|| QueueError::InvalidRow(format!("event {number}: unknown kind")))?;
    let job = serde_json::from_str(&row.text("job_json")?)
        .map_err(|error| QueueError::InvalidRow(format!("event {number}: {error}")))?;
    let at = from_unix_millis(row.number("created_at")?);
    Ok(JobEvent {
        number,
        kind,
        at,
        job,
    })
}

/// Completions are never prepared, and neither is what follows them.
fn format_end(end: &JobEnd) -> Option<String> {
    let (state, reason) = match end {
        JobEnd::Completed(_) | JobEnd::Removed(_) | JobEnd::Denied(..) => return None,
        JobEnd::Cancelled(reason) => (JobState::Cancelled, reason.as_str()),
        JobEnd::Failed(reason) => (JobState::Failed, reason.as_str()),
        JobEnd::Expired => (JobState::Expired, ""),
    };
    Some(replace_nul(&format!("{} {reason}", state_number(state))))
}

fn parse_end(text: &str) -> Option<JobEnd> {
    let (state, reason) = text.split_once(' ')?;
    match state_from_number(state.parse().ok()?).ok()? {
        JobState::Cancelled => Some(JobEnd::Cancelled(reason.into())),
        JobState::Failed => Some(JobEnd::Failed(reason.into())),
        JobState::Expired => Some(JobEnd::Expired),
        _ => None,
    }
}

/// A moving average of bytes per second.
pub(super) fn smooth_rate(past: u64, added: u64, elapsed: Duration) -> u64 {
    let rate = u128::from(added) * 1000 / elapsed.as_millis().max(1);
    let rate = u64::try_from(rate).unwrap_or(u64::MAX);
    match past {
        0 => rate,
        past => past / 2 + rate / 2,
    }
}

pub(super) const fn state_number(state: JobState) -> i64 {
    state as i64
}

fn state_from_number(number: i64) -> Result<JobState, QueueError> {
    let state = usize::try_from(number)
        .ok()
        .and_then(|at| JobState::ALL.get(at));
    state
        .copied()
        .ok_or_else(|| QueueError::InvalidRow(format!("unknown state {number}")))
}

pub(super) fn filename_key(name: &str) -> String {
    name.chars()
        .take(FILENAME_KEY_CHARS)
        .flat_map(char::to_lowercase)
        .collect()
}

pub(super) fn text(text: Option<&str>) -> Value {
    text.map(replace_nul).into()
}

pub(super) fn number(number: Option<u64>) -> Value {
    number.map(signed).into()
}

pub(super) fn json(value: &impl serde::Serialize) -> String {
    // Serialization of maps and plain structures does not fail.
    serde_json::to_string(value).unwrap_or_default()
}
