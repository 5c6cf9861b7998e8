//! The order of `post-create` and what follows it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};

/// An attempt may take this long; what follows then no longer waits. The default timeout of an HTTP hook.
const MAX_WAIT: Duration = Duration::from_secs(15);

/// The creations whose `post-create` was not attempted yet, by transport. Cheap to clone; all clones share
/// their state.
///
/// The outbox delivers `post-create`, and other parts call `pre-finish` and send progress. Both wait for the
/// first attempt of the upload's `post-create` over the same transport, for a limited time.
#[derive(Debug, Clone, Default)]
pub struct Creations(Arc<Mutex<HashMap<[String; 2], Unattempted>>>);

#[derive(Debug)]
struct Unattempted {
    since: Instant,
    attempted: watch::Sender<()>,
}

impl Creations {
    /// Adds a creation whose event will be delivered.
    pub fn add(&self, transport: &str, upload: &str) {
        let unattempted = Unattempted {
            since: Instant::now(),
            attempted: watch::Sender::new(()),
        };
        let mut creations = self.0.lock();
        creations.insert(key(transport, upload), unattempted);
    }

    /// Removes a creation whose event was attempted.
    pub fn attempted(&self, transport: &str, upload: &str) {
        self.0.lock().remove(&key(transport, upload));
    }

    /// Removes creations for which nothing waits any more, such as those that another node delivers.
    pub fn remove_old(&self) {
        let mut creations = self.0.lock();
        creations.retain(|_, creation| creation.since.elapsed() < MAX_WAIT);
    }

    /// Waits until the creation was attempted, or for a limited time. Can be dropped at any time.
    pub async fn wait_attempted(&self, transport: &str, upload: &str) {
        let waiting = {
            let creations = self.0.lock();
            let creation = creations.get(&key(transport, upload));
            creation.map(|one| (one.attempted.subscribe(), one.since.elapsed()))
        };
        if let Some((mut attempted, waited)) = waiting {
            // No value is ever sent: this returns when the sender is dropped.
            let _ = timeout(MAX_WAIT.saturating_sub(waited), attempted.changed()).await;
        }
    }
}

fn key(transport: &str, upload: &str) -> [String; 2] {
    [transport.to_owned(), upload.to_owned()]
}
