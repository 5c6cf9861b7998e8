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
    enforce::{ReconcileReport, reconcile},
    queue::{QueueError, StaleFilter},
};
use tokio::{sync::watch, time::sleep};

/// How often old rows go, and grants that expired while the database could not be used.
const TIDY: Duration = Duration::from_secs(30);

/// The time between two checks for grants that expire, where the next expiry does not come sooner.
/// Within half of the time for which grants are valid, none can be made that expires unnoticed.
const MIN_EXPIRY_INTERVAL: Duration = Duration::from_millis(100);
const MAX_EXPIRY_INTERVAL: Duration = Duration::from_secs(15);

/// How often running jobs that became stale are compared with the store.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(10);

/// A job is compared with the store when it has not been updated for this long, and again each time
/// that has grown [fourfold](STALE_FACTOR).
const STALE_AFTER: Duration = Duration::from_secs(15);
const STALE_FACTOR: u32 = 4;
/// The last comparison comes after about half a year.
const STALE_STEPS: usize = 11;

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

    /// Starts the task.
    ///
    /// # Errors
    /// The database can't be used.
    pub(super) async fn run(&self, handler: &Handler) -> Result<(), QueueError> {
        self.queue.check().await?;
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
                ((), (), ()) = async {
                    tokio::join!(
                        tender.tidy_forever(),
                        tender.expire_grants(),
                        tender.reconcile_forever()
                    )
                } => {}
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
    fn reconciled(&self, found: ReconcileReport) {
        self.looked_at.fetch_add(found.examined, Relaxed);
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

    async fn tidy_forever(&self) {
        loop {
            self.tidy().await;
            sleep(TIDY).await;
        }
    }

    /// Compares jobs with the store: all of them at first, for those whose process died, and each job
    /// a few times while it is stale.
    async fn reconcile_forever(&self) {
        let start = self.queue.now();
        // How far each step has come.
        let mut since = [start; STALE_STEPS];
        let mut age = STALE_AFTER;
        for since in &mut since {
            *since = start.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
            age = age.saturating_mul(STALE_FACTOR);
        }
        while !self.reconcile(SystemTime::UNIX_EPOCH, start).await {
            sleep(RECONCILE_INTERVAL).await;
        }
        loop {
            sleep(RECONCILE_INTERVAL).await;
            let now = self.queue.now();
            let mut age = STALE_AFTER;
            for since in &mut since {
                let before = now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
                if *since < before && self.reconcile(*since, before).await {
                    *since = before;
                }
                age = age.saturating_mul(STALE_FACTOR);
            }
        }
    }

    /// Compares jobs that were last updated in a time with the store; false if that has to be repeated.
    async fn reconcile(&self, since: SystemTime, before: SystemTime) -> bool {
        let filter = StaleFilter { before, since };
        match reconcile(&self.queue, &self.handler, filter).await {
            Ok(found) => {
                self.counts.reconciled(found);
                if found.ended > 0 {
                    tracing::info!(jobs = found.ended, "UploadsReconciled");
                }
                found.failed == 0
            }
            Err(error) => {
                self.counts.failed.fetch_add(1, Relaxed);
                tracing::warn!(%error, "failed to compare the queue with the store");
                false
            }
        }
    }

    async fn tidy(&self) {
        match self.queue.purge().await {
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
