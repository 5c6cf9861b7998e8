//! Tracking of uploads: connects the uploads of a handler with their jobs.
//!
//! [`JobTracker`] writes progress and ends to the queue, [`reconcile`] repairs jobs after a crash,
//! and [`cancel`] ends a job and removes its uploads.

mod cancel;
mod job_tracker;
mod reconcile;

pub use self::{
    cancel::{CancelError, cancel},
    job_tracker::JobTracker,
    reconcile::{ReconcileReport, reconcile},
};

/// Labels of uploads that belong to a job.
pub mod labels {
    use crate::Job;

    /// The number of the job.
    pub const JOB: &str = "job";
    /// The principal that requested the job.
    pub const SUBJECT: &str = "subject";
    /// The principal's id for the job.
    pub const REQUEST_ID: &str = "request_id";

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
