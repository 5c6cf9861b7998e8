//! The leases of this node. It knows no service.
//!
//! Requests of the node wait for an upload in its memory; only the first of them makes
//! [`Attempt`](crate::attempt::Attempt)s in the service. The locker calls the service:
//! it acquires leases, renews those that are [due](LeaseTable::due), and sends the
//! [releases](LeaseTable::releases). The table stops holders whose lease was not renewed in time.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use landfall::{
    BoxError,
    lease::{
        Fence, Lease, LeaseError, LeaseTerms, Locker as _, MemoryLocker, YieldReason, YieldSignal,
    },
    upload::UploadId,
};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// Further leases expire instead.
const MAX_RELEASES: usize = 1 << 16;
/// With more, no former lease of this node counts as settled.
const MAX_UNSETTLED: usize = 1 << 16;

/// All leases that one node holds, releases or waits for.
#[derive(Debug)]
pub struct LeaseTable {
    local: MemoryLocker,
    ttl: Duration,
    numbers: AtomicU64,
    held: Mutex<HashMap<UploadId, HeldLease>>,
    waiters: Mutex<HashMap<UploadId, Arc<Notify>>>,
    releases: Mutex<VecDeque<QueuedRelease>>,
    /// Uploads whose last lease of this node ended unsettled.
    unsettled: Mutex<HashSet<UploadId>>,
    first_held: Notify,
    queued: Notify,
    sent: Notify,
    resumed: Notify,
    granted: AtomicU64,
    waited: AtomicU64,
    lost: AtomicU64,
    unavailable: AtomicU64,
}

/// A lease as it is renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedLease {
    /// The upload.
    pub id: UploadId,
    /// The number of the acquisition.
    pub number: u64,
    /// The fence.
    pub fence: Fence,
}

#[derive(Debug)]
struct HeldLease {
    lease: OwnedLease,
    signal: YieldSignal,
    terms: Arc<LeaseTerms>,
    /// The service counts from a later time.
    sent: Instant,
    is_lost: bool,
}

/// A dropped lease that the service still has to release.
#[derive(Debug, Clone)]
pub struct QueuedRelease {
    /// The upload.
    pub id: UploadId,
    /// The number of the acquisition.
    pub number: u64,
    /// When it was dropped.
    pub since: Instant,
    /// Another request, of this node or of one for which it was [requested](LeaseTable::request_yield),
    /// waits for the lease.
    pub is_requested: bool,
    /// Whether no earlier holder can change the upload: see [`LeaseTerms`].
    pub is_settled: bool,
}

impl QueuedRelease {
    /// Creates the release of a lease that is dropped now.
    pub(crate) fn new(id: UploadId, number: u64, is_requested: bool) -> Self {
        Self {
            id,
            number,
            since: Instant::now(),
            is_requested,
            is_settled: true,
        }
    }
}

/// Statistics of a locker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseStats {
    /// Leases held now.
    pub held: usize,
    /// Leases granted.
    pub granted: u64,
    /// Leases that another node released first.
    pub waited: u64,
    /// Leases lost: not renewed in time, or acquired by another node.
    pub lost: u64,
    /// Requests for a lease that failed because of the service.
    pub unavailable: u64,
    /// The service is available.
    pub connected: bool,
}

/// A reason why the service did not grant a lease.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// Another node has it.
    Held {
        /// The lease within this node.
        local: Lease,
        /// The request is to be repeated after this long.
        retry: Duration,
    },
    /// The request failed.
    Failed(LeaseError),
}

impl LeaseTable {
    /// Creates a table of leases with a time to live, which must be the same on all nodes.
    pub(crate) fn new(ttl: Duration) -> Self {
        Self {
            local: MemoryLocker::new(),
            ttl,
            numbers: AtomicU64::new(1),
            held: Mutex::default(),
            waiters: Mutex::default(),
            releases: Mutex::default(),
            unsettled: Mutex::default(),
            first_held: Notify::new(),
            queued: Notify::new(),
            sent: Notify::new(),
            resumed: Notify::new(),
            granted: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            unavailable: AtomicU64::new(0),
        }
    }

