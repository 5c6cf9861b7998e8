//! `DELETE /uploadjobs/{request_id}`: ends a job, then removes its uploads.
//!
//! The work runs in a separate task, so that it finishes if the client disconnects; `MAX_CANCELLATIONS` bounds these
//! tasks. A repeated request removes what an earlier one has left. A completed job is not cancelled (409).

use std::sync::Arc;

use crate::{Problem, request_id};
use axum::{extract::State, response::Response};
use http::{StatusCode, request::Parts};
use landfall_state::queue::{
    JobState,
    tracking::{self, CancelError},
};

use super::{Api, IdPath, count, fault, id, job_json, json, list, not_found};

const REASON: &str = "cancelled by its owner";
const REASON_ADMIN: &str = "cancelled by an admin";

pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    path: IdPath,
    parts: Parts,
) -> Result<Response, Problem> {
    let principal = api.authenticate(&parts).await?;
    let job = list::find(&api, &principal, &id(path), &parts).await?;
    let reason = match job.subject.as_deref() == Some(&*principal.subject) {
        true => REASON,
        false => REASON_ADMIN,
    };
    let job = match job.state {
        JobState::Completed | JobState::Removed => return Err(completed()),
        // Already ended.
        JobState::Failed | JobState::Expired => job,
        _ => {
            let permit = api.cancelling.clone().acquire_owned().await;
            let settings = &api.settings;
            let (queue, handler) = (settings.queue.clone(), settings.handler.clone());
            let stats = settings.stats.clone();
            // Continues if the client disconnects.
            let cancelled = tokio::spawn(async move {
                let _permit = permit;
                if tracking::cancel(&queue, &handler, &job, reason).await? {
                    count(&stats.cancelled);
                }
                queue.get(job.id).await.map_err(CancelError::from)
            });
            match cancelled.await {
                Ok(Ok(Some(job))) if job.state == JobState::Completed => return Err(completed()),
                Ok(Ok(Some(job))) => job,
                Ok(Ok(None)) => return Err(not_found()),
                Ok(Err(CancelError::Queue(error))) => return Err(fault(&parts)(error)),
                Ok(Err(error)) => return Err(not_removed(&error, &parts)),
                Err(error) => return Err(not_removed(&error, &parts)),
            }
        }
    };
    let row = job_json::job_json(&job, api.settings.style, principal.is_admin);
    Ok(json(StatusCode::OK, &row))
}

fn not_removed(error: &dyn std::fmt::Display, parts: &Parts) -> Problem {
    let request_id = request_id(parts);
    tracing::error!(%error,
        requestId = request_id,
        "failed to remove cancelled upload"
    );
    Problem::unavailable("the upload is cancelled, but not removed yet; cancel it again")
}

fn completed() -> Problem {
    let detail = "a completed upload cannot be cancelled";
    Problem::new(StatusCode::CONFLICT, detail)
}
