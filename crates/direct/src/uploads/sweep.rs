//! The sweeper: what nobody tells is found out, and what nobody goes on with is given up.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream};
use landfall_grants::queue::Report;
use landfall_s3::client::ErrorKind;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{Complete, Direct, Swept, cancel::End};
use crate::{DirectError, Record, Standing, Way, record::OPENING, stats::count};

/// Uploads of one round, and how many of them are looked at at a time.
const ROUND: usize = 64;
const AT_ONCE: usize = 8;
/// When one is looked at again of which nothing could be found out, or whose sweeper died.
const AGAIN: Duration = Duration::from_secs(60);
/// One that was active within this time is looked at at every interval.
const LIVELY: Duration = Duration::from_secs(60);
/// The longest time between two looks at something that may come any moment, …
const SOON: Duration = Duration::from_secs(60);
/// … and at everything else.
const SELDOM: Duration = Duration::from_secs(5 * 60);
/// The longest time between two rounds, if nothing is due.
const PAUSE: Duration = Duration::from_secs(5);
/// How long the books keep what has ended, and how often they are tidied.
const KEEP: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const TIDY: Duration = Duration::from_secs(60 * 60);

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// It stands as before, or somebody else is at it.
    Nothing,
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
    pub async fn notified(&self, bucket: &str, key: &str) -> Result<bool, DirectError> {
        let Some(record) = self.0.books.at(bucket, key).await? else {
            return Ok(false);
        };
        match record.standing {
            // Nobody has been told of the key yet.
            Standing::Opening => {}
            Standing::Open | Standing::Finishing => {
                seen(self.check(&record, None).await)?;
            }
            Standing::Finished => {}
            // It came too late.
            Standing::Gone => self.clear(&record).await?,
        }
        Ok(true)
    }

    /// Looks at those that are due, 64 at most: notes progress, completes what has arrived, removes what
    /// is too large, expires what nobody goes on with. Any number of processes may do so at a time.
    ///
    /// # Errors
    /// The books fail. What S3 can't tell is counted and logged, and looked at again.
    ///
    /// # Cancel safety
    /// Those that are being looked at are looked at to the end; the others, in a minute.
    pub async fn sweep(&self) -> Result<Swept, DirectError> {
        let stats = &self.settings().stats;
        count(&stats.sweeps);
        let due = self.0.books.due(self.queue().now(), AGAIN, ROUND).await?;
        let mut looks = stream::iter(due)
            .map(|record| async {
                let (this, id) = (self.clone(), record.id().clone());
                let look = tokio::spawn(async move { this.look_at(record).await });
                (
                    id,
                    look.await
                        .unwrap_or_else(|error| Err(DirectError::broken_off(error))),
                )
            })
            .buffer_unordered(AT_ONCE);
        let mut swept = Swept::default();
        let mut is_down = false;
        while let Some((id, look)) = looks.next().await {
            swept.seen += 1;
            count(&stats.looks);
            match look {
                Ok(Seen::Nothing) => {}
                Ok(Seen::Completed) => swept.completed += 1,
                Ok(Seen::Expired) => swept.expired += 1,
                Ok(Seen::Failed) => swept.failed += 1,
                Err(error) => {
                    swept.unknown += 1;
                    count(&stats.unknown);
                    // When S3 is down, it is so for all of them.
                    if !is_unavailable(&error) {
                        tracing::warn!(%id, %error, "it can't be found out how a direct upload gets on");
                    } else if !std::mem::replace(&mut is_down, true) {
                        tracing::warn!(%id, %error, "S3 can't say how direct uploads get on");
                    }
                }
            }
        }
        Ok(swept)
    }

    /// [Sweeps](Self::sweep) again and again, until `stop` is true, and tidies the books each hour.
    pub async fn sweep_forever(&self, mut stop: watch::Receiver<bool>) {
        let work = async {
            let mut tidy = Instant::now();
            loop {
                let is_more = match self.sweep().await {
                    Ok(swept) => swept.seen >= ROUND as u64 && swept.unknown < swept.seen,
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

    async fn look_at(&self, record: Record) -> Result<Seen, DirectError> {
        let now = self.queue().now();
        match record.standing {
            Standing::Opening if past(now, record.active_at) < OPENING => {
                let later = record.active_at + OPENING;
                self.put_off(record, later).await
            }
            Standing::Opening => {
                self.abandon(&record).await?;
                Ok(Seen::Failed)
            }
            Standing::Open => match (record.way, record.multipart.as_deref()) {
                (Way::Put | Way::Post, _) => self.look_at_object(record, now).await,
                (Way::Multipart | Way::SignedMultipart, Some(multipart)) => {
                    let multipart = multipart.to_owned();
                    self.look_at_parts(record, &multipart, now).await
                }
                // Its client hasn't begun.
                (Way::Multipart | Way::SignedMultipart, None) => self.wait(record, now).await,
            },
            Standing::Finishing => seen(self.resume(&record).await),
            Standing::Finished => Ok(Seen::Nothing),
            Standing::Gone => {
                self.clear(&record).await?;
                Ok(Seen::Nothing)
            }
        }
    }

    /// Looks whether what is sent in one piece has arrived.
    async fn look_at_object(&self, record: Record, now: SystemTime) -> Result<Seen, DirectError> {
        let head = self.settings().client.head_object(&record.place).await;
        let seen = match head {
            Ok(_) => seen(self.check(&record, None).await)?,
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => Seen::Nothing,
            Err(error) => return Err(error.into()),
        };
        match seen {
            Seen::Nothing => self.wait(record, now).await,
            _ => Ok(seen),
        }
    }

    /// Looks how far a multipart upload is.
    async fn look_at_parts(
        &self,
        mut record: Record,
        multipart: &str,
        now: SystemTime,
    ) -> Result<Seen, DirectError> {
        let parts = match self.list(&record, multipart).await {
            Ok(parts) => parts,
            Err(DirectError::S3(error)) if *error.kind() == ErrorKind::NoSuchUpload => {
                return self.look_where_it_went(&record).await;
            }
            Err(error) => return Err(error),
        };
        let stored = parts.iter().map(|part| part.size).sum();
        if let Some(most) = self.most(&record).filter(|most| stored > *most) {
            self.fail(&record, End::too_large(stored, most)).await?;
            return Ok(Seen::Failed);
        }
        if stored > record.stored {
            record.active_at = now;
            record.looks = 0;
            self.tell_progress(&record, stored)?;
        }
        record.stored = stored;
        self.wait(record, now).await
    }

    /// A multipart upload is gone: somebody has completed it, or dropped it.
    async fn look_where_it_went(&self, record: &Record) -> Result<Seen, DirectError> {
        match self.check(record, None).await {
            Err(DirectError::NotYet) => {
                let end = match record.way {
                    // Its client did so itself.
                    Way::SignedMultipart => End::Removed(landfall::event::Removal::Client),
                    _ => End::Failed("its multipart upload is gone from S3".into()),
                };
                self.fail(record, end).await?;
                Ok(Seen::Failed)
            }
            other => seen(other),
        }
    }

    fn tell_progress(&self, record: &Record, stored: u64) -> Result<(), DirectError> {
        let upload = &record.upload;
        self.audience()?.tell_progress(upload, stored);
        // Also where nobody follows.
        self.queue().report(Report {
            job: record.job,
            part: None,
            offset: stored,
            length: upload.length,
        });
        Ok(())
    }

    /// Puts one off that is still under way; gives it up if nothing has come for too long.
    async fn wait(&self, mut record: Record, now: SystemTime) -> Result<Seen, DirectError> {
        let settings = self.settings();
        let over = record.active_at + settings.patience;
        if over <= now {
            return match self.expire(&record).await {
                Ok(None) => Ok(Seen::Expired),
                Ok(Some(_)) => Ok(Seen::Completed),
                Err(error) => seen(Err(error)),
            };
        }
        let silent = past(now, record.active_at);
        let is_whole = matches!(record.way, Way::Put | Way::Post);
        let longest = match is_whole {
            true if silent < settings.may_arrive_for() => SOON,
            _ => SELDOM,
        };
        let doublings = match is_whole || silent >= LIVELY {
            true => record.looks.min(16),
            false => 0,
        };
        let pause = settings
            .interval
            .saturating_mul(1 << doublings)
            .min(longest);
        record.looks = doublings + 1;
        let later = (now + pause).min(over);
        self.put_off(record, later).await
    }

    async fn put_off(&self, mut record: Record, later: SystemTime) -> Result<Seen, DirectError> {
        record.check_at = Some(later);
        let from = record.standing;
        // What `find` remembers of it is as good as before.
        self.0.books.change(&record, from).await?;
        Ok(Seen::Nothing)
    }
}

fn past(now: SystemTime, then: SystemTime) -> Duration {
    now.duration_since(then).unwrap_or_default()
}

fn is_unavailable(error: &DirectError) -> bool {
    matches!(error, DirectError::S3(error) if matches!(error.kind(), ErrorKind::Unavailable { .. }))
}

/// What a look that may have completed something came to.
fn seen(done: Result<Complete, DirectError>) -> Result<Seen, DirectError> {
    match done {
        Ok(_) => Ok(Seen::Completed),
        Err(DirectError::TooLarge { .. } | DirectError::Conflict { gone: true, .. }) => {
            Ok(Seen::Failed)
        }
        Err(DirectError::Declined(declined)) if declined.cause.is_none() => Ok(Seen::Failed),
        // Somebody else is at it, or its client is to send something again.
        Err(
            DirectError::NotYet
            | DirectError::Busy
            | DirectError::NotFound
            | DirectError::Parts(_)
            | DirectError::Conflict { .. },
        ) => Ok(Seen::Nothing),
        Err(error) => Err(error),
    }
}
