//! Where fences come from.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use super::Fence;

/// The newest fence given by this process, whichever locker gave it.
static NEWEST: AtomicU64 = AtomicU64::new(0);

/// A fence greater than any this process gave before.
///
/// It is the time in nanoseconds where that is greater, so that fences also grow over a restart and
/// from one process of a machine to the next, unless the clock is set back.
pub(super) fn next() -> Fence {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    after(u64::try_from(now.as_nanos()).unwrap_or_default())
}

fn after(now: u64) -> Fence {
    let mut newest = NEWEST.load(Ordering::Relaxed);
    loop {
        let next = now.max(newest + 1);
        match NEWEST.compare_exchange_weak(newest, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Fence(next),
            Err(seen) => newest = seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_grow_even_when_the_clock_goes_back() {
        let first = next();
        let second = after(0);
        let third = after(1);
        assert!(first < second && second < third);
    }

    #[test]
    fn no_two_threads_get_the_same_fence() {
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..1000).map(|_| next()).collect::<Vec<_>>()))
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
