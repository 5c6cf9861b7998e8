//! The sweeper: completes uploads whose end nobody reports, and expires inactive ones.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream};
use landfall_grants::queue::Report;
use landfall_s3::client::ErrorKind;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    Direct, Swept,
    apply::{Advance, Outcome},
    decide::{Decision, RemovalReason, decide},
    schedule::schedule,
};
use crate::{DirectError, Record, Standing, record::OPENING, stats::count};

/// Uploads of one round, and how many of them are checked at a time.
const BATCH_SIZE: usize = 256;
const MAX_CONCURRENCY: usize = 16;
/// When one is looked at again of which nothing could be found out, or whose sweeper died.
const AGAIN: Duration = Duration::from_secs(60);
/// The longest time between two rounds, if nothing is due.
const PAUSE: Duration = Duration::from_secs(5);
/// How long the books keep what has ended, and how often they are tidied.
const KEEP: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const TIDY: Duration = Duration::from_secs(60 * 60);

/// What came of a check.
#[derive(Debug)]
enum CheckOutcome {
    /// It is open as before: to be checked again when the record says.
    Open(Box<Record>),
    /// It is as before, or another request has its lease.
    Unchanged,
    Completed,
    Expired,
    Failed,
}

impl Direct {
    /// The bucket says that there is something at a key: see [`Self::check`]. Says whether that
    /// concerned anything.
    ///
    /// # Errors
    /// What has arrived can't be looked at now; say it again.
    ///
    /// # Cancel safety
    /// It goes on if dropped.
    pub async fn on_notification(&self, bucket: &str, key: &str) -> Result<bool, DirectError> {
        let Some(record) = self.0.books.at(bucket, key).await? else {
            return Ok(false);
        };
        match record.standing {
            // Nobody has been told of the key yet.
            Standing::Opening => {}
            Standing::Open | Standing::Finishing => {
                let advanced = self.advance(record.id(), Advance::default());
                outcome(advanced.await)?;
            }
            Standing::Finished => {}
            // It came too late.
            Standing::Gone => self.clear(&record).await?,
        }
        Ok(true)
    }

    /// Checks the uploads that are due, 256 at most: records progress, completes what has arrived, removes
    /// what is too large, expires inactive ones. Any number of processes may do so at a time.
    ///
    /// # Errors
    /// The database fails. Failures of S3 are counted and logged, and those uploads are checked again.
    ///
    /// # Cancel safety
    /// If dropped, the checks that run finish; the others are due again in a minute.
    pub async fn sweep(&self) -> Result<Swept, DirectError> {
        let stats = &self.settings().stats;
        count(&stats.sweeps);
        let now = self.queue().now();
        let due = self.0.books.due(now, AGAIN, BATCH_SIZE).await?;
        let mut checks = stream::iter(due)
            .map(|record| async {
                let (this, id) = (self.clone(), record.id().clone());
                let check = tokio::spawn(async move { this.check_due(record).await });
                let interrupted = |error| Err(DirectError::broken_off(error));
                (id, check.await.unwrap_or_else(interrupted))
            })
            .buffer_unordered(MAX_CONCURRENCY);
        let mut swept = Swept::default();
        let mut open = Vec::new();
        let mut is_down = false;
        while let Some((id, check)) = checks.next().await {
            swept.seen += 1;
            count(&stats.looks);
            match check {
                Ok(CheckOutcome::Open(record)) => open.push(*record),
                Ok(CheckOutcome::Unchanged) => {}
                Ok(CheckOutcome::Completed) => swept.completed += 1,
                Ok(CheckOutcome::Expired) => swept.expired += 1,
                Ok(CheckOutcome::Failed) => swept.failed += 1,
                Err(error) => {
                    swept.unknown += 1;
                    count(&stats.unknown);
                    // When S3 is down, it is so for all of them.
                    if !is_unavailable(&error) {
                        tracing::warn!(%id, %error, "failed to check upload");
                    } else if !std::mem::replace(&mut is_down, true) {
                        tracing::warn!(%id, %error, "failed to check uploads, S3 is unavailable");
                    }
                }
            }
        }
        self.0.books.reschedule(&open).await?;
        Ok(swept)
    }

