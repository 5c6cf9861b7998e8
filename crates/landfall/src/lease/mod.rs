//! Leases: the exclusive right to write one upload.
//!
//! Every change of an upload happens under a [`Lease`]. A new request does not wait for the end of
//! an old one: [`Locker::acquire`] requests the holder to yield, and the holder commits the bytes it has
//! received and releases the lease. A lease carries a [`Fence`], a number that only grows. The
//! store checks it on every write, so a holder that lost its lease without noticing cannot write.
//!
//! `landfall_testkit::locker` tests an implementation.

mod fence;
#[cfg(feature = "file-store")]
pub(crate) mod file;
mod memory;
mod signal;
mod terms;

use std::{any::Any, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

#[cfg(feature = "file-store")]
pub use self::file::{FileLocker, Intervals};
pub use self::{
    fence::Fence,
    memory::MemoryLocker,
    signal::{YieldReason, YieldSignal},
    terms::LeaseTerms,
};
use crate::upload::UploadId;

/// A lock service for uploads.
///
/// Waiters get a lease in the order in which they came, and the holder of a lease with waiters is asked to yield
/// ([`YieldSignal::request`]). The simplest way to write one is to wrap a [`MemoryLocker`], which does both for the
/// requests of a process, and to acquire the lease of the other service while its lease is held.
///
/// The [`Fence`] of a lease must be greater than that of every earlier lease of the upload, also
/// after a restart: the store may remember the newest one permanently.
#[async_trait]
pub trait Locker: fmt::Debug + Send + Sync + 'static {
    /// Acquires the lease of `id`: [`acquire_at`](Self::acquire_at) without an offset.
    async fn acquire(&self, id: &UploadId, wait: Duration) -> Result<Lease, LeaseError> {
        self.acquire_at(id, None, wait).await
    }

    /// Acquires the lease of `id`: requests the holder to yield, and waits for at most `wait`.
    ///
    /// The upload need not exist: creation acquires its lease first. A request that appends names its
    /// `offset`: see [`YieldSignal::request`]. A holder that has stored more bytes keeps the lease. A
    /// locker that does not forward the offset interrupts each holder.
    ///
    /// # Errors
    /// [`LeaseError::Locked`] if it was not free in time.
    ///
    /// # Cancel safety
    /// A cancelled call leaves the queue of waiters.
    async fn acquire_at(
        &self,
        id: &UploadId,
        offset: Option<u64>,
        wait: Duration,
    ) -> Result<Lease, LeaseError>;

    /// Acquires the lease of `id` only if it is free, without a request to yield. For the sweeper.
    ///
    /// # Errors
    /// [`LeaseError::Locked`] if it is not free.
    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError>;

    /// Acquires the lease of `id` if it is free and that need not wait, without a future, which is an allocation.
    /// `None`: call another method. It need not be implemented.
    fn acquire_now(&self, _id: &UploadId) -> Option<Lease> {
        None
    }
}

/// An error of acquiring a lease.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Another request holds the lease and did not release it in time.
    #[error("the upload is being written by another request")]
    Locked,
    /// The lease service cannot be reached.
    #[error("leases are unavailable: {0}")]
    Unavailable(#[source] crate::BoxError),
}

/// The right to write one upload, until dropped.
#[derive(Debug)]
pub struct Lease {
    fence: Fence,
    signal: YieldSignal,
    held: Box<Held<dyn Any + Send + Sync>>,
}

/// In one box with the guard, since leases are in the futures of requests.
#[derive(Debug)]
struct Held<G: ?Sized> {
    terms: Option<Arc<LeaseTerms>>,
    _guard: G,
}

impl Lease {
    /// Creates a lease; for lockers. It is released by dropping the `guard`.
    #[must_use]
    pub fn new(fence: Fence, signal: YieldSignal, guard: impl Any + Send + Sync) -> Self {
        Self {
            fence,
            signal,
            held: Box::new(Held {
                terms: None,
                _guard: guard,
            }),
        }
    }

    /// Adds its end, and whether its former holder may still write; for lockers whose leases can end without their
    /// holder.
    #[must_use]
    pub fn with_terms(mut self, terms: Arc<LeaseTerms>) -> Self {
        self.held.terms = Some(terms);
        self
    }

    /// Returns its terms; `None` if it lasts until it is released.
    #[must_use]
    pub fn terms(&self) -> Option<&Arc<LeaseTerms>> {
        self.held.terms.as_ref()
    }

    /// Returns the number that proves to the store that this is the newest lease.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Returns the signal that requests the holder to yield.
    #[must_use]
    pub fn signal(&self) -> &YieldSignal {
        &self.signal
    }
}
