//! The sign of life that carries all leases of this node.
//!
//! A node has one *life* after another. A life begins when a lease is wanted, is renewed by
//! heartbeats, and ends for good when one could not be written in time, or when there is nothing to
//! do. Leases belong to a life; so a life that another node has seen to be over can't come back.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use landfall::upload::UploadId;
use tokio::{sync::watch, time::timeout};

use super::{
    BucketSettings,
    peers::Peers,
    records::{NodeRecord, RecordError, Records},
    table::Table,
};
use crate::client::Condition;

/// How often a heartbeat is tried anew when others have written in between.
const TRIES: u32 = 5;
/// After how many heartbeats without anything to do a life ends.
const IDLE_BEATS: u32 = 15;

/// One life of this node.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) owner: String,
    /// How long it may be trusted after a heartbeat was sent: others wait longer.
    trusted: Duration,
    over: AtomicBool,
    last: Mutex<Beat>,
}

#[derive(Debug, Clone)]
struct Beat {
    sent: Instant,
    sequence: u64,
    etag: String,
}

impl Life {
    fn last(&self) -> Beat {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }

    /// Whether leases of this life hold at this moment.
    pub(super) fn is_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst) && self.last().sent.elapsed() < self.trusted
    }

    /// A heartbeat succeeded; false if it came too late to matter.
    fn beat(&self, beat: Beat) -> bool {
        if !self.is_on() {
            return false;
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = beat;
        true
    }
}

/// The lives of this node.
#[derive(Debug)]
pub(super) struct Lives {
    settings: BucketSettings,
    now: watch::Sender<Option<Arc<Life>>>,
    /// Held while a life begins or ends, or a heartbeat is on its way.
    turn: tokio::sync::Mutex<()>,
}

