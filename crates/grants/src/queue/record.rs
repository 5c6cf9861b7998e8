//! A job as a row of the database.

use std::time::{Duration, SystemTime};

use landfall_database::{Row, Statement, Value};

use super::{
    End, QueueError,
    time::{MINUTE, millis, time},
};
use crate::{
    Job, JobId, JobState,
    job::{JobEvent, JobEventKind},
};

/// The columns of a job, in the order in which they are read and written: first those that never
/// change.
pub(super) const COLUMNS: &str = "number, subject, request_id, filename, name_key, filetype, asked, \
     max_size, metadata, period, created, expires, state, reason, size, stored, rate, measured, \
     upload, digest, node, ending, reserved, etag, started, updated, updated_minute, ended";
const TYPES: [&str; 28] = [
    "BIGINT", "TEXT", "TEXT", "TEXT", "TEXT", "TEXT", "BIGINT", "BIGINT", "TEXT", "BIGINT",
    "BIGINT", "BIGINT", "BIGINT", "TEXT", "BIGINT", "BIGINT", "BIGINT", "BIGINT", "TEXT", "TEXT",
    "TEXT", "TEXT", "BIGINT", "TEXT", "BIGINT", "BIGINT", "BIGINT", "BIGINT",
];
/// Those that change, after the number.
const CHANGING: [(&str, &str); 16] = [
    ("state", "BIGINT"),
    ("reason", "TEXT"),
    ("size", "BIGINT"),
    ("stored", "BIGINT"),
    ("rate", "BIGINT"),
    ("measured", "BIGINT"),
    ("upload", "TEXT"),
    ("digest", "TEXT"),
    ("node", "TEXT"),
    ("ending", "TEXT"),
    ("reserved", "BIGINT"),
    ("etag", "TEXT"),
    ("started", "BIGINT"),
    ("updated", "BIGINT"),
    ("updated_minute", "BIGINT"),
    ("ended", "BIGINT"),
];
/// Characters of a name that can be searched.
const NAME_KEY: usize = 128;

/// A job and what only the queue knows of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) job: Job,
    /// What was asked for, in digest; `None` without a grant.
    pub(super) asked: Option<i64>,
    /// What its creation asked for.
    pub(super) digest: Option<String>,
    /// How it ends if its upload is gone: its removal has been prepared.
    pub(super) ending: Option<End>,
    /// The period of its quota.
    pub(super) period: i64,
    /// Bytes of the quota that are promised to it.
    pub(super) reserved: u64,
    /// When the rate was last measured, in milliseconds since 1970.
    pub(super) measured: i64,
}

impl Record {
    pub(super) fn read(row: &Row) -> Result<Self, QueueError> {
        let length = |column: &str| Ok::<_, QueueError>(row.opt_number(column)?.map(unsigned));
        let number = |column: &str| Ok::<_, QueueError>(unsigned(row.number(column)?));
        let moment = |column: &str| Ok::<_, QueueError>(time(row.number(column)?));
        let maybe_moment = |column: &str| Ok::<_, QueueError>(row.opt_number(column)?.map(time));
        let metadata = row.text("metadata")?;
        let metadata = serde_json::from_str(&metadata)
            .map_err(|error| QueueError::Row(format!("metadata: {error}")))?;
        let job = Job {
            id: JobId(row.number("number")?),
            subject: row.opt_text("subject")?,
            request_id: row.text("request_id")?,
            filename: row.opt_text("filename")?,
            filetype: row.opt_text("filetype")?,
            max_size: length("max_size")?,
            metadata,
            created_at: moment("created")?,
            expires_at: moment("expires")?,
            state: state_at(row.number("state")?)?,
            reason: row.opt_text("reason")?,
            size: length("size")?,
            offset: number("stored")?,
            etag: row.opt_text("etag")?,
            rate: number("rate")?,
            upload_id: row.opt_text("upload")?,
            node: row.opt_text("node")?,
            started_at: maybe_moment("started")?,
            updated_at: moment("updated")?,
            ended_at: maybe_moment("ended")?,
        };
        Ok(Self {
            job,
            asked: row.opt_number("asked")?,
            period: row.number("period")?,
            measured: row.number("measured")?,
            digest: row.opt_text("digest")?,
            ending: row.opt_text("ending")?.and_then(|text| parse_end(&text)),
            reserved: number("reserved")?,
        })
    }

    fn values(&self) -> [Value; 28] {
        let job = &self.job;
        let name_key = job.filename.as_deref().map(name_key);
        let [
            state,
            reason,
            size,
            stored,
            rate,
            measured,
            upload,
            digest,
            node,
            ending,
            reserved,
            etag,
            started,
            updated,
            updated_minute,
            ended,
        ] = self.changing();
        [
            job.id.0.into(),
            text(job.subject.as_deref()),
            text(Some(&job.request_id)),
            text(job.filename.as_deref()),
            text(name_key.as_deref()),
            text(job.filetype.as_deref()),
            self.asked.into(),
            number(job.max_size),
            text(Some(&json(&job.metadata))),
            self.period.into(),
            millis(job.created_at).into(),
            millis(job.expires_at).into(),
            state,
            reason,
            size,
            stored,
            rate,
            measured,
            upload,
            digest,
            node,
            ending,
            reserved,
            etag,
            started,
            updated,
            updated_minute,
            ended,
        ]
    }

