//! Idle files and connections that stay open, and the choice of those that are closed.
//!
//! So stalled clients cannot exhaust them. Closing takes time, so it must happen after the lock is released. The owner
//! of a value must be able to open it again at any time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Files or connections that responses read from: the most recently used are kept.
///
/// A response whose client takes nothing would keep its file or connection open for as long. So a [`Read`](super::Read)
/// puts it here between two chunks, and opens it again if it is no longer there.
#[derive(Debug)]
pub struct RecentlyUsed<T> {
    max: usize,
    min_age: Duration,
    values: Mutex<Ordered<T>>,
}

#[derive(Debug)]
struct Ordered<T> {
    last: u64,
    /// By the order of their use.
    values: BTreeMap<u64, (Instant, T)>,
}

impl<T> RecentlyUsed<T> {
    /// Keeps at most `max` values, besides those used within `min_age`.
    #[must_use]
    pub fn new(max: usize, min_age: Duration) -> Self {
        let (last, values) = (0, BTreeMap::new());
        Self {
            max,
            min_age,
            values: Mutex::new(Ordered { last, values }),
        }
    }

    /// Keeps a value, and drops the one that has not been used for the longest time if there are too many. Returns the
    /// key for [`take`](Self::take), which is not 0.
    pub fn insert(&self, value: T) -> u64 {
        let now = Instant::now();
        let mut dropped = Vec::new();
        let mut ordered = self.values.lock();
        ordered.last += 1;
        let key = ordered.last;
        ordered.values.insert(key, (now, value));
        while ordered.values.len() > self.max
            && let Some(oldest) = ordered.values.first_entry()
            && now.duration_since(oldest.get().0) >= self.min_age
        {
            dropped.push(oldest.remove());
        }
        // Closing a file takes time, so without the lock.
        drop(ordered);
        key
    }

    /// Returns a value, unless it was dropped.
    pub fn take(&self, key: u64) -> Option<T> {
        let value = self.values.lock().values.remove(&key)?;
        Some(value.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_is_dropped() {
        let kept = RecentlyUsed::new(2, Duration::ZERO);
        let [first, second] = ["first", "second"].map(|value| kept.insert(value));
        assert_eq!(kept.take(first), Some("first"));
        assert_eq!(kept.take(first), None);
        let [first, third] = ["first", "third"].map(|value| kept.insert(value));
        assert_eq!(kept.take(second), None);
        assert_eq!(kept.take(third), Some("third"));
        assert_eq!(kept.take(first), Some("first"));
        assert_eq!(kept.take(0), None);
    }

    #[test]
    fn what_is_in_use_is_kept() {
        let kept = RecentlyUsed::new(2, Duration::from_secs(3600));
        let keys: Vec<_> = (0..100).map(|value| kept.insert(value)).collect();
        assert!(
            keys.iter()
                .enumerate()
                .all(|(n, key)| kept.take(*key) == Some(n))
        );
    }
}
