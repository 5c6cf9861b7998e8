//! The sweeper: completes uploads whose completion no one reports, and expires inactive ones.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream};
use landfall_objects::ErrorKind;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    Direct, SweepReport,
    apply::{AdvanceOutcome, AdvanceRequest},
    decide::{Decision, RemovalReason, decide, schedule},
};
use crate::{DirectError, Record, Status, record::CREATION_TIMEOUT, settings::count};

/// Also the number of concurrent checks.
const BATCH_SIZE: usize = 256;
const MAX_CONCURRENCY: usize = 16;
/// Another node then repeats the check of a dead sweeper, too.
const RETRY_DELAY: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Also the interval at which older uploads are purged.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const PURGE_INTERVAL: Duration = Duration::from_secs(60 * 60);

#[derive(Debug)]
enum CheckOutcome {
    Open(Box<Record>),
    Unchanged,
    Completed,
    Expired,
    Failed,
}

impl Direct {
    /// Handles a bucket notification about an object as [`Self::check`] does; returns whether it belongs to an
    /// upload.
    ///
    /// # Errors
    /// The upload could not be checked; repeat the notification.
    pub async fn on_notification(&self, bucket: &str, key: &str) -> Result<bool, DirectError> {
        let Some(record) = self.0.repository.find_by_object(bucket, key).await? else {
            return Ok(false);
        };
        match record.status {
            // The client does not know the key yet.
            Status::Creating => {}
            Status::Open | Status::Completing => {
                let advanced = self.advance(record.id(), AdvanceRequest::default());
                check_outcome(advanced.await)?;
            }
            Status::Completed => {}
            // It arrived too late.
            Status::Removed => self.clean_up(&record).await?,
        }
        Ok(true)
    }

    /// Checks up to 256 due uploads: records progress, completes, rejects and expires uploads.
    ///
    /// Any number of processes may sweep concurrently.
    ///
    /// # Errors
    /// The database failed. If the bucket fails, it is counted and logged, and those uploads are checked
    /// again.
    ///
    /// # Cancel safety
    /// Dropped, running checks finish; the others are due again in a minute.
    pub async fn sweep(&self) -> Result<SweepReport, DirectError> {
        let stats = &self.settings().stats;
        count(&stats.sweeps);
        let now = self.queue().now();
        let repository = &self.0.repository;
        let due = repository.due_for_check(now, RETRY_DELAY, BATCH_SIZE);
        let mut checks = stream::iter(due.await?)
            .map(|record| async {
                let (this, id) = (self.clone(), record.id().clone());
                let check = tokio::spawn(async move { this.check_due(record).await });
                let interrupted = |error| Err(DirectError::interrupted(error));
                (id, check.await.unwrap_or_else(interrupted))
            })
            .buffer_unordered(MAX_CONCURRENCY);
        let mut report = SweepReport::default();
        let mut open = Vec::new();
        let mut is_down = false;
        while let Some((id, check)) = checks.next().await {
            report.examined += 1;
            count(&stats.checks);
            match check {
                Ok(CheckOutcome::Open(record)) => open.push(*record),
                Ok(CheckOutcome::Unchanged) => {}
                Ok(CheckOutcome::Completed) => report.completed += 1,
                Ok(CheckOutcome::Expired) => report.expired += 1,
                Ok(CheckOutcome::Failed) => report.failed += 1,
                Err(error) => {
                    report.check_failures += 1;
                    count(&stats.check_failures);
                    // If the bucket is unavailable, one message is enough.
                    if !is_unavailable(&error) {
                        tracing::warn!(%id, %error, "failed to check upload");
                    } else if !std::mem::replace(&mut is_down, true) {
                        tracing::warn!(%id, %error, "failed to check uploads, the storage is unavailable");
                    }
                }
            }
        }
        repository.reschedule(&open).await?;
        Ok(report)
    }

