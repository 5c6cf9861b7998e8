//! Creations under a claim: one upload for all of them.

use std::sync::Arc;

use landfall_protocol::Fault;

use super::{Engine, Error, create::Created};
use crate::{
    hook::{Claim, Reply},
    lease::Lease,
    store::StoreError,
    upload::Upload,
};

/// A claim whose turn it is.
#[derive(Debug)]
pub(super) struct LeasedClaim {
    claim: Arc<dyn Claim>,
    /// Keeps others of this claim out until the upload is there to be found.
    _lease: Option<Lease>,
}

/// What a claim is worth.
pub(super) enum Turn {
    /// Nothing was made under it yet (or there is none).
    Free(Option<LeasedClaim>),
    /// The upload that was made under it.
    Made(Created),
}

impl Engine {
    /// Waits for the turn of a claim, and looks what was made under it.
    pub(super) async fn claim(
        self: &Arc<Self>,
        claim: Option<Arc<dyn Claim>>,
        reply: &Reply,
    ) -> Result<Turn, Error> {
        let Some(claim) = claim else {
            return Ok(Turn::Free(None));
        };
        let lease = match claim.key() {
            Some(key) => Some(self.lease(key).await?),
            None => None,
        };
        if let Some(id) = claim.noted().await? {
            match Box::pin(self.inspect(&None, &id)).await {
                Ok(found) => {
                    return Ok(Turn::Made(Created {
                        offset: found.offset,
                        expires: found.expires,
                        upload: found.upload,
                        reply: reply.clone(),
                        existed: true,
                    }));
                }
                Err(error) if error.problem().fault == Fault::NotFound => {}
                // Nobody can resume it. A kill in the middle of a creation leaves such an upload.
                Err(Error::Store(StoreError::Damaged { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Turn::Free(Some(LeasedClaim {
            claim,
            _lease: lease,
        })))
    }

    /// Gives an upload the id under which it will be known, and lets the claim know it.
    pub(super) async fn assign_id(
        &self,
        upload: &mut Upload,
        held: Option<&LeasedClaim>,
    ) -> Result<(), Error> {
        self.parts.get_store().assign_id(upload).await?;
        if let Some(held) = held {
            held.claim.note(upload).await?;
        }
        Ok(())
    }
}