    /// Acquires a lease, within this node first, then by `attempt`. `offset` is that of a request
    /// that appends.
    ///
    /// The attempt is repeated when the table is [notified](Self::wake) of a release, and at the
    /// interval that it returns.
    ///
    /// # Errors
    /// [`LeaseError::Locked`] after `wait`, or the error of an attempt.
    ///
    /// # Cancel safety
    /// A cancelled call leaves the queue of waiters.
    pub(crate) async fn acquire<F>(
        &self,
        id: &UploadId,
        offset: Option<u64>,
        wait: Duration,
        attempt: impl Fn(Lease) -> F,
    ) -> Result<Lease, LeaseError>
    where
        F: Future<Output = Result<Lease, Rejection>>,
    {
        let started = Instant::now();
        let mut local = self.local.acquire_at(id, offset, wait).await?;
        // Registers before it requests, so that no notification is missed.
        let waiter = self.wait_for(id);
        let mut is_first = true;
        loop {
            let left = wait.saturating_sub(started.elapsed());
            let retry;
            (local, retry) = match attempt(local).await {
                Ok(lease) => return Ok(lease),
                Err(Rejection::Failed(error)) => return Err(error),
                Err(Rejection::Held { local, retry }) => (local, retry),
            };
            if left.is_zero() {
                return Err(LeaseError::Locked);
            }
            if std::mem::take(&mut is_first) {
                self.waited.fetch_add(1, Ordering::Relaxed);
            }
            tokio::select! {
                () = waiter.notify.notified() => {}
                () = sleep(retry.min(left)) => {}
            }
        }
    }

    /// Acquires a lease by one attempt, if no request of this node has it.
    ///
    /// # Errors
    /// [`LeaseError::Locked`], or the error of the attempt.
    pub(crate) async fn try_acquire<F>(
        &self,
        id: &UploadId,
        attempt: impl FnOnce(Lease) -> F,
    ) -> Result<Lease, LeaseError>
    where
        F: Future<Output = Result<Lease, Rejection>>,
    {
        let local = self.local.try_acquire(id).await?;
        attempt(local).await.map_err(|rejection| match rejection {
            Rejection::Failed(error) => error,
            Rejection::Held { .. } => LeaseError::Locked,
        })
    }

    /// Counts a request that failed because of the service.
    pub(crate) fn unavailable(&self, error: impl Into<BoxError>) -> Rejection {
        self.unavailable.fetch_add(1, Ordering::Relaxed);
        Rejection::Failed(LeaseError::Unavailable(error.into()))
    }

    /// False if the call was sent too long ago, at `since` by the clock of leases.
    pub(crate) fn insert(
        &self,
        lease: OwnedLease,
        signal: YieldSignal,
        terms: &Arc<LeaseTerms>,
        (sent, since): (Instant, Duration),
    ) -> bool {
        terms.end_at(since + self.usable_for());
        if sent.elapsed() >= self.usable_for() {
            return false;
        }
        let id = lease.id.clone();
        let held = HeldLease {
            lease,
            signal,
            terms: Arc::clone(terms),
            sent,
            is_lost: false,
        };
        self.held.lock().insert(id, held);
        self.first_held.notify_waiters();
        self.granted.fetch_add(1, Ordering::Relaxed);
        true
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns whether the last lease of this node ended unsettled.
    pub(crate) fn take_unsettled(&self, id: &UploadId) -> bool {
        let mut unsettled = self.unsettled.lock();
        unsettled.remove(id) || unsettled.len() >= MAX_UNSETTLED
    }

    pub(crate) fn release(&self, id: &UploadId, number: u64, is_requested: bool, is_settled: bool) {
        if !is_settled {
            let mut unsettled = self.unsettled.lock();
            if unsettled.len() < MAX_UNSETTLED {
                unsettled.insert(id.clone());
            }
        }
        if let Entry::Occupied(entry) = self.held.lock().entry(id.clone())
            && entry.get().lease.number == number
        {
            entry.remove();
        }
        self.queue_release(QueuedRelease {
            is_settled,
            ..QueuedRelease::new(id.clone(), number, is_requested)
        });
    }

    /// Queues the release of a lease that is not held, or no longer.
    pub(crate) fn queue_release(&self, release: QueuedRelease) {
        let mut releases = self.releases.lock();
        if releases.len() < MAX_RELEASES {
            releases.push_back(release);
            self.queued.notify_one();
        }
    }

    /// At most one request of this node waits in the service.
    fn wait_for<'a>(&'a self, id: &'a UploadId) -> WaiterGuard<'a> {
        let notify = Arc::new(Notify::new());
        self.waiters.lock().insert(id.clone(), Arc::clone(&notify));
        WaiterGuard {
            table: self,
            id,
            notify,
        }
    }

    /// Wakes the request that waits for a lease.
    pub(crate) fn wake(&self, id: &UploadId) {
        if let Some(waiter) = self.waiters.lock().get(id) {
            waiter.notify_one();
        }
    }

    /// Repeats what may have failed while the service was unavailable or its notifications were lost:
    /// requests, [renewals](Self::resumed) and [releases](Self::release_queued).
    pub(crate) fn resume(&self) {
        for waiter in self.waiters.lock().values() {
            waiter.notify_one();
        }
        self.queued.notify_one();
        self.resumed.notify_one();
    }

    /// Waits until all leases are to be renewed; returns at once if that has happened since the last
    /// call.
    pub(crate) async fn resumed(&self) {
        self.resumed.notified().await;
    }

    /// Returns the oldest releases, without those that are older than `max_age`. They stay in the queue.
    pub(crate) fn releases(&self, max: usize, max_age: Duration) -> Vec<QueuedRelease> {
        let mut releases = self.releases.lock();
        while (releases.front()).is_some_and(|oldest| oldest.since.elapsed() >= max_age) {
            releases.pop_front();
        }
        self.notify_sent(&releases);
        releases.iter().take(max).cloned().collect()
    }

    /// Removes the oldest releases from the queue, after they were sent.
    pub(crate) fn discard_releases(&self, sent: usize) {
        let mut releases = self.releases.lock();
        let sent = sent.min(releases.len());
        releases.drain(..sent);
        self.notify_sent(&releases);
    }

    fn notify_sent(&self, releases: &VecDeque<QueuedRelease>) {
        if releases.is_empty() {
            self.sent.notify_waiters();
        }
    }

    /// Waits until a release is queued or the service is available again; returns at once if that has
    /// happened since the last call.
    pub(crate) async fn release_queued(&self) {
        self.queued.notified().await;
    }

    /// Waits until all releases were sent.
    pub(crate) async fn all_released(&self) {
        loop {
            let sent = self.sent.notified();
            if self.releases.lock().is_empty() {
                return;
            }
            sent.await;
        }
    }

    /// Returns statistics.
    pub(crate) fn stats(&self, connected: bool) -> LeaseStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LeaseStats {
            held: self.held.lock().len(),
            granted: count(&self.granted),
            waited: count(&self.waited),
            lost: count(&self.lost),
            unavailable: count(&self.unavailable),
            connected,
        }
    }
}

