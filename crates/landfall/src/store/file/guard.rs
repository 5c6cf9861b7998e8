//! Leases of a service, for a directory whose bytes no service guards.
//!
//! A lease of a service ends without its holder, which may be stopped in the middle of a system call: by SIGSTOP, a
//! frozen cgroup, a paused virtual machine. When it goes on, its call takes effect, however long ago the lease ended.
//! So the store makes sure that such a call reaches nothing that another holder has written:
//!
//! * **The inode is the fence.** A new holder whose predecessor has not released the lease gives the bytes and the
//!   description new inodes ([`takeover`](super::takeover)) before it does anything else. Writes and truncations through
//!   an open file then change a file that nobody reads.
//! * **A holder looks again** after each write and before each acknowledgement: whether its lease has ended, and whether
//!   its file is still the one at the path. A write that was finished before the takeover is part of the copy; one that
//!   was not is never acknowledged.
//! * **Descriptions are replaced by `rename`**, which works on names. The holder creates the temporary file first, looks
//!   again then, and renames it last. A takeover removes the temporary files after it has replaced both inodes, so the
//!   late `rename` finds no file. A removal of an upload begins with such a replacement, too: the description of a
//!   terminated upload stands for none.
//! * **A lock on the bytes proves that a holder is gone**, on a file system that only this machine uses: it belongs to
//!   the open file, which ends with the process. Then nothing is copied. It is free also while the former holder lives
//!   but has released its lease.
//!
//! A released lease is given back to the service only after the last step that was running for it, even if its request
//! was dropped.
//!
//! What remains: where several machines share the directory, a client of a network file system may answer the second
//! look from its cache. The clock decides there, and does not see a virtual machine that was paused together with its
//! clock: such a node may acknowledge bytes that it wrote to the old inode, for as long as its cache lives, and save an
//! older description. It replaces no bytes. An application's change of a file ([`take`](super::FileStore::take)) holds no
//! lease. On a full disk a removal begins without a new description.

use std::{
    fmt, io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;

use super::{
    Inner,
    bound_lease::BoundLease,
    cache::{CachedUpload, WriterState},
    io_pool::StepKind,
    sys::{self, FileVersion},
};
use crate::{
    lease::{Lease, LeaseError, Locker},
    store::{Result, StoreError},
    upload::UploadId,
};

/// The file that a writer has opened, to find out whether another holder has replaced it.
#[derive(Debug)]
pub(super) struct OwnedData {
    lease: Arc<BoundLease>,
    data_path: Arc<str>,
    version: FileVersion,
}

impl OwnedData {
    pub(super) fn new(
        lease: Arc<BoundLease>,
        data_path: Arc<str>,
        data: &OwnedFd,
    ) -> io::Result<Self> {
        Ok(Self {
            lease,
            data_path,
            version: sys::stat_open(data.as_fd())?,
        })
    }

    /// Fails if what was written to the file until now may be missing from that of another holder.
    pub(super) fn check(&self, inner: &Inner, id: &UploadId) -> Result<()> {
        self.lease.check_own(id)?;
        let current = inner.stat(&self.data_path);
        match current.is_ok_and(|current| current.is_same_file(&self.version)) {
            true => Ok(()),
            false => Err(StoreError::LeaseLost(id.clone())),
        }
    }
}

/// The locker of a service for a store in a directory.
pub(super) struct GuardedLocker {
    pub(super) inner: Arc<Inner>,
    pub(super) locker: Arc<dyn Locker>,
}

impl GuardedLocker {
    async fn guarded(&self, id: &UploadId, lease: Lease) -> Result<Lease, LeaseError> {
        let Some(terms) = lease.terms().cloned() else {
            return Ok(lease);
        };
        let (inner, entry) = (&self.inner, self.inner.cache.get_or_insert(id));
        let (fence, signal) = (lease.fence(), lease.signal().clone());
        let bound = Arc::new(BoundLease::new(fence, Arc::clone(&terms)));
        // Before the first step, so that it is released after the last.
        let held = HeldLease {
            entry: Arc::clone(&entry),
            bound: Arc::clone(&bound),
            lease: Some(lease),
        };
        let step = |takes_over: bool| {
            let (inner, entry) = (Arc::clone(inner), Arc::clone(&entry));
            let (id, bound) = (id.clone(), Arc::clone(&bound));
            move |state: &mut WriterState| match takes_over {
                true => inner.take_over(&id, &entry, &bound).map(|()| true),
                false => {
                    state.bind(&id, &bound)?;
                    *entry.lease.lock() = Some(Arc::clone(&bound));
                    inner.is_secure(&id, &entry, &bound)
                }
            }
        };
        let secured = inner.io.run_locked(&entry, StepKind::Short(0), step(false));
        if !secured.await.map_err(lease_error)? {
            let taken = inner.io.run_locked(&entry, StepKind::Long, step(true));
            taken.await.map_err(lease_error)?;
        }
        Ok(Lease::new(fence, signal, held).with_terms(terms))
    }
}

fn lease_error(error: StoreError) -> LeaseError {
    match error {
        StoreError::LeaseLost(_) => LeaseError::Locked,
        error => LeaseError::Unavailable(error.into()),
    }
}

impl fmt::Debug for GuardedLocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GuardedLocker").field(&self.locker).finish()
    }
}

#[async_trait]
impl Locker for GuardedLocker {
    async fn acquire_at(
        &self,
        id: &UploadId,
        offset: Option<u64>,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        let lease = self.locker.acquire_at(id, offset, wait).await?;
        self.guarded(id, lease).await
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        let lease = self.locker.try_acquire(id).await?;
        self.guarded(id, lease).await
    }

    fn acquire_now(&self, id: &UploadId) -> Option<Lease> {
        // Securing the files may wait.
        (self.locker.acquire_now(id)).filter(|lease| lease.terms().is_none())
    }
}

/// Releases the lease on drop, after the last step that runs for it.
struct HeldLease {
    entry: Arc<CachedUpload>,
    bound: Arc<BoundLease>,
    lease: Option<Lease>,
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        // A step that has not begun fails.
        self.bound.end();
        let release = Release {
            bound: Arc::clone(&self.bound),
            lease: self.lease.take(),
        };
        if let Some(mut state) = self.entry.state.try_lock() {
            return release.run(&self.entry, &mut state);
        }
        let entry = Arc::clone(&self.entry);
        let release = move || release.run(&entry, &mut entry.state.lock());
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(release)),
            Err(_) => release(),
        }
    }
}

struct Release {
    bound: Arc<BoundLease>,
    lease: Option<Lease>,
}

impl Release {
    fn run(self, entry: &CachedUpload, state: &mut WriterState) {
        state.unbind(&self.bound);
        let mut current = entry.lease.lock();
        if current
            .as_ref()
            .is_some_and(|bound| Arc::ptr_eq(bound, &self.bound))
        {
            *current = None;
        }
        drop(current);
        self.bound.unlock();
        drop(self.lease);
    }
}
