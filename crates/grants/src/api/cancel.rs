use axum::{extract::Request, response::Response};
use http::StatusCode;
use landfall::Handler;
use landfall_api::{Problem, request_id};
use landfall_queue::{
    Job, JobState, Queue,
    tracking::{self, CancelError},
};

use super::{Api, count, fault, job_json, json, list, not_found};

const REASON: &str = "cancelled by its owner";
const REASON_ADMIN: &str = "cancelled by an admin";

pub(super) async fn cancel(api: &Api, id: &str, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let principal = api.authenticate(&parts).await?;
    let job = list::find(api, &principal, id, &parts).await?;
    let reason = match job.subject.as_deref() == Some(&*principal.subject) {
        true => REASON,
        false => REASON_ADMIN,
    };
    let job = match job.state {
        JobState::Completed => return Err(completed()),
        // Already ended.
        JobState::Failed | JobState::Expired => job,
        _ => {
            let turn = api.cancelling.clone().acquire_owned().await;
            let settings = &api.settings;
            let (queue, handler) = (settings.queue.clone(), settings.handler.clone());
            let stats = settings.stats.clone();
            // Continues if the client disconnects.
            let end = tokio::spawn(async move {
                let _turn = turn;
                let ended = end(&queue, &handler, &job, reason).await;
                if let Ok((true, _)) = ended {
                    count(&stats.cancelled);
                }
                ended.map(|(_, job)| job)
            });
            let ended = end.await.unwrap_or_else(|error| Err(Failed::Task(error)));
            match ended {
                Ok(Some(job)) if job.state == JobState::Completed => return Err(completed()),
                Ok(Some(job)) => job,
                Ok(None) => return Err(not_found()),
                Err(Failed::Cancel(CancelError::Queue(error))) => {
                    return Err(fault(&parts)(error));
                }
                Err(failed) => {
                    tracing::error!(
                        error = %failed,
                        requestId = request_id(&parts),
                        "failed to remove cancelled upload"
                    );
                    return Err(Problem::unavailable(
                        "the upload is cancelled, but not removed yet; cancel it again",
                    ));
                }
            }
        }
    };
    let row = job_json::job_json(&job, api.settings.style, principal.is_admin);
    Ok(json(StatusCode::OK, &row))
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Cancel(#[from] CancelError),
    #[error(transparent)]
    Task(tokio::task::JoinError),
}

async fn end(
    queue: &Queue,
    handler: &Handler,
    job: &Job,
    reason: &str,
) -> Result<(bool, Option<Job>), Failed> {
    let ended = tracking::cancel(queue, handler, job, reason).await?;
    let now = queue.get(job.id).await.map_err(CancelError::from)?;
    Ok((ended, now))
}

fn completed() -> Problem {
    let detail = "a completed upload cannot be cancelled";
    Problem::new(StatusCode::CONFLICT, detail)
}