impl Lives {
    pub(super) fn new(settings: BucketSettings) -> Self {
        Self {
            settings,
            now: watch::Sender::new(None),
            turn: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> Option<Arc<Life>> {
        self.now.borrow().clone()
    }

    /// Waits for the life that is on.
    async fn any(&self) -> Arc<Life> {
        let mut now = self.now.subscribe();
        loop {
            if let Some(life) = &*now.borrow_and_update() {
                return Arc::clone(life);
            }
            if now.changed().await.is_err() {
                // Not while the sender is a field of this.
                std::future::pending::<()>().await;
            }
        }
    }

    fn limit(&self) -> Duration {
        self.settings.ttl / 5
    }

    fn record(&self, sequence: u64) -> NodeRecord {
        NodeRecord {
            sequence,
            ttl_ms: u64::try_from(self.settings.ttl.as_millis()).unwrap_or(u64::MAX),
            asks: Vec::new(),
            nonce: rand::random(),
        }
    }

    /// The life that is on, or a new one.
    pub(super) async fn get(
        &self,
        records: &Records,
        table: &Table,
        peers: &Peers,
    ) -> Result<Arc<Life>, RecordError> {
        if let Some(life) = self.now().filter(|life| life.is_on()) {
            return Ok(life);
        }
        let _turn = self.turn.lock().await;
        if let Some(life) = self.now() {
            if life.is_on() {
                return Ok(life);
            }
            // Before a new one takes its place, where nobody would look after it any more.
            self.end(&life, table, peers);
        }
        let owner = format!("{:032x}", rand::random::<u128>());
        let sent = Instant::now();
        let node = records.node(&owner);
        let record = self.record(1);
        let write = records.write(&node, &record, Condition::IfAbsent);
        let etag = timeout(self.limit(), write)
            .await
            .map_err(|_| RecordError::Silent(self.limit()))??
            .ok_or(RecordError::Contended)?;
        let life = Arc::new(Life {
            owner,
            trusted: self.settings.ttl * 4 / 5,
            over: AtomicBool::new(false),
            last: Mutex::new(Beat {
                sent,
                sequence: 1,
                etag,
            }),
        });
        self.now.send_replace(Some(Arc::clone(&life)));
        Ok(life)
    }

    /// Ends a life whose leases don't hold any more.
    fn end(&self, life: &Life, table: &Table, peers: &Peers) {
        life.over.store(true, Ordering::SeqCst);
        peers.is_over(&life.owner);
        let lost = table.lose(&life.owner);
        if lost > 0 {
            tracing::warn!(
                leases = lost,
                "leases in the bucket could not be renewed in time: their holders have to stop"
            );
        }
        self.now.send_if_modified(|now| {
            let is_this = now.as_ref().is_some_and(|now| now.owner == life.owner);
            if is_this {
                *now = None;
            }
            is_this
        });
    }

    /// Looks after the clock, for ever.
    pub(super) async fn watch(&self, table: &Table, peers: &Peers) {
        loop {
            tokio::time::sleep(self.settings.ttl / 50).await;
            let life = self.any().await;
            if !life.is_on() {
                self.end(&life, table, peers);
            }
        }
    }

    /// Writes heartbeats, for ever.
    pub(super) async fn beat(&self, records: &Records, table: &Table, peers: &Peers) {
        let mut idle = 0;
        loop {
            let life = self.any().await;
            let next = life.last().sent + self.settings.renew;
            tokio::time::sleep_until(next.max(Instant::now() + self.settings.renew / 10).into())
                .await;
            idle = if table.is_idle() { idle + 1 } else { 0 };
            if idle >= IDLE_BEATS {
                self.sleep(records, table, peers).await;
                idle = 0;
                continue;
            }
            let _turn = self.turn.lock().await;
            // It may have ended meanwhile, or another may have begun.
            if self.now().is_none_or(|now| now.owner != life.owner) {
                continue;
            }
            let beat = self.beat_once(&life, records, table);
            match timeout(self.limit(), beat).await {
                Ok(Ok(())) => {}
                Ok(Err(RecordError::Lapsed)) => self.end(&life, table, peers),
                Ok(Err(error)) => tracing::warn!(%error, "can't renew leases in the bucket"),
                Err(_) => {
                    let error = RecordError::Silent(self.limit());
                    tracing::warn!(%error, "can't renew leases in the bucket");
                }
            }
        }
    }

    async fn beat_once(
        &self,
        life: &Life,
        records: &Records,
        table: &Table,
    ) -> Result<(), RecordError> {
        let place = records.node(&life.owner);
        let last = life.last();
        let (mut etag, mut sequence) = (last.etag, last.sequence + 1);
        for _ in 0..TRIES {
            let sent = Instant::now();
            let record = self.record(sequence);
            let written = records
                .write(&place, &record, Condition::IfMatch(etag))
                .await?;
            if let Some(etag) = written {
                let beat = Beat {
                    sent,
                    sequence,
                    etag,
                };
                return life.beat(beat).then_some(()).ok_or(RecordError::Lapsed);
            }
            let found = records.read::<NodeRecord>(&place).await?;
            // Swept away, as the leftover of a dead node.
            let (found, now) = found.ok_or(RecordError::Lapsed)?;
            for ask in found.asks {
                if let Ok(id) = UploadId::new(&ask.id) {
                    table.asked(&id, &ask, &life.owner);
                }
            }
            etag = now;
            // A heartbeat whose answer was lost may have been seen by others.
            sequence = sequence.max(found.sequence + 1);
        }
        Err(RecordError::Contended)
    }

    /// Ends the life that is on, when nothing belongs to it, and removes its record.
    pub(super) async fn sleep(&self, records: &Records, table: &Table, peers: &Peers) {
        let _turn = self.turn.lock().await;
        let Some(life) = self.now() else { return };
        // A lease that was granted in this very moment is lost: it is told so here, or finds that
        // the life is over.
        self.end(&life, table, peers);
        let node = records.node(&life.owner);
        // One that stays is swept.
        drop(timeout(self.limit(), records.client.delete_object(&node)).await);
    }
}
