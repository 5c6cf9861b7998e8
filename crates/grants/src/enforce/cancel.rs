//! Cancelling.

use landfall::{BoxError, Handler};

use crate::{
    Job, JobState, Queue,
    queue::{JobEnd, QueueError},
};

/// Why a job can't be cancelled, or not entirely.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CancelError {
    /// The queue failed; nothing has happened.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The job is cancelled, but what there is of its upload couldn't be removed: do it again.
    #[error("the upload {id} can't be removed: {cause}")]
    Remove {
        /// The upload.
        id: String,
        /// Why.
        #[source]
        cause: BoxError,
    },
}

/// Ends a job as cancelled, stops whoever is writing its upload, on whichever node, and removes it and
/// its parts. Says whether this ended the job; what is left of one that was cancelled before goes, too.
///
/// # Errors
/// See [`CancelError`].
///
/// # Cancel safety
/// Dropped, the job may be cancelled and its upload still be there; then do it again.
pub async fn cancel(
    queue: &Queue,
    handler: &Handler,
    job: &Job,
    reason: &str,
) -> Result<bool, CancelError> {
    // First the job: from here on no completion can come in between.
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
