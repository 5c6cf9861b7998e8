use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use landfall_queue::{Job, JobState};
use serde::Serialize;

/// An upload without progress for this long has rate 0.
const ACTIVE_WINDOW: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct JobJson {
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
    transfer: Option<&'static str>,
    metadata: serde_json::Map<String, serde_json::Value>,
    created_at: String,
    expires_at: String,
    started_at: Option<String>,
    updated_at: String,
    ended_at: Option<String>,
}

impl From<Job> for JobJson {
    fn from(job: Job) -> Self {
        let silence = job.updated_at.elapsed().unwrap_or_default();
        let is_active = job.state == JobState::Progress && silence < ACTIVE_WINDOW;
        let rate = if is_active { job.rate } else { 0 };
        let is_direct = job.upload_id.as_ref().map(|id| id.starts_with("direct-"));
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
            transfer: is_direct.map(|is_direct| if is_direct { "direct" } else { "tus" }),
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

/// RFC 3339 with milliseconds; a time out of range becomes 1970.
pub(super) fn time(when: SystemTime) -> String {
    let when = Timestamp::try_from(when).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{when:.3}")
}
