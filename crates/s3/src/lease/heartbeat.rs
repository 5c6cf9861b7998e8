//! Heartbeats: one record keeps all leases of this node alive.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use landfall::upload::UploadId;
use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};

use super::{
    BucketSettings,
    peers::Peers,
    records::{NodeRecord, RecordError, Records},
    table::LeaseTable,
};
use crate::client::Condition;

const MAX_ATTEMPTS: u32 = 5;
const IDLE_HEARTBEATS: u32 = 15;

#[derive(Debug)]
pub(super) struct Incarnation {
    pub(super) owner: String,
    valid_for: Duration,
    ended: AtomicBool,
    last_heartbeat: Mutex<Heartbeat>,
}

#[derive(Debug, Clone)]
struct Heartbeat {
    sent: Instant,
    sequence: u64,
    etag: String,
}

impl Incarnation {
    fn last_heartbeat(&self) -> Heartbeat {
        self.last_heartbeat.lock().clone()
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.ended.load(Ordering::SeqCst) && self.last_heartbeat().sent.elapsed() < self.valid_for
    }

    fn record_heartbeat(&self, heartbeat: Heartbeat) -> bool {
        if !self.is_alive() {
            return false;
        }
        *self.last_heartbeat.lock() = heartbeat;
        true
    }
}

#[derive(Debug)]
pub(super) struct Incarnations {
    settings: BucketSettings,
    current: watch::Sender<Option<Arc<Incarnation>>>,
    transition: tokio::sync::Mutex<()>,
}

