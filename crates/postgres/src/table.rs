//! The leases of this node.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use landfall::{
    lease::{Asked, YieldSignal},
    upload::UploadId,
};
use landfall_database::{LeaseOwner, OwnedLease};
use tokio::sync::Notify;

/// The most releases that wait to be sent. Further leases expire instead.
const MAX_RELEASES: usize = 1 << 16;
/// Names of leases of uploads begin with this: other parts of the server have leases as well.
const PREFIX: &str = "upload/";

/// All leases that this node holds, releases or waits for.
#[derive(Debug)]
pub(crate) struct Table {
    ttl: Duration,
    node: String,
    numbers: AtomicU64,
    held: Mutex<HashMap<UploadId, HeldLease>>,
    waiters: Mutex<HashMap<UploadId, Arc<Notify>>>,
    releases: Mutex<Vec<Release>>,
    times_lost: AtomicU64,
    /// Notified when there is a lease after there was none.
    pub(crate) first_held: Notify,
    /// Notified when there is a lease to release.
    pub(crate) released: Notify,
}

#[derive(Debug)]
struct HeldLease {
    owner: LeaseOwner,
    signal: YieldSignal,
    /// When the last call that extended it was sent. The database counts from a later time.
    sent: Instant,
    is_lost: bool,
}

/// A lease to release.
#[derive(Debug)]
struct Release {
    lease: OwnedLease,
    since: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under one of these locks leaves the map consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            node: format!("{:016x}", rand::random::<u64>()),
            numbers: AtomicU64::new(1),
            held: Mutex::default(),
            waiters: Mutex::default(),
            releases: Mutex::default(),
            times_lost: AtomicU64::new(0),
            first_held: Notify::new(),
            released: Notify::new(),
        }
    }

    pub(crate) fn next_owner(&self) -> LeaseOwner {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        LeaseOwner::new(self.node.as_str(), number)
    }

    pub(crate) fn is_this_node(&self, node: &str) -> bool {
        self.node == node
    }

    pub(crate) fn name(id: &UploadId) -> String {
        format!("{PREFIX}{id}")
    }

    pub(crate) fn id(name: &str) -> Option<UploadId> {
        UploadId::new(name.strip_prefix(PREFIX)?).ok()
    }

    /// How long a holder may write after its last renewal: a fifth of the lifetime remains for the
    /// write that is being sent, and for clocks that run at different speeds.
    fn usable_for(&self) -> Duration {
        self.ttl * 4 / 5
    }

    /// Records a lease that was granted to a call sent at `sent`; false if that is too long ago.
    pub(crate) fn insert(
        &self,
        id: &UploadId,
        owner: LeaseOwner,
        signal: YieldSignal,
        sent: Instant,
    ) -> bool {
        if sent.elapsed() >= self.usable_for() {
            return false;
        }
        let mut held = lock(&self.held);
        if held.is_empty() {
            self.first_held.notify_one();
        }
        let lease = HeldLease {
            owner,
            signal,
            sent,
            is_lost: false,
        };
        held.insert(id.clone(), lease);
        true
    }

    /// Removes a lease, and queues its release in the database.
    pub(crate) fn release(&self, id: &UploadId, owner: LeaseOwner) {
        if let Entry::Occupied(entry) = lock(&self.held).entry(id.clone())
            && entry.get().owner == owner
        {
            entry.remove();
        }
        let release = Release {
            lease: OwnedLease {
                name: Self::name(id),
                owner,
            },
            since: Instant::now(),
        };
        let mut releases = lock(&self.releases);
        if releases.len() < MAX_RELEASES {
            releases.push(release);
            self.released.notify_one();
        }
    }

    /// Returns the queued releases without those whose leases have expired.
    pub(crate) fn releases(&self) -> Vec<OwnedLease> {
        let mut releases = lock(&self.releases);
        releases.retain(|release| release.since.elapsed() < self.ttl);
        let leases = releases.iter().map(|release| release.lease.clone());
        leases.collect()
    }

    /// Removes the first releases of the queue, after they were sent.
    pub(crate) fn forget_releases(&self, sent: usize) {
        lock(&self.releases).drain(..sent);
    }

    pub(crate) fn is_released(&self) -> bool {
        lock(&self.releases).is_empty()
    }

    /// Returns the leases whose last renewal is at least `age` ago.
    pub(crate) fn due(&self, age: Duration) -> Vec<OwnedLease> {
        let held = lock(&self.held);
        let due = held
            .iter()
            .filter(|(_, lease)| !lease.is_lost && lease.sent.elapsed() >= age);
        let owned = due.map(|(id, lease)| OwnedLease {
            name: Self::name(id),
            owner: lease.owner.clone(),
        });
        owned.collect()
    }

    /// Records a renewal sent at `sent`.
    pub(crate) fn renewed(&self, id: &UploadId, owner: &LeaseOwner, sent: Instant) {
        if let Some(lease) = lock(&self.held).get_mut(id)
            && lease.owner == *owner
        {
            lease.sent = lease.sent.max(sent);
        }
    }

    /// Records that another owner has the lease; true if that is new.
    pub(crate) fn lost(&self, id: &UploadId, owner: &LeaseOwner) -> bool {
        match lock(&self.held).get_mut(id) {
            Some(lease) if lease.owner == *owner && !lease.is_lost => {
                lease.is_lost = true;
                lease.signal.raise(Asked::Lost);
                self.times_lost.fetch_add(1, Ordering::Relaxed);
                true
            }
            _ => false,
        }
    }

    /// Stops the holders of leases that were not renewed in time; returns how many.
    pub(crate) fn expire(&self) -> u64 {
        let usable_for = self.usable_for();
        let mut expired = 0;
        for lease in lock(&self.held).values_mut() {
            if !lease.is_lost && lease.sent.elapsed() >= usable_for {
                lease.is_lost = true;
                lease.signal.raise(Asked::Lost);
                expired += 1;
            }
        }
        self.times_lost.fetch_add(expired, Ordering::Relaxed);
        expired
    }

    pub(crate) fn times_lost(&self) -> u64 {
        self.times_lost.load(Ordering::Relaxed)
    }

    /// Returns how many leases are held, lost ones included.
    pub(crate) fn len(&self) -> usize {
        lock(&self.held).len()
    }

    /// Requests the holder to yield.
    pub(crate) fn request_yield(&self, id: &UploadId, owner: &LeaseOwner) {
        if let Some(lease) = lock(&self.held).get(id)
            && lease.owner == *owner
        {
            lease.signal.raise(Asked::Yield);
        }
    }

    /// Wakes the request that waits for a lease.
    pub(crate) fn wake(&self, id: &UploadId) {
        if let Some(waiter) = lock(&self.waiters).get(id) {
            waiter.notify_one();
        }
    }

    /// Wakes all requests that wait for a lease: notifications may have been lost.
    pub(crate) fn wake_all(&self) {
        for waiter in lock(&self.waiters).values() {
            waiter.notify_one();
        }
    }

    /// Registers the one request of this node that waits for the lease in the database.
    pub(crate) fn wait_for<'a>(&'a self, id: &'a UploadId) -> Waiter<'a> {
        let notify = Arc::new(Notify::new());
        lock(&self.waiters).insert(id.clone(), Arc::clone(&notify));
        Waiter {
            table: self,
            id,
            notify,
        }
    }
}

/// A registration of a waiting request, removed on drop.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    table: &'a Table,
    id: &'a UploadId,
    notify: Arc<Notify>,
}

impl Waiter<'_> {
    /// Waits until the request is woken; returns at once if that has happened since the last call.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        lock(&self.table.waiters).remove(self.id);
    }
}
