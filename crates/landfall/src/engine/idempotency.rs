//! Idempotent creation: requests with the same idempotency key get the same upload.

use std::sync::Arc;

use landfall_protocol::ProblemKind;

use super::{Engine, Error, InspectOutcome};
use crate::{hook::IdempotencyKey, lease::Lease, store::StoreError, upload::Upload};

/// A creation with an idempotency key that has no upload yet.
#[derive(Debug)]
pub(super) struct IdempotentCreate {
    key: Arc<dyn IdempotencyKey>,
    /// Blocks other requests with this key until the upload is stored.
    _lease: Option<Lease>,
}

pub(super) enum KeyState {
    /// It has no upload yet, or the request has no key.
    New(Option<IdempotentCreate>),
    /// The upload that was created with it.
    Exists(InspectOutcome),
}

impl Engine {
    /// Acquires the lease of an idempotency key and loads the upload that was created with it, if any.
    pub(super) async fn start_idempotent(
        self: &Arc<Self>,
        key: Option<Arc<dyn IdempotencyKey>>,
    ) -> Result<KeyState, Error> {
        let Some(key) = key else {
            return Ok(KeyState::New(None));
        };
        let lease = match key.key() {
            Some(lock) => Some(self.lease(lock).await?),
            None => None,
        };
        if let Some(id) = key.stored_id().await? {
            match Box::pin(self.inspect(&None, &id)).await {
                Ok(found) => return Ok(KeyState::Exists(found)),
                Err(error) if error.problem().kind == ProblemKind::NotFound => {}
                // A crash during creation leaves a damaged upload, which cannot be resumed.
                Err(Error::Store(StoreError::Damaged { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(KeyState::New(Some(IdempotentCreate { key, _lease: lease })))
    }

    /// Assigns the upload's final id and stores it with the idempotency key.
    pub(super) async fn assign_id(
        &self,
        upload: &mut Upload,
        idempotent: Option<&IdempotentCreate>,
    ) -> Result<(), Error> {
        self.composer.store().assign_id(upload).await?;
        if let Some(idempotent) = idempotent {
            idempotent.key.store_id(upload).await?;
        }
        Ok(())
    }
}
