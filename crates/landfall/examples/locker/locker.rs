//! A locker written from nothing, for one process.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use landfall::{
    async_trait,
    lease::{Fence, Lease, LeaseError, LeaseGuard, Locker, YieldReason, YieldSignal},
    upload::UploadId,
};
use tokio::{sync::Notify, time::timeout};

#[derive(Debug, Clone, Default)]
pub(crate) struct OwnLocker {
    /// The signals of the holders.
    holders: Arc<Mutex<HashMap<UploadId, YieldSignal>>>,
    released: Arc<Notify>,
}

impl OwnLocker {
    /// Returns a lease, or the signal of the holder.
    fn lease(&self, id: &UploadId) -> Result<Lease, YieldSignal> {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = holders.get(id) {
            return Err(holder.clone());
        }
        let signal = YieldSignal::new();
        holders.insert(id.clone(), signal.clone());
        let guard = Guard(self.clone(), id.clone());
        // Grows over restarts, as a store that remembers fences requires.
        Ok(Lease::new(Fence::next(), signal, Box::new(guard)))
    }
}

#[async_trait]
impl Locker for OwnLocker {
    async fn acquire(&self, id: &UploadId, wait: Duration) -> Result<Lease, LeaseError> {
        let acquired = timeout(wait, async {
            loop {
                let mut released = pin!(self.released.notified());
                // From now on, a release is not missed.
                released.as_mut().enable();
                match self.lease(id) {
                    Ok(lease) => return lease,
                    Err(holder) => holder.set(YieldReason::Requested),
                }
                released.await;
            }
        });
        acquired.await.map_err(|_| LeaseError::Locked)
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        self.lease(id).map_err(|_| LeaseError::Locked)
    }
}

/// Releases the lease when it is dropped.
#[derive(Debug)]
struct Guard(OwnLocker, UploadId);

impl LeaseGuard for Guard {}

impl Drop for Guard {
    fn drop(&mut self) {
        let Self(locker, id) = self;
        let holders = locker.holders.lock();
        holders.unwrap_or_else(PoisonError::into_inner).remove(id);
        locker.released.notify_waiters();
    }
}
