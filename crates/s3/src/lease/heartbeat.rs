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
use tokio::sync::watch;

use super::{
    LockerInner,
    records::{NodeRecord, RecordError},
    within,
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

    /// Returns when the last heartbeat was sent.
    pub(super) fn last_sent(&self) -> Instant {
        self.last_heartbeat.lock().sent
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.ended.load(Ordering::SeqCst) && self.last_sent().elapsed() < self.valid_for
    }

    fn record_heartbeat(&self, heartbeat: Heartbeat) -> bool {
        if !self.is_alive() {
            return false;
        }
        *self.last_heartbeat.lock() = heartbeat;
        true
    }
}

#[derive(Debug, Default)]
pub(super) struct Incarnations {
    current: watch::Sender<Option<Arc<Incarnation>>>,
    transition: tokio::sync::Mutex<()>,
}

impl LockerInner {
    pub(super) fn current(&self) -> Option<Arc<Incarnation>> {
        self.incarnations.current.borrow().clone()
    }

    async fn wait_for_current(&self) -> Arc<Incarnation> {
        let mut now = self.incarnations.current.subscribe();
        loop {
            if let Some(incarnation) = &*now.borrow_and_update() {
                return Arc::clone(incarnation);
            }
            // Never an error: `self` owns the sender.
            let _ = now.changed().await;
        }
    }

    async fn write_in_time<T>(
        &self,
        write: impl Future<Output = Result<T, RecordError>>,
    ) -> Result<T, RecordError> {
        within(self.settings.ttl / 5, write).await
    }

    fn record(&self, sequence: u64) -> NodeRecord {
        NodeRecord {
            sequence,
            ttl_ms: u64::try_from(self.settings.ttl.as_millis()).unwrap_or(u64::MAX),
            requests: Vec::new(),
            nonce: rand::random(),
        }
    }

    pub(super) async fn get_or_start(&self) -> Result<Arc<Incarnation>, RecordError> {
        if let Some(incarnation) = self.current().filter(|incarnation| incarnation.is_alive()) {
            return Ok(incarnation);
        }
        let _transition = self.incarnations.transition.lock().await;
        if let Some(incarnation) = self.current() {
            if incarnation.is_alive() {
                return Ok(incarnation);
            }
            // Before it is replaced, since only the current one is watched.
            self.end(&incarnation);
        }
        let owner = format!("{:032x}", rand::random::<u128>());
        let sent = Instant::now();
        let node = self.records.node(&owner);
        let record = self.record(1);
        let write = self.records.write(&node, &record, Condition::IfAbsent);
        let etag = self.write_in_time(write).await?;
        let etag = etag.ok_or(RecordError::Contention)?;
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
        let current = Some(Arc::clone(&incarnation));
        self.incarnations.current.send_replace(current);
        Ok(incarnation)
    }

    fn end(&self, incarnation: &Incarnation) {
        incarnation.ended.store(true, Ordering::SeqCst);
        self.peers.mark_dead(&incarnation.owner);
        let leases = self.written.lose(&incarnation.owner, &self.table);
        if leases > 0 {
            tracing::warn!(leases, "leases expired before renewal, writers stopped");
        }
        let is_this = |now: &mut Arc<Incarnation>| now.owner == incarnation.owner;
        let current = &self.incarnations.current;
        current.send_if_modified(|now| now.take_if(is_this).is_some());
    }

    pub(super) async fn watch_expiry(&self) {
        loop {
            tokio::time::sleep(self.settings.ttl / 50).await;
            let incarnation = self.wait_for_current().await;
            if !incarnation.is_alive() {
                self.end(&incarnation);
            }
        }
    }

    pub(super) async fn run_heartbeats(&self) {
        let mut idle = 0;
        loop {
            let incarnation = self.wait_for_current().await;
            let renew = self.settings.renew;
            let next = incarnation.last_sent() + renew;
            tokio::time::sleep_until(next.max(Instant::now() + renew / 10).into()).await;
            idle = if self.written.is_idle() { idle + 1 } else { 0 };
            if idle >= IDLE_HEARTBEATS {
                self.retire().await;
                idle = 0;
                continue;
            }
            let _transition = self.incarnations.transition.lock().await;
            // It may have ended or been replaced meanwhile.
            let current = self.current();
            if current.is_none_or(|now| now.owner != incarnation.owner) {
                continue;
            }
            match self.write_in_time(self.send_heartbeat(&incarnation)).await {
                Ok(()) => {}
                Err(RecordError::Expired) => self.end(&incarnation),
                Err(error) => tracing::warn!(%error, "failed to renew leases in the bucket"),
            }
        }
    }

    async fn send_heartbeat(&self, incarnation: &Incarnation) -> Result<(), RecordError> {
        let records = &self.records;
        let object_ref = records.node(&incarnation.owner);
        let last = incarnation.last_heartbeat();
        let (mut etag, mut sequence) = (last.etag, last.sequence + 1);
        for _ in 0..MAX_ATTEMPTS {
            let sent = Instant::now();
            let record = self.record(sequence);
            let write = records.write(&object_ref, &record, Condition::IfMatch(etag));
            if let Some(etag) = write.await? {
                let heartbeat = Heartbeat {
                    sent,
                    sequence,
                    etag,
                };
                let recorded = incarnation.record_heartbeat(heartbeat);
                return recorded.then_some(()).ok_or(RecordError::Expired);
            }
            let found = records.read::<NodeRecord>(&object_ref).await?;
            // Missing: another node swept the record, taking this node for dead.
            let (found, now) = found.ok_or(RecordError::Expired)?;
            for request in found.requests {
                if let Ok(id) = UploadId::new(&request.id) {
                    self.written.on_request(&id, &request, &incarnation.owner);
                }
            }
            etag = now;
            // Other nodes may have seen a heartbeat whose response was lost.
            sequence = sequence.max(found.sequence + 1);
        }
        Err(RecordError::Contention)
    }

    pub(super) async fn retire(&self) {
        let _transition = self.incarnations.transition.lock().await;
        let Some(incarnation) = self.current() else {
            return;
        };
        // A lease granted just now is lost: it is marked here, or `attempt` sees the end.
        self.end(&incarnation);
        let node = self.records.node(&incarnation.owner);
        let delete = self.records.client.delete_object(&node);
        // The sweep deletes a record that stays.
        drop(self.write_in_time(async { Ok(delete.await?) }).await);
    }
}