    /// [Sweeps](Self::sweep) again and again, until `stop` is true, and tidies the books each hour.
    pub async fn sweep_forever(&self, mut stop: watch::Receiver<bool>) {
        let work = async {
            let mut tidy = Instant::now();
            loop {
                let is_more = match self.sweep().await {
                    Ok(swept) => swept.seen >= BATCH_SIZE as u64 && swept.unknown < swept.seen,
                    Err(error) => {
                        tracing::error!(%error, "direct uploads can't be looked at");
                        false
                    }
                };
                if tidy <= Instant::now() {
                    tidy = Instant::now() + TIDY;
                    self.tidy().await;
                }
                if !is_more {
                    sleep((self.settings().interval / 2).min(PAUSE)).await;
                }
            }
        };
        tokio::select! {
            () = work => {}
            // Whoever could say so may also be gone.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn tidy(&self) {
        let before = self.queue().now().checked_sub(KEEP);
        match self
            .0
            .books
            .tidy(before.unwrap_or(SystemTime::UNIX_EPOCH))
            .await
        {
            Ok(0) => {}
            Ok(forgotten) => tracing::info!(
                forgotten,
                "direct uploads that ended long ago are forgotten"
            ),
            Err(error) => tracing::warn!(%error, "the books of direct uploads can't be tidied"),
        }
    }

    async fn check_due(&self, mut record: Record) -> Result<CheckOutcome, DirectError> {
        let now = self.queue().now();
        match record.standing {
            Standing::Opening if overdue(now, record.active_at) < OPENING => {
                record.check_at = Some(record.active_at + OPENING);
                Ok(CheckOutcome::Open(Box::new(record)))
            }
            Standing::Opening => {
                self.abandon(&record).await?;
                Ok(CheckOutcome::Failed)
            }
            Standing::Open => self.check_open(record, now).await,
            Standing::Finishing => outcome(self.advance(record.id(), Advance::default()).await),
            Standing::Finished => Ok(CheckOutcome::Unchanged),
            Standing::Gone => {
                self.clear(&record).await?;
                Ok(CheckOutcome::Unchanged)
            }
        }
    }

    /// Checks an open upload without its lease, which is only needed to change more than its schedule.
    async fn check_open(
        &self,
        mut record: Record,
        now: SystemTime,
    ) -> Result<CheckOutcome, DirectError> {
        let advance = Advance {
            may_expire: true,
            ..Advance::default()
        };
        let observation = self.observe(&record).await?;
        let Decision::Wait { stored } = decide(&self.facts(&record, &advance), observation) else {
            return outcome(self.advance(record.id(), advance).await);
        };
        if stored > record.stored {
            record.active_at = now;
            record.looks = 0;
            self.tell_progress(&record, stored)?;
        }
        record.stored = stored;
        schedule(self.settings(), &mut record, now);
        Ok(CheckOutcome::Open(Box::new(record)))
    }

    fn tell_progress(&self, record: &Record, stored: u64) -> Result<(), DirectError> {
        let upload = &record.upload;
        self.audience()?.emit_progress(upload, stored);
        // Also where no sink of the queue is installed.
        self.queue().report(Report {
            job: record.job,
            part: None,
            offset: stored,
            length: upload.length,
        });
        Ok(())
    }
}

fn overdue(now: SystemTime, then: SystemTime) -> Duration {
    now.duration_since(then).unwrap_or_default()
}

fn is_unavailable(error: &DirectError) -> bool {
    matches!(error, DirectError::S3(error) if matches!(error.kind(), ErrorKind::Unavailable { .. }))
}

/// What came of an attempt to advance an upload.
fn outcome(advanced: Result<Outcome, DirectError>) -> Result<CheckOutcome, DirectError> {
    match advanced {
        Ok(Outcome::Completed(_)) => Ok(CheckOutcome::Completed),
        Ok(Outcome::Removed(RemovalReason::Expired)) => Ok(CheckOutcome::Expired),
        Ok(Outcome::Removed(_)) | Err(DirectError::Conflict { gone: true, .. }) => {
            Ok(CheckOutcome::Failed)
        }
        Err(DirectError::Declined(declined)) if declined.cause.is_none() => {
            Ok(CheckOutcome::Failed)
        }
        // Another request has its lease, or its client is to send something again.
        Ok(Outcome::Pending)
        | Err(
            DirectError::Busy
            | DirectError::NotFound
            | DirectError::Parts(_)
            | DirectError::Conflict { .. },
        ) => Ok(CheckOutcome::Unchanged),
        Err(error) => Err(error),
    }
}
