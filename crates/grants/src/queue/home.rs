//! What the queue and its tasks share, and how they are asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use landfall_database::{Connections, Row, run_in};
use landfall_hooks::HookName;
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, oneshot, watch as channel},
    time::timeout,
};

use super::{
    Queue, QueueError, QueueSettings,
    feed::Feed,
    keys::KeyUses,
    reports::Reports,
    work::{Awaited, Order, Work},
    writer::Command,
};

/// How long a request waits for the database.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the progress of a job is written.
const WRITE_INTERVAL: Duration = Duration::from_secs(10);
/// How often it is written where the application receives it.
const DELIVERED_INTERVAL: Duration = Duration::from_secs(1);
/// Rows of one figure, at most.
const SLOTS: i64 = 16;

#[derive(Debug)]
pub(super) struct Home {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: mpsc::Sender<Command>,
    /// Where it was opened.
    pub(super) runtime: Handle,
    pub(super) closing: channel::Sender<bool>,
}

impl Drop for Home {
    fn drop(&mut self) {
        self.closing.send_replace(true);
    }
}

/// What the queue and its tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: QueueSettings,
    pub(super) database: Connections,
    /// The rows of figures that this node adds to. Few nodes have the same slot, so few wait for each
    /// other's transactions.
    pub(super) slot: i64,
    pub(super) reports: Reports,
    pub(super) feed: Feed,
    #[cfg(feature = "postgres")]
    pub(super) peers: super::peers::Peers,
    pub(super) key_uses: KeyUses,
    pub(super) newest: channel::Sender<i64>,
    /// Somebody watches for events.
    pub(super) watched: Notify,
    pub(super) tally: Tally,
}

impl Shared {
    pub(super) fn new(settings: QueueSettings, database: Connections) -> Self {
        let interval = if delivers_progress(&settings) {
            DELIVERED_INTERVAL
        } else {
            WRITE_INTERVAL
        };
        let slot = if database.is_postgres() {
            rand::random_range(0..SLOTS)
        } else {
            0
        };
        Self {
            settings,
            database,
            slot,
            reports: Reports::new(interval),
            feed: Feed::new(),
            #[cfg(feature = "postgres")]
            peers: super::peers::Peers::default(),
            key_uses: KeyUses::default(),
            newest: channel::Sender::new(0),
            watched: Notify::new(),
            tally: Tally::default(),
        }
    }

    /// Whether the application receives progress.
    pub(super) fn delivers_progress(&self) -> bool {
        delivers_progress(&self.settings)
    }

    /// There are events up to this number.
    pub(super) fn saw(&self, newest: i64) {
        self.newest.send_if_modified(|known| {
            let is_news = newest > *known;
            *known = newest.max(*known);
            is_news
        });
    }
}

fn delivers_progress(settings: &QueueSettings) -> bool {
    let outbox = settings.outbox.as_ref();
    outbox.is_some_and(|outbox| outbox.names().contains(HookName::UploadProgress))
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) batches: AtomicU64,
    pub(super) orders: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) dropped_reports: AtomicU64,
    pub(super) unreadable_jobs: Unreadable,
    pub(super) unreadable_events: Unreadable,
}

/// Rows that cannot be read, such as those of a newer version. Each is counted and logged once, as far
/// as they come in the order of their numbers: later reads meet them again.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    count: AtomicU64,
    newest: AtomicI64,
}

impl Unreadable {
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns what was read of a row, or nothing if it cannot be read.
    pub(super) fn skip<T>(&self, row: &Row, read: Result<T, QueueError>) -> Option<T> {
        match read {
            Ok(read) => Some(read),
            Err(error) => {
                let number = row.number("number").unwrap_or_default();
                if self.newest.fetch_max(number, Ordering::Relaxed) < number {
                    self.count.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(number, %error, "skipped a row of the queue that cannot be read");
                }
                None
            }
        }
    }
}

/// What the queue of this process has done, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct QueueStats {
    /// Transactions that wrote something.
    pub batches: u64,
    /// What was asked of the queue and written in them.
    pub orders: u64,
    /// Transactions that were given up.
    pub failures: u64,
    /// Reports of progress that the database refused.
    pub dropped_reports: u64,
    /// Jobs that were skipped because another version wrote them.
    pub unreadable_jobs: u64,
    /// Events that were skipped because another version wrote them.
    pub unreadable_events: u64,
}

impl Queue {
    pub(super) fn shared(&self) -> Arc<Shared> {
        self.0.shared.clone()
    }

    /// Gives the writer something to do and waits for what comes of it.
    pub(super) async fn write<W: Work>(
        &self,
        work: W,
        command: impl FnOnce(Box<dyn Order>) -> Command,
    ) -> Result<W::Answer, QueueError> {
        let (done, answer) = oneshot::channel();
        let command = command(Box::new(Awaited::new(work, done)));
        let answer = async {
            let sent = self.0.commands.send(command).await;
            sent.map_err(|_| QueueError::Closed)?;
            answer.await.map_err(|_| QueueError::Closed)?
        };
        timeout(PATIENCE, answer)
            .await
            .unwrap_or(Err(QueueError::Slow(PATIENCE)))
    }

    /// Does something that takes a moment in the runtime that has the connections.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, QueueError>> + Send + 'static,
    ) -> Result<T, QueueError> {
        let work = async {
            timeout(PATIENCE, work)
                .await
                .unwrap_or(Err(QueueError::Slow(PATIENCE)))
        };
        self.at_home(work).await
    }

    /// Does something in the runtime that has the connections; dropped, it is left undone.
    pub(super) async fn at_home<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, QueueError>> + Send + 'static,
    ) -> Result<T, QueueError> {
        let home = &self.0.runtime;
        if *self.0.closing.borrow() {
            return Err(QueueError::Closed);
        }
        let done = run_in(home, work).await;
        done.unwrap_or(Err(QueueError::Closed))
    }
}
