use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use landfall_queue::{Job, JobState};
use serde_json::{Value, json};

/// An upload without progress for this long has rate 0.
const ACTIVE_WINDOW: Duration = Duration::from_secs(15);

pub(super) fn job_json(job: &Job) -> Value {
    let silence = job.updated_at.elapsed().unwrap_or_default();
    let is_active = job.state == JobState::Progress && silence < ACTIVE_WINDOW;
    let rate = if is_active { job.rate } else { 0 };
    let left = job.size.map(|size| size.saturating_sub(job.offset));
    let is_direct = |id: &String| id.starts_with("direct-");
    json!({
        "id": job.id.0,
        "request_id": job.request_id,
        "subject": job.subject,
        "state": job.state,
        "reason": job.reason,
        "filename": job.filename,
        "filetype": job.filetype,
        "size": job.size,
        "offset": job.offset,
        "rate": rate,
        "seconds_left": left.filter(|_| rate > 0).map(|left| left.div_ceil(rate)),
        "node": job.node,
        "upload_id": job.upload_id,
        "transfer": job.upload_id.as_ref().map(|id| if is_direct(id) { "direct" } else { "tus" }),
        "metadata": job.metadata,
        "created_at": time(job.created_at),
        "expires_at": time(job.expires_at),
        "started_at": job.started_at.map(time),
        "updated_at": time(job.updated_at),
        "ended_at": job.ended_at.map(time),
    })
}

/// RFC 3339 with milliseconds; a time out of range becomes 1970.
pub(super) fn time(when: SystemTime) -> String {
    let when = Timestamp::try_from(when).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{when:.3}")
}
