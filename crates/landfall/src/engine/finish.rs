//! Completion: once per upload.

use std::{sync::Arc, time::SystemTime};

use landfall_protocol::ProblemKind;

use super::{Engine, Error, RequestContext, add, is_missing};
use crate::{
    event::{EventKind, TerminationReason},
    hook::ClientResponse,
    lease::Lease,
    upload::{Completion, Snapshot, Upload, UploadId, UploadKind},
};

impl Engine {
    /// Whether somebody is to be asked or told about completions, so that it must be recorded that
    /// this has happened.
    pub(super) fn tracks_completion(&self) -> bool {
        self.asks.before_finish || self.wants.completed
    }

    /// Whether all bytes are there but whoever waits for that hasn't been told.
    pub(super) fn is_finish_pending(&self, snapshot: &Snapshot) -> bool {
        let upload = &snapshot.upload;
        snapshot.is_complete() && upload.completion.is_pending() && self.tracks_completion()
    }

    /// Completes an upload all of whose bytes are stored: makes it durable, asks, tells, records.
    /// `fresh` = this very request brought the last byte.
    ///
    /// Once somebody is to be asked or told, this goes on even if the request is dropped.
    pub(super) async fn finish(
        self: &Arc<Self>,
        caller: &RequestContext,
        upload: Arc<Upload>,
        lease: Lease,
        fresh: bool,
    ) -> Result<ClientResponse, Error> {
        let finished = upload.clone();
        let is_untold = match upload.completion {
            Completion::NotTracked => fresh,
            Completion::Pending => true,
            Completion::Done(_) => false,
        };
        let reply = if is_untold && self.tracks_completion() {
            let (engine, caller) = (self.clone(), caller.clone());
            self.detached(async move {
                let upload = engine.sync_completed(upload, &lease).await?;
                engine.run_completion_hooks(&caller, upload, &lease).await
            })
            .await?
        } else {
            let upload = self.sync_completed(upload, &lease).await?;
            upload
                .completion
                .response()
                .map(|response| ClientResponse::clone(response))
                .unwrap_or_default()
        };
        if fresh {
            add(&self.counters.finished, 1);
            tracing::debug!(id = %finished.id, size = finished.length, "UploadFinished");
        }
        if finished.kind == UploadKind::Partial {
            self.advance_finals_of(&finished.id);
        }
        Ok(reply)
    }

    /// Makes the upload durable, and returns it with the entity tag of its object.
    async fn sync_completed(
        &self,
        mut upload: Arc<Upload>,
        lease: &Lease,
    ) -> Result<Arc<Upload>, Error> {
        if let Some(finisher) = self.parts.get_finisher() {
            let finishing = finisher.finish(&upload, lease.fence());
            let etag = Self::while_held(lease, finishing).await?;
            if etag != upload.etag && etag.is_some() {
                Arc::make_mut(&mut upload).etag = etag;
            }
        }
        Ok(upload)
    }

    async fn run_completion_hooks(
        &self,
        caller: &RequestContext,
        upload: Arc<Upload>,
        lease: &Lease,
    ) -> Result<ClientResponse, Error> {
        let offset = upload.length.unwrap_or_default();
        // Whoever is told must hear of it even if it was not this request that it was announced for.
        let completed = [(EventKind::Completed, offset)];
        self.prepare_kinds(&completed, &upload, caller).await?;
        let snapshot = Snapshot {
            upload: upload.clone(),
            offset,
            modified: SystemTime::now(),
        };
        let reply = match self.call_pre_finish(caller, &snapshot).await {
            Ok(reply) => reply,
            Err(refused @ Error::Refused(ProblemKind::Rejected, _)) => {
                self.remove(caller, &upload, offset, lease, TerminationReason::Hook)
                    .await?;
                return Err(refused);
            }
            Err(error) => return Err(error),
        };
        // Reserved only now: hooks may take long, and others need the room meanwhile.
        let room = self.reserve(EventKind::Completed).await?;
        let mut recorded = (*upload).clone();
        recorded.completion =
            Completion::Done((!reply.is_empty()).then(|| Arc::new(reply.clone())));
        let recorded = Arc::new(recorded);
        let store = self.parts.get_store();
        let saved = Self::while_held(lease, store.save(&recorded, lease.fence())).await;
        // Emit after saving, because a receiver may move the file. If the result of saving is unknown,
        // emit anyway: duplicates are allowed.
        self.emit_kind(room, EventKind::Completed, &recorded, offset, caller)
            .await;
        match saved {
            // The hook took it, as hooks do that move finished files away.
            Err(Error::Store(error)) if is_missing(&error) => {}
            saved => saved?,
        }
        Ok(reply)
    }

    /// Completes an upload that a crash left complete but undecided.
    ///
    /// # Errors
    /// [`Fault::Locked`] while another request has its lease: hooks may be deciding about it, and may
    /// still refuse it.
    pub(super) async fn complete_interrupted(
        self: &Arc<Self>,
        caller: &RequestContext,
        id: &UploadId,
    ) -> Result<(), Error> {
        let Some(lease) = self.free_lease(id).await? else {
            return Err(ProblemKind::Locked.into());
        };
        let snapshot = self.load(id).await?;
        if self.is_finish_pending(&snapshot) {
            self.finish(caller, snapshot.upload, lease, true).await?;
        }
        Ok(())
    }
}
