//! How far an upload got.

use std::{sync::Arc, time::SystemTime};

use landfall_protocol::ProblemKind;

use super::{Engine, Error, RequestContext};
use crate::{
    store::StoreError,
    upload::{Snapshot, Upload, UploadId},
};

/// What is known about an upload without touching it.
#[derive(Debug)]
pub(crate) struct Inspected {
    pub(crate) upload: Arc<Upload>,
    /// `None` for a final upload that is not concatenated yet.
    pub(crate) offset: Option<u64>,
    pub(crate) modified: SystemTime,
    pub(crate) expires: Option<SystemTime>,
}

impl Inspected {
    pub(crate) fn is_complete(&self) -> bool {
        self.offset
            .is_some_and(|offset| self.upload.is_complete_at(offset))
    }
}

impl Engine {
    /// An upload as it stands, for the application; `None` if there is none.
    pub(crate) async fn look(self: &Arc<Self>, id: &UploadId) -> Result<Option<Snapshot>, Error> {
        match self.inspect(&None, id).await {
            Ok(found) => Ok(Some(Snapshot {
                offset: found.offset.unwrap_or_default(),
                upload: found.upload,
                modified: found.modified,
            })),
            Err(error) => match error.problem().kind {
                ProblemKind::NotFound => Ok(None),
                // Expired, a part of it removed, or being completed: it is there, as it stands.
                ProblemKind::Gone | ProblemKind::Locked => {
                    match self.parts.get_store().load(id).await {
                        Err(StoreError::NotFound(_)) => Ok(None),
                        found => Ok(Some(found?)),
                    }
                }
                _ => Err(error),
            },
        }
    }

    /// Waits a moment, if the upload is being written, until its offset is likely to hold when its
    /// client comes back: see [`LiveUpload::settle`](super::live::LiveUpload::settle).
    pub(crate) async fn settle_writer(&self, id: &UploadId) {
        if let Some(live) = self.live.get(id) {
            live.settle().await;
        }
    }

    /// The state of an upload. A running writer isn't disturbed: its offset is answered from memory.
    pub(crate) async fn inspect(
        self: &Arc<Self>,
        caller: &RequestContext,
        id: &UploadId,
    ) -> Result<Inspected, Error> {
        if let Some(live) = self.live.get(id) {
            let (offset, modified) = (live.offset(), SystemTime::now());
            let last = Snapshot {
                upload: live.upload.clone(),
                offset,
                modified,
            };
            // Its last byte is here, but hooks may still refuse it.
            if self.is_finish_pending(&last) {
                return Err(ProblemKind::Locked.into());
            }
            let expires = self.expiry(&live.upload, offset, modified);
            let upload = live.upload.clone();
            return Ok(Inspected {
                upload,
                offset: Some(offset),
                modified,
                expires,
            });
        }
        let mut snapshot = self.load(id).await?;
        if !snapshot.upload.is_concatenated() {
            return self.inspect_waiting(caller, snapshot).await;
        }
        if self.is_finish_pending(&snapshot) {
            // A crash came between the last byte and its completion, or hooks are deciding.
            self.complete_interrupted(caller, id).await?;
            snapshot = self.load(id).await?;
        }
        let expires = self.expiry(&snapshot.upload, snapshot.offset, snapshot.modified);
        Ok(Inspected {
            upload: snapshot.upload,
            offset: Some(snapshot.offset),
            modified: snapshot.modified,
            expires,
        })
    }
}
