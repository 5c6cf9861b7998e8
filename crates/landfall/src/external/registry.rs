//! The interface through which a handler finds, removes and resolves the uploads of another component.
//!
//! The handler uses it for calls of the application and of hooks. Requests of clients for these uploads are the
//! component's. `owns` must decide by the id alone, without I/O.

use std::time::SystemTime;

use async_trait::async_trait;

use crate::{
    BoxError, Resolution,
    event::EventKind,
    upload::{Snapshot, UploadId},
};

/// A registry of uploads whose bytes bypass the handler.
#[async_trait]
pub trait ExternalUploads: std::fmt::Debug + Send + Sync + 'static {
    /// Returns whether this registry has, had, or may have an upload with this id.
    ///
    /// Decided by the id alone.
    fn owns(&self, id: &UploadId) -> bool;

    /// Returns an upload of the registry; see [`Handler::get`](crate::Handler::get).
    ///
    /// # Errors
    /// The state cannot be determined now.
    async fn get(&self, id: &UploadId) -> Result<Option<Snapshot>, BoxError>;

    /// Removes an upload of the registry; see [`Handler::remove`](crate::Handler::remove).
    ///
    /// # Errors
    /// The upload may still exist.
    async fn remove(&self, id: &UploadId) -> Result<bool, BoxError>;

    /// Resolves an event of the registry; see [`Handler::resolve`](crate::Handler::resolve).
    ///
    /// # Errors
    /// The outcome cannot be determined now.
    async fn resolve(
        &self,
        kind: EventKind,
        id: &UploadId,
        created: Option<SystemTime>,
    ) -> Result<Resolution, BoxError>;
}
