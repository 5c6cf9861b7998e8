//! The state of an upload, as HEAD, GET and the application see it.
//!
//! It waits for no lease: the offset of a running writer is read from memory. An upload whose completion hooks have not
//! decided is reported as locked. If the lease is free, an interrupted completion is completed first, and an
//! interrupted write, which the store may lose, is repeated.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use landfall_protocol::ProblemKind;
use tokio::time::timeout;

use super::{Engine, Error, RequestContext, is_missing};
use crate::{
    store::StoreError,
    upload::{Snapshot, UploadId},
};

/// A store that hangs must not hold HEAD while a writer is in memory.
const STORED_TIMEOUT: Duration = Duration::from_secs(1);

/// The state of an upload, and when it expires.
pub(crate) type Inspected = (Snapshot, Option<SystemTime>);

impl Engine {
    pub(crate) async fn get(self: &Arc<Self>, id: &UploadId) -> Result<Option<Snapshot>, Error> {
        match self.inspect(RequestContext::NONE, id).await {
            Ok((found, _)) if found.upload.is_description_only() => Ok(None),
            Ok((found, _)) => Ok(Some(found)),
            Err(error) => match error.problem().kind {
                ProblemKind::NotFound | ProblemKind::Rejected => Ok(None),
                // Expired, missing a part, or being completed: the upload exists.
                ProblemKind::Gone | ProblemKind::Locked => {
                    let stored = self.stored(id).await?;
                    Ok(stored.filter(|found| !found.upload.is_description_only()))
                }
                _ => Err(error),
            },
        }
    }

    /// Returns whether a request writes the upload, or is about to.
    pub(crate) fn is_being_written(&self, id: &UploadId) -> bool {
        self.live.is_being_written(id)
    }

    /// The offset is then likely still valid when the client resumes: see
    /// [`LiveUploads::wait_until_stable`](super::live::LiveUploads::wait_until_stable).
    pub(crate) async fn wait_for_stable_offset(&self, id: &UploadId) {
        self.live.wait_until_stable(id).await;
    }

    pub(super) async fn stored(&self, id: &UploadId) -> Result<Option<Snapshot>, StoreError> {
        match self.composer.store().load(id).await {
            Err(error) if is_missing(&error) => Ok(None),
            found => found.map(Some),
        }
    }

    pub(super) fn live_snapshot(&self, id: &UploadId) -> Option<Snapshot> {
        self.live.get(id).map(|live| live.snapshot())
    }

    /// The offset of a running writer is read from memory, and from the store if another node may have seen more
    /// there: offsets never fall.
    pub(crate) async fn inspect(
        self: &Arc<Self>,
        context: &RequestContext,
        id: &UploadId,
    ) -> Result<Inspected, Error> {
        if let Some(live) = self.live.get(id) {
            let mut last = live.snapshot();
            if live.can_lag() {
                // Boxed, as below, because it is rare: the largest branch sets the size of every request's future.
                last.offset = last.offset.max(Box::pin(self.stored_offset(id)).await?);
            }
            // All bytes are received, but hooks may still deny the completion.
            if self.is_finish_pending(&last) {
                return Err(ProblemKind::Locked.into());
            }
            return Ok(self.with_expiry(last));
        }
        let mut found = self.load_usable(id).await?;
        if !found.0.is_settled {
            found.0 = Box::pin(self.repeat_write(id)).await?;
        }
        if !found.0.upload.is_concatenated() {
            return Box::pin(self.inspect_waiting(context, found.0)).await;
        }
        if self.is_finish_pending(&found.0) {
            // A crash interrupted the completion, or hooks are running.
            Box::pin(self.complete_interrupted(context, id)).await?;
            found = self.load_usable(id).await?;
        }
        Ok(found)
    }

    /// Returns the offset that other nodes see. A store that does not answer is an error: they may have seen more
    /// than is in memory, and offsets never fall.
    async fn stored_offset(&self, id: &UploadId) -> Result<u64, Error> {
        let found = timeout(STORED_TIMEOUT, self.stored(id)).await;
        let found = found.map_err(|_| Error::from(ProblemKind::Unavailable))??;
        match found {
            // Its writer is about to write the same again.
            Some(found) if !found.is_settled => Err(ProblemKind::Unavailable.into()),
            found => Ok(found.map_or(0, |found| found.stated_offset())),
        }
    }

    /// Resumes an upload after an interrupted write: the store then has the bytes that count for good. An offset that
    /// clients have seen must not fall.
    async fn repeat_write(&self, id: &UploadId) -> Result<Snapshot, Error> {
        let Some(lease) = self.free_lease(id).await? else {
            return Err(ProblemKind::Locked.into());
        };
        let resumed = self.composer.store().resume(id, lease.fence());
        let (snapshot, _) = Self::while_held(&lease, resumed).await?;
        Ok(snapshot)
    }

    pub(super) fn with_expiry(&self, found: Snapshot) -> Inspected {
        let expires = self.expiry_of(&found);
        (found, expires)
    }
}
