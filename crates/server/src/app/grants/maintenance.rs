//! Background maintenance of the queue: expires grants, purges old rows, reconciles jobs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use landfall::Handler;
use landfall_state::queue::{
    Queue, QueueError, StaleFilter,
    tracking::{ReconcileTurn, reconcile},
};
use tokio::time::sleep;

/// Also expires grants whose time ended while the database was down.
const PURGE_INTERVAL: Duration = Duration::from_secs(30);

/// The time between two checks for grants that expire, where the next expiry does not come sooner.
/// Within half of the time for which grants are valid, none can be created that expires unnoticed.
const MIN_EXPIRY_INTERVAL: Duration = Duration::from_millis(100);
const MAX_EXPIRY_INTERVAL: Duration = Duration::from_secs(15);

const RECONCILE_INTERVAL: Duration = Duration::from_secs(10);

/// Repeated each time that the age has grown [fourfold](STALE_FACTOR).
const STALE_AFTER: Duration = Duration::from_secs(15);
const STALE_FACTOR: u32 = 4;
const STALE_STEPS: usize = 11;

#[derive(Debug, Default)]
pub(crate) struct MaintenanceStats {
    pub(crate) examined: AtomicU64,
    pub(crate) ended: AtomicU64,
    pub(crate) unknown: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) purged: AtomicU64,
    pub(crate) failed: AtomicU64,
}

pub(super) struct Maintenance {
    pub(super) queue: Queue,
    pub(super) handler: Handler,
    pub(super) stats: Arc<MaintenanceStats>,
}

impl Maintenance {
    pub(super) async fn run(self) {
        tokio::join!(self.run_purge(), self.run_expiry(), self.run_reconcile());
    }

    /// Expires each grant at once, so that clients are notified.
    async fn run_expiry(&self) {
        let max_pause =
            (self.queue.valid_for() / 2).clamp(MIN_EXPIRY_INTERVAL, MAX_EXPIRY_INTERVAL);
        loop {
            let pause = match self.queue.expire_grants().await {
                Ok(found) => {
                    self.count_expired(found.count);
                    let next = found.next.map(|next| {
                        let left = next.duration_since(self.queue.now());
                        // The time of an expiry has whole milliseconds.
                        left.unwrap_or_default() + Duration::from_millis(1)
                    });
                    next.map_or(max_pause, |next| next.min(max_pause))
                }
                Err(error) => {
                    self.count_failure(&error);
                    MAX_EXPIRY_INTERVAL
                }
            };
            sleep(pause).await;
        }
    }

    async fn run_purge(&self) {
        loop {
            match self.queue.purge().await {
                Ok((expired, purged)) => {
                    self.count_expired(expired);
                    self.stats.purged.fetch_add(purged, Relaxed);
                }
                Err(error) => self.count_failure(&error),
            }
            sleep(PURGE_INTERVAL).await;
        }
    }

    /// In one process at a time.
    async fn run_reconcile(&self) {
        loop {
            match self.queue.reconcile_turn().await {
                Ok(Some(turn)) => self.reconcile_while(&turn).await,
                Ok(None) => {}
                Err(error) => self.count_reconcile_failure(&error),
            }
            sleep(RECONCILE_INTERVAL).await;
        }
    }

    /// All jobs at first, for those whose process died; later each job a few times while it is stale.
    async fn reconcile_while(&self, turn: &ReconcileTurn) {
        let start = self.queue.now();
        let mut ages = [STALE_AFTER; STALE_STEPS];
        for step in 1..STALE_STEPS {
            ages[step] = ages[step - 1].saturating_mul(STALE_FACTOR);
        }
        let before = |now: SystemTime, age| now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        // The time up to which each step has compared jobs.
        let mut since = ages.map(|age| before(start, age));
        let mut is_first = true;
        while turn.is_held() {
            if is_first {
                is_first = !self.reconcile(SystemTime::UNIX_EPOCH, start).await;
            } else {
                let now = self.queue.now();
                for (age, since) in ages.into_iter().zip(&mut since) {
                    let before = before(now, age);
                    if *since < before && self.reconcile(*since, before).await {
                        *since = before;
                    }
                }
            }
            sleep(RECONCILE_INTERVAL).await;
        }
    }

    /// False if it must be repeated.
    async fn reconcile(&self, since: SystemTime, before: SystemTime) -> bool {
        let filter = StaleFilter { before, since };
        match reconcile(&self.queue, &self.handler, filter).await {
            Ok(found) => {
                self.stats.examined.fetch_add(found.examined, Relaxed);
                self.stats.ended.fetch_add(found.ended, Relaxed);
                self.stats.unknown.fetch_add(found.failed, Relaxed);
                if found.ended > 0 {
                    tracing::info!(jobs = found.ended, "UploadsReconciled");
                }
                found.failed == 0
            }
            Err(error) => {
                self.count_reconcile_failure(&error);
                false
            }
        }
    }

    fn count_expired(&self, jobs: u64) {
        self.stats.expired.fetch_add(jobs, Relaxed);
        if jobs > 0 {
            tracing::debug!(jobs, "GrantsExpired");
        }
    }

    fn count_reconcile_failure(&self, error: &QueueError) {
        self.stats.failed.fetch_add(1, Relaxed);
        tracing::warn!(%error, "failed to compare the queue with the store");
    }

    fn count_failure(&self, error: &QueueError) {
        self.stats.failed.fetch_add(1, Relaxed);
        tracing::warn!(%error, "failed to expire grants or to purge old rows");
    }
}
