//! Completes an upload whose bytes are all stored.
//!
//! The order: the store finishes the bytes, the event is prepared, the digest is verified, hooks decide, the completion
//! is saved, the event is emitted. With hooks or sinks, all of it runs detached, under the lease. After a failure the
//! completion stays pending, and the next request decides again. If no client knows the URL, the upload is removed.

use std::{sync::Arc, time::SystemTime};

use landfall_protocol::ProblemKind;

use super::{
    Engine, Error, HookCall, HookReply, RequestContext, Reservations, acknowledgement::SinkReceipt,
    add, ends::log_end, is_missing, receive::matches_digest,
};
use crate::{
    event::{Event, EventKind, TerminationReason},
    hook::ClientResponse,
    lease::Lease,
    store::StoreError,
    upload::{Checksum, Completion, Snapshot, Upload, UploadId, UploadKind},
};

impl Engine {
    /// Hooks and sinks follow the completion, and the verification of a digest precedes it.
    pub(super) fn tracks_completion(&self, upload: &Upload) -> bool {
        self.hook_points.before_finish || self.event_kinds.completed || upload.repr_digest.is_some()
    }

    pub(super) fn is_finish_pending(&self, snapshot: &Snapshot) -> bool {
        let upload = &snapshot.upload;
        snapshot.is_complete() && upload.completion.is_pending() && self.tracks_completion(upload)
    }

    /// With hooks or sinks, this runs to completion even if the request is dropped. `fresh`: this request
    /// stored the last byte. `is_prepared`: it has prepared the event under this lease, so that no node resolves it
    /// before the lease ends. `knows_url`: the client can ask for the upload again. Otherwise nothing of it remains if
    /// this fails: its client would create another one, and both would complete.
    pub(super) async fn finish(
        self: &Arc<Self>,
        context: &RequestContext,
        upload: Arc<Upload>,
        lease: Lease,
        fresh: bool,
        is_prepared: bool,
        knows_url: bool,
    ) -> Result<HookReply, Error> {
        let finished = upload.clone();
        let is_pending = match upload.completion {
            Completion::NotTracked => fresh,
            Completion::Pending => true,
            Completion::Done(_) | Completion::Denied(_) => false,
        };
        let reply = if is_pending && self.tracks_completion(&upload) {
            let (engine, context) = (self.clone(), context.clone());
            // Boxed because the future of every request contains this one.
            let completing = Box::pin(async move {
                let decided = engine.decide(&context, upload, &lease, is_prepared, knows_url);
                let (upload, reply, reservations) = decided.await?;
                engine
                    .record_completion(&context, upload, &lease, reply.as_deref(), reservations)
                    .await?;
                Ok(reply)
            });
            self.detached(completing).await?
        } else {
            match self.sync_completed(upload, &lease).await {
                Ok(upload) => {
                    let stored = upload.completion.response();
                    stored.map(|stored| Box::new((**stored).clone()))
                }
                Err(error) if knows_url => return Err(error),
                // Boxed because it is rare: the largest branch sets the size of every request's future.
                Err(error) => {
                    let error = self.roll_back_creation(context, finished, lease, error);
                    return Err(Box::pin(error).await);
                }
            }
        };
        if fresh {
            add(&self.counters.finished, 1);
            self.record_due(&finished, finished.length.unwrap_or_default());
            log_end("UploadFinished", Some(&finished), None, context);
        }
        if finished.kind == UploadKind::Partial || self.config.lenient {
            self.advance_finals_of(&finished.id);
        }
        Ok(reply)
    }

    async fn sync_completed(
        &self,
        mut upload: Arc<Upload>,
        lease: &Lease,
    ) -> Result<Arc<Upload>, Error> {
        if let Some(finisher) = self.composer.finisher() {
            Self::check_held(lease)?;
            let fence = lease.fence();
            let etag = if let Some(finished) = finisher.finish_now(&upload, fence) {
                finished?
            } else {
                Self::while_held(lease, finisher.finish(&upload, fence)).await?
            };
            if etag != upload.etag && etag.is_some() {
                Arc::make_mut(&mut upload).etag = etag;
            }
        }
        Ok(upload)
    }

    /// A failure leaves the decision to the client's next request, or removes an upload that no request can name.
    async fn decide(
        &self,
        context: &RequestContext,
        upload: Arc<Upload>,
        lease: &Lease,
        is_prepared: bool,
        knows_url: bool,
    ) -> Result<(Arc<Upload>, HookReply, Reservations), Error> {
        let decision = async {
            let upload = self.sync_completed(upload.clone(), lease).await?;
            if !is_prepared {
                let completed = [(EventKind::Completed, upload.length.unwrap_or_default())];
                self.prepare_kinds(&completed, &upload, context).await?;
            }
            let reply = self
                .call_pre_finish(context, &upload, lease, knows_url)
                .await?;
            // After the hooks, which may take long: other uploads need the capacity meanwhile.
            let reservations = self.reserve(EventKind::Completed).await?;
            Ok((upload, reply, reservations))
        };
        let error = match decision.await {
            Err(error) => error,
            decided => return decided,
        };
        Err(match error {
            // Denied, and removed.
            Error::Rejected(ProblemKind::Rejected, _) => error,
            Error::Problem(ref problem) if problem.kind == ProblemKind::DigestMismatch => error,
            error if !knows_url => {
                let offset = upload.length.unwrap_or_default();
                let why = TerminationReason::RolledBack;
                let removed = self.remove(context, &upload, offset, lease, why).await;
                if let Err(left) = removed {
                    tracing::warn!(id = %upload.id, error = %left, "failed to roll back creation");
                }
                error
            }
            Error::Hook(cause) => Error::Undecided(cause),
            Error::Rejected(ProblemKind::Internal, response) => {
                Error::Rejected(ProblemKind::CompletionPending, response)
            }
            error => error,
        })
    }

