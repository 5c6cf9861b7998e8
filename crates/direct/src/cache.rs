//! Short-lived caches that save requests to the database and to S3.

use std::{hash::Hash, time::Duration};

use moka::future::Cache;

const CAPACITY: u64 = 10_000;

pub(crate) fn cache<K, V>(time_to_live: Duration) -> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder()
        .max_capacity(CAPACITY)
        .time_to_live(time_to_live)
        .build()
}