    fn changing(&self) -> [Value; 16] {
        let job = &self.job;
        let moment = |at: Option<SystemTime>| Value::from(at.map(millis));
        [
            place(job.state).into(),
            text(job.reason.as_deref()),
            number(job.size),
            signed(job.offset).into(),
            signed(job.rate).into(),
            self.measured.into(),
            text(job.upload_id.as_deref()),
            text(self.digest.as_deref()),
            text(job.node.as_deref()),
            self.ending.as_ref().and_then(format_end).into(),
            signed(self.reserved).into(),
            text(job.etag.as_deref()),
            moment(job.started_at),
            millis(job.updated_at).into(),
            (millis(job.updated_at) / MINUTE).into(),
            moment(job.ended_at),
        ]
    }
}

/// Writes new jobs.
pub(super) fn insert(records: &[&Record]) -> Statement {
    let mut statement = Statement::new(format!(
        "INSERT INTO queue_jobs ({COLUMNS}) SELECT * FROM (VALUES "
    ));
    statement.push_rows(records.iter().map(|record| record.values()), TYPES);
    statement.push(") AS v");
    statement
}

/// Writes what changed of jobs.
pub(super) fn update(records: &[&Record]) -> Statement {
    let mut sql = String::from("UPDATE queue_jobs SET ");
    for (at, (column, _)) in CHANGING.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        sql.push_str(&format!("{comma}{column} = v.column{}", at + 2));
    }
    sql.push_str(" FROM (VALUES ");
    let mut statement = Statement::new(sql);
    let mut types = ["BIGINT"; 17];
    for (place, (_, kind)) in types[1..].iter_mut().zip(CHANGING) {
        *place = kind;
    }
    let rows = records.iter().map(|record| {
        let mut changing = record.changing().into_iter();
        std::array::from_fn::<_, 17, _>(|at| match at {
            0 => record.job.id.0.into(),
            _ => changing.next().unwrap_or(Value::NullText),
        })
    });
    statement.push_rows(rows, types);
    statement.push(") AS v WHERE queue_jobs.number = v.column1");
    statement
}

/// An event as it is kept: `number, kind, at, body`.
pub(super) fn read_event(row: &Row) -> Result<JobEvent, QueueError> {
    let number = row.number("number")?;
    let kind = usize::try_from(row.number("kind")?).ok();
    let kind = kind.and_then(|at| JobEventKind::ALL.get(at).copied());
    let kind = kind.ok_or_else(|| QueueError::Row(format!("event {number} is of no kind")))?;
    let job = serde_json::from_str(&row.text("body")?)
        .map_err(|error| QueueError::Row(format!("event {number}: {error}")))?;
    let at = time(row.number("at")?);
    Ok(JobEvent {
        number,
        kind,
        at,
        job,
    })
}

/// Formats a prepared end for its column; completions are never prepared.
fn format_end(end: &End) -> Option<String> {
    let (state, reason) = match end {
        End::Completed(_) => return None,
        End::Cancelled(reason) => (JobState::Cancelled, reason.as_str()),
        End::Failed(reason) => (JobState::Failed, reason.as_str()),
        End::Expired => (JobState::Expired, ""),
    };
    Some(clean(&format!("{} {reason}", place(state))))
}

fn parse_end(text: &str) -> Option<End> {
    let (state, reason) = text.split_once(' ')?;
    match state_at(state.parse().ok()?).ok()? {
        JobState::Cancelled => Some(End::Cancelled(reason.into())),
        JobState::Failed => Some(End::Failed(reason.into())),
        JobState::Expired => Some(End::Expired),
        _ => None,
    }
}

/// Bytes per second after so many more bytes in a time: a part of the past remains, so that the figure
/// does not jump.
pub(super) fn smooth_rate(past: u64, more: u64, elapsed: Duration) -> u64 {
    let rate = u128::from(more) * 1000 / elapsed.as_millis().max(1);
    let rate = u64::try_from(rate).unwrap_or(u64::MAX);
    match past {
        0 => rate,
        past => past / 2 + rate / 2,
    }
}

/// The number that stands for a state.
pub(super) const fn place(state: JobState) -> i64 {
    state as i64
}

fn state_at(place: i64) -> Result<JobState, QueueError> {
    let state = usize::try_from(place)
        .ok()
        .and_then(|at| JobState::ALL.get(at));
    state
        .copied()
        .ok_or_else(|| QueueError::Row(format!("there is no state {place}")))
}

/// What a name is found by.
pub(super) fn name_key(name: &str) -> String {
    name.chars()
        .take(NAME_KEY)
        .flat_map(char::to_lowercase)
        .collect()
}

/// A text without U+0000, which PostgreSQL doesn't keep.
pub(super) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

pub(super) fn text(text: Option<&str>) -> Value {
    text.map(clean).into()
}

/// Larger ones than the database knows are the largest that it knows.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

pub(super) fn number(number: Option<u64>) -> Value {
    number.map(signed).into()
}

pub(super) fn json(value: &impl serde::Serialize) -> String {
    // Maps of texts and plain structures always can be written.
    serde_json::to_string(value).unwrap_or_default()
}
