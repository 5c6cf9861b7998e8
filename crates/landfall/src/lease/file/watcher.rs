use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;

use super::Inner;

const CHECK_EVERY: u32 = 10;
const IDLE_POLLS: u32 = 50;

/// Stops some seconds after the last lease, or with the locker; the next lease starts it again.
pub(super) struct RequestWatcher {
    monitored: Arc<AtomicBool>,
}

impl RequestWatcher {
    pub(super) fn start(locker: &Arc<Inner>) {
        if !locker.monitored.swap(true, Ordering::SeqCst) {
            let watcher = Self {
                monitored: Arc::clone(&locker.monitored),
            };
            tokio::spawn(watcher.run(Arc::downgrade(locker), locker.intervals.holder));
        }
    }

    async fn run(self, locker: Weak<Inner>, interval: Duration) {
        let mut polls = 0_u32;
        let mut idle = 0;
        while idle < IDLE_POLLS {
            sleep(interval).await;
            let Some(locker) = locker.upgrade() else {
                return;
            };
            if locker.leases.load(Ordering::SeqCst) == 0 {
                idle += 1;
                continue;
            }
            idle = 0;
            polls = polls.wrapping_add(1);
            // On the blocking pool, for slow file systems. Fails only if the runtime ends.
            let polled = tokio::task::spawn_blocking(move || {
                locker.poll_requests();
                if polls.is_multiple_of(CHECK_EVERY) {
                    locker.check();
                }
            });
            if polled.await.is_err() {
                return;
            }
        }
        drop(self);
        // A lease acquired between the last poll and the end has not started another watcher.
        if let Some(locker) = locker.upgrade()
            && locker.leases.load(Ordering::SeqCst) > 0
        {
            Self::start(&locker);
        }
    }
}

impl Drop for RequestWatcher {
    /// Runs also if the runtime ends: a lease in another runtime then starts a new watcher.
    fn drop(&mut self) {
        self.monitored.store(false, Ordering::SeqCst);
    }
}
