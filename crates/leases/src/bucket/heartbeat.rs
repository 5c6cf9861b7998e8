//! Heartbeats: one record keeps all leases of this node alive, and brings the requests of other nodes.
//!
//! After a late heartbeat the node takes a new name, and its leases are lost: others may have taken it for
//! dead. A heartbeat must not renew a lease of an earlier name.

use std::{sync::Arc, time::Duration};

use landfall::{lease::LeaseTerms, upload::UploadId};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    BucketLeases,
    records::{BucketLeaseError, LeaseRecords, LeaseRequest, NodeRecord},
    within,
};
use crate::table::LeaseTable;

const MAX_ATTEMPTS: u32 = 5;
const IDLE_HEARTBEATS: u32 = 15;

/// The last heartbeat of this node.
#[derive(Debug, Clone)]
pub(super) struct Heartbeat {
    /// The name of the node.
    pub(super) owner: Arc<str>,
    pub(super) sent: Instant,
    sequence: u64,
    version: String,
}

/// The name of this node, while it has a record in the bucket.
#[derive(Debug, Default)]
pub(super) struct OwnNode {
    last: watch::Sender<Option<Heartbeat>>,
    /// Locked while its record is written or deleted.
    transition: tokio::sync::Mutex<()>,
}

impl OwnNode {
    pub(super) fn current(&self) -> Option<Heartbeat> {
        self.last.borrow().clone()
    }
}

impl<R: LeaseRecords> BucketLeases<R> {
    fn is_alive(&self, node: &Heartbeat) -> bool {
        node.sent.elapsed() < self.settings.ttl * 4 / 5
    }

    async fn write_in_time<T>(
        &self,
        write: impl Future<Output = Result<T, BucketLeaseError>>,
    ) -> Result<T, BucketLeaseError> {
        within(self.settings.ttl / 5, write).await
    }

    fn node_record(&self, sequence: u64) -> NodeRecord {
        NodeRecord {
            sequence,
            ttl_ms: u64::try_from(self.settings.ttl.as_millis()).unwrap_or(u64::MAX),
            requests: Vec::new(),
            nonce: rand::random(),
        }
    }

    pub(super) async fn get_or_start_node(&self) -> Result<Heartbeat, BucketLeaseError> {
        let alive = || self.node.current().filter(|node| self.is_alive(node));
        if let Some(node) = alive() {
            return Ok(node);
        }
        let _transition = self.node.transition.lock().await;
        if let Some(node) = alive() {
            return Ok(node);
        }
        self.end_node();
        let owner = format!("{:032x}", rand::random::<u128>());
        let sent = Instant::now();
        let (key, record) = (NodeRecord::key(&owner), self.node_record(1));
        let write = self.records.write(&key, &record, None);
        let version = self.write_in_time(write).await?;
        let node = Heartbeat {
            owner: owner.into(),
            sent,
            sequence: 1,
            version: version.ok_or(BucketLeaseError::Contention)?,
        };
        self.node.last.send_replace(Some(node.clone()));
        Ok(node)
    }

    /// Ends the name. From now on no lease of it is granted or renewed; this node may acquire them again.
    fn end_node(&self) -> Option<Heartbeat> {
        let ended = self.node.last.send_replace(None);
        if let Some(node) = &ended {
            self.peers.mark_dead(&node.owner);
        }
        ended
    }

    /// Writes heartbeats while there are leases, and some more for the next ones. Does not return.
    pub(super) async fn run_heartbeats(&self, table: &LeaseTable) {
        let interval = self.settings.heartbeat;
        let mut nodes = self.node.last.subscribe();
        let mut idle = 0;
        loop {
            // Never an error: `self` owns the sender.
            let node = nodes.wait_for(Option::is_some).await;
            let Some(sent) = node.ok().and_then(|node| Some(node.as_ref()?.sent)) else {
                return;
            };
            // Not at once after a failure.
            let next = (sent + interval).max(Instant::now() + interval / 10);
            sleep_until(next).await;
            idle = if self.written.is_idle() { idle + 1 } else { 0 };
            if idle >= IDLE_HEARTBEATS {
                self.end_idle_node().await;
                idle = 0;
            } else if let Err(error) = self.renew_all(table).await {
                tracing::warn!(%error, "failed to renew leases in the bucket");
            }
        }
    }

    async fn renew_all(&self, table: &LeaseTable) -> Result<(), BucketLeaseError> {
        let _transition = self.node.transition.lock().await;
        let Some(node) = self.node.current() else {
            return Ok(());
        };
        let mut requests = Vec::new();
        let beat = self.write_in_time(self.send_heartbeat(&node, &mut requests));
        let beat = beat.await;
        // Also after an error: the heartbeat may have replaced them.
        for request in requests {
            if let Ok(id) = UploadId::new(&request.id) {
                let ttl = self.settings.ttl;
                self.written.request(&id, &request, &node.owner, ttl, table);
            }
        }
        let beat = match beat {
            // Later than this, others may have taken the node for dead.
            Ok(beat) if self.is_alive(&node) => Some(beat),
            Ok(_) | Err(BucketLeaseError::Expired) => None,
            Err(error) => return Err(error),
        };
        if beat.is_none() {
            self.end_node();
        }
        for lease in table.due(Duration::ZERO) {
            let owner = self.written.owner(&lease.id, lease.number);
            match &beat {
                Some(beat) if owner.as_deref() == Some(&*beat.owner) => {
                    let since = LeaseTerms::now().saturating_sub(beat.sent.elapsed());
                    table.renewed(&lease, (beat.sent, since));
                }
                _ => _ = table.lose(&lease.id, lease.number),
            }
        }
        if beat.is_some() {
            self.node.last.send_replace(beat);
        }
        Ok(())
    }

    async fn send_heartbeat(
        &self,
        last: &Heartbeat,
        requests: &mut Vec<LeaseRequest>,
    ) -> Result<Heartbeat, BucketLeaseError> {
        let key = NodeRecord::key(&last.owner);
        let (mut version, mut sequence) = (last.version.clone(), last.sequence + 1);
        for _ in 0..MAX_ATTEMPTS {
            let sent = Instant::now();
            let record = self.node_record(sequence);
            let write = self.records.write(&key, &record, Some(version));
            if let Some(version) = write.await? {
                return Ok(Heartbeat {
                    owner: Arc::clone(&last.owner),
                    sent,
                    sequence,
                    version,
                });
            }
            let found = self.records.read::<NodeRecord>(&key).await?;
            // Missing: another node swept the record, taking this node for dead.
            let (found, now) = found.ok_or(BucketLeaseError::Expired)?;
            requests.extend(found.requests);
            version = now;
            // Other nodes may have seen a heartbeat whose response was lost.
            sequence = sequence.max(found.sequence + 1);
        }
        Err(BucketLeaseError::Contention)
    }

    /// Deletes the record of the node, unless it has leases.
    pub(super) async fn end_idle_node(&self) {
        let _transition = self.node.transition.lock().await;
        if !self.written.is_idle() {
            return;
        }
        if let Some(node) = self.end_node() {
            let key = NodeRecord::key(&node.owner);
            // The sweep deletes a record that stays.
            drop(self.write_in_time(self.records.delete(&key)).await);
        }
    }
}
