//! Decides whether I/O steps run in the calling task or on the blocking pool.
//!
//! A switch to another thread costs as much as the rest of a small request, so a step at page-cache speed
//! should run in the task. A task that waits for a disk, however, blocks other tasks of its thread. So
//! every step is timed. The store's [`LatencyTracker`] moves the steps to the pool when they are slow, and
//! back when they have been fast on the pool for a while, so no task is blocked to probe the disk.
//!
//! The measured time excludes the time for copying the bytes ([`NANOS_PER_BYTE`]). A single step is
//! slow if it takes [`STALL`]; otherwise the moving average decides, in which a sample counts at
//! most [`MAX_SAMPLE`].
//!
//! Syncs have a separate tracker, which starts on the pool: they run in the task only where they wait for no
//! disk.
//!
//! A thread that was preempted on a busy machine must not look like a slow disk, because the pool would add
//! to the load. So once steps are slow, the tracker also checks whether their thread waited, and counts
//! their time only then. That costs two system calls per step, so it is not done while the steps are fast.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// 1 GB/s.
const NANOS_PER_BYTE: u64 = 1;
const STALL: Duration = Duration::from_millis(100);
const MAX_SAMPLE: Duration = Duration::from_millis(15);
/// Average durations at which steps move to the pool, and back.
const STEPS: Limits = Limits {
    steps: "reads and writes",
    slow: Duration::from_millis(1),
    fast: Duration::from_micros(250),
};
/// A switch to another thread and back takes about as long.
const SYNCS: Limits = Limits {
    steps: "syncs",
    slow: Duration::from_micros(60),
    fast: Duration::from_micros(20),
};
const MIN_POOL_DURATION: Duration = Duration::from_secs(2);
/// The newest sample has the weight 1 / this.
const AVERAGE_WINDOW: u64 = 16;

#[derive(Debug)]
struct Limits {
    steps: &'static str,
    slow: Duration,
    fast: Duration,
}

/// All methods may be called from any thread; a race may lose a sample.
#[derive(Debug)]
pub(super) struct LatencyTracker {
    limits: Limits,
    start: Instant,
    average: AtomicU64,
    /// Nanoseconds after `start`; 0 while steps run in the task.
    pool_until: AtomicU64,
}

