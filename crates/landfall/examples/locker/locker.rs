//! A locker written from nothing, for one process: a mutex per upload, which serves waiters in order.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use landfall::{
    async_trait,
    lease::{Fence, Lease, LeaseError, Locker, YieldReason, YieldSignal},
    upload::UploadId,
};
use tokio::{sync::OwnedMutexGuard, time::timeout};

#[derive(Debug, Clone, Default)]
pub(crate) struct OwnLocker(Arc<Mutex<HashMap<UploadId, Slot>>>);

#[derive(Debug, Default)]
struct Slot {
    lock: Arc<tokio::sync::Mutex<()>>,
    /// The signal of the holder.
    holder: YieldSignal,
    /// The holder and the waiters.
    users: usize,
}

impl OwnLocker {
    fn slots(&self) -> MutexGuard<'_, HashMap<UploadId, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the users of an upload; `request` asks its holder to yield.
    fn enter(&self, id: &UploadId, request: bool) -> (User, Arc<tokio::sync::Mutex<()>>) {
        let mut slots = self.slots();
        let slot = slots.entry(id.clone()).or_default();
        slot.users += 1;
        if request {
            slot.holder.set(YieldReason::Requested);
        }
        (User(self.clone(), id.clone()), slot.lock.clone())
    }
}

/// A holder or waiter; leaves when it is dropped.
#[derive(Debug)]
struct User(OwnLocker, UploadId);

impl User {
    fn lease(self, locked: OwnedMutexGuard<()>) -> Lease {
        let signal = YieldSignal::new();
        if let Some(slot) = self.0.slots().get_mut(&self.1) {
            slot.holder = signal.clone();
            // The next waiter has requested it from the holder before.
            if slot.users > 1 {
                signal.set(YieldReason::Requested);
            }
        }
        // `Fence::next` grows over restarts, as a store that remembers fences requires.
        Lease::new(Fence::next(), signal, Guard(self, locked))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut slots = self.0.slots();
        if let Some(slot) = slots.get_mut(&self.1) {
            slot.users -= 1;
            if slot.users == 0 {
                slots.remove(&self.1);
            }
        }
    }
}

/// Leaves first, then releases the lock, so that the next holder counts only others.
#[derive(Debug)]
#[allow(dead_code, reason = "they are dropped")]
struct Guard(User, OwnedMutexGuard<()>);

#[async_trait]
impl Locker for OwnLocker {
    async fn acquire_at(
        &self,
        id: &UploadId,
        _offset: Option<u64>,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        let (user, lock) = self.enter(id, true);
        let locked = timeout(wait, lock.lock_owned()).await;
        Ok(user.lease(locked.map_err(|_| LeaseError::Locked)?))
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        let (user, lock) = self.enter(id, false);
        Ok(user.lease(lock.try_lock_owned().map_err(|_| LeaseError::Locked)?))
    }
}
