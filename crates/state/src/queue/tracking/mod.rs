//! Tracking of uploads: connects the uploads of a handler with their jobs.
//!
//! [`JobTracker`] writes progress and ends to the queue, [`reconcile`] repairs jobs after a crash,
//! and [`cancel`] ends a job and removes its uploads.

mod job_tracker;
mod reconcile;

use landfall::{BoxError, Handler};

pub use self::{
    job_tracker::{JobTracker, denial},
    reconcile::{ReconcileReport, ReconcileTurn, reconcile},
};
use super::{Job, JobEnd, JobState, Queue, QueueError};

/// Labels of uploads that belong to a job.
pub mod labels {
    use crate::queue::Job;

    /// The number of the job.
    pub const JOB: &str = "job";
    /// The principal that requested the job.
    pub const SUBJECT: &str = "subject";
    /// The principal's id for the job.
    pub const REQUEST_ID: &str = "request_id";
    /// Set on uploads of `landfall doctor proxy`, whose metadata has this key: their jobs are deleted with them.
    pub const DOCTOR: &str = "landfall-doctor";

    /// Returns the labels of a job's upload.
    pub fn from_job(job: &Job) -> impl Iterator<Item = (String, String)> {
        let subject = job.subject.clone().map(|subject| (SUBJECT, subject));
        let ids = [
            (JOB, job.id.to_string()),
            (REQUEST_ID, job.request_id.clone()),
        ];
        ids.into_iter()
            .chain(subject)
            .map(|(key, value)| (key.into(), value))
    }
}

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
                cause: cause.into(),
            })?;
    }
    Ok(ended)
}