impl LatencyTracker {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            limits: STEPS,
            start: now,
            average: AtomicU64::new(0),
            pool_until: AtomicU64::new(0),
        }
    }

    pub(super) fn for_syncs(now: Instant) -> Self {
        Self {
            limits: SYNCS,
            average: AtomicU64::new(nanos(SYNCS.slow)),
            pool_until: AtomicU64::new(1),
            ..Self::new(now)
        }
    }

    pub(super) fn runs_inline(&self) -> bool {
        self.pool_until.load(Ordering::Relaxed) == 0
    }

    pub(super) fn should_check_waits(&self) -> bool {
        self.average.load(Ordering::Relaxed) > nanos(self.limits.fast) || !self.runs_inline()
    }

    /// `has_waited` tells whether the thread waited, if that was checked.
    pub(super) fn record(
        &self,
        started: Instant,
        ended: Instant,
        bytes: usize,
        has_waited: Option<bool>,
    ) {
        let copying = (bytes as u64).saturating_mul(NANOS_PER_BYTE);
        let took = match has_waited {
            Some(false) => 0,
            _ => nanos(ended.saturating_duration_since(started)).saturating_sub(copying),
        };
        let old = self.average.load(Ordering::Relaxed);
        let mut average =
            (old * (AVERAGE_WINDOW - 1) + took.min(nanos(MAX_SAMPLE))) / AVERAGE_WINDOW;
        if has_waited.is_none() {
            // Without the check, the average cannot exceed the limit.
            average = average.min(nanos(self.limits.slow));
        }
        self.average.store(average, Ordering::Relaxed);

        let slow =
            average > nanos(self.limits.slow) || has_waited == Some(true) && took >= nanos(STALL);
        let until = self.pool_until.load(Ordering::Relaxed);
        if !slow && until == 0 {
            return;
        }
        let now = nanos(ended.saturating_duration_since(self.start));
        let steps = self.limits.steps;
        if slow {
            // Extends the time on the pool, too.
            let until = now + nanos(MIN_POOL_DURATION);
            if self.pool_until.swap(until, Ordering::Relaxed) == 0 {
                tracing::debug!(
                    steps,
                    step_ms = took / 1_000_000,
                    "disk is slow, moved I/O to the blocking pool"
                );
            }
        } else if now >= until && average < nanos(self.limits.fast) {
            self.pool_until.store(0, Ordering::Relaxed);
            tracing::debug!(steps, "disk is fast, moved I/O to the tasks");
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const US: Duration = Duration::from_micros(1);

    /// A tracker with a simulated clock.
    struct Harness {
        tracker: LatencyTracker,
        now: Instant,
    }

    impl Harness {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                tracker: LatencyTracker::new(now),
                now,
            }
        }

        fn step(&mut self, took: Duration, bytes: usize) {
            self.step_with(took, bytes, true);
        }

        fn step_with(&mut self, took: Duration, bytes: usize, waited: bool) {
            let has_waited = self.tracker.should_check_waits().then_some(waited);
            self.tracker
                .record(self.now, self.now + took, bytes, has_waited);
            self.now += took;
        }
    }

    impl Harness {
        /// The first stall enables the check, the second counts.
        fn stall(&mut self) {
            self.step(STALL, 0);
            self.step(STALL, 0);
        }
    }

    #[test]
    fn fast_steps_stay_in_the_task() {
        let mut harness = Harness::new();
        for _ in 0..10_000 {
            harness.step(20 * US, 16 * 1024);
            harness.step(900 * US, 1024 * 1024);
        }
        assert!(harness.tracker.runs_inline());
    }

    #[test]
    fn occasional_preemption_is_no_slow_disk() {
        let mut harness = Harness::new();
        for round in 0..10_000 {
            harness.step(if round % 100 == 0 { 30 * MS } else { 20 * US }, 16 * 1024);
            assert!(harness.tracker.runs_inline(), "round {round}");
        }
    }

    #[test]
    fn constant_preemption_is_no_slow_disk() {
        let mut harness = Harness::new();
        for round in 0..1000 {
            harness.step_with(
                if round % 2 == 0 { STALL } else { 5 * MS },
                16 * 1024,
                false,
            );
            assert!(harness.tracker.runs_inline(), "round {round}");
        }
    }

    #[test]
    fn slow_disk_is_detected_within_a_few_steps() {
        let mut harness = Harness::new();
        for _ in 0..1000 {
            harness.step(20 * US, 16 * 1024);
        }
        for _ in 0..4 {
            harness.step(6 * MS, 16 * 1024);
        }
        assert!(!harness.tracker.runs_inline());
    }

    #[test]
    fn two_stalls_move_steps_to_the_pool() {
        let mut harness = Harness::new();
        harness.stall();
        assert!(!harness.tracker.runs_inline());
    }

    #[test]
    fn returns_to_the_task_after_min_pool_duration() {
        let mut harness = Harness::new();
        harness.stall();
        let moved = harness.now;
        while harness.now < moved + MIN_POOL_DURATION {
            assert!(!harness.tracker.runs_inline());
            harness.step(10 * MS, 20_000_000); // fast for its size
        }
        // The first steps still counted as slow.
        for _ in 0..20 {
            harness.step(10 * MS, 20_000_000);
        }
        harness.step(20 * US, 0);
        assert!(harness.tracker.runs_inline());
    }

    #[test]
    fn syncs_move_to_the_task_only_where_they_wait_for_no_disk() {
        let start = Instant::now();
        let harness = |now| Harness {
            tracker: LatencyTracker::for_syncs(start),
            now,
        };
        let mut disk = harness(start);
        for _ in 0..10_000 {
            disk.step(100 * US, 0);
            assert!(!disk.tracker.runs_inline());
        }
        let mut memory = harness(start);
        assert!(!memory.tracker.runs_inline());
        for _ in 0..100 {
            memory.step_with(5 * US, 0, false);
        }
        assert!(memory.tracker.runs_inline());
        memory.step(5 * MS, 0);
        memory.step(5 * MS, 0);
        assert!(!memory.tracker.runs_inline());
    }

    #[test]
    fn does_not_return_without_fast_steps() {
        let mut harness = Harness::new();
        harness.stall();
        harness.now += 100 * MIN_POOL_DURATION;
        assert!(!harness.tracker.runs_inline());
        for _ in 0..100 {
            harness.step(5 * MS, 0); // still slow, on the pool
            harness.now += MIN_POOL_DURATION;
        }
        assert!(!harness.tracker.runs_inline());
        for _ in 0..100 {
            harness.step(20 * US, 0);
            harness.now += MIN_POOL_DURATION;
        }
        assert!(harness.tracker.runs_inline());
    }
}
