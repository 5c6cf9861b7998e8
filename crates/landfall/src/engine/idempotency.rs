use std::sync::Arc;

use landfall_protocol::ProblemKind;

use super::{Engine, Error, InspectOutcome};
use crate::{hook::IdempotencyKey, lease::Lease, store::StoreError, upload::Upload};

#[derive(Debug)]
pub(super) struct IdempotentCreate {
    key: Arc<dyn IdempotencyKey>,
    _lease: Option<Lease>,
}

pub(super) enum KeyState {
    New(Option<IdempotentCreate>),
    Exists(InspectOutcome),
}

impl Engine {
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
