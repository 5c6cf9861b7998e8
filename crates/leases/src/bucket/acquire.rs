//! Acquires leases, by conditional writes of their records. The caller has the lease within this node.

use std::{
    sync::atomic::Ordering,
    time::{Duration, UNIX_EPOCH},
};

use landfall::{lease::Fence, upload::UploadId};
use tokio::time::{sleep, timeout};

use super::{
    BucketLeases,
    heartbeat::Heartbeat,
    records::{BucketLeaseError, LeaseRecord, LeaseRecords, LeaseRequest},
    written::{AcquireStep, CachedRecord, OwnedRecord},
};
use crate::service::{Acquisition, GrantedLease, WaitingRequest};

const RESERVED_FENCES: u64 = 16;
const MAX_ATTEMPTS: u32 = 32;
const MAX_RETRY_DELAY_MS: u64 = 20;

impl<R: LeaseRecords> BucketLeases<R> {
    pub(super) async fn acquire_or_request(
        &self,
        id: &UploadId,
        number: u64,
        request: Option<WaitingRequest>,
    ) -> Result<Acquisition, BucketLeaseError> {
        let permit = timeout(self.settings.timeout, self.attempts.acquire()).await;
        let _permit = permit.map_err(|_| BucketLeaseError::Busy)?;
        loop {
            let LeaseRecord { owner, fence, .. } = match self.try_once(id, number).await? {
                Ok(granted) => return Ok(Acquisition::Granted(granted)),
                Err(other) => other,
            };
            let request = request.map(|WaitingRequest { offset }| LeaseRequest {
                id: id.as_str().to_owned(),
                fence,
                offset,
            });
            let probe = self.peers.probe(&self.records, &owner, request);
            self.in_time(probe).await?;
            if !self.peers.is_dead(&owner) {
                return Ok(Acquisition::Held {
                    remaining: self.settings.ttl,
                    poll: self.settings.poll_interval,
                });
            }
        }
    }

    /// Returns a lease of this node, or the record of the node that has it.
    async fn try_once(
        &self,
        id: &UploadId,
        number: u64,
    ) -> Result<Result<GrantedLease, LeaseRecord>, BucketLeaseError> {
        let start = async { Ok(self.start_attempt(id).await) };
        let cached = self.in_time(start).await?;
        let result = self.in_time(self.write_record(id, cached)).await;
        let (owner, written, outcome) = match result {
            Ok(Ok((written, node))) => {
                let granted = GrantedLease {
                    fence: Fence(written.fence),
                    // The next heartbeat returns it.
                    waiting: None,
                    sent: node.sent,
                    // The store compares fences.
                    is_settled: true,
                };
                (Some(node.owner), Some(written), Ok(Ok(granted)))
            }
            Ok(Err(other)) => (None, None, Ok(Err(other))),
            // The record may have been written.
            Err(error) => (self.node.current().map(|node| node.owner), None, Err(error)),
        };
        let owned = owner.map(|owner| OwnedRecord::new(number, owner, written));
        self.written.end_attempt(id, owned);
        outcome
    }

    async fn start_attempt(&self, id: &UploadId) -> Option<CachedRecord> {
        let mut wait = false;
        loop {
            let released = self.written.release_ended.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            match self.written.start_attempt(id) {
                AcquireStep::Proceed(cached) => return cached,
                AcquireStep::Wait { is_wanted } => wait |= is_wanted,
            }
            released.await;
            if std::mem::take(&mut wait) {
                // Another node waits for the lease and polls at this interval.
                sleep(self.settings.poll_interval * 3 / 2).await;
            }
        }
    }

    /// Returns the record of this node, or that of the node that has the lease.
    async fn write_record(
        &self,
        id: &UploadId,
        mut cached: Option<CachedRecord>,
    ) -> Result<Result<(CachedRecord, Heartbeat), LeaseRecord>, BucketLeaseError> {
        let key = LeaseRecord::key(id);
        for round in 0..MAX_ATTEMPTS {
            if round > 0 {
                let delay = rand::random_range(1..=MAX_RETRY_DELAY_MS);
                sleep(Duration::from_millis(delay)).await;
            }
            let node = self.get_or_start_node().await?;
            let (last, version) = match cached.take() {
                Some(cached) if cached.has_reserved(&node.owner) => {
                    let fence = cached.fence + 1;
                    return Ok(Ok((CachedRecord { fence, ..cached }, node)));
                }
                Some(cached) => (cached.fence, Some(cached.version)),
                None => match self.records.read::<LeaseRecord>(&key).await? {
                    None => (self.clock(), None),
                    Some((lease, version)) if self.is_free(&lease, &node) => {
                        (lease.fence, Some(version))
                    }
                    Some((lease, _)) => return Ok(Err(lease)),
                },
            };
            let (fence, reserved) = (last + 1, last + RESERVED_FENCES);
            let lease = LeaseRecord::new(id, reserved, &node.owner, false);
            if let Some(version) = self.records.write(&key, &lease, version).await? {
                self.max_fence.fetch_max(reserved, Ordering::Relaxed);
                let cached = CachedRecord {
                    fence,
                    reserved,
                    version,
                    owner: Some(node.owner.clone()),
                };
                return Ok(Ok((cached, node)));
            }
        }
        Err(BucketLeaseError::Contention)
    }

    /// A lease with this node as owner was released, because the caller has the lease within the node.
    fn is_free(&self, lease: &LeaseRecord, node: &Heartbeat) -> bool {
        lease.released || *lease.owner == *node.owner || self.peers.is_dead(&lease.owner)
    }

    fn clock(&self) -> u64 {
        let now = UNIX_EPOCH.elapsed().unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or_default();
        now.max(self.max_fence.load(Ordering::Relaxed))
    }
}
