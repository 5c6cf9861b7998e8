use landfall::{BoxError, Handler};

use crate::{Job, JobEnd, JobState, Queue, QueueError};

/// A failed cancellation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CancelError {
    /// The queue failed; nothing was changed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The job is cancelled, but its upload is not removed; try again.
    #[error("failed to remove upload {id}: {cause}")]
    Remove {
        /// The upload.
        id: String,
        /// The cause.
        #[source]
        cause: BoxError,
    },
}

/// Cancels a job, stops its writer on any node, and removes its uploads.
///
/// Returns whether this call ended the job. It also removes what an earlier cancellation left.
///
/// # Errors
/// See [`CancelError`].
///
/// # Cancel safety
/// If it is dropped, the job may be cancelled and its upload still exist; try again.
pub async fn cancel(
    queue: &Queue,
    handler: &Handler,
    job: &Job,
    reason: &str,
) -> Result<bool, CancelError> {
    // End the job first, so that it cannot be completed meanwhile.
    let ended = queue
        .finish(job.id, JobEnd::Cancelled(reason.into()))
        .await?;
    if !ended {
        let now = queue.get(job.id).await?;
        if now.is_none_or(|job| job.state != JobState::Cancelled) {
            return Ok(false);
        }
    }
    for id in queue.uploads_of(job.id).await? {
        handler
            .remove(&id)
            .await
            .map_err(|cause| CancelError::Remove {
                id: id.to_string(),
                cause,
            })?;
    }
    Ok(ended)
}
