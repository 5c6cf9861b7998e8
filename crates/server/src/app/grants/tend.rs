//! What the queue needs now and then: a look at the store for what was missed, and an end for what
//! lapsed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use landfall::Handler;
use landfall_grants::{
    Queue,
    gate::{Reconciled, reconcile},
    queue::{QueueError, Silence},
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

/// How often old rows go, and grants that expired while the database could not be used.
const TIDY: Duration = Duration::from_secs(30);

/// The time between two checks for grants that expire, where the next expiry does not come sooner.
/// Within half of the time for which grants are valid, none can be made that expires unnoticed.
const MIN_EXPIRY_INTERVAL: Duration = Duration::from_millis(100);
const MAX_EXPIRY_INTERVAL: Duration = Duration::from_secs(15);

/// How often jobs of which nothing is heard are compared with the store.
const RECONCILE: Duration = Duration::from_secs(60);

/// How long nothing must have been heard of such a job. Uploads whose bytes come in are heard of all
/// the time.
const SILENCE: Duration = Duration::from_secs(120);

/// How often those are looked at that were about to be complete, and how long nothing must have been
/// heard of them: before the events that a process left are told by another one, since whoever hears
/// of a completion may move the file away.
const FINISH: Duration = Duration::from_secs(10);
const FINISH_SILENCE: Duration = Duration::from_secs(5);

/// Every so many times those are among them that were found to be silent before: somebody else may
/// have removed their uploads since.
const THOROUGHLY: u32 = 60;

/// Looks after a queue until it is told to stop.
#[derive(Debug)]
pub(super) struct Tending {
    queue: Queue,
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Counts {
    looked_at: AtomicU64,
    ended: AtomicU64,
    unknown: AtomicU64,
    expired: AtomicU64,
    removed: AtomicU64,
    failed: AtomicU64,
}

/// What came of it, in numbers since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tended {
    /// Silent jobs that were compared with the store.
    pub(crate) looked_at: u64,
    /// Jobs that had ended without the queue having heard of it.
    pub(crate) ended: u64,
    /// Jobs of which the store couldn't tell anything.
    pub(crate) unknown: u64,
    /// Grants that lapsed.
    pub(crate) expired: u64,
    /// Jobs that were removed because they ended long ago.
    pub(crate) removed: u64,
    /// Rounds that failed.
    pub(crate) failed: u64,
}

impl Tending {
    pub(super) fn new(queue: Queue) -> Self {
        Self {
            queue,
            counts: Arc::default(),
            stop: watch::Sender::new(false),
        }
    }

    /// Finds out which uploads were completed though their process died before it could say so, and
    /// does the rest in a task.
    ///
    /// # Errors
    /// The database can't be used.
    pub(super) async fn run(&self, handler: &Handler) -> Result<(), QueueError> {
        let all = Silence {
            before: self.queue.now(),
            since: SystemTime::UNIX_EPOCH,
            finishing_only: true,
        };
        let found = reconcile(&self.queue, handler, all).await?;
        self.counts.reconciled(found);
        if found.ended > 0 {
            tracing::info!(jobs = found.ended, "UploadsReconciled");
        }
        let tender = Tender {
            queue: self.queue.clone(),
            handler: handler.clone(),
            counts: self.counts.clone(),
        };
        let mut stopped = self.stop.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                // Fails, and so ends, when nobody can say it any more.
                _ = stopped.wait_for(|stop| *stop) => {}
                ((), ()) = async { tokio::join!(tender.run(), tender.expire_grants()) } => {}
            }
        });
        Ok(())
    }

    /// Ends the task.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(super) fn tended(&self) -> Tended {
        let counts = &self.counts;
        Tended {
            looked_at: counts.looked_at.load(Relaxed),
            ended: counts.ended.load(Relaxed),
            unknown: counts.unknown.load(Relaxed),
            expired: counts.expired.load(Relaxed),
            removed: counts.removed.load(Relaxed),
            failed: counts.failed.load(Relaxed),
        }
    }
}

impl Counts {
    fn reconciled(&self, found: Reconciled) {
        self.looked_at.fetch_add(found.seen, Relaxed);
        self.ended.fetch_add(found.ended, Relaxed);
        self.unknown.fetch_add(found.failed, Relaxed);
    }
}

struct Tender {
    queue: Queue,
    handler: Handler,
    counts: Arc<Counts>,
}

impl Tender {
    /// Expires each grant as soon as its time is over, so that clients hear of it at once.
    async fn expire_grants(&self) {
        let longest = (self.queue.valid_for() / 2).clamp(MIN_EXPIRY_INTERVAL, MAX_EXPIRY_INTERVAL);
        loop {
            let pause = match self.queue.expire_grants().await {
                Ok(found) => {
                    self.expired(found.count);
                    let next = found.next.map(|next| {
                        let left = next.duration_since(self.queue.now());
                        // The time of an expiry has whole milliseconds.
                        left.unwrap_or_default() + Duration::from_millis(1)
                    });
                    next.map_or(longest, |next| next.min(longest))
                }
                Err(error) => {
                    self.failed(&error);
                    MAX_EXPIRY_INTERVAL
                }
            };
            sleep(pause).await;
        }
    }

    async fn run(&self) {
        let every = |period: Duration| {
            let mut interval = interval_at(Instant::now() + period, period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        let (mut tidy, mut look, mut finish) = (every(TIDY), every(RECONCILE), every(FINISH));
        let mut round = 0;
        // Where the last look ended.
        let mut since = SystemTime::UNIX_EPOCH;
        self.tidy().await;
        loop {
            tokio::select! {
                _ = tidy.tick() => self.tidy().await,
                _ = finish.tick() => {
                    self.look(FINISH_SILENCE, SystemTime::UNIX_EPOCH, true).await;
                }
                _ = look.tick() => {
                    if round % THOROUGHLY == 0 {
                        since = SystemTime::UNIX_EPOCH;
                    }
                    round += 1;
                    if let Some(until) = self.look(SILENCE, since, false).await {
                        since = until;
                    }
                }
            }
        }
    }

    /// Looks at what has been silent for so long, but not since before `since`; says how far that came.
    async fn look(
        &self,
        silent: Duration,
        since: SystemTime,
        finishing_only: bool,
    ) -> Option<SystemTime> {
        let before = self.queue.now().checked_sub(silent)?;
        let silence = Silence {
            before,
            since,
            finishing_only,
        };
        match reconcile(&self.queue, &self.handler, silence).await {
            Ok(found) => {
                self.counts.reconciled(found);
                // What couldn't be found out is looked at again.
                (found.failed == 0).then_some(before)
            }
            Err(error) => {
                self.counts.failed.fetch_add(1, Relaxed);
                tracing::warn!(%error, "the queue can't be compared with the store");
                None
            }
        }
    }

    async fn tidy(&self) {
        match self.queue.tidy().await {
            Ok((expired, removed)) => {
                self.expired(expired);
                self.counts.removed.fetch_add(removed, Relaxed);
            }
            Err(error) => self.failed(&error),
        }
    }

    fn expired(&self, jobs: u64) {
        self.counts.expired.fetch_add(jobs, Relaxed);
        if jobs > 0 {
            tracing::debug!(jobs, "GrantsExpired");
        }
    }

    fn failed(&self, error: &QueueError) {
        self.counts.failed.fetch_add(1, Relaxed);
        tracing::warn!(%error, "failed to expire grants or to purge old rows");
    }
}
