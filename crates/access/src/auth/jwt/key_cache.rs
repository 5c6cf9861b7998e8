//! A cache of keys from a URL or file, with background refresh.

use std::{
    fs::File,
    io::Read as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, StatusCode, header};
use parking_lot::Mutex as Lock;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task::JoinHandle,
};

use super::{
    JwtSettings,
    keys::{KeyOrigin, KeySet},
};
use crate::auth::http_client::HttpClient;

const MAX_RESPONSE_BYTES: usize = 1 << 20;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Retry interval while there are no keys.
const EMPTY_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// A cache of the keys at a location.
#[derive(Debug)]
pub(super) struct KeyCache {
    location: KeyLocation,
    refresh_interval: Duration,
    /// Keys that could not be refreshed for this time are not used any more.
    max_age: Duration,
    /// Minimum time between refreshes because of an unknown key or a failure.
    min_interval: Duration,
    cached: Lock<CachedKeys>,
    /// Locked during a refresh.
    refreshing: Arc<Mutex<()>>,
}

#[derive(Debug)]
pub(super) enum KeyLocation {
    Url(HttpClient),
    File(PathBuf),
}

/// The cached keys.
#[derive(Debug, Clone, Default)]
struct CachedKeys {
    keys: Option<Arc<KeySet>>,
    /// Time of the last successful refresh.
    refreshed_at: Option<Instant>,
    /// Time of the last attempt.
    attempted_at: Option<Instant>,
}

impl KeyCache {
    pub(super) fn new(location: KeyLocation, settings: &JwtSettings) -> Arc<Self> {
        Arc::new(Self {
            location,
            refresh_interval: settings.refresh,
            max_age: settings.max_age,
            min_interval: settings.min_refresh_interval,
            cached: Lock::default(),
            refreshing: Arc::default(),
        })
    }

    /// Returns the keys, if any were loaded. Stale keys are used during a refresh, up to their maximum age.
    pub(super) async fn keys(self: &Arc<Self>) -> Option<Arc<KeySet>> {
        let cached = {
            let mut cached = self.cached.lock();
            let age = cached.refreshed_at.map(|at| at.elapsed());
            if cached.keys.is_some() && age.is_none_or(|age| age >= self.max_age) {
                let location = self.location.name();
                tracing::error!(location, "JWT keys could not be read for too long");
                cached.keys = None;
            }
            cached.clone()
        };
        if cached.keys.is_none() {
            return self.refreshed_since(None).await;
        }
        let is_old = cached
            .refreshed_at
            .is_none_or(|refreshed_at| refreshed_at.elapsed() >= self.refresh_interval);
        if is_old
            && cached.can_refresh(self.min_interval)
            && let Ok(guard) = self.refreshing.clone().try_lock_owned()
        {
            drop(self.clone().refresh_in_background(guard));
        }
        cached.keys
    }

    /// Returns keys that are newer than these, for a token with an unknown key.
    pub(super) async fn refreshed_since(
        self: &Arc<Self>,
        than: Option<&Arc<KeySet>>,
    ) -> Option<Arc<KeySet>> {
        let guard = self.refreshing.clone().lock_owned().await;
        let cached = self.cached.lock().clone();
        let is_same = match (than, &cached.keys) {
            (Some(old), Some(keys)) => Arc::ptr_eq(old, keys),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            return cached.keys;
        }
        let min_interval = match than {
            Some(_) => self.min_interval,
            None => EMPTY_RETRY_INTERVAL,
        };
        if !cached.can_refresh(min_interval) {
            return None;
        }
        // The refresh continues in the background if this request is dropped.
        let refreshed = self.clone().refresh_in_background(guard).await;
        let keys = self.cached.lock().keys.clone();
        keys.filter(|_| refreshed.is_ok_and(|is_new| is_new))
    }

    /// Returns whether the refresh succeeded.
    fn refresh_in_background(self: Arc<Self>, guard: OwnedMutexGuard<()>) -> JoinHandle<bool> {
        tokio::spawn(async move {
            let result = self.refresh().await;
            if let Err(why) = &result {
                let location = self.location.name();
                tracing::warn!(location, why, "failed to read JWT keys");
            }
            drop(guard);
            result.is_ok()
        })
    }

    /// # Errors
    /// Returns a message.
    pub(super) async fn refresh(&self) -> Result<(), String> {
        self.cached.lock().attempted_at = Some(Instant::now());
        let keys = self.location.read().await?;
        let mut cached = self.cached.lock();
        cached.keys = Some(Arc::new(keys));
        cached.refreshed_at = Some(Instant::now());
        Ok(())
    }
}

impl CachedKeys {
    fn can_refresh(&self, min_interval: Duration) -> bool {
        self.attempted_at
            .is_none_or(|attempted_at| attempted_at.elapsed() >= min_interval)
    }
}

impl KeyLocation {
    fn name(&self) -> String {
        match self {
            Self::Url(http) => http.to_string(),
            Self::File(path) => path.display().to_string(),
        }
    }

    async fn read(&self) -> Result<KeySet, String> {
        match self {
            Self::Url(http) => {
                let request = Request::get("/").header(header::ACCEPT, "application/json");
                let request = request.body(()).map_err(|error| error.to_string())?;
                let response = http.send(request, MAX_RESPONSE_BYTES, TIMEOUT).await?;
                if response.status() != StatusCode::OK {
                    return Err(format!("unexpected status {}", response.status()));
                }
                KeySet::read(response.body(), KeyOrigin::Url)
            }
            Self::File(path) => {
                let path = path.clone();
                let reading = tokio::task::spawn_blocking(move || {
                    let mut bytes = Vec::new();
                    let max = MAX_RESPONSE_BYTES as u64;
                    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
                    Ok::<_, std::io::Error>(bytes)
                });
                let bytes = reading.await.map_err(|error| error.to_string())?;
                let bytes = bytes.map_err(|error| error.to_string())?;
                if bytes.len() > MAX_RESPONSE_BYTES {
                    return Err(format!("larger than {MAX_RESPONSE_BYTES} bytes"));
                }
                KeySet::read(&bytes, KeyOrigin::File)
            }
        }
    }
}
