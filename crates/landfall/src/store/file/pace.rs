//! Whether steps of I/O run in the task that needs them or on the blocking pool.
//!
//! A hop to another thread costs as much as all the rest of a small request, so a step that runs at
//! page-cache speed is best done in the task itself. But a task that waits for a disk stalls its
//! neighbours. So every step is timed, and the store's [`Pace`] moves the steps to the pool as soon
//! as they prove slow, and back when they have proved fast there for a while: coming back is decided
//! by what the pool measured, so no task has to be stalled to find out.
//!
//! What counts is the time beyond what copying the bytes may take ([`NANOS_PER_BYTE`]). A step is
//! slow if it takes [`STALL`] by itself; the moving average decides otherwise, with single samples
//! cut at [`CUT`].
//!
//! A thread that merely lost its processor on a busy machine must not look like a slow disk: the pool
//! would make everything slower still. So once steps take long, it is also measured whether their
//! thread waited, and only then their time counts. That costs two system calls, so it is not done while
//! all is fast.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// The time a step may take for each of its bytes: 1 GB/s.
const NANOS_PER_BYTE: u64 = 1;
/// A single step this long moves the store to the pool at once.
const STALL: Duration = Duration::from_millis(100);
/// The most a single step counts in the moving average.
const CUT: Duration = Duration::from_millis(15);
/// To the pool when the moving average exceeds this …
const SLOW: Duration = Duration::from_millis(1);
/// … and back when it is below this …
const FAST: Duration = Duration::from_micros(250);
/// … but not before this time has passed.
const STAY: Duration = Duration::from_secs(2);
/// The weight of the newest sample is 1 / this.
const WEIGHT: u64 = 16;

/// Watches the time steps take. All its methods may be called from any thread; races between them
/// lose a sample at worst.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    /// Moving average in nanoseconds.
    average: AtomicU64,
    /// On the pool at least until this many nanoseconds after `start`; 0 = steps run in the task.
    pool_until: AtomicU64,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            start: now,
            average: AtomicU64::new(0),
            pool_until: AtomicU64::new(0),
        }
    }

    /// Whether the next step should run in the task. One atomic load.
    pub(super) fn in_task(&self) -> bool {
        self.pool_until.load(Ordering::Relaxed) == 0
    }

    /// Whether it is to be measured if the thread of a step waited. One or two atomic loads.
    pub(super) fn is_suspicious(&self) -> bool {
        self.average.load(Ordering::Relaxed) > nanos(FAST) || !self.in_task()
    }

    /// Takes note of a step with `bytes` bytes that ran from `began` to `ended`, wherever it ran.
    /// `has_waited` = whether its thread waited, if that was measured.
    pub(super) fn note(
        &self,
        began: Instant,
        ended: Instant,
        bytes: usize,
        has_waited: Option<bool>,
    ) {
        let copying = (bytes as u64).saturating_mul(NANOS_PER_BYTE);
        let took = match has_waited {
            Some(false) => 0,
            _ => nanos(ended.saturating_duration_since(began)).saturating_sub(copying),
        };
        let old = self.average.load(Ordering::Relaxed);
        let mut average = (old * (WEIGHT - 1) + took.min(nanos(CUT))) / WEIGHT;
        if has_waited.is_none() {
            // Suspicious at most.
            average = average.min(nanos(SLOW));
        }
        self.average.store(average, Ordering::Relaxed);

        let now = nanos(ended.saturating_duration_since(self.start));
        let slow = average > nanos(SLOW) || has_waited == Some(true) && took >= nanos(STALL);
        if slow {
            // Also prolongs a stay.
            let until = now + nanos(STAY);
            if self.pool_until.swap(until, Ordering::Relaxed) == 0 {
                tracing::debug!(
                    step_ms = took / 1_000_000,
                    "the disk is slow: writing on threads"
                );
            }
        } else {
            let until = self.pool_until.load(Ordering::Relaxed);
            if until != 0 && now >= until && average < nanos(FAST) {
                self.pool_until.store(0, Ordering::Relaxed);
                tracing::debug!("the disk is fast again: writing in the tasks");
            }
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

    /// A pace with a clock that only the test moves.
    struct Bench {
        pace: Pace,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                pace: Pace::new(now),
                now,
            }
        }

        fn step(&mut self, took: Duration, bytes: usize) {
            self.step_of_thread(took, bytes, true);
        }

        fn step_of_thread(&mut self, took: Duration, bytes: usize, waited: bool) {
            let has_waited = self.pace.is_suspicious().then_some(waited);
            self.pace.note(self.now, self.now + took, bytes, has_waited);
            self.now += took;
        }
    }

    impl Bench {
        /// The first makes it suspicious; the second proves it.
        fn stall(&mut self) {
            self.step(STALL, 0);
            self.step(STALL, 0);
        }
    }

    #[test]
    fn fast_steps_stay_in_the_task() {
        let mut bench = Bench::new();
        for _ in 0..10_000 {
            bench.step(20 * US, 16 * 1024);
            bench.step(900 * US, 1024 * 1024);
        }
        assert!(bench.pace.in_task());
    }

    #[test]
    fn losing_the_processor_now_and_then_is_no_slow_disk() {
        let mut bench = Bench::new();
        for round in 0..10_000 {
            bench.step(if round % 100 == 0 { 30 * MS } else { 20 * US }, 16 * 1024);
            assert!(bench.pace.in_task(), "round {round}");
        }
    }

    #[test]
    fn losing_the_processor_always_is_no_slow_disk_either() {
        let mut bench = Bench::new();
        for round in 0..1000 {
            bench.step_of_thread(
                if round % 2 == 0 { STALL } else { 5 * MS },
                16 * 1024,
                false,
            );
            assert!(bench.pace.in_task(), "round {round}");
        }
    }

    #[test]
    fn a_slow_disk_is_noticed_within_a_few_steps() {
        let mut bench = Bench::new();
        for _ in 0..1000 {
            bench.step(20 * US, 16 * 1024);
        }
        for _ in 0..4 {
            bench.step(6 * MS, 16 * 1024);
        }
        assert!(!bench.pace.in_task());
    }

    #[test]
    fn two_stalls_are_enough() {
        let mut bench = Bench::new();
        bench.stall();
        assert!(!bench.pace.in_task());
    }

    #[test]
    fn it_comes_back_after_a_while_of_fast_steps_and_not_before() {
        let mut bench = Bench::new();
        bench.stall();
        let moved = bench.now;
        while bench.now < moved + STAY {
            assert!(!bench.pace.in_task());
            bench.step(10 * MS, 20_000_000); // fast for what it does
        }
        // The first of them were still above the average that counts as slow.
        for _ in 0..20 {
            bench.step(10 * MS, 20_000_000);
        }
        bench.step(20 * US, 0);
        assert!(bench.pace.in_task());
    }

    #[test]
    fn it_does_not_come_back_on_time_alone() {
        let mut bench = Bench::new();
        bench.stall();
        bench.now += 100 * STAY;
        assert!(!bench.pace.in_task());
        for _ in 0..100 {
            bench.step(5 * MS, 0); // still slow, on the pool
            bench.now += STAY;
        }
        assert!(!bench.pace.in_task());
        for _ in 0..100 {
            bench.step(20 * US, 0);
            bench.now += STAY;
        }
        assert!(bench.pace.in_task());
    }
}
