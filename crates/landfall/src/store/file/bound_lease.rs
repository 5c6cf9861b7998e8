//! A lease of a service as the writer of a directory holds it: until when, and under which lock.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    lease::{
        Fence, LeaseTerms,
        file::lock::{lock, unlock},
    },
    store::{Result, StoreError},
    upload::UploadId,
};

/// All bytes that a file can have.
const WHOLE: std::ops::Range<u64> = 0..1 << 62;

/// A lease of this process that ends without it.
#[derive(Debug)]
pub(super) struct BoundLease {
    fence: Fence,
    terms: Arc<LeaseTerms>,
    /// The open data file, which is locked while the lease is held.
    writer: Mutex<Option<OwnedFd>>,
    /// The disk had no space for a copy of the bytes, so that nothing can be written.
    is_full: AtomicBool,
}

impl BoundLease {
    pub(super) fn new(fence: Fence, terms: Arc<LeaseTerms>) -> Self {
        Self {
            fence,
            terms,
            writer: Mutex::default(),
            is_full: AtomicBool::new(false),
        }
    }

    /// Steps that have not begun fail from now on.
    pub(super) fn end(&self) {
        self.terms.end();
    }

    /// Fails if the lease with this fence has ended.
    pub(super) fn check(&self, id: &UploadId, fence: Fence) -> Result<()> {
        if fence < self.fence || fence == self.fence && self.terms.has_ended() {
            return Err(StoreError::LeaseLost(id.clone()));
        }
        Ok(())
    }

    pub(super) fn check_own(&self, id: &UploadId) -> Result<()> {
        self.check(id, self.fence)
    }

    /// The upload can still be removed.
    pub(super) fn refuse_writes(&self) {
        self.is_full.store(true, Ordering::Relaxed);
    }

    pub(super) fn check_writes(&self) -> Result<()> {
        match self.is_full.load(Ordering::Relaxed) {
            true => Err(StoreError::Full(
                "no space to take the upload over from a server that did not release it".into(),
            )),
            false => Ok(()),
        }
    }

    pub(super) fn fence(&self) -> Fence {
        self.fence
    }

    pub(super) fn settle(&self) {
        self.terms.settle();
    }

    pub(super) fn is_settled(&self) -> bool {
        self.terms.is_settled()
    }

    /// Shows other processes that the writer of a file lives; false if another one does.
    pub(super) fn lock(&self, data: OwnedFd) -> io::Result<bool> {
        let is_locked = lock(&data, &WHOLE)?;
        if is_locked {
            *self.writer.lock() = Some(data);
        }
        Ok(is_locked)
    }

    pub(super) fn unlock(&self) {
        if let Some(data) = self.writer.lock().take()
            // A step that no longer runs may still keep the file open.
            && let Err(error) = unlock(&data, &WHOLE)
        {
            tracing::debug!(%error, "failed to unlock the data of an upload");
        }
    }
}
