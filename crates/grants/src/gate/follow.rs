//! How uploads get on, told to the queue.

use std::sync::Arc;

use async_trait::async_trait;
use landfall::{
    BoxError,
    event::{Event, EventKind, EventKinds, EventSink, Removal},
    upload::{Kind, Upload},
};

use super::labels;
use crate::{
    JobId, Queue,
    queue::{End, Report},
};

/// Tells the queue how the uploads of its jobs get on.
///
/// It should be the first sink: what it is told is in the queue before the application hears of it, and
/// before the client gets its answer.
#[derive(Debug, Clone)]
pub struct Follower {
    queue: Queue,
}

impl Follower {
    /// A sink that tells a queue.
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        Self { queue }
    }

    async fn end(&self, event: &Event, job: JobId, end: End) {
        if let Err(error) = self.queue.end(job, end).await {
            // Found out later, by a look at the store.
            tracing::error!(id = %event.upload.id, %job, %error, "the end of an upload can't be noted");
        }
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
    upload.kind == Kind::Partial
}

#[async_trait]
impl EventSink for Follower {
    fn wants(&self) -> EventKinds {
        EventKinds::ALL
    }

    async fn announce(&self, events: &[Event]) -> Result<(), BoxError> {
        for event in events {
            if event.kind == EventKind::Completed
                && !is_part(&event.upload)
                && let Some(job) = job_of(&event.upload)
            {
                self.queue.finishing(job).await?;
            }
        }
        Ok(())
    }

    async fn tell(&self, event: Event) {
        let upload = &event.upload;
        let Some(job) = job_of(upload) else { return };
        let is_part = is_part(upload);
        match event.kind {
            EventKind::Created => {}
            EventKind::Completed if is_part => {
                self.queue.report(report(upload, job, event.offset));
            }
            EventKind::Completed => self.end(&event, job, End::Completed(event.offset)).await,
            // They go and come; what is granted is what they are joined to.
            EventKind::Terminated | EventKind::Expired if is_part => {}
            EventKind::Expired => self.end(&event, job, End::Expired).await,
            EventKind::Terminated => {
                let end = match event.removal {
                    // The client hears that there is no upload, and may try again.
                    Some(Removal::Undone) if upload.labels.contains_key(labels::SUBJECT) => return,
                    Some(Removal::Undone) => End::Failed("its creation failed".into()),
                    Some(Removal::Hook) => End::Failed("refused or stopped by a hook".into()),
                    Some(Removal::Client) => End::Cancelled("by its client".into()),
                    _ => End::Cancelled("by the application".into()),
                };
                self.end(&event, job, end).await;
            }
            EventKind::Progress => self.queue.report(report(upload, job, event.offset)),
        }
    }

    fn tell_progress(&self, event: Event) {
        self.stored(&event.upload, event.offset);
    }

    fn stored(&self, upload: &Arc<Upload>, offset: u64) {
        if let Some(job) = job_of(upload) {
            self.queue.report(report(upload, job, offset));
        }
    }
}