    /// Verifies the digest of the whole, and calls the hooks.
    async fn call_pre_finish(
        &self,
        context: &RequestContext,
        upload: &Arc<Upload>,
        lease: &Lease,
        keeps_denial: bool,
    ) -> Result<HookReply, Error> {
        let offset = upload.length.unwrap_or_default();
        // Boxed because it is rare: the largest branch sets the size of every request's future.
        if let Some(digest) = &upload.repr_digest
            && !Box::pin(self.matches_digest(upload, offset, digest)).await?
        {
            add(&self.counters.checksum_mismatches, 1);
            self.remove(context, upload, offset, lease, TerminationReason::Client)
                .await?;
            return Err(ProblemKind::DigestMismatch.into());
        }
        let snapshot = Snapshot::new(upload.clone(), offset, SystemTime::now());
        match self.call_all(context, HookCall::Finish(&snapshot)).await {
            Err(Error::Rejected(ProblemKind::Rejected, response)) => {
                self.remove(context, upload, offset, lease, &*response)
                    .await?;
                if keeps_denial {
                    Box::pin(self.record_denial(upload, &response, lease)).await;
                }
                Err(Error::Rejected(ProblemKind::Rejected, response))
            }
            decided => decided,
        }
    }

    async fn record_completion(
        self: &Arc<Self>,
        context: &RequestContext,
        upload: Arc<Upload>,
        lease: &Lease,
        reply: Option<&ClientResponse>,
        reservations: Reservations,
    ) -> Result<(), Error> {
        let offset = upload.length.unwrap_or_default();
        let mut recorded = (*upload).clone();
        recorded.completion = Completion::Done(reply.cloned().map(Arc::new));
        recorded.unacknowledged = self.acknowledgements.are_required();
        let mut recorded = Arc::new(recorded);
        let receipt = recorded
            .unacknowledged
            .then(|| SinkReceipt::new(self, &recorded));
        // Another holder decides anew, and may deny it.
        Self::check_held(lease)?;
        // Emit after saving, because a receiver may move the file. If the result of saving is unknown,
        // emit anyway: duplicates are allowed.
        let saved = self.save_completed(&recorded, lease).await;
        if let Err(Error::Store(StoreError::LeaseLost(_))) = saved {
            return saved;
        }
        if self.event_kinds.completed {
            let kind = EventKind::Completed;
            let event = Event::new(kind, recorded.clone(), offset, context.info.clone());
            let is_acknowledged = match &receipt {
                None => {
                    self.emit(reservations, event).await;
                    false
                }
                Some(receipt) => self.emit_acknowledged(reservations, event, receipt).await,
            };
            if is_acknowledged && saved.is_ok() {
                Arc::make_mut(&mut recorded).unacknowledged = false;
                if let Err(error) = self.save_completed(&recorded, lease).await {
                    let id = &recorded.id;
                    tracing::warn!(%id, %error, "failed to record that a completion was emitted");
                }
            }
        }
        saved
    }

    async fn save_completed(&self, upload: &Upload, lease: &Lease) -> Result<(), Error> {
        let saved = self.composer.store().save(upload, lease.fence());
        match Self::while_held(lease, saved).await {
            // A hook or a sink has moved the finished file away.
            Err(Error::Store(error)) if is_missing(&error) => Ok(()),
            saved => saved,
        }
    }

    /// A client that missed the response asks again: an upload without bytes takes the place of the removed
    /// one, for as long as unfinished uploads are retained.
    async fn record_denial(&self, upload: &Upload, response: &ClientResponse, lease: &Lease) {
        let mut denied = Upload::new(upload.id.clone(), upload.length);
        denied.metadata = upload.metadata.clone();
        denied.labels = upload.labels.clone();
        denied.created = upload.created;
        denied.expires = upload.expires;
        denied.completion = Completion::Denied(Arc::new(response.clone()));
        if self.expiry(&denied, 0, SystemTime::now()).is_none() {
            return;
        }
        let created = self.composer.store().create(denied);
        if let Err(error) = Self::while_held(lease, created).await {
            tracing::warn!(id = %upload.id, %error, "failed to record the denial of an upload");
        }
    }

    /// The bytes are read back: those of earlier requests may have been received by another process.
    async fn matches_digest(
        &self,
        upload: &Upload,
        length: u64,
        digest: &Checksum,
    ) -> Result<bool, Error> {
        let reader = self.composer.reader();
        let reader = reader.ok_or(ProblemKind::NotImplemented)?;
        matches_digest(reader, upload, 0..length, digest).await
    }

    /// [`ProblemKind::Locked`] while another request has the lease: its hooks may still deny the completion.
    pub(super) async fn complete_interrupted(
        self: &Arc<Self>,
        context: &RequestContext,
        id: &UploadId,
    ) -> Result<(), Error> {
        let Some(lease) = self.free_lease(id).await? else {
            return Err(ProblemKind::Locked.into());
        };
        let snapshot = self.load(id).await?;
        if self.is_finish_pending(&snapshot) {
            self.finish(context, snapshot.upload, lease, true, false, true)
                .await?;
        }
        Ok(())
    }
}
