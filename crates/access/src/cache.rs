//! A bounded cache whose values expire.

use std::{
    borrow::Borrow,
    fmt,
    hash::{Hash, RandomState},
    time::{Duration, Instant},
};

use quick_cache::{OptionsBuilder, UnitWeighter, sync};

/// Maximum number of values in a cache. At the limit, values that are seldom used are evicted.
pub(crate) const CACHE_CAPACITY: usize = 10_000;

/// Parts with a lock each. The default depends on the machine, and other numbers round the capacity up.
const SHARDS: usize = 16;

/// A bounded cache whose hashes clients cannot predict.
pub(crate) type BoundedCache<K, V> = sync::Cache<K, V, UnitWeighter, RandomState>;

pub(crate) fn bounded<K: Hash + Eq, V: Clone>() -> BoundedCache<K, V> {
    let options = OptionsBuilder::new()
        .shards(SHARDS)
        .estimated_items_capacity(CACHE_CAPACITY)
        .weight_capacity(CACHE_CAPACITY as u64)
        .build()
        .expect("the capacity is set");
    let (hasher, lifecycle) = (RandomState::new(), sync::DefaultLifecycle::default());
    sync::Cache::with_options(options, UnitWeighter, hasher, lifecycle)
}

/// A cache of at most 10,000 values, each with its own expiry.
///
/// Expired values stay in memory until they are replaced or evicted.
pub struct ExpiringCache<K, V>(BoundedCache<K, Entry<V>>);

#[derive(Clone)]
struct Entry<V> {
    value: V,
    loaded_at: Instant,
    time_to_live: Duration,
}

impl<V> Entry<V> {
    fn new(value: V, time_to_live: Duration) -> Self {
        Self {
            value,
            loaded_at: Instant::now(),
            time_to_live,
        }
    }

    fn is_expired(&self) -> bool {
        self.loaded_at.elapsed() >= self.time_to_live
    }
}

impl<K: Hash + Eq, V: Clone> ExpiringCache<K, V> {
    /// Creates an empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self(bounded())
    }

    /// Returns the value of a key, unless it has expired.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let entry = self.0.get(key)?;
        (!entry.is_expired()).then_some(entry.value)
    }

    /// Sets the value of a key.
    pub fn insert(&self, key: K, value: V, time_to_live: Duration) {
        self.0.insert(key, Entry::new(value, time_to_live));
    }

    /// Removes the value of a key.
    pub fn remove<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.remove(key);
    }

    /// Returns the value of a key, which `load` computes if there is none, with its time to live.
    ///
    /// Concurrent calls with the same key share one `load`, whatever the time to live of its value. A value
    /// with no time to live is returned to them and not stored.
    ///
    /// Cancel safety: if the call that loads is cancelled, another one that waits loads.
    pub async fn get_or_load(&self, key: &K, load: impl Future<Output = (V, Duration)>) -> V
    where
        K: Clone,
    {
        let called_at = Instant::now();
        let is_stale = |entry: &Entry<V>| entry.loaded_at < called_at && entry.is_expired();
        loop {
            match self.0.get_value_or_guard_async(key).await {
                Ok(entry) if !is_stale(&entry) => return entry.value,
                Ok(_) => drop(self.0.remove_if(key, is_stale)),
                Err(guard) => {
                    let (value, time_to_live) = load.await;
                    // An error means that the key was removed or set meanwhile.
                    let _ = guard.insert(Entry::new(value.clone(), time_to_live));
                    if time_to_live.is_zero() {
                        self.0.remove_if(key, Entry::is_expired);
                    }
                    return value;
                }
            }
        }
    }
}

impl<K: Hash + Eq, V: Clone> Default for ExpiringCache<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> fmt::Debug for ExpiringCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExpiringCache")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn values_expire_and_are_removed() {
        let cache = ExpiringCache::<String, u32>::new();
        cache.insert("a".into(), 1, LONG);
        cache.insert("b".into(), 2, Duration::ZERO);
        assert_eq!((cache.get("a"), cache.get("b")), (Some(1), None));
        cache.remove("a");
        assert_eq!(cache.get("a"), None);
    }

    #[test]
    fn memory_is_bounded() {
        let cache = ExpiringCache::<u32, u32>::new();
        for number in 0..50_000 {
            cache.insert(number, number, LONG);
        }
        assert!(cache.0.len() <= CACHE_CAPACITY, "{}", cache.0.len());
        assert_eq!(cache.get(&49_999), Some(49_999));
    }

    #[tokio::test]
    async fn concurrent_calls_share_one_load() {
        let cache = Arc::new(ExpiringCache::<u32, u32>::new());
        let loads = Arc::new(AtomicU32::new(0));
        for round in 1..=2 {
            let calls: Vec<_> = (0..20)
                .map(|_| {
                    let (cache, loads) = (cache.clone(), loads.clone());
                    tokio::spawn(async move {
                        let load = async {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            (loads.fetch_add(1, Relaxed) + 1, Duration::ZERO)
                        };
                        cache.get_or_load(&7, load).await
                    })
                })
                .collect();
            for call in calls {
                assert_eq!(call.await.unwrap(), round);
            }
            assert_eq!(
                cache.0.len(),
                0,
                "a value without a time to live is not stored"
            );
        }
    }

    #[tokio::test]
    async fn an_expired_value_is_loaded_again() {
        let cache = ExpiringCache::<u32, u32>::new();
        let short = Duration::from_millis(20);
        assert_eq!(cache.get_or_load(&7, async { (1, short) }).await, 1);
        tokio::time::sleep(short * 2).await;
        assert_eq!(cache.get_or_load(&7, async { (2, LONG) }).await, 2);
        assert_eq!(cache.get_or_load(&7, async { (3, LONG) }).await, 2);
    }

    #[tokio::test]
    async fn a_waiting_call_repeats_a_cancelled_load() {
        let cache = Arc::new(ExpiringCache::<u32, u32>::new());
        let stalled = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get_or_load(&7, std::future::pending()).await }
        });
        tokio::task::yield_now().await;
        let waiting = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get_or_load(&7, async { (2, LONG) }).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        stalled.abort();
        assert_eq!(waiting.await.unwrap(), 2);
        assert_eq!(cache.get(&7), Some(2));
    }
}
