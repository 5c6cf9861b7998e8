//! Leases within one process.

use std::{
    collections::{HashMap, VecDeque, hash_map, hash_map::RandomState},
    fmt,
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{Fence, Lease, LeaseError, LeaseGuard, Locker, YieldSignal};
use crate::upload::UploadId;

/// How many locks share the load of all uploads.
const SHARDS: usize = 64;

/// Leases kept in this process's memory: for a store that no other process writes to.
///
/// The holder is asked to yield the moment somebody else wants the lease; who waits gets it in the
/// order of asking, handed over directly by the one who lets go. A waiter that gets the lease while
/// others wait behind it finds its signal raised already. Nothing is kept for an upload that nobody
/// holds, and no lock is held while anybody waits.
///
/// Clones share the leases. Waiting needs a tokio runtime with its timer on.
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
    /// A locker without leases.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many uploads are leased at this moment.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether nobody has a lease.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the seat of `id` if it is free.
    pub(super) fn try_sit(&self, id: &UploadId) -> Option<Seat> {
        self.sit_or(id, |_| ())
    }

    /// Takes the seat of `id` after at most `wait`, requesting the holder to yield: see
    /// [`YieldSignal::request`].
    pub(super) async fn sit(
        &self,
        id: &UploadId,
        offset: Option<u64>,
        wait: Duration,
    ) -> Option<Seat> {
        if let Some(seat) = self.try_sit(id) {
            return Some(seat);
        }
        let (give, given) = oneshot::channel();
        let number = self.0.numbers.fetch_add(1, Ordering::Relaxed);
        let free = self.sit_or(id, |taken| {
            taken.waiters.push_back(Waiter {
                number,
                offset,
                signal: YieldSignal::new(),
                give,
            });
            taken.holder.request(offset);
        });
        if free.is_some() {
            return free;
        }
        // Leaves the queue when this future is dropped or out of patience. A seat that was given
        // in that very moment is dropped with the channel, which gives it to the next.
        let _place = Place {
            table: &self.0,
            id,
            number,
        };
        tokio::time::timeout(wait, given).await.ok()?.ok()
    }

    /// Takes the seat if it is free, or does something about the one who has it.
    fn sit_or(&self, id: &UploadId, taken: impl FnOnce(&mut Entry)) -> Option<Seat> {
        match self.0.shard(id).entry(id.clone()) {
            hash_map::Entry::Occupied(mut entry) => {
                taken(entry.get_mut());
                None
            }
            hash_map::Entry::Vacant(free) => {
                let signal = YieldSignal::new();
                free.insert(Entry {
                    holder: signal.clone(),
                    waiters: VecDeque::new(),
                });
                Some(Seat {
                    table: Arc::clone(&self.0),
                    id: id.clone(),
                    signal,
                    left: false,
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
    async fn acquire(&self, id: &UploadId, wait: Duration) -> Result<Lease, LeaseError> {
        let seat = self.sit(id, None, wait).await;
        seat.map(Seat::into_lease).ok_or(LeaseError::Held)
    }

    async fn acquire_at(
        &self,
        id: &UploadId,
        offset: u64,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        let seat = self.sit(id, Some(offset), wait).await;
        seat.map(Seat::into_lease).ok_or(LeaseError::Held)
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        self.try_sit(id)
            .map(Seat::into_lease)
            .ok_or(LeaseError::Held)
    }
}

struct Table {
    shards: [Mutex<HashMap<UploadId, Entry>>; SHARDS],
    hasher: RandomState,
    /// Numbers for waiters, by which each finds itself in its queue.
    numbers: AtomicU64,
}

/// A leased upload. It leaves the table when nobody has or wants the lease.
struct Entry {
    holder: YieldSignal,
    waiters: VecDeque<Waiter>,
}

struct Waiter {
    number: u64,
    offset: Option<u64>,
    signal: YieldSignal,
    give: oneshot::Sender<Seat>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            numbers: AtomicU64::new(0),
        }
    }
}

impl Table {
    fn shard(&self, id: &UploadId) -> MutexGuard<'_, HashMap<UploadId, Entry>> {
        let hash = self.hasher.hash_one(id);
        // The upper bits: the lower ones choose the place within the map.
        lock(&self.shards[(hash >> 32) as usize % SHARDS])
    }

    /// Makes the first waiter the holder, or forgets the upload.
    fn pass_on(&self, id: &UploadId) -> Option<Waiter> {
        let mut shard = self.shard(id);
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

/// A panic under one of these locks leaves the map whole, so poisoning says nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The exclusive place at an upload within this process; dropping it gives it to the next.
pub(super) struct Seat {
    table: Arc<Table>,
    id: UploadId,
    signal: YieldSignal,
    left: bool,
}

impl Seat {
    pub(super) fn signal(&self) -> &YieldSignal {
        &self.signal
    }

    fn into_lease(self) -> Lease {
        let signal = self.signal.clone();
        Lease::new(Fence::next(), signal, Box::new(self))
    }
}

impl LeaseGuard for Seat {}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seat").field(&self.id).finish()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        while let Some(Waiter { signal, give, .. }) = self.table.pass_on(&self.id) {
            let table = Arc::clone(&self.table);
            match give.send(Self {
                table,
                id: self.id.clone(),
                signal,
                left: false,
            }) {
                Ok(()) => return,
                // That waiter is gone: its seat must not pass itself on, this loop does.
                Err(mut seat) => seat.left = true,
            }
        }
    }
}

/// A place in a queue, given up when dropped.
struct Place<'a> {
    table: &'a Table,
    id: &'a UploadId,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.table.shard(self.id).get_mut(self.id) {
            entry.waiters.retain(|waiter| waiter.number != self.number);
        }
    }
}
