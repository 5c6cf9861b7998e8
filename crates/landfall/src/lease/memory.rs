//! Leases within one process, and the queue of the requests that wait for them.
//!
//! The other lockers use it for the requests of their process, and acquire their own lease under it. The lock of a
//! shard must not be held while a lease is granted or dropped: dropping a lease locks its shard.

use std::{
    collections::{VecDeque, hash_map},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{Fence, Lease, LeaseError, Locker, YieldSignal};
use crate::upload::{Sharded, UploadId, UploadMap};

/// A locker with leases in memory, for a store that only this process writes to.
///
/// A new request sets the holder's yield signal at once. Waiters get the lease in the order of
/// their requests, directly from the previous holder. A waiter that gets the lease while others
/// wait finds its signal set already. The table has no entries for uploads without a lease.
///
/// Clones share the leases. Waiting needs a tokio runtime with timers enabled.
///
/// ```
/// # use std::time::Duration;
/// use landfall::{lease::{Locker, MemoryLocker}, upload::UploadId};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let locker = MemoryLocker::new();
/// let id = UploadId::random();
/// let lease = locker.acquire(&id, Duration::from_secs(1)).await?;
/// assert!(locker.try_acquire(&id).await.is_err());
/// drop(lease);
/// assert!(locker.try_acquire(&id).await.is_ok());
/// # Ok::<(), landfall::lease::LeaseError>(()) }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct MemoryLocker(Arc<Table>);

impl MemoryLocker {
    /// Creates a locker without leases.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of leases.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.leases.shards().map(|shard| shard.len()).sum()
    }

    /// Returns whether there are no leases.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn try_acquire_local(&self, id: &UploadId) -> Option<LocalLease> {
        self.acquire_local_or(id, |_| ())
    }

    /// Requests the holder to yield: see [`YieldSignal::request`].
    pub(super) async fn acquire_local(
        &self,
        id: &UploadId,
        offset: Option<u64>,
        wait: Duration,
    ) -> Option<LocalLease> {
        if let Some(lease) = self.try_acquire_local(id) {
            return Some(lease);
        }
        let (granted, grant) = oneshot::channel();
        let number = self.0.next_waiter.fetch_add(1, Ordering::Relaxed);
        let acquired = self.acquire_local_or(id, |taken| {
            taken.waiters.push_back(Waiter {
                number,
                offset,
                signal: YieldSignal::new(),
                granted,
            });
            taken.holder.request(offset);
        });
        if acquired.is_some() {
            return acquired;
        }
        // Leaves the queue when this future is dropped or times out. A lease granted at that moment
        // is dropped with the channel, which hands it off to the next waiter.
        let _guard = WaiterGuard {
            table: &self.0,
            id,
            number,
        };
        tokio::time::timeout(wait, grant).await.ok()?.ok()
    }

    fn acquire_local_or(
        &self,
        id: &UploadId,
        taken: impl FnOnce(&mut LockEntry),
    ) -> Option<LocalLease> {
        match self.0.leases.shard(id).entry(id.clone()) {
            hash_map::Entry::Occupied(mut entry) => {
                taken(entry.get_mut());
                None
            }
            hash_map::Entry::Vacant(vacant) => {
                let signal = YieldSignal::new();
                vacant.insert(LockEntry {
                    holder: signal.clone(),
                    waiters: VecDeque::new(),
                });
                Some(LocalLease {
                    table: Arc::clone(&self.0),
                    id: id.clone(),
                    signal,
                    handed_off: false,
                })
            }
        }
    }
}

impl fmt::Debug for MemoryLocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLocker")
            .field("leases", &self.len())
            .finish()
    }
}

#[async_trait]
impl Locker for MemoryLocker {
    async fn acquire_at(
        &self,
        id: &UploadId,
        offset: Option<u64>,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        let lease = self.acquire_local(id, offset, wait).await;
        lease.map(LocalLease::into_lease).ok_or(LeaseError::Locked)
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        self.acquire_now(id).ok_or(LeaseError::Locked)
    }

    fn acquire_now(&self, id: &UploadId) -> Option<Lease> {
        self.try_acquire_local(id).map(LocalLease::into_lease)
    }
}

#[derive(Default)]
struct Table {
    leases: Sharded<UploadMap<LockEntry>>,
    next_waiter: AtomicU64,
}

struct LockEntry {
    holder: YieldSignal,
    waiters: VecDeque<Waiter>,
}

struct Waiter {
    number: u64,
    offset: Option<u64>,
    signal: YieldSignal,
    granted: oneshot::Sender<LocalLease>,
}

impl Table {
    fn hand_off(&self, id: &UploadId) -> Option<Waiter> {
        let mut shard = self.leases.shard(id);
        let entry = shard.get_mut(id)?;
        let Some(waiter) = entry.waiters.pop_front() else {
            shard.remove(id);
            return None;
        };
        entry.holder = waiter.signal.clone();
        for waiter in &entry.waiters {
            entry.holder.request(waiter.offset);
        }
        Some(waiter)
    }
}

/// Dropping it hands the lease off to the next waiter.
pub(super) struct LocalLease {
    table: Arc<Table>,
    id: UploadId,
    signal: YieldSignal,
    handed_off: bool,
}

impl LocalLease {
    #[cfg(feature = "file-store")]
    pub(super) fn signal(&self) -> &YieldSignal {
        &self.signal
    }

    fn into_lease(self) -> Lease {
        let signal = self.signal.clone();
        Lease::new(Fence::next(), signal, self)
    }
}

impl Drop for LocalLease {
    fn drop(&mut self) {
        if self.handed_off {
            return;
        }
        while let Some(Waiter {
            signal, granted, ..
        }) = self.table.hand_off(&self.id)
        {
            let table = Arc::clone(&self.table);
            match granted.send(Self {
                table,
                id: self.id.clone(),
                signal,
                handed_off: false,
            }) {
                Ok(()) => return,
                // That waiter is gone. Its lease must not hand off too, since this loop continues.
                Err(mut lease) => lease.handed_off = true,
            }
        }
    }
}

struct WaiterGuard<'a> {
    table: &'a Table,
    id: &'a UploadId,
    number: u64,
}

impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.table.leases.shard(self.id).get_mut(self.id) {
            entry.waiters.retain(|waiter| waiter.number != self.number);
        }
    }
}