impl LeaseTable {
    /// A fifth of the lifetime remains for a write in flight, and for clocks that run at different speeds.
    fn usable_for(&self) -> Duration {
        self.ttl * 4 / 5
    }

    /// Waits for an interval, and before that until there is a lease.
    pub(crate) async fn tick(&self, interval: Duration) {
        loop {
            let first_held = self.first_held.notified();
            if !self.held.lock().is_empty() {
                break;
            }
            first_held.await;
        }
        sleep(interval).await;
    }

    /// Stops holders whose lease was not renewed in time. Does not return.
    pub(crate) async fn expire(&self) {
        let usable_for = self.usable_for();
        loop {
            self.tick(self.ttl / 50).await;
            let mut leases = 0;
            for lease in self.held.lock().values_mut() {
                leases += u64::from(lease.sent.elapsed() >= usable_for && lease.lose(&self.lost));
            }
            if leases > 0 {
                tracing::warn!(leases, "leases expired before renewal, writers stopped");
            }
        }
    }

    /// Returns the leases whose last renewal is at least `age` ago.
    pub(crate) fn due(&self, age: Duration) -> Vec<OwnedLease> {
        let held = self.held.lock();
        let due = held
            .values()
            .filter(|held| !held.is_lost && held.sent.elapsed() >= age);
        due.map(|held| held.lease.clone()).collect()
    }

    /// Records a renewal sent at `sent`, which is `since` by the clock of leases.
    pub(crate) fn renewed(&self, lease: &OwnedLease, (sent, since): (Instant, Duration)) {
        let ends = since + self.usable_for();
        self.with_held(&lease.id, lease.number, |held| {
            held.sent = held.sent.max(sent);
            held.terms.end_at(ends);
        });
    }

    /// Stops the holder of a lease that another owner may have. True if there is one, which had not lost
    /// it before.
    pub(crate) fn lose(&self, id: &UploadId, number: u64) -> bool {
        let lost = self.with_held(id, number, |held| held.lose(&self.lost));
        lost == Some(true)
    }

    /// Requests the holder to yield: see [`YieldSignal::request`]. False if there is none.
    pub(crate) fn request_yield(&self, id: &UploadId, number: u64, offset: Option<u64>) -> bool {
        let requested = self.with_held(id, number, |held| held.signal.request(offset));
        requested.is_some()
    }

    fn with_held<T>(
        &self,
        id: &UploadId,
        number: u64,
        action: impl FnOnce(&mut HeldLease) -> T,
    ) -> Option<T> {
        let mut held = self.held.lock();
        let lease = held
            .get_mut(id)
            .filter(|held| held.lease.number == number)?;
        Some(action(lease))
    }
}

impl HeldLease {
    /// True if the holder had not lost the lease before.
    fn lose(&mut self, lost: &AtomicU64) -> bool {
        let is_new = !std::mem::replace(&mut self.is_lost, true);
        lost.fetch_add(u64::from(is_new), Ordering::Relaxed);
        self.terms.end();
        self.signal.set(YieldReason::LeaseLost);
        is_new
    }
}

struct WaiterGuard<'a> {
    table: &'a LeaseTable,
    id: &'a UploadId,
    notify: Arc<Notify>,
}

impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        self.table.waiters.lock().remove(self.id);
    }
}
