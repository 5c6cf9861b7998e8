//! The state that a queue's handles, writer and background tasks share in this process.
//!
//! Reports, counters and channels are in memory only. After a crash, the database has the jobs and events, and
//! reconciliation restores the progress.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use landfall::removal::RemovalClock;
use landfall_hooks::HookName;
use parking_lot::Mutex;
use tokio::sync::watch as channel;

use super::{QueueError, QueueSettings, event_channels::Feed, reports::Reports};
use crate::sql::{Connections, Row};

const WRITE_INTERVAL: Duration = Duration::from_secs(10);
/// The write interval if the application receives progress.
const DELIVERED_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: QueueSettings,
    pub(super) removal_clock: RemovalClock,
    pub(super) database: Connections,
    pub(super) reports: Reports,
    pub(super) feed: Feed,
    #[cfg(feature = "postgres")]
    pub(super) peers: super::peers::Peers,
    pub(super) newest: channel::Sender<i64>,
    /// The highest [horizon](super::numbers::horizon) that was read.
    visible: AtomicI64,
    /// Without unreadable rows.
    pub(super) counters: Mutex<QueueStats>,
    pub(super) unreadable_jobs: Unreadable,
    pub(super) unreadable_events: Unreadable,
}

impl Shared {
    pub(super) fn new(settings: QueueSettings, database: Connections) -> Self {
        let interval = if delivers_progress(&settings) {
            DELIVERED_INTERVAL
        } else {
            WRITE_INTERVAL
        };
        Self {
            removal_clock: crate::outbox::removal_clock(&settings.clock),
            settings,
            database,
            reports: Reports::new(interval),
            feed: Feed::new(),
            #[cfg(feature = "postgres")]
            peers: super::peers::Peers::default(),
            newest: channel::Sender::new(0),
            visible: AtomicI64::new(0),
            counters: Mutex::default(),
            unreadable_jobs: Unreadable::default(),
            unreadable_events: Unreadable::default(),
        }
    }

    pub(super) fn delivers_progress(&self) -> bool {
        delivers_progress(&self.settings)
    }

    pub(super) fn visible(&self) -> i64 {
        self.visible.load(Ordering::Relaxed)
    }

    /// Returns the highest number so far, since visible events remain visible.
    pub(super) fn set_visible(&self, number: i64) -> i64 {
        self.visible
            .fetch_max(number, Ordering::Relaxed)
            .max(number)
    }

    /// An event of this process was committed.
    pub(super) fn observe(&self, newest: i64) {
        self.newest.send_if_modified(|known| {
            let is_later = newest > *known;
            *known = newest.max(*known);
            is_later
        });
    }
}

fn delivers_progress(settings: &QueueSettings) -> bool {
    let outbox = settings.outbox.as_ref();
    outbox.is_some_and(|outbox| outbox.names().contains(HookName::UploadProgress))
}

/// Counters of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct QueueStats {
    /// Committed write transactions.
    pub batches: u64,
    /// Commands in these transactions.
    pub commands: u64,
    /// Transactions that failed after all retries.
    pub failures: u64,
    /// Jobs that were skipped because a newer version wrote them.
    pub unreadable_jobs: u64,
    /// Events that were skipped because a newer version wrote them.
    pub unreadable_events: u64,
    /// Notifications that were received from other nodes.
    pub notifications: u64,
}

/// Counts and logs rows of a newer version, once as far as they are read in ascending order.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    count: AtomicU64,
    newest: AtomicI64,
}

impl Unreadable {
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn skip<T>(&self, row: &Row, read: Result<T, QueueError>) -> Option<T> {
        match read {
            Ok(read) => Some(read),
            Err(error) => {
                let number = row.number("number").unwrap_or_default();
                if self.newest.fetch_max(number, Ordering::Relaxed) < number {
                    self.count.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(number, %error, "skipped an unreadable row of the queue");
                }
                None
            }
        }
    }
}
