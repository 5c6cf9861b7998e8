//! Reconciliation: repairs jobs whose process died, by what the store has.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream};
use landfall::{BoxError, Handler, upload::Snapshot};

use super::follow::job_of;
use crate::{
    Job, Queue,
    queue::{Completion, End, QueueError, Report, StaleFilter, StaleJob},
};

/// Jobs that are read at a time.
const PAGE: usize = 256;
/// How long a creation may take in the store after its job was written.
const CREATION_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Uploads that are inspected at a time.
const MAX_CONCURRENCY: usize = 8;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Reconciled {
    /// Jobs that were looked at.
    pub seen: u64,
    /// Jobs that had ended and weren't known to have.
    pub ended: u64,
    /// Jobs of which nothing could be found out now.
    pub failed: u64,
}

/// Compares running jobs that were not updated for a while with the store, and writes how far their
/// uploads are or how they ended. Only the store proves a completion: a job whose upload is gone ends
/// as its [stored end](Queue::set_ending) says, or as failed.
///
/// # Errors
/// Those of the queue. Uploads that the store cannot answer for now are counted and logged.
///
/// # Cancel safety
/// May be dropped; the next one does the rest.
pub async fn reconcile(
    queue: &Queue,
    handler: &Handler,
    filter: StaleFilter,
) -> Result<Reconciled, QueueError> {
    let mut summary = Reconciled::default();
    let mut after = None;
    loop {
        let page = queue.stale_jobs(filter, after.as_ref(), PAGE).await?;
        after = page.last().map(|last| last.job.clone());
        if after.is_none() {
            return Ok(summary);
        }
        let mut found = stream::iter(page)
            .map(|stale| inspect(handler, stale))
            .buffer_unordered(MAX_CONCURRENCY);
        while let Some((stale, found)) = found.next().await {
            summary.seen += 1;
            match found {
                Err(error) => {
                    summary.failed += 1;
                    unknown(&stale.job, &error);
                }
                Ok(standing) => match verdict(&stale, standing, queue.now()) {
                    Verdict::Wait => {}
                    Verdict::Reports(reports) => {
                        reports.into_iter().for_each(|one| queue.report(one));
                    }
                    Verdict::End(end) => {
                        summary.ended += u64::from(queue.end(stale.job.id, end).await?);
                    }
                },
            }
        }
    }
}

/// Reads what the store has of a job.
async fn inspect(
    handler: &Handler,
    stale: StaleJob,
) -> (StaleJob, Result<Option<Standing>, BoxError>) {
    let mut standing = None;
    let mut failed = None;
    let job = &stale.job;
    for id in &stale.uploads {
        match handler.get(id).await {
            Ok(None) => {}
            Ok(Some(found)) => {
                let is_whole = job.upload_id.as_deref() == Some(id.as_str());
                standing = Some(stands(job, found, is_whole, standing));
            }
            Err(error) => failed = Some(error),
        }
    }
    (stale, failed.map_or(Ok(standing), Err))
}

fn unknown(job: &Job, error: &BoxError) {
    let id = job.upload_id.as_deref().unwrap_or_default();
    tracing::warn!(id, job = %job.id, %error, "it can't be found out how an upload gets on");
}

/// What the store has of a job.
#[derive(Debug)]
enum Standing {
    /// Its upload, complete.
    Complete(Completion),
    /// Its upload or parts of it.
    Under(Vec<Report>),
    /// An upload of somebody else's with its id.
    Other,
}

fn stands(job: &Job, found: Snapshot, is_whole: bool, so_far: Option<Standing>) -> Standing {
    let upload = &found.upload;
    if job_of(upload).is_some_and(|theirs| theirs != job.id) {
        return so_far.unwrap_or(Standing::Other);
    }
    if is_whole && found.is_complete() && !upload.completion.is_pending() {
        return Standing::Complete(Completion {
            bytes: found.offset,
            etag: upload.etag.clone(),
        });
    }
    let mut reports = match so_far {
        Some(Standing::Under(reports)) => reports,
        Some(complete @ Standing::Complete(_)) => return complete,
        _ => Vec::new(),
    };
    reports.push(Report {
        job: job.id,
        part: (!is_whole).then(|| upload.id.clone()),
        offset: found.offset,
        length: upload.length,
    });
    Standing::Under(reports)
}

#[derive(Debug)]
enum Verdict {
    Wait,
    Reports(Vec<Report>),
    End(End),
}

fn verdict(stale: &StaleJob, standing: Option<Standing>, now: SystemTime) -> Verdict {
    let job = &stale.job;
    match standing {
        Some(Standing::Complete(completion)) => Verdict::End(End::Completed(completion)),
        Some(Standing::Under(reports)) => Verdict::Reports(reports),
        None | Some(Standing::Other) => match &stale.ending {
            Some(end) => Verdict::End(end.clone()),
            // Its creation is slow or failed, and its client may try again.
            None if job.offset == 0 && now < job.expires_at => Verdict::Wait,
            None if job.offset == 0 && now < job.updated_at + CREATION_TIMEOUT => Verdict::Wait,
            None if job.offset == 0 => Verdict::End(End::Expired),
            None => Verdict::End(End::Failed("its upload is gone from the store".into())),
        },
    }
}
