//! The JSON object of a job, which lists, details and events of the dashboard have in common.
//!
//! Reads neither the store nor the database: the offset is that of the job, and the handler knows in memory which
//! uploads this node receives.

use std::time::Duration;

use landfall::upload::UploadId;
use landfall_hooks::rfc3339;
use landfall_state::queue::{Job, JobState};
use serde_json::{Value, json};

use super::Admin;

/// A client that sends chunks pauses between two requests.
const MAX_SILENCE: Duration = Duration::from_secs(5);
/// Other nodes write the time of the last byte every ten seconds.
const MAX_SILENCE_ELSEWHERE: Duration = Duration::from_secs(15);

pub(super) fn job_json(admin: &Admin, job: &Job) -> Value {
    let is_receiving = is_receiving(admin, job);
    let rate = if is_receiving { job.rate } else { 0 };
    let left = job.size.map(|size| size.saturating_sub(job.offset));
    json!({
        "id": job.id.0,
        "request_id": job.request_id,
        "subject": job.subject,
        "state": job.state,
        "receiving": is_receiving,
        "reason": job.reason,
        "filename": job.filename,
        "filetype": job.filetype,
        "size": job.size,
        "offset": job.offset,
        "rate": rate,
        "seconds_left": left.filter(|_| rate > 0).map(|left| left.div_ceil(rate)),
        "node": job.node,
        "upload_id": job.upload_id,
        "transfer": job.upload_id.as_ref().map(|_| if is_direct(job) { "direct" } else { "tus" }),
        "metadata": job.metadata,
        "client": job.client,
        "created_at": rfc3339::millis(job.created_at),
        "expires_at": rfc3339::millis(job.expires_at),
        "started_at": job.started_at.map(rfc3339::millis),
        "received_at": job.received_at.map(rfc3339::millis),
        "updated_at": rfc3339::millis(job.updated_at),
        "ended_at": job.ended_at.map(rfc3339::millis),
    })
}

pub(super) fn is_direct(job: &Job) -> bool {
    let id = job.upload_id.as_deref();
    id.is_some_and(|id| id.starts_with("direct-"))
}

/// This node knows its requests; of other nodes and of direct uploads, the time of the last byte counts.
pub(super) fn is_receiving(admin: &Admin, job: &Job) -> bool {
    if !matches!(job.state, JobState::Started | JobState::Progress) {
        return false;
    }
    let parts = &admin.0.parts;
    let id = job
        .upload_id
        .as_deref()
        .and_then(|id| UploadId::new(id).ok());
    if let Some(silent) = id.and_then(|id| parts.handler.silent_for(&id)) {
        return silent < MAX_SILENCE;
    }
    let is_here = job.node.as_ref() == Some(&parts.node) && !is_direct(job);
    let longest = if is_here {
        MAX_SILENCE
    } else {
        MAX_SILENCE_ELSEWHERE
    };
    let silent = job.received_at.map(|at| at.elapsed().unwrap_or_default());
    silent.is_some_and(|silent| silent < longest)
}
