//! Idempotency keys: one upload, however often its creation is requested.

use std::fmt;

use async_trait::async_trait;

use super::response::ClientResponse;
use crate::{
    BoxError,
    upload::{Upload, UploadId},
};

/// The idempotency key of a creation.
///
/// A creation that is repeated, because its response was lost or on several connections at once, returns
/// the existing upload. Both methods are called while the creation holds the lease named
/// [`key`](Self::key), so creations with the same key run one after another.
#[async_trait]
pub trait IdempotencyKey: fmt::Debug + Send + Sync + 'static {
    /// Returns the lease that serializes creations with this key; no upload may have this id.
    ///
    /// `None` if there can be no others.
    fn key(&self) -> Option<&UploadId>;

    /// Returns the upload that was stored for this key, if any.
    ///
    /// If it does not exist or is damaged, its creation failed, and another upload is created.
    ///
    /// # Errors
    /// The creation fails.
    async fn stored_id(&self) -> Result<Option<UploadId>, IdempotencyError>;

    /// Stores the upload that will be created, replacing an earlier one.
    ///
    /// Its id is final; labels may be added.
    ///
    /// # Errors
    /// The creation fails.
    async fn store_id(&self, upload: &mut Upload) -> Result<(), IdempotencyError>;
}

/// An error of an idempotency key; the creation fails.
#[derive(Debug, thiserror::Error)]
pub enum IdempotencyError {
    /// The key is no longer valid; holds the response for the client.
    #[error("the idempotency key is no longer valid")]
    Lost(Box<ClientResponse>),
    /// The key cannot be checked now: the request fails with 503.
    #[error("{0}")]
    Failed(#[source] BoxError),
}

impl IdempotencyError {
    /// Creates [`Lost`](Self::Lost) with a response.
    #[must_use]
    pub fn lost(reply: ClientResponse) -> Self {
        Self::Lost(Box::new(reply))
    }
}
