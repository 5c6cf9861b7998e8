//! The queue as an event sink: progress and ends of uploads.

use std::sync::Arc;

use async_trait::async_trait;
use landfall::{
    BoxError,
    event::{Event, EventKind, EventKinds, EventSink, TerminationReason},
    upload::{Upload, UploadKind},
};

use super::labels;
use crate::{
    JobId, Queue,
    queue::{Completion, End, QueueError, Report},
};

/// Writes progress and ends of uploads to their jobs in the queue.
///
/// The end of a job is [recorded](EventSink::record), so the application receives no event of a
/// completion or removal that the queue does not have.
#[derive(Debug, Clone)]
pub struct Follower {
    queue: Queue,
}

impl Follower {
    /// Makes the sink of a queue.
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        Self { queue }
    }

    /// The end of a job that an event means, if it means one.
    async fn end_of(&self, event: &Event) -> Result<Option<(JobId, End)>, QueueError> {
        let upload = &event.upload;
        if let Some(job) = job_of(upload) {
            return Ok(end(event).map(|end| (job, end)));
        }
        if !matches!(event.kind, EventKind::Terminated | EventKind::Expired) {
            return Ok(None);
        }
        // A removal that is settled after a crash: of the upload only the id is left.
        let Some((job, ending)) = self.queue.running(&upload.id).await? else {
            return Ok(None);
        };
        let end = match ending {
            Some(end) => end,
            None if event.kind == EventKind::Expired => End::Expired,
            // Its creation may have been undone, and its client may try again.
            None if job.offset == 0 => return Ok(None),
            None => End::Cancelled("removed from the store".into()),
        };
        Ok(Some((job.id, end)))
    }
}

/// The job that an upload belongs to.
pub(super) fn job_of(upload: &Upload) -> Option<JobId> {
    upload.labels.get(labels::JOB)?.parse().ok()
}

fn report(upload: &Upload, job: JobId, offset: u64) -> Report {
    Report {
        job,
        part: is_part(upload).then(|| upload.id.clone()),
        offset,
        length: upload.length,
    }
}

fn is_part(upload: &Upload) -> bool {
    upload.kind == UploadKind::Partial
}

/// What an event means for the job of its upload.
fn end(event: &Event) -> Option<End> {
    let upload = &event.upload;
    // Parts come and go; the grant is for the upload that they are concatenated to.
    if is_part(upload) {
        return None;
    }
    Some(match event.kind {
        EventKind::Created | EventKind::Progress => return None,
        EventKind::Completed => End::Completed(Completion {
            bytes: event.offset,
            etag: upload.etag.clone(),
        }),
        EventKind::Expired => End::Expired,
        EventKind::Terminated => match event.reason {
            // The client gets an error, and may try again with the same grant.
            Some(TerminationReason::RolledBack) if upload.labels.contains_key(labels::SUBJECT) => {
                return None;
            }
            Some(TerminationReason::RolledBack) => End::Failed("its creation failed".into()),
            Some(TerminationReason::Hook) => End::Failed("refused or stopped by a hook".into()),
            Some(TerminationReason::Client) => End::Cancelled("by its client".into()),
            _ => End::Cancelled("by the application".into()),
        },
    })
}

#[async_trait]
impl EventSink for Follower {
    fn event_kinds(&self) -> EventKinds {
        EventKinds::ALL
    }

    /// Stores why an upload is about to be removed, for whoever finds it removed after a crash.
    async fn prepare(&self, events: &[Event]) -> Result<(), BoxError> {
        for event in events {
            if let Some(job) = job_of(&event.upload)
                && let Some(end) = end(event)
                && !matches!(end, End::Completed(_))
            {
                self.queue.set_ending(job, end).await?;
            }
        }
        Ok(())
    }

    async fn record(&self, event: &Event) -> Result<(), BoxError> {
        if let Some((job, end)) = self.end_of(event).await? {
            self.queue.end(job, end).await?;
        }
        Ok(())
    }

    async fn emit(&self, event: Event) {
        let is_part = is_part(&event.upload);
        if event.kind == EventKind::Progress || (event.kind == EventKind::Completed && is_part) {
            self.record_offset(&event.upload, event.offset);
        }
    }

    fn emit_progress(&self, event: Event) {
        self.record_offset(&event.upload, event.offset);
    }

    fn record_offset(&self, upload: &Arc<Upload>, offset: u64) {
        if let Some(job) = job_of(upload) {
            self.queue.report(report(upload, job, offset));
        }
    }
}
