//! Fencing tokens from the clock, so that they grow over restarts without any stored state.
//!
//! Each is greater than all before it in this process, even if the clock is set back. Two are never consecutive: a
//! store may take consecutive ones as proof that no other process had the upload in between.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// A fencing token: a number that grows with every lease of one upload.
///
/// A store may persist the newest one and reject older ones ([`StoreError::LeaseLost`]). So a locker must
/// return greater numbers than before even after a restart and after a loss of its state; a counter that
/// starts from 1 would lock clients out of their uploads. [`Fence::next`] does it right.
///
/// A store may conclude from two fences that differ by one that no one had the upload in between. A
/// locker that shares uploads with other processes and cannot guarantee that must skip numbers, as
/// [`Fence::next`] does.
///
/// [`StoreError::LeaseLost`]: crate::store::StoreError::LeaseLost
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(pub u64);

impl Fence {
    /// Returns a fence greater than all fences this process got before, from any locker.
    ///
    /// It is the time in nanoseconds, so fences also grow over a restart and from one process of a
    /// machine to another. While the clock is behind the newest fence (because it was set back),
    /// fences count up from that one. Only a process started meanwhile returns lower fences, until
    /// the clock has caught up. Two fences are never consecutive.
    #[must_use]
    pub fn next() -> Self {
        static NEWEST: Counter = Counter(AtomicU64::new(0));
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        NEWEST.after(u64::try_from(now.as_nanos()).unwrap_or_default())
    }
}

struct Counter(AtomicU64);

impl Counter {
    fn after(&self, now: u64) -> Fence {
        // By two: a consecutive number would prove that no other process had the upload.
        let after = |newest: u64| now.max(newest.saturating_add(2));
        let newest = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |newest| {
                Some(after(newest))
            });
        Fence(after(newest.unwrap_or_else(|newest| newest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_000_000_000_000_000;
    const HOUR: u64 = 3_600_000_000_000;

    #[test]
    fn fences_grow_while_the_clock_jumps_an_hour_forward_and_back() {
        let counter = Counter(AtomicU64::new(0));
        let clock = [0, HOUR, HOUR + 1, 0, 1, HOUR / 2, HOUR + 5, 2 * HOUR];
        let fences: Vec<u64> = clock
            .iter()
            .map(|passed| counter.after(NOW + passed).0)
            .collect();
        assert!(
            fences.windows(2).all(|pair| pair[1] > pair[0] + 1),
            "{fences:?} do not grow, or follow each other"
        );
        assert_eq!(fences.last(), Some(&(NOW + 2 * HOUR)), "ahead of the clock");
    }

    /// Two processes with clocks an hour apart must not mistake each other's fences for their own.
    #[test]
    fn no_process_gets_consecutive_fences_while_another_has_the_upload() {
        let (ahead, behind) = (Counter(AtomicU64::new(0)), Counter(AtomicU64::new(0)));
        let first = ahead.after(NOW + HOUR);
        let other = behind.after(NOW);
        let second = ahead.after(NOW + 1);
        assert!(other < first && first < second);
        assert_ne!(first.0 + 1, second.0);
    }

    #[test]
    fn a_restart_continues_from_the_clock() {
        let before = Counter(AtomicU64::new(0)).after(NOW);
        let restarted = Counter(AtomicU64::new(0)).after(NOW + 1);
        assert!(before < restarted);
    }

    #[test]
    fn no_two_threads_get_the_same_fence() {
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..1000).map(|_| Fence::next()).collect::<Vec<_>>()))
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            let given = thread.join().unwrap();
            assert!(given.is_sorted_by(|a, b| a < b));
            all.extend(given);
        }
        all.sort();
        assert!(all.is_sorted_by(|a, b| a < b), "a fence was given twice");
    }
}
