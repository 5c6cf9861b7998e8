//! An upload as the dashboard shows it.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use landfall_grants::{Job, JobState};
use serde::Serialize;

/// What wasn't heard of for so long doesn't move.
const FRESH: Duration = Duration::from_secs(15);

/// A job, with all that an operator may want to know.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    id: i64,
    request_id: String,
    subject: Option<String>,
    state: JobState,
    reason: Option<String>,
    filename: Option<String>,
    filetype: Option<String>,
    size: Option<u64>,
    offset: u64,
    rate: u64,
    seconds_left: Option<u64>,
    node: Option<String>,
    upload_id: Option<String>,
    way: Option<&'static str>,
    metadata: serde_json::Map<String, serde_json::Value>,
    created_at: String,
    expires_at: String,
    started_at: Option<String>,
    updated_at: String,
    ended_at: Option<String>,
}

impl Row {
    /// The row of a job at the time `now`.
    pub(super) fn of(job: Job, now: SystemTime) -> Self {
        let silence = now.duration_since(job.updated_at).unwrap_or_default();
        let moves = job.state == JobState::Progress && silence < FRESH;
        let rate = if moves { job.rate } else { 0 };
        let left = job.size.map(|size| size.saturating_sub(job.offset));
        Self {
            seconds_left: left.filter(|_| rate > 0).map(|left| left.div_ceil(rate)),
            rate,
            id: job.id.0,
            request_id: job.request_id,
            subject: job.subject,
            state: job.state,
            reason: job.reason,
            filename: job.filename,
            filetype: job.filetype,
            size: job.size,
            offset: job.offset,
            node: job.node,
            way: job.upload_id.as_deref().map(way),
            upload_id: job.upload_id,
            metadata: job.metadata,
            created_at: time(job.created_at),
            expires_at: time(job.expires_at),
            started_at: job.started_at.map(time),
            updated_at: time(job.updated_at),
            ended_at: job.ended_at.map(time),
        }
    }
}

/// How the bytes of an upload come, by its id.
fn way(upload_id: &str) -> &'static str {
    if upload_id.starts_with("direct-") {
        "direct"
    } else {
        "tus"
    }
}

/// A time by RFC 3339, to the millisecond. What lies beyond all calendars is 1970.
pub(super) fn time(when: SystemTime) -> String {
    let when = Timestamp::try_from(when).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{when:.3}")
}
