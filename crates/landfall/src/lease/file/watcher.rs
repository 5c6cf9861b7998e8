//! Decides when this process keeps all bytes locked, and forwards lease requests of other processes.
//!
//! It makes system calls that may block, so it must not run in a task. An error is logged and must not end it. It keeps
//! the locker alive only during a poll.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    thread,
    time::Duration,
};

use super::Inner;

/// Polls between checks of the lock files. Twice per their interval, so that no lease needs to make them.
const CHECK_EVERY: u32 = 5;
const IDLE_POLLS: u32 = 50;
/// Polls without another process, after which this one is alone. More than a few, because older versions do not
/// show that they are there.
const ALONE_AFTER: u32 = 100;

/// A thread that honors the requests of other processes, and decides whether this one is alone.
///
/// Not a task: other processes must get their leases while no runtime runs. It stops some seconds after the last
/// lease, or with the locker; the next lease starts it again.
pub(super) struct RequestWatcher {
    polls: u32,
    idle: u32,
    /// Polls since another process was seen.
    quiet: u32,
    /// All bytes are locked.
    alone: bool,
}

impl RequestWatcher {
    pub(super) fn start(locker: &Arc<Inner>) {
        if locker.monitored.load(Ordering::SeqCst) || locker.monitored.swap(true, Ordering::SeqCst)
        {
            return;
        }
        let watcher = Self {
            polls: 0,
            idle: 0,
            quiet: ALONE_AFTER,
            alone: false,
        };
        let (weak, interval) = (Arc::downgrade(locker), locker.intervals.holder);
        let thread = thread::Builder::new().name("landfall-leases".into());
        if let Err(error) = thread.spawn(move || watcher.run(&weak, interval)) {
            // Other processes wait for the leases of this one in vain. The next lease tries again.
            tracing::warn!(%error, "failed to watch for lease requests");
            locker.monitored.store(false, Ordering::SeqCst);
        }
    }

    fn run(mut self, locker: &Weak<Inner>, interval: Duration) {
        while let Some(locker) = locker.upgrade() {
            self.poll(&locker);
            if self.idle >= IDLE_POLLS {
                return stop(&locker);
            }
            drop(locker);
            thread::sleep(interval);
        }
    }

    fn poll(&mut self, locker: &Inner) {
        self.polls = self.polls.wrapping_add(1);
        let is_idle = locker.leases.load(Ordering::SeqCst) == 0;
        self.idle = if is_idle { self.idle + 1 } else { 0 };

        let is_wanted = (self.alone || !is_idle) && locker.poll_requests(self.alone);
        let is_seen = locker.enter() || is_wanted;
        self.quiet = match is_seen {
            true => 0,
            false => ALONE_AFTER.min(self.quiet + 1),
        };
        // Files that were removed, or that could not be locked or unlocked, follow with the checks.
        let checks = self.polls.is_multiple_of(CHECK_EVERY);
        let is_alone = self.quiet >= ALONE_AFTER;
        if is_alone != self.alone || checks {
            self.alone = is_alone && locker.cover();
            if !self.alone {
                locker.share();
                self.quiet %= ALONE_AFTER;
            }
        }
        if checks && let Err(error) = locker.check() {
            tracing::warn!(dir = %locker.lock_dir.dir.display(), %error, "failed to check the lock files");
        }
    }
}

fn stop(locker: &Arc<Inner>) {
    locker.share();
    locker.monitored.store(false, Ordering::SeqCst);
    // A lease acquired between the last poll and the end has not started another watcher.
    if locker.leases.load(Ordering::SeqCst) > 0 {
        RequestWatcher::start(locker);
    }
}
