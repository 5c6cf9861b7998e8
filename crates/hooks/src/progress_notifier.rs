//! Progress notifications (`post-receive`): sent immediately, best effort, not stored.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use landfall::event::{Event, EventKind, EventKinds, EventSink};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{Creations, HookName, HookNames, Message, Transport};

/// Further progress is dropped. With the calls of the outbox these are fewer than a transport's limit, so
/// that a slow receiver leaves capacity for blocking hooks.
const MAX_CONCURRENCY: usize = 16;

/// A transport and the names of the events it receives.
#[derive(Debug, Clone)]
pub struct Route {
    /// The transport.
    pub transport: Arc<dyn Transport>,
    /// The events that it receives. Blocking hooks among them have no effect.
    pub names: HookNames,
}

/// Sends progress to transports. Cheap to clone; all clones share their state.
///
/// There is at most one call per upload and transport. Newer progress replaces waiting progress, so
/// that the next call has the latest offset. A response with `stop_upload` stops the upload.
#[derive(Debug, Clone)]
pub struct ProgressNotifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    routes: Vec<Route>,
    creations: Creations,
    calls: Mutex<HashMap<(usize, String), PendingNotification>>,
    stats: Mutex<ProgressStats>,
}

#[derive(Debug)]
struct PendingNotification {
    next: Option<Event>,
    finished: watch::Sender<()>,
}

/// Counters of progress notifications.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgressStats {
    /// Calls that succeeded.
    pub delivered: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Notifications dropped because too many calls were running.
    pub dropped: u64,
}

impl ProgressNotifier {
    /// Creates a notifier for the routes that receive [`HookName::PostReceive`], which waits for `creations`.
    pub fn new(routes: Vec<Route>, creations: Creations) -> Self {
        let wanting = |route: &Route| route.names.contains(HookName::PostReceive);
        Self(Arc::new(Inner {
            routes: routes.into_iter().filter(wanting).collect(),
            creations,
            calls: Mutex::default(),
            stats: Mutex::default(),
        }))
    }

    /// Returns the counters.
    pub fn stats(&self) -> ProgressStats {
        *self.0.stats.lock()
    }

    /// Drops waiting progress of a removed upload. A running call continues.
    pub fn discard(&self, upload: &str) {
        let mut calls = self.0.calls.lock();
        for route in 0..self.0.routes.len() {
            if let Some(call) = calls.get_mut(&(route, upload.to_owned())) {
                call.next = None;
            }
        }
    }

    /// Waits until no call for this upload is running. Can be dropped at any time.
    pub async fn wait_idle(&self, upload: &str) {
        for route in 0..self.0.routes.len() {
            let finished = {
                let calls = self.0.calls.lock();
                let call = calls.get(&(route, upload.to_owned()));
                call.map(|call| call.finished.subscribe())
            };
            if let Some(mut finished) = finished {
                // No value is ever sent: this returns when the sender is dropped.
                while finished.changed().await.is_ok() {}
            }
        }
    }
}

#[async_trait]
impl EventSink for ProgressNotifier {
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
            let mut calls = self.0.calls.lock();
            if let Some(call) = calls.get_mut(&key) {
                call.next = Some(event.clone());
                continue;
            }
            let running = calls.keys().filter(|(of, _)| *of == route).count();
            if running >= MAX_CONCURRENCY {
                self.0.stats.lock().dropped += 1;
                continue;
            }
            let finished = watch::Sender::new(());
            calls.insert(
                key.clone(),
                PendingNotification {
                    next: None,
                    finished,
                },
            );
            drop(calls);
            let task = NotifyTask {
                inner: self.0.clone(),
                key,
                is_finished: false,
            };
            tokio::spawn(task.run(event.clone()));
        }
    }
}

/// Makes one call at a time, to one route.
struct NotifyTask {
    inner: Arc<Inner>,
    key: (usize, String),
    is_finished: bool,
}

impl NotifyTask {
    async fn run(mut self, mut event: Event) {
        let transport = self.inner.routes[self.key.0].transport.clone();
        let headers = transport.event_headers();
        let creations = &self.inner.creations;
        creations
            .wait_attempted(transport.name(), &self.key.1)
            .await;
        // Newer progress may have arrived meanwhile.
        if let Some(newer) = self.newer() {
            event = newer;
        }
        loop {
            let message = Message::event(&event, &headers);
            match transport.deliver(&message.naming(&headers)).await {
                Ok(response) => {
                    self.inner.stats.lock().delivered += 1;
                    if response.stop_upload {
                        event.stop(response.client_response);
                        return;
                    }
                }
                Err(error) => {
                    self.inner.stats.lock().failed += 1;
                    let (id, route) = (&event.upload.id, transport.name());
                    tracing::warn!(%id, route, %error, "failed to deliver progress");
                }
            }
            match self.next() {
                Some(next) => event = next,
                None => return,
            }
        }
    }

    fn newer(&self) -> Option<Event> {
        self.inner.calls.lock().get_mut(&self.key)?.next.take()
    }

    /// Ends the task atomically if no progress arrived during the call.
    fn next(&mut self) -> Option<Event> {
        let mut calls = self.inner.calls.lock();
        let next = calls.get_mut(&self.key)?.next.take();
        if next.is_none() {
            calls.remove(&self.key);
            self.is_finished = true;
        }
        next
    }
}

impl Drop for NotifyTask {
    fn drop(&mut self) {
        if !self.is_finished {
            self.inner.calls.lock().remove(&self.key);
        }
    }
}
