//! Removal at a client's or a hook's wish.

use std::sync::Arc;

use landfall_protocol::Fault;

use super::{Caller, Engine, Error, add};
use crate::{
    event::{EventKind, Removal},
    hook::Reply,
    lease::Lease,
    store::StoreError,
    upload::{Snapshot, Upload, UploadId},
};

impl Engine {
    /// DELETE: stops whoever is writing the upload and removes it (T-TRM-2, E-34).
    pub(crate) async fn terminate(
        self: &Arc<Self>,
        caller: &Caller,
        id: &UploadId,
    ) -> Result<Reply, Error> {
        let known = self.load(id).await?;
        let reply = self.ask_before_terminate(caller, &known).await?;
        self.dismiss(caller, id, Removal::Client).await?;
        Ok(reply)
    }

    /// Stops whoever is writing an upload and removes it, without asking anybody.
    pub(crate) async fn dismiss(
        self: &Arc<Self>,
        caller: &Caller,
        id: &UploadId,
        why: Removal,
    ) -> Result<(), Error> {
        let lease = self.lease(id).await?;
        let snapshot = self.parts.get_store().load(id).await?;
        // What has begun is ended even if the client goes away.
        let (engine, caller) = (self.clone(), caller.clone());
        tokio::spawn(async move {
            let Snapshot { upload, offset, .. } = &snapshot;
            engine.remove(&caller, upload, *offset, &lease, why).await
        })
        .await?
    }

    /// Removes an upload and tells it.
    pub(super) async fn remove(
        &self,
        caller: &Caller,
        upload: &Arc<Upload>,
        offset: u64,
        lease: &Lease,
        why: Removal,
    ) -> Result<(), Error> {
        let Some(terminator) = self.parts.get_terminator() else {
            return Err(Fault::NotImplemented.into());
        };
        self.announce(&[(EventKind::Terminated, offset)], upload, caller)
            .await?;
        terminator.terminate(upload, lease.fence()).await?;
        add(&self.counters.terminated, 1);
        tracing::debug!(id = %upload.id, offset, "UploadTerminated");
        self.tell_removed(why, upload, offset, caller).await;
        Ok(())
    }

    /// Removes what is left of an upload whose removal was interrupted, or whose data the application
    /// moved away. Says whether there was anything.
    pub(crate) async fn remove_remains(&self, id: &UploadId) -> Result<bool, Error> {
        let Some(terminator) = self.parts.get_terminator() else {
            return Ok(false);
        };
        let lease = self.lease(id).await?;
        match self.parts.get_store().load(id).await {
            Err(StoreError::NotFound(_)) => {}
            // Created since.
            _ => return Ok(false),
        }
        let remains = Upload::new(id.clone(), None);
        Ok(terminator.terminate(&remains, lease.fence()).await?)
    }
}