impl Incarnations {
    pub(super) fn new(settings: BucketSettings) -> Self {
        Self {
            settings,
            current: watch::Sender::new(None),
            transition: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn current(&self) -> Option<Arc<Incarnation>> {
        self.current.borrow().clone()
    }

    async fn wait_for_current(&self) -> Arc<Incarnation> {
        let mut now = self.current.subscribe();
        loop {
            if let Some(incarnation) = &*now.borrow_and_update() {
                return Arc::clone(incarnation);
            }
            if now.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn write_timeout(&self) -> Duration {
        self.settings.ttl / 5
    }

    fn record(&self, sequence: u64) -> NodeRecord {
        NodeRecord {
            sequence,
            ttl_ms: u64::try_from(self.settings.ttl.as_millis()).unwrap_or(u64::MAX),
            requests: Vec::new(),
            nonce: rand::random(),
        }
    }

    pub(super) async fn get_or_start(
        &self,
        records: &Records,
        table: &LeaseTable,
        peers: &Peers,
    ) -> Result<Arc<Incarnation>, RecordError> {
        if let Some(incarnation) = self.current().filter(|incarnation| incarnation.is_alive()) {
            return Ok(incarnation);
        }
        let _transition = self.transition.lock().await;
        if let Some(incarnation) = self.current() {
            if incarnation.is_alive() {
                return Ok(incarnation);
            }
            // Before it is replaced, since only the current one is watched.
            self.end(&incarnation, table, peers);
        }
        let owner = format!("{:032x}", rand::random::<u128>());
        let sent = Instant::now();
        let node = records.node(&owner);
        let record = self.record(1);
        let write = records.write(&node, &record, Condition::IfAbsent);
        let etag = timeout(self.write_timeout(), write)
            .await
            .map_err(|_| RecordError::Timeout(self.write_timeout()))??
            .ok_or(RecordError::Contention)?;
        let incarnation = Arc::new(Incarnation {
            owner,
            valid_for: self.settings.ttl * 4 / 5,
            ended: AtomicBool::new(false),
            last_heartbeat: Mutex::new(Heartbeat {
                sent,
                sequence: 1,
                etag,
            }),
        });
        self.current.send_replace(Some(Arc::clone(&incarnation)));
        Ok(incarnation)
    }

    fn end(&self, incarnation: &Incarnation, table: &LeaseTable, peers: &Peers) {
        incarnation.ended.store(true, Ordering::SeqCst);
        peers.mark_dead(&incarnation.owner);
        let lost = table.mark_lost(&incarnation.owner);
        if lost > 0 {
            tracing::warn!(
                leases = lost,
                "leases expired before renewal, writers stopped"
            );
        }
        self.current.send_if_modified(|now| {
            let is_this = now
                .as_ref()
                .is_some_and(|now| now.owner == incarnation.owner);
            if is_this {
                *now = None;
            }
            is_this
        });
    }

    pub(super) async fn watch_expiry(&self, table: &LeaseTable, peers: &Peers) {
        loop {
            tokio::time::sleep(self.settings.ttl / 50).await;
            let incarnation = self.wait_for_current().await;
            if !incarnation.is_alive() {
                self.end(&incarnation, table, peers);
            }
        }
    }

    pub(super) async fn run_heartbeats(
        &self,
        records: &Records,
        table: &LeaseTable,
        peers: &Peers,
    ) {
        let mut idle = 0;
        loop {
            let incarnation = self.wait_for_current().await;
            let next = incarnation.last_heartbeat().sent + self.settings.renew;
            tokio::time::sleep_until(next.max(Instant::now() + self.settings.renew / 10).into())
                .await;
            idle = if table.is_idle() { idle + 1 } else { 0 };
            if idle >= IDLE_HEARTBEATS {
                self.retire(records, table, peers).await;
                idle = 0;
                continue;
            }
            let _transition = self.transition.lock().await;
            // It may have ended or been replaced meanwhile.
            if self
                .current()
                .is_none_or(|now| now.owner != incarnation.owner)
            {
                continue;
            }
            let heartbeat = self.send_heartbeat(&incarnation, records, table);
            match timeout(self.write_timeout(), heartbeat).await {
                Ok(Ok(())) => {}
                Ok(Err(RecordError::Expired)) => self.end(&incarnation, table, peers),
                Ok(Err(error)) => tracing::warn!(%error, "failed to renew leases in the bucket"),
                Err(_) => {
                    let error = RecordError::Timeout(self.write_timeout());
                    tracing::warn!(%error, "failed to renew leases in the bucket");
                }
            }
        }
    }

    async fn send_heartbeat(
        &self,
        incarnation: &Incarnation,
        records: &Records,
        table: &LeaseTable,
    ) -> Result<(), RecordError> {
        let object_ref = records.node(&incarnation.owner);
        let last = incarnation.last_heartbeat();
        let (mut etag, mut sequence) = (last.etag, last.sequence + 1);
        for _ in 0..MAX_ATTEMPTS {
            let sent = Instant::now();
            let record = self.record(sequence);
            let written = records
                .write(&object_ref, &record, Condition::IfMatch(etag))
                .await?;
            if let Some(etag) = written {
                let heartbeat = Heartbeat {
                    sent,
                    sequence,
                    etag,
                };
                return incarnation
                    .record_heartbeat(heartbeat)
                    .then_some(())
                    .ok_or(RecordError::Expired);
            }
            let found = records.read::<NodeRecord>(&object_ref).await?;
            // Missing: another node swept the record, taking this node for dead.
            let (found, now) = found.ok_or(RecordError::Expired)?;
            for request in found.requests {
                if let Ok(id) = UploadId::new(&request.id) {
                    table.on_request(&id, &request, &incarnation.owner);
                }
            }
            etag = now;
            // Other nodes may have seen a heartbeat whose response was lost.
            sequence = sequence.max(found.sequence + 1);
        }
        Err(RecordError::Contention)
    }

    pub(super) async fn retire(&self, records: &Records, table: &LeaseTable, peers: &Peers) {
        let _transition = self.transition.lock().await;
        let Some(incarnation) = self.current() else {
            return;
        };
        // A lease granted just now is lost: it is marked here, or `attempt` sees the end.
        self.end(&incarnation, table, peers);
        let node = records.node(&incarnation.owner);
        // The sweep deletes a record that stays.
        drop(timeout(self.write_timeout(), records.client.delete_object(&node)).await);
    }
}
