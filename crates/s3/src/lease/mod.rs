//! Leases in the bucket, by conditional writes; no further service is needed.

mod acquire;
mod heartbeat;
mod peers;
mod records;
mod sweep;
mod written;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use async_trait::async_trait;
pub use landfall::lease::remote::LeaseStats;
use landfall::{
    lease::{
        Lease, LeaseError, Locker,
        remote::{LeaseTable, LeaseThread, Rejection},
    },
    upload::UploadId,
};
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use self::{
    heartbeat::Incarnations,
    peers::Peers,
    records::{RecordError, Records},
    written::WrittenLeases,
};
pub use self::{
    records::{BucketLockerError, ConditionalWrites, keeps_prefix, probe_conditional_writes},
    sweep::LeaseSweepSummary,
};
use crate::client::Client;

const MAX_CONCURRENT_ATTEMPTS: usize = 256;
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Times of a [`BucketLocker`]. Use the same on all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketSettings {
    /// Time until the leases of a crashed node expire; default 15 s.
    ///
    /// A node that cannot renew its leases for four fifths of it marks them lost.
    pub ttl: Duration,
    /// Interval of the heartbeats of a node with leases; default 2 s, at most a third of `ttl`.
    ///
    /// A heartbeat also reads the requests of other nodes for these leases.
    pub renew: Duration,
    /// Interval at which a waiter checks whether the lease is free; default 500 ms.
    pub poll: Duration,
    /// Timeout of calls to the bucket; default 5 s.
    pub timeout: Duration,
}

impl Default for BucketSettings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(15),
            renew: Duration::from_secs(2),
            poll: Duration::from_millis(500),
            timeout: Duration::from_secs(5),
        }
    }
}

/// A locker with leases in the bucket, for nodes that share no other service.
///
/// The service must honor conditional writes (`If-None-Match: *`, `If-Match`);
/// [`probe_conditional_writes`] checks this. Otherwise leases are not exclusive, and only
/// fencing tokens protect an upload from two writers.
///
/// Within a node, leases are those of a [`MemoryLocker`](landfall::lease::MemoryLocker). In the bucket, each upload has a lease
/// record with the latest fence and the owner, `PREFIX.landfall/leases/ID`, and each node with
/// leases has a heartbeat record, `PREFIX.landfall/nodes/…`. A lease is acquired by a conditional
/// write. To request a lease from another node, a waiter adds a request to that node's heartbeat
/// record; the node reads it at its next heartbeat and yields. If a waiter sees no heartbeat for
/// the [`ttl`](BucketSettings::ttl), by its own clock, all leases of that node are free. The clocks
/// of different machines are never compared.
///
/// Clones share the leases. One dedicated thread makes all calls; it ends with the last clone and
/// the last lease. Waiting needs a tokio runtime with timers enabled.
///
/// # Cost
/// Acquiring a lease costs one PutObject, and a GetObject if another node had it last; releasing it
/// costs one PutObject. Handing it off between requests of one node is free. A node with leases
/// writes one heartbeat per [`renew`](BucketSettings::renew), whatever their number; a node without
/// leases writes none. A waiter reads up to two objects per [`poll`](BucketSettings::poll).
///
/// # Takeover latency
/// From a live holder: until its next heartbeat plus the waiter's next poll, typically 1.5 s and at
/// most 3 s, plus the calls. From a dead node: the `ttl`, once for all of its leases.
///
/// # Fences
/// The leases of an upload are numbered consecutively: the next number means that no other node had
/// the lease in between. After a node that ended without releasing its lease, some numbers are
/// skipped. Without a lease record the numbers start from the node's clock, in nanoseconds.
///
/// # Unavailable bucket
/// Acquiring a lease fails with [`LeaseError::Unavailable`] after about
/// [`timeout`](BucketSettings::timeout). Holders continue for four fifths of the `ttl` since the
/// last heartbeat; then their leases are [lost](landfall::lease::YieldReason::LeaseLost).
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use landfall::{lease::Locker, upload::UploadId};
/// use landfall_s3::client::{Client, ClientSettings};
/// use landfall_s3::lease::{BucketLocker, BucketSettings, probe_conditional_writes};
///
/// let client = Client::new(ClientSettings::default())?;
/// assert!(probe_conditional_writes(&client, "my-bucket", "").await?.all());
/// let locker = BucketLocker::new(client, "my-bucket", "", BucketSettings::default())?;
/// let lease = locker.acquire(&UploadId::random(), Duration::from_secs(20)).await?;
/// drop(lease);
/// locker.close().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct BucketLocker(Arc<LockerThread>);

struct LockerThread {
    node: Arc<LockerInner>,
    /// Calls run there, so that dropping a request does not cancel them with an unknown outcome.
    thread: LeaseThread,
}

