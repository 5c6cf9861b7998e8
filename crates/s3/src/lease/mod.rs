//! Leases in the bucket, by conditional writes; no further service is needed.

mod acquire;
mod heartbeat;
mod peers;
mod records;
mod sweep;
mod table;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
pub use landfall::lease::remote::LeaseStats;
use landfall::{
    lease::{Lease, LeaseError, Locker, MemoryLocker, remote::LeaseThread},
    upload::UploadId,
};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep, timeout},
};

use self::{
    acquire::{AcquireError, YieldRequest},
    heartbeat::Incarnations,
    peers::Peers,
    records::{RecordError, Records},
    table::LeaseTable,
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
/// Within a node, leases are those of a [`MemoryLocker`]. In the bucket, each upload has a lease
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
    local: MemoryLocker,
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
            table: LeaseTable::new(ttl),
            incarnations: Incarnations::default(),
            peers: Peers::new(ttl),
            attempts: Arc::new(Semaphore::new(MAX_CONCURRENT_ATTEMPTS)),
            granted: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            unavailable: AtomicU64::new(0),
            max_fence: AtomicU64::new(0),
        });
        let runtime = LeaseThread::runtime().map_err(BucketLockerError::Thread)?;
        let inner = Arc::clone(&node);
        let thread = LeaseThread::start(runtime, |stop| run(inner, stop));
        Ok(Self(Arc::new(LockerThread {
            local: MemoryLocker::new(),
            node,
            thread: thread.map_err(BucketLockerError::Thread)?,
        })))
    }

    /// Returns the locker's counters.
    #[must_use]
    pub fn stats(&self) -> LeaseStats {
        let node = &self.0.node;
        let mut stats = LeaseStats::default();
        (stats.held, stats.lost) = node.table.count();
        stats.granted = node.granted.load(Ordering::Relaxed);
        stats.waited = node.waited.load(Ordering::Relaxed);
        stats.unavailable = node.unavailable.load(Ordering::Relaxed);
        stats
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
        let table = &self.0.node.table;
        let all = async {
            loop {
                let written = table.release_done.notified();
                tokio::pin!(written);
                written.as_mut().enable();
                if table.all_released() {
                    return;
                }
                written.await;
            }
        };
        let done = timeout(self.0.node.settings.timeout, all).await;
        if done.is_ok() && table.is_idle() {
            let node = Arc::clone(&self.0.node);
            let retired = (self.0.thread.handle()).spawn(async move { node.retire().await });
            drop(retired.await);
        }
    }

    /// Runs one attempt to acquire the lease. If the caller is dropped, the attempt finishes and
    /// then releases the lease.
    async fn attempt(
        &self,
        local_lease: Lease,
        id: &UploadId,
        request: Option<YieldRequest>,
    ) -> Result<Lease, AcquireError> {
        let owner = Arc::clone(&self.0);
        let node = &self.0.node;
        let permit = Arc::clone(&node.attempts).acquire_owned();
        let Ok(Ok(permit)) = timeout(node.settings.timeout, permit).await else {
            return Err(node.failed(&RecordError::Busy));
        };
        let id = id.clone();
        let attempt = self.0.thread.handle().spawn(async move {
            let _permit = permit;
            let node = Arc::clone(&owner.node);
            node.attempt(local_lease, id, request, owner).await
        });
        attempt
            .await
            .unwrap_or_else(|_| Err(AcquireError::shut_down()))
    }
}

#[derive(Debug)]
struct LockerInner {
    settings: BucketSettings,
    records: Records,
    table: LeaseTable,
    incarnations: Incarnations,
    peers: Peers,
    attempts: Arc<Semaphore>,
    granted: AtomicU64,
    waited: AtomicU64,
    unavailable: AtomicU64,
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
    node.table.interrupt_releases();
    let shut_down = async {
        let end = std::time::Instant::now() + SHUTDOWN_TIMEOUT;
        node.release_all(end).await;
        if node.table.is_idle() {
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
        let started = Instant::now();
        let request = YieldRequest { offset };
        let mut local_lease = self.0.local.acquire_at(id, offset, wait).await?;
        let mut first = true;
        loop {
            let left = wait.saturating_sub(started.elapsed());
            local_lease = match self.attempt(local_lease, id, Some(request)).await {
                Ok(lease) => return Ok(lease),
                Err(AcquireError::Failed(error)) => return Err(error),
                Err(AcquireError::Busy(local_lease)) => local_lease,
            };
            if left.is_zero() {
                return Err(LeaseError::Locked);
            }
            if std::mem::take(&mut first) {
                self.0.node.waited.fetch_add(1, Ordering::Relaxed);
            }
            // Jitter, so that waiters do not poll at the same time.
            let poll = self.0.node.settings.poll;
            let poll = poll.mul_f64(rand::random_range(0.7..1.0));
            sleep(poll.min(left)).await;
        }
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        let local_lease = self.0.local.try_acquire(id).await?;
        let lease = self.attempt(local_lease, id, None).await;
        lease.map_err(|error| match error {
            AcquireError::Failed(error) => error,
            AcquireError::Busy(_) => LeaseError::Locked,
        })
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
