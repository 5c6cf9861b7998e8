//! The error of calls of the application. The errors of requests are the engine's.

use crate::{BoxError, lease::LeaseError, store::StoreError};

/// An error of a call of the application: of a method of the [`Handler`](crate::Handler), or of an
/// acknowledgement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandlerError {
    /// The store failed.
    #[error("store: {0}")]
    Store(#[source] StoreError),
    /// The upload is in use, or the locker failed.
    #[error("lease: {0}")]
    Lease(#[source] LeaseError),
    /// A hook, a sink or a registry of external uploads failed, or the upload's state does not allow the call.
    #[error("{0}")]
    Other(#[source] BoxError),
}
