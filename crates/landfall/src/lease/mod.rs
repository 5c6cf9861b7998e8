//! The right to write one upload.
//!
//! Everything that changes an upload happens under a [`Lease`]. A new request does not wait for an
//! old one to end: [`Locker::acquire`] asks the holder to yield, the holder keeps what it has
//! received, and lets go. A lease carries a [`Fence`]: a number that only grows, checked by the store
//! where the bytes land, so that a holder which lost its lease without noticing can't write.
//!
//! `landfall_testkit::locker` proves an implementation.

mod fence;
mod file;
mod memory;
pub mod remote;
mod signal;

use std::{fmt, time::Duration};

use async_trait::async_trait;

pub use self::{
    fence::Fence,
    file::{FileLocker, Intervals},
    memory::MemoryLocker,
    signal::{YieldReason, YieldSignal},
};
use crate::upload::UploadId;

/// Hands out leases.
///
/// The [`Fence`] of a lease must be greater than that of every earlier lease of the upload, also after
/// a restart: the store may remember the newest one for ever.
#[async_trait]
pub trait Locker: fmt::Debug + Send + Sync + 'static {
    /// Takes the lease of `id`, asking whoever has it to yield, and waiting for at most `wait`.
    ///
    /// The lease need not belong to an upload that exists: creation takes it first.
    ///
    /// # Errors
    /// [`LeaseError::Held`] if it wasn't free in time.
    ///
    /// # Cancel safety
    /// Dropping the call gives up the place in the queue.
    async fn acquire(&self, id: &UploadId, wait: Duration) -> Result<Lease, LeaseError>;

    /// Acquires the lease of `id` for a request that appends at `offset`: see
    /// [`YieldSignal::request`]. A holder that has stored more bytes keeps it. A locker that does not
    /// forward the offset interrupts each holder.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    async fn acquire_at(
        &self,
        id: &UploadId,
        offset: u64,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        let _ = offset;
        self.acquire(id, wait).await
    }

    /// Takes the lease of `id` only if nobody has it; nobody is asked to yield. For the sweeper.
    ///
    /// # Errors
    /// [`LeaseError::Held`] if somebody has it.
    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError>;
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Somebody has it and did not let go in time.
    #[error("the upload is being written by another request")]
    Held,
    /// The place where leases are kept can't be reached.
    #[error("leases are unavailable: {0}")]
    Unavailable(#[source] crate::BoxError),
}

/// What a locker keeps for a lease; dropping it releases the lease.
pub trait LeaseGuard: fmt::Debug + Send + Sync {}

/// The right to write one upload, until dropped.
#[derive(Debug)]
pub struct Lease {
    fence: Fence,
    signal: YieldSignal,
    _held: Box<dyn LeaseGuard>,
}

impl Lease {
    /// Puts a lease together; for lockers.
    #[must_use]
    pub fn new(fence: Fence, signal: YieldSignal, held: Box<dyn LeaseGuard>) -> Self {
        Self {
            fence,
            signal,
            _held: held,
        }
    }

    /// The number that proves to the store that this is the newest lease.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Tells the holder when to let go.
    #[must_use]
    pub fn signal(&self) -> &YieldSignal {
        &self.signal
    }
}