impl BucketLocker {
    /// Creates a locker for all nodes that store uploads below `prefix` in `bucket`.
    ///
    /// No request is sent before the first lease is requested.
    ///
    /// # Errors
    /// [`BucketLockerError`]; never because the service is unavailable.
    pub fn new(
        client: Client,
        bucket: impl Into<String>,
        prefix: &str,
        settings: BucketSettings,
    ) -> Result<Self, BucketLockerError> {
        let BucketSettings { ttl, renew, .. } = settings;
        let range = Duration::from_millis(500)..=Duration::from_secs(3600);
        if !range.contains(&ttl)
            || renew > ttl / 3
            || [renew, settings.poll, settings.timeout].contains(&Duration::ZERO)
        {
            return Err(BucketLockerError::Times { renew, ttl });
        }
        let records = Records::new(client, bucket.into(), prefix);
        let node = Arc::new(LockerInner {
            settings,
            records,
            table: Arc::new(LeaseTable::new(ttl)),
            written: WrittenLeases::default(),
            incarnations: Incarnations::default(),
            peers: Peers::new(ttl),
            attempts: Arc::new(Semaphore::new(MAX_CONCURRENT_ATTEMPTS)),
            max_fence: AtomicU64::new(0),
        });
        let runtime = LeaseThread::runtime().map_err(BucketLockerError::Thread)?;
        let inner = Arc::clone(&node);
        let thread = LeaseThread::start(runtime, |stop| run(inner, stop));
        Ok(Self(Arc::new(LockerThread {
            node,
            thread: thread.map_err(BucketLockerError::Thread)?,
        })))
    }

    /// Returns the locker's counters.
    #[must_use]
    pub fn stats(&self) -> LeaseStats {
        self.0.node.table.stats(false)
    }

    /// Waits until all dropped leases are released in the bucket, and deletes the heartbeat record.
    ///
    /// Call it at shutdown: otherwise other nodes wait for the `ttl`. It waits at most
    /// [`BucketSettings::timeout`]; the record is deleted only if no lease is left. The locker
    /// stays usable.
    ///
    /// # Cancel safety
    /// Dropping the call loses nothing.
    pub async fn close(&self) {
        let node = Arc::clone(&self.0.node);
        let all = async {
            node.table.all_released().await;
            node.written.all_released().await;
        };
        let done = timeout(node.settings.timeout, all).await;
        if done.is_ok() && node.written.is_idle() {
            let retired = (self.0.thread.handle()).spawn(async move { node.retire().await });
            drop(retired.await);
        }
    }

    /// Runs one attempt to acquire the lease. If the caller is dropped, the attempt finishes and
    /// then releases the lease.
    async fn attempt(
        &self,
        local: Lease,
        id: &UploadId,
        request: Option<Option<u64>>,
    ) -> Result<Lease, Rejection> {
        let (locker, node) = (Arc::clone(&self.0), Arc::clone(&self.0.node));
        let permit = Arc::clone(&node.attempts).acquire_owned();
        let Ok(Ok(permit)) = timeout(node.settings.timeout, permit).await else {
            return Err(node.table.unavailable(RecordError::Busy.to_string()));
        };
        let id = id.clone();
        let attempt = self.0.thread.handle().spawn(async move {
            let _permit = permit;
            node.attempt(local, id, request, locker).await
        });
        let ended = |_| {
            Err(self
                .0
                .node
                .table
                .unavailable("the lease locker has shut down"))
        };
        attempt.await.unwrap_or_else(ended)
    }
}

#[derive(Debug)]
struct LockerInner {
    settings: BucketSettings,
    records: Records,
    table: Arc<LeaseTable>,
    written: WrittenLeases,
    incarnations: Incarnations,
    peers: Peers,
    attempts: Arc<Semaphore>,
    max_fence: AtomicU64,
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, RecordError>>,
) -> Result<T, RecordError> {
    let result = timeout(limit, call).await;
    result.unwrap_or(Err(RecordError::Timeout(limit)))
}

async fn run(node: Arc<LockerInner>, mut stop: watch::Receiver<bool>) {
    let work = async {
        tokio::join!(node.watch_expiry(), node.run_heartbeats(), node.release());
    };
    tokio::select! {
        () = work => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    // Interrupted releases are written again.
    node.written.interrupt_releases();
    let shut_down = async {
        let end = std::time::Instant::now() + SHUTDOWN_TIMEOUT;
        node.release_all(end).await;
        if node.written.is_idle() {
            node.retire().await;
        }
    };
    drop(timeout(SHUTDOWN_TIMEOUT, shut_down).await);
}

#[async_trait]
impl Locker for BucketLocker {
    async fn acquire_at(
        &self,
        id: &UploadId,
        offset: Option<u64>,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        let attempt = |local| self.attempt(local, id, Some(offset));
        self.0.node.table.acquire(id, offset, wait, attempt).await
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        let attempt = |local| self.attempt(local, id, None);
        self.0.node.table.try_acquire(id, attempt).await
    }
}

impl fmt::Debug for BucketLocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketLocker")
            .field("leases", &self.0.node.records.leases())
            .field("bucket", &self.0.node.records.bucket)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
