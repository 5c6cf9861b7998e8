//! Creations under a claim: one upload for all of them.

use std::sync::Arc;

use landfall_protocol::ProblemKind;

use super::{Engine, Error, create::Created};
use crate::{
    hook::{ClientResponse, IdempotencyKey},
    lease::Lease,
    store::StoreError,
    upload::Upload,
};

/// A claim whose turn it is.
#[derive(Debug)]
pub(super) struct IdempotentCreate {
    claim: Arc<dyn IdempotencyKey>,
    /// Keeps others of this claim out until the upload is there to be found.
    _lease: Option<Lease>,
}

/// What a claim is worth.
pub(super) enum KeyState {
    /// Nothing was made under it yet (or there is none).
    New(Option<IdempotentCreate>),
    /// The upload that was made under it.
    Exists(Created),
}

impl Engine {
    /// Waits for the turn of a claim, and looks what was made under it.
    pub(super) async fn claim(
        self: &Arc<Self>,
        claim: Option<Arc<dyn IdempotencyKey>>,
        reply: &ClientResponse,
    ) -> Result<KeyState, Error> {
        let Some(claim) = claim else {
            return Ok(KeyState::New(None));
        };
        let lease = match claim.key() {
            Some(key) => Some(self.lease(key).await?),
            None => None,
        };
        if let Some(id) = claim.stored_id().await? {
            match Box::pin(self.inspect(&None, &id)).await {
                Ok(found) => {
                    return Ok(KeyState::Exists(Created {
                        offset: found.offset,
                        expires: found.expires,
                        upload: found.upload,
                        reply: reply.clone(),
                        existed: true,
                    }));
                }
                Err(error) if error.problem().kind == ProblemKind::NotFound => {}
                // Nobody can resume it. A kill in the middle of a creation leaves such an upload.
                Err(Error::Store(StoreError::Damaged { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(KeyState::New(Some(IdempotentCreate {
            claim,
            _lease: lease,
        })))
    }

    /// Gives an upload the id under which it will be known, and lets the claim know it.
    pub(super) async fn assign_id(
        &self,
        upload: &mut Upload,
        held: Option<&IdempotentCreate>,
    ) -> Result<(), Error> {
        self.parts.get_store().assign_id(upload).await?;
        if let Some(held) = held {
            held.claim.store_id(upload).await?;
        }
        Ok(())
    }
}
