//! Leases in a bucket, by conditional writes; no further service is needed.
//!
//! It shares the frame of the other backends, but not their renewals and messages: a bucket runs no code,
//! and a write costs money. So one heartbeat renews all leases of a node, and carries the requests of other
//! nodes; and a lease that the next request of the node takes over is not written. What the cloud is must
//! not matter here: it is behind [`LeaseRecords`].

mod acquire;
mod heartbeat;
mod peers;
mod records;
mod release;
mod sweep;
mod written;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use landfall::upload::UploadId;
use tokio::{sync::Semaphore, time::timeout};

use self::{heartbeat::OwnNode, peers::Peers, records::Records, written::WrittenLeases};
pub use self::{
    records::{BucketLeaseError, LeaseRecords, ListedRecord, RecordPage},
    sweep::LeaseSweepSummary,
};
use crate::{
    locker::RemoteLocker,
    service::{Acquisition, LeaseService, WaitingRequest},
    settings::{LeaseSettings, SettingsError},
    table::{LeaseTable, QueuedRelease},
    thread::LeaseThread,
};

const MAX_CONCURRENT_ATTEMPTS: usize = 256;

/// A locker with leases in a bucket, for nodes that share no other service.
///
/// The service must honor conditional writes. Otherwise leases are not exclusive, and only fencing tokens
/// protect an upload from two writers.
///
/// In the bucket, each upload has a lease record with the latest fence and the owner, and each node with
/// leases has a heartbeat record. A lease is acquired by a conditional
/// write. To request a lease from another node, a waiter adds a request to that node's heartbeat
/// record; the node reads it at its next heartbeat and yields. If a waiter sees no heartbeat for
/// the [`ttl`](LeaseSettings::ttl), by its own clock, all leases of that node are free. The clocks
/// of different machines are never compared.
///
/// # Cost
/// Acquiring a lease costs one write, and a read if another node had it last; releasing it
/// costs one write. Handing it off between requests of one node is free. A node with leases
/// writes one heartbeat per [`heartbeat`](LeaseSettings::heartbeat), whatever their number; a node
/// without leases writes none after a while. A waiter reads up to two objects per
/// [`poll_interval`](LeaseSettings::poll_interval).
///
/// # Takeover latency
/// From a live holder: until its next heartbeat plus the waiter's next poll, typically 1.5 s and at
/// most 3 s, plus the calls. From a dead node: the `ttl`, once for all of its leases. So call
/// [`close`](RemoteLocker::close) at shutdown, which also deletes the heartbeat record.
///
/// # Fences
/// The leases of an upload are numbered consecutively: the next number means that no other node had
/// the lease in between. After a node that ended without releasing its lease, some numbers are
/// skipped. Without a lease record the numbers start from the node's clock, in nanoseconds.
pub type BucketLocker<R> = RemoteLocker<BucketLeases<R>>;

impl<R: LeaseRecords> BucketLocker<R> {
    /// Creates a locker for all nodes that use the same records.
    ///
    /// No request is sent before the first lease is requested.
    ///
    /// # Errors
    /// [`SettingsError`]; never because the service is unavailable.
    pub fn new(records: R, settings: LeaseSettings) -> Result<Self, SettingsError> {
        let service = BucketLeases::new(records, settings.clone())?;
        let runtime = LeaseThread::runtime().map_err(SettingsError::Thread)?;
        Self::start(runtime, service, settings)
    }

    /// Like [`new`](Self::new), without a thread: it runs in the current runtime, for simulations.
    ///
    /// # Errors
    /// [`SettingsError`].
    #[doc(hidden)]
    pub fn new_here(records: R, settings: LeaseSettings) -> Result<Self, SettingsError> {
        let service = BucketLeases::new(records, settings.clone())?;
        Ok(Self::start_here(service, settings))
    }
}

/// The records of a [`BucketLocker`], and what this node knows of them.
pub struct BucketLeases<R> {
    settings: LeaseSettings,
    records: Records<R>,
    written: WrittenLeases,
    node: OwnNode,
    peers: Peers,
    attempts: Semaphore,
    max_fence: AtomicU64,
}

impl<R: LeaseRecords> BucketLeases<R> {
    fn new(records: R, settings: LeaseSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let heartbeat = settings.heartbeat;
        if heartbeat.is_zero() || heartbeat > settings.ttl / 3 {
            return Err(SettingsError::Heartbeat(heartbeat));
        }
        Ok(Self {
            records: Records(records),
            written: WrittenLeases::default(),
            node: OwnNode::default(),
            peers: Peers::new(settings.ttl),
            attempts: Semaphore::new(MAX_CONCURRENT_ATTEMPTS),
            max_fence: AtomicU64::new(0),
            settings,
        })
    }

    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, BucketLeaseError>>,
    ) -> Result<T, BucketLeaseError> {
        within(self.settings.timeout, call).await
    }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, BucketLeaseError>>,
) -> Result<T, BucketLeaseError> {
    let result = timeout(limit, call).await;
    result.unwrap_or(Err(BucketLeaseError::Timeout(limit)))
}

impl<R: LeaseRecords> LeaseService for BucketLeases<R> {
    type Error = BucketLeaseError;
    type Info = ();

    const MAX_BATCH: usize = 1024;
    const RENEWAL: Option<(u32, u32)> = None;

    async fn acquire(
        &self,
        id: &UploadId,
        number: u64,
        request: Option<WaitingRequest>,
    ) -> Result<Acquisition, BucketLeaseError> {
        self.acquire_or_request(id, number, request).await
    }

    fn confirm(&self, id: &UploadId, number: u64) -> Result<(), BucketLeaseError> {
        let node = self.node.current().map(|node| node.owner);
        let is_own = node.is_some() && self.written.owner(id, number) == node;
        is_own.then_some(()).ok_or(BucketLeaseError::Expired)
    }

    async fn release(&self, leases: &[QueuedRelease]) -> Result<(), BucketLeaseError> {
        self.release_all(leases).await
    }

    async fn check(&self) -> Result<(), BucketLeaseError> {
        Ok(())
    }

    async fn run(&self, table: &Arc<LeaseTable>) {
        self.run_heartbeats(table).await;
    }

    async fn retire(&self) {
        self.end_idle_node().await;
    }

    async fn close(&self) {}

    fn is_available(&self) -> bool {
        true
    }

    /// There is no connection.
    fn is_connected(&self) -> bool {
        false
    }

    fn ended() -> BucketLeaseError {
        BucketLeaseError::Ended
    }
}

impl<R: fmt::Debug> fmt::Debug for BucketLeases<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BucketLeases").field(&self.records).finish()
    }
}