    /// [Sweeps](Self::sweep) until `stop` is true, and purges the repository every hour.
    pub async fn sweep_forever(&self, mut stop: watch::Receiver<bool>) {
        let work = async {
            let mut next_purge = Instant::now();
            loop {
                let is_more = match self.sweep().await {
                    Ok(report) => {
                        report.examined >= BATCH_SIZE as u64
                            && report.check_failures < report.examined
                    }
                    Err(error) => {
                        tracing::error!(%error, "failed to sweep direct uploads");
                        false
                    }
                };
                if next_purge <= Instant::now() {
                    next_purge = Instant::now() + PURGE_INTERVAL;
                    self.purge().await;
                }
                if !is_more {
                    sleep((self.settings().check_interval / 2).min(POLL_INTERVAL)).await;
                }
            }
        };
        tokio::select! {
            () = work => {}
            // A dropped sender stops the sweeper too.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn purge(&self) {
        let before = self.queue().agreed_time().before(RETENTION);
        match self.0.repository.purge(before).await {
            Ok(0) => {}
            Ok(forgotten) => tracing::info!(forgotten, "purged ended direct uploads"),
            Err(error) => tracing::warn!(%error, "failed to purge direct uploads"),
        }
    }

    async fn check_due(&self, mut record: Record) -> Result<CheckOutcome, DirectError> {
        let now = self.queue().now();
        match record.status {
            Status::Creating
                if self.queue().agreed_time().time() < record.active_at + CREATION_TIMEOUT =>
            {
                record.next_check_at = Some(record.active_at + CREATION_TIMEOUT);
                Ok(CheckOutcome::Open(Box::new(record)))
            }
            Status::Creating => {
                self.abandon(&record).await?;
                Ok(CheckOutcome::Failed)
            }
            Status::Open => self.check_open(record, now).await,
            Status::Completing => {
                check_outcome(self.advance(record.id(), AdvanceRequest::default()).await)
            }
            Status::Completed => Ok(CheckOutcome::Unchanged),
            Status::Removed => {
                self.clean_up(&record).await?;
                Ok(CheckOutcome::Unchanged)
            }
        }
    }

    /// Needs no lease, which is only required to change more than the schedule.
    async fn check_open(
        &self,
        mut record: Record,
        now: SystemTime,
    ) -> Result<CheckOutcome, DirectError> {
        let advance = AdvanceRequest {
            may_expire: true,
            ..AdvanceRequest::default()
        };
        let observation = self.observe(&record).await?;
        let Decision::Wait { stored } = decide(&self.input(&record, &advance), observation) else {
            return check_outcome(self.advance(record.id(), advance).await);
        };
        if stored > record.stored {
            record.active_at = now;
            record.check_count = 0;
            self.dispatcher()?.emit_progress(&record.upload, stored);
        }
        record.stored = stored;
        schedule(self.settings(), &mut record, now);
        Ok(CheckOutcome::Open(Box::new(record)))
    }
}

fn is_unavailable(error: &DirectError) -> bool {
    matches!(error, DirectError::Storage(error) if matches!(error.kind(), ErrorKind::Unavailable { .. }))
}

fn check_outcome(
    advanced: Result<AdvanceOutcome, DirectError>,
) -> Result<CheckOutcome, DirectError> {
    match advanced {
        Ok(AdvanceOutcome::Completed(_)) => Ok(CheckOutcome::Completed),
        Ok(AdvanceOutcome::Removed(RemovalReason::Expired)) => Ok(CheckOutcome::Expired),
        Ok(AdvanceOutcome::Removed(_)) | Err(DirectError::Conflict { gone: true, .. }) => {
            Ok(CheckOutcome::Failed)
        }
        Err(DirectError::Hook(declined)) if declined.cause.is_none() => Ok(CheckOutcome::Failed),
        // Another request holds its lease, or its client has to send something.
        Ok(AdvanceOutcome::Pending)
        | Err(
            DirectError::Locked
            | DirectError::NotFound
            | DirectError::InvalidParts(_)
            | DirectError::Conflict { .. },
        ) => Ok(CheckOutcome::Unchanged),
        Err(error) => Err(error),
    }
}
