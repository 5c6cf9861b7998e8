//! Loses leases on command, to prove that a store rejects a holder that has lost its lease, even without notice.
//!
//! The inner lease is kept here, and the holder gets one with the same fence and signal.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use landfall::{
    lease::{Fence, Lease, LeaseError, Locker, YieldReason},
    upload::UploadId,
};
use parking_lot::Mutex;

/// A locker whose leases can be revoked, as when the lease backend is unreachable for too long.
#[derive(Debug, Clone)]
pub struct FaultLocker {
    inner: Arc<dyn Locker>,
    leases: Arc<Mutex<HashMap<UploadId, Lease>>>,
}

impl FaultLocker {
    /// Puts the means of losing leases around `inner`.
    pub fn new(inner: impl Locker) -> Self {
        Self {
            inner: Arc::new(inner),
            leases: Arc::default(),
        }
    }

    /// Revokes the lease of `id` and signals its holder; returns false if there is none.
    pub fn lose(&self, id: &UploadId) -> bool {
        let lease = self.leases.lock().remove(id);
        if let Some(lease) = &lease {
            lease.signal().set(YieldReason::LeaseLost);
        }
        lease.is_some()
    }

    /// Takes the lease of `id` from its holder, which doesn't notice. Says whether there was one.
    pub fn lose_silently(&self, id: &UploadId) -> bool {
        self.leases.lock().remove(id).is_some()
    }

    /// Returns the uploads whose leases are held.
    pub fn held(&self) -> Vec<UploadId> {
        self.leases.lock().keys().cloned().collect()
    }

    fn keep(&self, id: &UploadId, lease: Lease) -> Lease {
        let (fence, signal) = (lease.fence(), lease.signal().clone());
        self.leases.lock().insert(id.clone(), lease);
        let guard = RevocableLease {
            locker: self.clone(),
            id: id.clone(),
            fence,
        };
        Lease::new(fence, signal, guard)
    }
}

#[async_trait]
impl Locker for FaultLocker {
    async fn acquire_at(
        &self,
        id: &UploadId,
        offset: Option<u64>,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        Ok(self.keep(id, self.inner.acquire_at(id, offset, wait).await?))
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        Ok(self.keep(id, self.inner.try_acquire(id).await?))
    }
}

#[derive(Debug)]
struct RevocableLease {
    locker: FaultLocker,
    id: UploadId,
    fence: Fence,
}

impl Drop for RevocableLease {
    fn drop(&mut self) {
        let mut leases = self.locker.leases.lock();
        // Unless it was revoked, and another request has it.
        let lease = leases.get(&self.id).map(Lease::fence);
        let own = lease.filter(|fence| *fence == self.fence);
        let lease = own.and_then(|_| leases.remove(&self.id));
        drop(leases);
        drop(lease);
    }
}
