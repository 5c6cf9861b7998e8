//! Where keys come from, and when they are asked for again.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex as Lock, PoisonError},
    time::{Duration, Instant},
};

use http::{Request, StatusCode, header};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task::JoinHandle,
};

use super::keys::{KeyOrigin, KeySet};
use crate::auth::http_client::{HttpClient, UrlError};

/// No set of keys is longer, in bytes.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// How long an answer with keys may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// As long as there are no keys at all, they are asked for this often.
const EMPTY_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// When keys are asked for again.
#[derive(Debug, Clone, Copy)]
pub(super) struct RefreshPolicy {
    /// This long after they came.
    pub(super) refresh: Duration,
    /// When a token names one that isn't there, and after a failure: not sooner than this.
    pub(super) min_interval: Duration,
}

/// A place that has keys.
#[derive(Debug)]
pub(super) struct KeyCache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    location: KeyLocation,
    policy: RefreshPolicy,
    held: Lock<CachedKeys>,
    /// CachedKeys while keys are asked for.
    refreshing: Arc<Mutex<()>>,
}

#[derive(Debug)]
enum KeyLocation {
    Url(HttpClient),
    File(PathBuf),
}

/// What is there.
#[derive(Debug, Clone, Default)]
struct CachedKeys {
    keys: Option<Arc<KeySet>>,
    /// When they came.
    refreshed_at: Option<Instant>,
    /// When they were asked for last, whatever came of it.
    attempted_at: Option<Instant>,
}

impl KeyCache {
    pub(super) fn url(url: &str, policy: RefreshPolicy) -> Result<Self, UrlError> {
        Ok(Self::new(KeyLocation::Url(HttpClient::new(url)?), policy))
    }

    pub(super) fn file(path: &Path, policy: RefreshPolicy) -> Self {
        Self::new(KeyLocation::File(path.to_owned()), policy)
    }

    fn new(location: KeyLocation, policy: RefreshPolicy) -> Self {
        Self(Arc::new(Inner {
            location,
            policy,
            held: Lock::default(),
            refreshing: Arc::default(),
        }))
    }

    /// Asks for the keys for the first time.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) async fn open(&self) -> Result<(), String> {
        self.0.ask().await
    }

    /// The keys, if there were any so far. Old ones are used while newer ones are asked for.
    pub(super) async fn keys(&self) -> Option<Arc<KeySet>> {
        let this = &self.0;
        let held = this.held();
        if held.keys.is_none() {
            return this.refreshed_since(None, EMPTY_RETRY_INTERVAL).await;
        }
        let is_old = held
            .refreshed_at
            .is_none_or(|refreshed_at| refreshed_at.elapsed() >= this.policy.refresh);
        if is_old
            && held.can_refresh(this.policy.min_interval)
            && let Ok(turn) = this.refreshing.clone().try_lock_owned()
        {
            drop(this.clone().refresh_in_background(turn));
        }
        held.keys
    }

    /// KeySet that came after these, in which something was missing.
    pub(super) async fn refreshed_since(&self, than: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        self.0
            .refreshed_since(Some(than), self.0.policy.min_interval)
            .await
    }
}

impl CachedKeys {
    fn can_refresh(&self, min_interval: Duration) -> bool {
        self.attempted_at
            .is_none_or(|attempted_at| attempted_at.elapsed() >= min_interval)
    }
}

impl Inner {
    fn held(&self) -> CachedKeys {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn refreshed_since(
        self: &Arc<Self>,
        than: Option<&Arc<KeySet>>,
        min_interval: Duration,
    ) -> Option<Arc<KeySet>> {
        let turn = self.refreshing.clone().lock_owned().await;
        let held = self.held();
        let is_same = match (than, &held.keys) {
            (Some(old), Some(keys)) => Arc::ptr_eq(old, keys),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            return held.keys;
        }
        if !held.can_refresh(min_interval) {
            return None;
        }
        // What one request began is of use to all: it goes on if that one is dropped.
        let attempted_at = self.clone().refresh_in_background(turn).await;
        let keys = self.held().keys;
        keys.filter(|_| attempted_at.is_ok_and(|is_new| is_new))
    }

    /// Says whether keys came.
    fn refresh_in_background(self: Arc<Self>, turn: OwnedMutexGuard<()>) -> JoinHandle<bool> {
        tokio::spawn(async move {
            let attempted_at = self.ask().await;
            if let Err(why) = &attempted_at {
                let location = self.location.name();
                tracing::warn!(location, why, "the keys for JWTs can't be read");
            }
            drop(turn);
            attempted_at.is_ok()
        })
    }

    async fn ask(&self) -> Result<(), String> {
        self.change(|held| held.attempted_at = Some(Instant::now()));
        let keys = self.location.read().await?;
        self.change(|held| {
            held.keys = Some(Arc::new(keys));
            held.refreshed_at = Some(Instant::now());
        });
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut CachedKeys)) {
        change(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl KeyLocation {
    fn name(&self) -> String {
        match self {
            Self::Url(web) => web.to_string(),
            Self::File(path) => path.display().to_string(),
        }
    }

    async fn read(&self) -> Result<KeySet, String> {
        match self {
            Self::Url(web) => {
                let request = Request::get("/")
                    .header(header::ACCEPT, "application/json")
                    .body(())
                    .map_err(|error| error.to_string())?;
                let answer = web.ask(request, MAX_RESPONSE_BYTES, TIMEOUT).await?;
                if answer.status() != StatusCode::OK {
                    return Err(format!("the answer is {}", answer.status()));
                }
                KeySet::read(answer.body(), KeyOrigin::Url)
            }
            Self::File(path) => {
                let path = path.clone();
                let reading = tokio::task::spawn_blocking(move || {
                    let mut bytes = Vec::new();
                    let most = MAX_RESPONSE_BYTES as u64;
                    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
                    Ok::<_, std::io::Error>(bytes)
                });
                let bytes = reading.await.map_err(|error| error.to_string())?;
                let bytes = bytes.map_err(|error| error.to_string())?;
                if bytes.len() > MAX_RESPONSE_BYTES {
                    return Err(format!("it is longer than {MAX_RESPONSE_BYTES} bytes"));
                }
                KeySet::read(&bytes, KeyOrigin::File)
            }
        }
    }
}
