//! Completes an upload whose bytes are all stored.
//!
//! The order: the store finishes the bytes, the event is prepared, the digest is verified, hooks decide, the completion
//! is saved, the event is emitted. All of it runs detached, under the lease, unless the store finishes at once and there
//! are no hooks and sinks. After a failure the completion stays pending, and the next request decides again. If no client
//! knows the URL, the upload is removed.

use std::{sync::Arc, time::SystemTime};

use landfall_protocol::ProblemKind;

use super::{
    Engine, Error, HookCall, HookReply, RequestContext, Reservations,
    acknowledgement::SinkReceipt,
    add,
    ends::log_end,
    finishing::Finishing,
    is_missing,
    live::completing::{CompletingGuard, reply_of},
    receive::matches_digest,
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

    /// Runs to completion even if the request is dropped: a proxy may not wait for as long as it takes. Requests that come
    /// meanwhile learn of it by [`LiveUploads::completing`](super::live::LiveUploads::completing).
    pub(super) async fn finish(
        self: &Arc<Self>,
        context: &RequestContext,
        upload: Arc<Upload>,
        lease: Lease,
        how: Finishing,
    ) -> Result<HookReply, Error> {
        let is_open = match upload.completion {
            Completion::NotTracked => how.fresh,
            Completion::Pending => true,
            Completion::Done(_) | Completion::Denied(_) => false,
        };
        let is_tracked = is_open && self.tracks_completion(&upload);
        if !is_tracked && let Some(finished) = self.finish_now(&upload, &lease) {
            return match finished {
                Ok(()) => {
                    self.record_finished(context, &upload, how.fresh);
                    Ok(reply_of(&upload))
                }
                Err(error) if how.knows_url => Err(error),
                // Boxed because it is rare: the largest branch sets the size of every request's future.
                Err(error) => {
                    let error = self.roll_back_creation(context, upload, lease, error);
                    Err(Box::pin(error).await)
                }
            };
        }
        // Boxed because the future of every request contains this one.
        Box::pin(self.finish_detached(context, upload, lease, how, is_open)).await
    }

    async fn finish_detached(
        self: &Arc<Self>,
        context: &RequestContext,
        upload: Arc<Upload>,
        lease: Lease,
        how: Finishing,
        is_open: bool,
    ) -> Result<HookReply, Error> {
        // A complete upload stays so for readers, whose client sends its last request again.
        let completing = is_open.then(|| self.begin_completion(&upload, how.received));
        let is_waited_for = Arc::new(());
        let is_left = Arc::downgrade(&is_waited_for);
        let (engine, context) = (self.clone(), context.clone());
        let result = self
            .detached(async move {
                let id = upload.id.clone();
                let joined = completing.as_ref();
                let result = engine.complete(&context, upload, &lease, how, joined).await;
                // The next request that joins no more finds the lease free.
                drop(lease);
                if let Err(error) = &result
                    && is_left.strong_count() == 0
                    && error.is_ours()
                {
                    tracing::error!(%id, %error, "failed to complete an upload whose client has left");
                }
                match (completing, result) {
                    (Some(completing), Ok(reply)) => {
                        completing.succeed(reply.clone());
                        Ok(reply)
                    }
                    (Some(completing), Err(error)) => Err(completing.fail(error)),
                    (None, result) => result,
                }
            })
            .await;
        drop(is_waited_for);
        result
    }

    async fn complete(
        self: &Arc<Self>,
        context: &RequestContext,
        upload: Arc<Upload>,
        lease: &Lease,
        how: Finishing,
        completing: Option<&CompletingGuard>,
    ) -> Result<HookReply, Error> {
        let finished = upload.clone();
        let reply = if completing.is_some() && self.tracks_completion(&upload) {
            let decided = self.decide(context, upload, lease, how.is_prepared, how.knows_url);
            let (upload, reply, reservations) = decided.await?;
            let recorded = self.record_completion(
                context,
                upload,
                lease,
                reply.as_deref(),
                reservations,
                completing,
            );
            recorded.await?;
            reply
        } else {
            match self.sync_completed(upload, lease).await {
                Ok(upload) => reply_of(&upload),
                Err(error) => {
                    if !how.knows_url {
                        self.remove_unknown(context, &finished, 0, lease).await;
                    }
                    return Err(error);
                }
            }
        };
        self.record_finished(context, &finished, how.fresh);
        Ok(reply)
    }

    fn record_finished(
        self: &Arc<Self>,
        context: &RequestContext,
        upload: &Arc<Upload>,
        fresh: bool,
    ) {
        if fresh {
            add(&self.counters.finished, 1);
            self.record_due(upload, upload.length.unwrap_or_default());
            log_end("UploadFinished", Some(&**upload), None, context);
        }
        if upload.kind == UploadKind::Partial || self.config.lenient {
            self.advance_finals_of(&upload.id);
        }
    }

    /// `None` if it may take long.
    fn finish_now(&self, upload: &Upload, lease: &Lease) -> Option<Result<(), Error>> {
        let Some(finisher) = self.composer.finisher() else {
            return Some(Ok(()));
        };
        if let Err(error) = Self::check_held(lease) {
            return Some(Err(error));
        }
        let finished = finisher.finish_now(upload, lease.fence())?;
        Some(finished.map(drop).map_err(Error::from))
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

    /// Removes an upload that no request can name.
    async fn remove_unknown(
        &self,
        context: &RequestContext,
        upload: &Arc<Upload>,
        offset: u64,
        lease: &Lease,
    ) {
        let why = TerminationReason::RolledBack;
        if let Err(left) = self.remove(context, upload, offset, lease, why).await {
            tracing::warn!(id = %upload.id, error = %left, "failed to roll back creation");
        }
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
                self.remove_unknown(context, &upload, offset, lease).await;
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
        completing: Option<&CompletingGuard>,
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
        if saved.is_ok()
            && let Some(completing) = completing
        {
            completing.succeed(reply.cloned().map(Box::new));
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
            let how = Finishing::interrupted(snapshot.offset);
            self.finish(context, snapshot.upload, lease, how).await?;
        }
        Ok(())
    }
}
