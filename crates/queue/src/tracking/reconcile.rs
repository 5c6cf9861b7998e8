//! Reconciliation: repairs jobs after a crash by comparing them with the store.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream};
use landfall::{BoxError, Handler, upload::Snapshot};

use super::job_tracker::job_of;
use crate::{Completion, Job, JobEnd, Queue, QueueError, Report, StaleFilter, StaleJob};

const PAGE: usize = 256;
/// A creation in the store may follow its job this much later.
const CREATION_TIMEOUT: Duration = Duration::from_secs(10 * 60);
const MAX_CONCURRENCY: usize = 8;

/// The result of a reconciliation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReconcileReport {
    /// Jobs that were examined.
    pub examined: u64,
    /// Jobs that were ended.
    pub ended: u64,
    /// Jobs whose state could not be read.
    pub failed: u64,
}

/// Compares running jobs that were not updated for a while with the store, and repairs differences.
///
/// Only the store proves a completion. A job whose upload is missing ends with its [prepared
/// end](Queue::prepare_end), or as failed.
///
/// # Errors
/// The queue failed. Errors of the store are counted and logged.
///
/// # Cancel safety
/// Safe to drop; the next call continues.
pub async fn reconcile(
    queue: &Queue,
    handler: &Handler,
    filter: StaleFilter,
) -> Result<ReconcileReport, QueueError> {
    let mut summary = ReconcileReport::default();
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
            summary.examined += 1;
            match found {
                Err(error) => {
                    summary.failed += 1;
                    log_failure(&stale.job, &error);
                }
                Ok(state) => match repair(&stale, state, queue.now()) {
                    Repair::None => {}
                    Repair::UpdateOffset(reports) => {
                        reports.into_iter().for_each(|one| queue.report(one));
                    }
                    Repair::Finish(end) => {
                        summary.ended += u64::from(queue.finish(stale.job.id, end).await?);
                    }
                },
            }
        }
    }
}

async fn inspect(
    handler: &Handler,
    stale: StaleJob,
) -> (StaleJob, Result<Option<StoreState>, BoxError>) {
    let mut state = None;
    let mut failed = None;
    let job = &stale.job;
    for id in &stale.uploads {
        match handler.get(id).await {
            Ok(None) => {}
            Ok(Some(found)) => {
                let is_whole = job.upload_id.as_deref() == Some(id.as_str());
                state = Some(store_state(job, found, is_whole, state));
            }
            Err(error) => failed = Some(error),
        }
    }
    (stale, failed.map_or(Ok(state), Err))
}

fn log_failure(job: &Job, error: &BoxError) {
    let id = job.upload_id.as_deref().unwrap_or_default();
    tracing::warn!(id, job = %job.id, %error, "failed to check upload");
}

#[derive(Debug)]
enum StoreState {
    Complete(Completion),
    InProgress(Vec<Report>),
    Mismatch,
}

fn store_state(
    job: &Job,
    found: Snapshot,
    is_whole: bool,
    so_far: Option<StoreState>,
) -> StoreState {
    let upload = &found.upload;
    if job_of(upload).is_some_and(|theirs| theirs != job.id) {
        return so_far.unwrap_or(StoreState::Mismatch);
    }
    if is_whole && found.is_complete() && !upload.completion.is_pending() {
        return StoreState::Complete(Completion {
            bytes: found.offset,
            etag: upload.etag.clone(),
        });
    }
    let mut reports = match so_far {
        Some(StoreState::InProgress(reports)) => reports,
        Some(complete @ StoreState::Complete(_)) => return complete,
        _ => Vec::new(),
    };
    reports.push(Report {
        job: job.id,
        part: (!is_whole).then(|| upload.id.clone()),
        offset: found.offset,
        length: upload.length,
    });
    StoreState::InProgress(reports)
}

#[derive(Debug)]
enum Repair {
    None,
    UpdateOffset(Vec<Report>),
    Finish(JobEnd),
}

fn repair(stale: &StaleJob, state: Option<StoreState>, now: SystemTime) -> Repair {
    let job = &stale.job;
    match state {
        Some(StoreState::Complete(completion)) => Repair::Finish(JobEnd::Completed(completion)),
        Some(StoreState::InProgress(reports)) => Repair::UpdateOffset(reports),
        None | Some(StoreState::Mismatch) => match &stale.prepared_end {
            Some(end) => Repair::Finish(end.clone()),
            // The creation is slow or failed, and the client may try again.
            None if job.offset == 0 && now < job.expires_at => Repair::None,
            None if job.offset == 0 && now < job.updated_at + CREATION_TIMEOUT => Repair::None,
            None if job.offset == 0 => Repair::Finish(JobEnd::Expired),
            None => Repair::Finish(JobEnd::Failed(
                "its upload is missing from the store".into(),
            )),
        },
    }
}
