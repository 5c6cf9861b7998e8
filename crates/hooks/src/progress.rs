//! Progress (post-receive): told at once and as well as it goes, and not kept.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use landfall::event::{Event, EventKind, EventKinds, EventSink};
use tokio::sync::watch;

use crate::{HookName, HookNames, Message, Transport, message::EventHeaders};

/// Calls at once, for each route. Progress that finds all taken is left out. With those of the outbox
/// they are fewer than a transport makes at once, so that a slow receiver leaves some for questions.
const PARALLEL: usize = 16;

/// A transport and what it is told.
#[derive(Debug, Clone)]
pub struct Route {
    /// The way.
    pub transport: Arc<dyn Transport>,
    /// What it is told; questions among it don't matter here.
    pub names: HookNames,
}

/// Tells transports of progress. For each upload and transport one call is under way at most; what
/// comes meanwhile replaces what waits, so the next call has the newest offset. An answer with
/// `stop_upload` stops the upload. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Progress(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    routes: Vec<Route>,
    /// The request headers that events carry.
    headers: EventHeaders,
    /// Calls under way, by route and upload.
    calls: Mutex<HashMap<(usize, String), Call>>,
    told: AtomicU64,
    failed: AtomicU64,
    left_out: AtomicU64,
}

#[derive(Debug)]
struct Call {
    /// What comes next.
    next: Option<Event>,
    /// Dropped when the last call of this upload and route is over.
    over: watch::Sender<()>,
}

/// What came of progress, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgressStats {
    /// Calls that arrived.
    pub told: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Progress that was left out because too many calls were under way.
    pub left_out: u64,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Progress").field(&self.0.routes).finish()
    }
}

impl Progress {
    /// Tells those of these routes that want [`HookName::PostReceive`], with these headers of the
    /// request.
    #[must_use]
    pub fn new(routes: Vec<Route>, headers: EventHeaders) -> Self {
        let wanting = |route: &Route| route.names.has(HookName::PostReceive);
        Self(Arc::new(Inner {
            routes: routes.into_iter().filter(wanting).collect(),
            headers,
            calls: Mutex::default(),
            told: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }))
    }

    /// What came of it so far.
    #[must_use]
    pub fn stats(&self) -> ProgressStats {
        ProgressStats {
            told: self.0.told.load(Ordering::Relaxed),
            failed: self.0.failed.load(Ordering::Relaxed),
            left_out: self.0.left_out.load(Ordering::Relaxed),
        }
    }

    /// Drops waiting progress of an upload that was removed; a call under way goes on.
    pub fn forget(&self, upload: &str) {
        let mut calls = self.0.lock();
        for route in 0..self.0.routes.len() {
            if let Some(call) = calls.get_mut(&(route, upload.to_owned())) {
                call.next = None;
            }
        }
    }

    /// Waits until no call about this upload is under way.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn quiet(&self, upload: &str) {
        for route in 0..self.0.routes.len() {
            let over = {
                let calls = self.0.lock();
                let call = calls.get(&(route, upload.to_owned()));
                call.map(|call| call.over.subscribe())
            };
            if let Some(mut over) = over {
                // Nothing is ever sent: it ends when the sender goes.
                while over.changed().await.is_ok() {}
            }
        }
    }
}

#[async_trait]
impl EventSink for Progress {
    fn event_kinds(&self) -> EventKinds {
        EventKinds {
            progress: !self.0.routes.is_empty(),
            ..EventKinds::NONE
        }
    }

    async fn emit(&self, event: Event) {
        if event.kind == EventKind::Progress {
            self.emit_progress(event);
        }
    }

    fn emit_progress(&self, event: Event) {
        for route in 0..self.0.routes.len() {
            let key = (route, event.upload.id.as_str().to_owned());
            let mut calls = self.0.lock();
            if let Some(call) = calls.get_mut(&key) {
                call.next = Some(event.clone());
                continue;
            }
            let under_way = calls.keys().filter(|(of, _)| *of == route).count();
            if under_way >= PARALLEL {
                self.0.left_out.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let over = watch::Sender::new(());
            calls.insert(key.clone(), Call { next: None, over });
            drop(calls);
            let caller = Caller {
                inner: self.0.clone(),
                key,
                is_over: false,
            };
            tokio::spawn(caller.call(event.clone()));
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<(usize, String), Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls about one upload on one route, one after the other.
struct Caller {
    inner: Arc<Inner>,
    key: (usize, String),
    is_over: bool,
}

impl Caller {
    async fn call(mut self, mut event: Event) {
        let transport = self.inner.routes[self.key.0].transport.clone();
        loop {
            let message = Message::event(&event, &self.inner.headers);
            match transport.deliver(&message).await {
                Ok(reaction) => {
                    self.inner.told.fetch_add(1, Ordering::Relaxed);
                    if reaction.stop_upload {
                        event.stop(reaction.reply);
                        return;
                    }
                }
                Err(error) => {
                    self.inner.failed.fetch_add(1, Ordering::Relaxed);
                    let (id, route) = (&event.upload.id, transport.name());
                    tracing::warn!(%id, route, %error, "progress wasn't delivered");
                }
            }
            match self.next() {
                Some(next) => event = next,
                None => return,
            }
        }
    }

    /// What came meanwhile; if nothing did, it is over in the same moment.
    fn next(&mut self) -> Option<Event> {
        let mut calls = self.inner.lock();
        let next = calls.get_mut(&self.key)?.next.take();
        if next.is_none() {
            calls.remove(&self.key);
            self.is_over = true;
        }
        next
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if !self.is_over {
            self.inner.lock().remove(&self.key);
        }
    }
}
