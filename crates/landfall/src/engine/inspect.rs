use std::{sync::Arc, time::SystemTime};

use landfall_protocol::ProblemKind;

use super::{Engine, Error, RequestContext, is_missing};
use crate::{
    store::StoreError,
    upload::{Snapshot, Upload, UploadId},
};

#[derive(Debug)]
pub(crate) struct InspectOutcome {
    pub(crate) upload: Arc<Upload>,
    /// `None` for a final upload that is not concatenated yet.
    pub(crate) offset: Option<u64>,
    /// The bytes that are there. Differs from the offset if an application has changed a finished file.
    pub(crate) stored: u64,
    pub(crate) modified: SystemTime,
    pub(crate) expires: Option<SystemTime>,
}

impl InspectOutcome {
    fn new(snapshot: Snapshot, expires: Option<SystemTime>) -> Self {
        let offset = snapshot.stated_offset();
        let (upload, modified) = (snapshot.upload, snapshot.modified);
        let stored = match upload.is_concatenated() {
            true => snapshot.offset,
            false => 0,
        };
        Self {
            expires,
            offset: upload.is_concatenated().then_some(offset),
            stored,
            upload,
            modified,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.offset
            .is_some_and(|offset| self.upload.is_complete_at(offset))
    }
}

impl Engine {
    pub(crate) async fn get(self: &Arc<Self>, id: &UploadId) -> Result<Option<Snapshot>, Error> {
        match self.inspect(&None, id).await {
            Ok(found) if found.upload.is_description_only() => Ok(None),
            Ok(found) => Ok(Some(Snapshot {
                offset: found.stored,
                upload: found.upload,
                modified: found.modified,
            })),
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
        self.live.get(id).map(|live| Snapshot {
            upload: live.upload.clone(),
            offset: live.offset(),
            modified: SystemTime::now(),
        })
    }

    /// The offset of a running writer is read from memory.
    pub(crate) async fn inspect(
        self: &Arc<Self>,
        context: &RequestContext,
        id: &UploadId,
    ) -> Result<InspectOutcome, Error> {
        if let Some(last) = self.live_snapshot(id) {
            // All bytes are received, but hooks may still deny the completion.
            if self.is_finish_pending(&last) {
                return Err(ProblemKind::Locked.into());
            }
            return Ok(self.inspected(last));
        }
        let (mut snapshot, mut expires) = self.load_usable(id).await?;
        if !snapshot.upload.is_concatenated() {
            // Boxed because it is rare, as below: the largest branch sets the size of every request's future.
            return Box::pin(self.inspect_waiting(context, snapshot)).await;
        }
        if self.is_finish_pending(&snapshot) {
            // A crash interrupted the completion, or hooks are running.
            Box::pin(self.complete_interrupted(context, id)).await?;
            (snapshot, expires) = self.load_usable(id).await?;
        }
        Ok(InspectOutcome::new(snapshot, expires))
    }

    pub(super) fn inspected(&self, snapshot: Snapshot) -> InspectOutcome {
        let expires = self.expiry_of(&snapshot);
        InspectOutcome::new(snapshot, expires)
    }
}
