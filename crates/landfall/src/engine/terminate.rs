//! Removal at a client's or a hook's wish.

use std::{sync::Arc, time::SystemTime};

use landfall_protocol::ProblemKind;

use super::{Engine, Error, RequestContext, add};
use crate::{
    event::{Event, EventKind, TerminationReason},
    hook::ClientResponse,
    lease::Lease,
    store::StoreError,
    upload::{Snapshot, Upload, UploadId, UploadKind},
};

impl Engine {
    /// DELETE: stops whoever is writing the upload and removes it (T-TRM-2, E-34).
    pub(crate) async fn terminate(
        self: &Arc<Self>,
        caller: &RequestContext,
        id: &UploadId,
    ) -> Result<ClientResponse, Error> {
        let known = self.load_removable(id).await?;
        if self.has_expired(&known) {
            return Err(ProblemKind::Gone.into());
        }
        let reply = self.call_pre_terminate(caller, &known).await?;
        self.dismiss(caller, id, TerminationReason::Client).await?;
        Ok(reply)
    }

    /// Stops the writer of an upload and removes it, without calling a hook.
    pub(crate) async fn dismiss(
        self: &Arc<Self>,
        caller: &RequestContext,
        id: &UploadId,
        why: TerminationReason,
    ) -> Result<(), Error> {
        let lease = self.lease(id).await?;
        let snapshot = self.load_removable(id).await?;
        let Snapshot { upload, offset, .. } = snapshot;
        self.remove_detached(caller, upload, offset, lease, why)
            .await
    }

    /// Loads an upload that is to be removed. A damaged one is described by its id alone.
    async fn load_removable(&self, id: &UploadId) -> Result<Snapshot, Error> {
        match self.parts.get_store().load(id).await {
            Err(StoreError::Damaged { .. }) => Ok(Snapshot {
                upload: Arc::new(Upload::new(id.clone(), None)),
                offset: 0,
                modified: SystemTime::now(),
            }),
            loaded => Ok(loaded?),
        }
    }

    /// Removes an upload and emits the event, even if the request is dropped.
    pub(super) async fn remove_detached(
        self: &Arc<Self>,
        caller: &RequestContext,
        upload: Arc<Upload>,
        offset: u64,
        lease: Lease,
        why: TerminationReason,
    ) -> Result<(), Error> {
        let (engine, caller) = (self.clone(), caller.clone());
        self.detached(async move { engine.remove(&caller, &upload, offset, &lease, why).await })
            .await
    }

    /// Removes an upload and emits the event; for callers that run detached themselves.
    pub(super) async fn remove(
        &self,
        caller: &RequestContext,
        upload: &Arc<Upload>,
        offset: u64,
        lease: &Lease,
        why: TerminationReason,
    ) -> Result<(), Error> {
        self.erase(caller, upload, offset, lease, Some(why)).await?;
        add(&self.counters.terminated, 1);
        tracing::debug!(id = %upload.id, offset, "UploadTerminated");
        Ok(())
    }

    /// Removes an upload whose time is over and emits the event; for callers that run detached
    /// themselves.
    pub(super) async fn expire(&self, snapshot: &Snapshot, lease: &Lease) -> Result<(), Error> {
        let (upload, offset) = (&snapshot.upload, snapshot.offset);
        self.erase(&None, upload, offset, lease, None).await?;
        add(&self.counters.expired, 1);
        tracing::debug!(id = %upload.id, offset, "UploadExpired");
        Ok(())
    }

    /// Without a reason, the upload has expired.
    async fn erase(
        &self,
        caller: &RequestContext,
        upload: &Arc<Upload>,
        offset: u64,
        lease: &Lease,
        why: Option<TerminationReason>,
    ) -> Result<(), Error> {
        let Some(terminator) = self.parts.get_terminator() else {
            return Err(ProblemKind::NotImplemented.into());
        };
        let kind = match why {
            Some(_) => EventKind::Terminated,
            None => EventKind::Expired,
        };
        let mut event = Event::new(kind, upload.clone(), offset, caller.clone());
        event.reason = why;
        if self.wants.contains(kind) {
            self.prepare(std::slice::from_ref(&event)).await?;
        }
        let room = self.reserve(kind).await?;
        Self::while_held(lease, terminator.terminate(upload, lease.fence())).await?;
        self.final_uploads.remove(&upload.id);
        if upload.kind == UploadKind::Partial {
            self.final_uploads.invalidate_progress();
        }
        // A new number: events of other requests may have come in between.
        let mut event = Event::new(kind, upload.clone(), offset, caller.clone());
        event.reason = why;
        self.emit(room, event).await;
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
        Self::while_held(&lease, terminator.terminate(&remains, lease.fence())).await
    }
}
