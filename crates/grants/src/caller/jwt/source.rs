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

use super::keys::{Keys, Origin};
use crate::caller::web::{UrlError, Web};

/// No set of keys is longer, in bytes.
const MOST_BYTES: usize = 1 << 20;

/// How long an answer with keys may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// As long as there are no keys at all, they are asked for this often.
const IMPATIENCE: Duration = Duration::from_secs(5);

/// When keys are asked for again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// This long after they came.
    pub(super) refresh: Duration,
    /// When a token names one that isn't there, and after a failure: not sooner than this.
    pub(super) again: Duration,
}

/// A place that has keys.
#[derive(Debug)]
pub(super) struct Source(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: Place,
    pace: Pace,
    held: Lock<Held>,
    /// Held while keys are asked for.
    asking: Arc<Mutex<()>>,
}

#[derive(Debug)]
enum Place {
    Url(Web),
    File(PathBuf),
}

/// What is there.
#[derive(Debug, Clone, Default)]
struct Held {
    keys: Option<Arc<Keys>>,
    /// When they came.
    since: Option<Instant>,
    /// When they were asked for last, whatever came of it.
    asked: Option<Instant>,
}

impl Source {
    pub(super) fn url(url: &str, pace: Pace) -> Result<Self, UrlError> {
        Ok(Self::new(Place::Url(Web::new(url)?), pace))
    }

    pub(super) fn file(path: &Path, pace: Pace) -> Self {
        Self::new(Place::File(path.to_owned()), pace)
    }

    fn new(place: Place, pace: Pace) -> Self {
        Self(Arc::new(Inner {
            place,
            pace,
            held: Lock::default(),
            asking: Arc::default(),
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
    pub(super) async fn keys(&self) -> Option<Arc<Keys>> {
        let this = &self.0;
        let held = this.held();
        if held.keys.is_none() {
            return this.newer(None, IMPATIENCE).await;
        }
        let is_old = held
            .since
            .is_none_or(|since| since.elapsed() >= this.pace.refresh);
        if is_old
            && held.may_ask(this.pace.again)
            && let Ok(turn) = this.asking.clone().try_lock_owned()
        {
            drop(this.clone().ask_aside(turn));
        }
        held.keys
    }

    /// Keys that came after these, in which something was missing.
    pub(super) async fn newer(&self, than: &Arc<Keys>) -> Option<Arc<Keys>> {
        self.0.newer(Some(than), self.0.pace.again).await
    }
}

impl Held {
    fn may_ask(&self, again: Duration) -> bool {
        self.asked.is_none_or(|asked| asked.elapsed() >= again)
    }
}

impl Inner {
    fn held(&self) -> Held {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn newer(
        self: &Arc<Self>,
        than: Option<&Arc<Keys>>,
        again: Duration,
    ) -> Option<Arc<Keys>> {
        let turn = self.asking.clone().lock_owned().await;
        let held = self.held();
        let is_same = match (than, &held.keys) {
            (Some(old), Some(keys)) => Arc::ptr_eq(old, keys),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            return held.keys;
        }
        if !held.may_ask(again) {
            return None;
        }
        // What one request began is of use to all: it goes on if that one is dropped.
        let asked = self.clone().ask_aside(turn).await;
        let keys = self.held().keys;
        keys.filter(|_| asked.is_ok_and(|is_new| is_new))
    }

    /// Says whether keys came.
    fn ask_aside(self: Arc<Self>, turn: OwnedMutexGuard<()>) -> JoinHandle<bool> {
        tokio::spawn(async move {
            let asked = self.ask().await;
            if let Err(why) = &asked {
                let place = self.place.name();
                tracing::warn!(place, why, "the keys for JWTs can't be read");
            }
            drop(turn);
            asked.is_ok()
        })
    }

    async fn ask(&self) -> Result<(), String> {
        self.change(|held| held.asked = Some(Instant::now()));
        let keys = self.place.read().await?;
        self.change(|held| {
            held.keys = Some(Arc::new(keys));
            held.since = Some(Instant::now());
        });
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Held)) {
        change(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Place {
    fn name(&self) -> String {
        match self {
            Self::Url(web) => web.to_string(),
            Self::File(path) => path.display().to_string(),
        }
    }

    async fn read(&self) -> Result<Keys, String> {
        match self {
            Self::Url(web) => {
                let request = Request::get("/")
                    .header(header::ACCEPT, "application/json")
                    .body(())
                    .map_err(|error| error.to_string())?;
                let answer = web.ask(request, MOST_BYTES, PATIENCE).await?;
                if answer.status() != StatusCode::OK {
                    return Err(format!("the answer is {}", answer.status()));
                }
                Keys::read(answer.body(), Origin::Url)
            }
            Self::File(path) => {
                let path = path.clone();
                let reading = tokio::task::spawn_blocking(move || {
                    let mut bytes = Vec::new();
                    let most = MOST_BYTES as u64;
                    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
                    Ok::<_, std::io::Error>(bytes)
                });
                let bytes = reading.await.map_err(|error| error.to_string())?;
                let bytes = bytes.map_err(|error| error.to_string())?;
                if bytes.len() > MOST_BYTES {
                    return Err(format!("it is longer than {MOST_BYTES} bytes"));
                }
                Keys::read(&bytes, Origin::File)
            }
        }
    }
}
