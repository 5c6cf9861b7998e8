//! The event sink between a handler and the queue: progress and ends of uploads become those of their jobs.
//!
//! `prepare` stores the end that a removal will have, `record` ends the job, and `emit` reports offsets only. A partial
//! upload ends no job, and neither does the rollback of a granted creation: the grant can be used again.

use std::sync::Arc;

use async_trait::async_trait;
use landfall::{
    BoxError,
    event::{Acknowledgement, Event, EventKind, EventKinds, EventSink, TerminationReason},
    hook::ClientResponse,
    upload::Upload,
};

use super::labels;
use crate::queue::{Completion, JobEnd, JobId, Queue, QueueError, Report};

/// In bytes, of a hook's text.
const MAX_DENIAL_LEN: usize = 500;

/// Writes the progress and ends of uploads to their jobs.
///
/// Ends are written in [`EventSink::record`], so the queue has a completion or removal before the
/// application receives its event.
#[derive(Debug, Clone)]
pub struct JobTracker {
    queue: Queue,
}

impl JobTracker {
    /// Creates a sink for a queue.
    pub fn new(queue: Queue) -> Self {
        Self { queue }
    }

    async fn end_of(&self, event: &Event) -> Result<Option<(JobId, JobEnd)>, QueueError> {
        let upload = &event.upload;
        if let Some(job) = job_of(upload) {
            return Ok(end(event).map(|end| (job, end)));
        }
        if !matches!(event.kind, EventKind::Terminated | EventKind::Expired) {
            return Ok(None);
        }
        // A removal that is resolved after a crash: only the id of the upload is known.
        let Some((job, ending)) = self.queue.stored_job(&upload.id).await? else {
            return Ok(None);
        };
        let end = match ending {
            Some(end) => end,
            None if event.kind == EventKind::Expired => JobEnd::Expired,
            // The creation may have been rolled back, and the client may try again.
            None if job.offset == 0 => return Ok(None),
            None => JobEnd::Cancelled("removed from the store".into()),
        };
        Ok(Some((job.id, end)))
    }
}

pub(super) fn job_of(upload: &Upload) -> Option<JobId> {
    upload.labels.get(labels::JOB)?.parse().ok()
}

fn end(event: &Event) -> Option<JobEnd> {
    let upload = &event.upload;
    // A grant covers the final upload; its partial uploads may come and go.
    if upload.is_partial() {
        return None;
    }
    Some(match event.kind {
        EventKind::Created | EventKind::Progress => return None,
        EventKind::Completed => JobEnd::Completed(Completion {
            bytes: event.offset,
            etag: upload.etag.clone(),
        }),
        EventKind::Expired => JobEnd::Expired,
        EventKind::Terminated => match event.reason {
            // The client receives an error and may use the grant again.
            Some(TerminationReason::RolledBack) if upload.labels.contains_key(labels::SUBJECT) => {
                return None;
            }
            Some(TerminationReason::RolledBack) => JobEnd::Failed("its creation failed".into()),
            Some(TerminationReason::Hook) => JobEnd::Failed(denial(event.denial.as_deref())),
            Some(TerminationReason::Client) => JobEnd::Cancelled("by the client".into()),
            _ => JobEnd::Cancelled("by the application".into()),
        },
    })
}

/// Returns the reason of a failure by a hook, with the status and the text that the client receives.
pub fn denial(response: Option<&ClientResponse>) -> String {
    let mut reason = "denied or stopped by a hook".to_owned();
    let Some(response) = response else {
        return reason;
    };
    let status = response
        .status
        .map(|status| format!(" {}", status.as_u16()));
    let body = response.body.as_deref().unwrap_or_default();
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_DENIAL_LEN)]);
    let words: Vec<_> = text.split_whitespace().collect();
    let text = format!("{} {}", status.unwrap_or_default(), words.join(" "));
    if !text.trim().is_empty() {
        reason = format!("{reason}: {}", text.trim());
    }
    reason
}

#[async_trait]
impl EventSink for JobTracker {
    fn event_kinds(&self) -> EventKinds {
        EventKinds::ALL
    }

    /// A change that was not recorded is reconciled after a start.
    fn acknowledgement(&self) -> Acknowledgement {
        Acknowledgement::NotNeeded
    }

    async fn prepare(&self, events: &[Event]) -> Result<(), BoxError> {
        for event in events {
            if let Some(job) = job_of(&event.upload)
                && let Some(end) = end(event)
                && !matches!(end, JobEnd::Completed(_))
            {
                self.queue.prepare_end(job, end).await?;
            }
        }
        Ok(())
    }

    async fn record(&self, event: &Event) -> Result<(), BoxError> {
        let Some((job, end)) = self.end_of(event).await? else {
            return Ok(());
        };
        let removed = match &end {
            JobEnd::Cancelled(why) | JobEnd::Failed(why) => Some(why.clone()),
            JobEnd::Expired => Some("at the end of its lifetime".into()),
            JobEnd::Completed(_) | JobEnd::Removed(_) | JobEnd::Denied(..) => None,
        };
        if !self.queue.finish(job, end).await?
            && let Some(why) = removed
        {
            self.queue.finish(job, JobEnd::Removed(why)).await?;
        }
        // As long as its bytes are stored, a dashboard shows it: a client that sets the key hides nothing.
        if event.upload.labels.contains_key(labels::DOCTOR)
            && matches!(event.kind, EventKind::Terminated | EventKind::Expired)
        {
            self.queue.delete_ended(job).await?;
        }
        Ok(())
    }

    async fn emit(&self, event: Event) {
        let is_part = event.upload.is_partial();
        if event.kind == EventKind::Progress || (event.kind == EventKind::Completed && is_part) {
            self.record_offset(&event.upload, event.offset);
        }
    }

    fn emit_progress(&self, event: Event) {
        self.record_offset(&event.upload, event.offset);
    }

    fn record_offset(&self, upload: &Arc<Upload>, offset: u64) {
        if let Some(job) = job_of(upload) {
            self.queue.report(Report {
                job,
                part: upload.is_partial().then(|| upload.id.clone()),
                offset,
                length: upload.length,
                at: self.queue.now(),
            });
        }
    }
}
