//! Caches the result of a probe for `CACHE_TTL`, so that many health checks cause one call of another machine.
//!
//! The lock is held while a probe runs. `error` ends it after `PROBE_TIMEOUT`; with `get`, the probe must be bounded.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

const CACHE_TTL: Duration = Duration::from_secs(3);

pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(4);

/// Concurrent callers wait for the running probe and share its result.
#[derive(Debug, Default)]
pub(super) struct CachedProbe<T> {
    cached: Mutex<Option<(Instant, T)>>,
}

impl<T: Clone> CachedProbe<T> {
    pub(super) async fn get(&self, probe: impl AsyncFnOnce() -> T) -> T {
        let mut cached = self.cached.lock().await;
        if let Some((when, result)) = &*cached
            && when.elapsed() < CACHE_TTL
        {
            return result.clone();
        }
        let result = probe().await;
        *cached = Some((Instant::now(), result.clone()));
        result
    }
}

impl CachedProbe<Option<String>> {
    /// Returns why the probe fails.
    pub(super) async fn error<T, E: Display>(
        &self,
        probe: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Option<String> {
        self.get(
            async || match tokio::time::timeout(PROBE_TIMEOUT, probe()).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("it does not respond".to_owned()),
            },
        )
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    #[tokio::test]
    async fn concurrent_callers_share_one_probe() {
        let cached = CachedProbe::default();
        let probes = AtomicU32::new(0);
        let check = || {
            cached.error(async || {
                probes.fetch_add(1, Relaxed);
                tokio::task::yield_now().await;
                Ok::<_, &str>(())
            })
        };
        let (one, two) = tokio::join!(check(), check());
        assert_eq!((one, two, check().await), (None, None, None));
        assert_eq!(probes.load(Relaxed), 1);
    }
}
