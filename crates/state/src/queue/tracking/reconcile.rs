//! Reconciliation: repairs jobs after a crash by comparing them with the store.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream};
use landfall::{BoxError, Handler, upload::Snapshot};

use super::job_tracker::job_of;
use crate::{
    queue::{Completion, Job, JobEnd, Queue, QueueError, Report, StaleFilter, StaleJob},
    sql::{RowLease, RowLeases},
};

const PAGE: usize = 256;
/// A creation in the store may follow its job this much later.
const CREATION_TIMEOUT: Duration = Duration::from_secs(10 * 60);
const MAX_CONCURRENCY: usize = 8;
const TURN_TTL: Duration = Duration::from_secs(15);

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

/// The turn of this process to reconcile, renewed until it is dropped.
#[derive(Debug)]
pub struct ReconcileTurn(Option<RowLease>);

impl ReconcileTurn {
    /// Returns whether no other process can have it; false if the database was away for long.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0.as_ref().is_none_or(RowLease::is_held)
    }
}

impl Queue {
    /// Returns the turn to reconcile, unless another process has it: each comparison is a request to the store. That of
    /// a dead process ends after 15 seconds. One process alone uses SQLite, and always has it.
    ///
    /// # Errors
    /// The database failed.
    ///
    /// # Cancel safety
    /// Dropped, the turn ends.
    pub async fn reconcile_turn(&self) -> Result<Option<ReconcileTurn>, QueueError> {
        let database = &self.0.shared.database;
        if !database.is_postgres() {
            return Ok(Some(ReconcileTurn(None)));
        }
        let leases = RowLeases::new(database.clone(), "queue_tasks", TURN_TTL);
        let lease = leases.acquire("reconcile").await?;
        Ok(lease.map(|lease| ReconcileTurn(Some(lease))))
    }
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
        // All of them first: calls that are not polled while a job ends could hold all connections to the database.
        let found = stream::iter(page)
            .map(|stale| inspect(handler, stale))
            .buffer_unordered(MAX_CONCURRENCY);
        for (stale, found) in found.collect::<Vec<_>>().await {
            summary.examined += 1;
            match found {
                Err(error) => {
                    summary.failed += 1;
                    let id = stale.job.upload_id.as_deref().unwrap_or_default();
                    tracing::warn!(id, job = %stale.job.id, %error, "failed to check upload");
                }
                Ok(state) => {
                    let end = match state {
                        StoreState::Complete(completion) => Some(JobEnd::Completed(completion)),
                        StoreState::InProgress(reports) => {
                            reports.into_iter().for_each(|one| queue.report(one));
                            None
                        }
                        StoreState::Missing => end_of_missing(&stale, queue.now()),
                    };
                    if let Some(end) = end {
                        summary.ended += u64::from(queue.finish(stale.job.id, end).await?);
                    }
                }
            }
        }
    }
}

async fn inspect(handler: &Handler, stale: StaleJob) -> (StaleJob, Result<StoreState, BoxError>) {
    let mut state = StoreState::Missing;
    let mut failed = None;
    let job = &stale.job;
    for id in &stale.uploads {
        match handler.get(id).await {
            Ok(None) => {}
            Ok(Some(found)) => {
                let is_whole = job.upload_id.as_deref() == Some(id.as_str());
                state = store_state(job, found, is_whole, state);
            }
            Err(error) => failed = Some(error.into()),
        }
    }
    (stale, failed.map_or(Ok(state), Err))
}

#[derive(Debug)]
enum StoreState {
    Complete(Completion),
    InProgress(Vec<Report>),
    /// Or it belongs to another job.
    Missing,
}

fn store_state(job: &Job, found: Snapshot, is_whole: bool, so_far: StoreState) -> StoreState {
    let upload = &found.upload;
    if job_of(upload).is_some_and(|theirs| theirs != job.id) {
        return so_far;
    }
    if is_whole && found.is_complete() && !upload.completion.is_pending() {
        return StoreState::Complete(Completion {
            bytes: found.offset,
            etag: upload.etag.clone(),
        });
    }
    let mut reports = match so_far {
        StoreState::InProgress(reports) => reports,
        StoreState::Complete(_) => return so_far,
        StoreState::Missing => Vec::new(),
    };
    reports.push(Report {
        job: job.id,
        part: (!is_whole).then(|| upload.id.clone()),
        offset: found.offset,
        length: upload.length,
        at: found.modified,
    });
    StoreState::InProgress(reports)
}

fn end_of_missing(stale: &StaleJob, now: SystemTime) -> Option<JobEnd> {
    let job = &stale.job;
    match &stale.prepared_end {
        Some(end) => Some(end.clone()),
        None if job.offset > 0 => {
            let reason = "its upload is missing from the store";
            Some(JobEnd::Failed(reason.into()))
        }
        // The creation is slow or failed, and the client may try again.
        None if now < job.expires_at.max(job.updated_at + CREATION_TIMEOUT) => None,
        None => Some(JobEnd::Expired),
    }
}
