//! Claims: exactly one upload, however often and from wherever it is asked for.

use std::fmt;

use async_trait::async_trait;

use super::ClientResponse;
use crate::{
    BoxError,
    upload::{Upload, UploadId},
};

/// The right to create one upload. A creation that comes again, because its answer was lost or on
/// several connections at once, is answered with the upload that there is.
///
/// Both methods are called while the creation has the lease called [`key`](Self::key), so that those
/// of one claim come one after another.
#[async_trait]
pub trait IdempotencyKey: fmt::Debug + Send + Sync + 'static {
    /// The lease that keeps others of this claim out; no upload may have this id. `None` if there can
    /// be no others.
    fn key(&self) -> Option<&UploadId>;

    /// The upload that was noted before, if any. If it isn't in the store, or damaged, a creation came
    /// to nothing, and another one is made.
    ///
    /// # Errors
    /// Nothing is created then.
    async fn stored_id(&self) -> Result<Option<UploadId>, IdempotencyError>;

    /// Notes the upload that is about to be created, in place of what was noted before. Its id is
    /// final; labels may be added.
    ///
    /// # Errors
    /// Nothing is created then.
    async fn store_id(&self, upload: &mut Upload) -> Result<(), IdempotencyError>;
}

/// Why nothing may be created.
#[derive(Debug, thiserror::Error)]
pub enum IdempotencyError {
    /// The claim doesn't hold, or not any more: what the client is to be told.
    #[error("the claim doesn't hold")]
    Lost(Box<ClientResponse>),
    /// It can't be found out now: the request fails with 503.
    #[error("{0}")]
    Failed(#[source] BoxError),
}

impl IdempotencyError {
    /// [`Lost`](Self::Lost), with a status and a plain text.
    #[must_use]
    pub fn lost(reply: ClientResponse) -> Self {
        Self::Lost(Box::new(reply))
    }
}
