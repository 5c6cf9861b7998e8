//! Removes an upload: on request, by a hook, after a failed creation, or because it has expired.
//!
//! The event is prepared before the removal and emitted after it, so both must run detached, under the lease. Hooks are
//! called before the lease is acquired. An expiry needs a [`Removable`]. If only the description is left, there is no
//! event.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use landfall_protocol::ProblemKind;
use tokio::runtime::Handle;

use super::{
    Engine, Error, HookCall, HookReply, LoggedRequest, RequestContext, add,
    ends::{log_end, log_stop},
    events, is_missing, log_request,
};
use crate::{
    event::TerminationReason,
    hook::ClientResponse,
    lease::Lease,
    removal::Removable,
    store::StoreError,
    upload::{Snapshot, Upload, UploadId, UploadKind},
};

pub(super) enum Removal {
    Requested(TerminationReason),
    /// By a hook, with its response to the client.
    Denied(Arc<ClientResponse>),
    Expired(Removable),
}

impl From<TerminationReason> for Removal {
    fn from(why: TerminationReason) -> Self {
        Self::Requested(why)
    }
}

impl From<&ClientResponse> for Removal {
    fn from(response: &ClientResponse) -> Self {
        Self::Denied(Arc::new(response.clone()))
    }
}

impl Engine {
    /// `tus/termination/during-a-patch`: a running append is stopped.
    pub(crate) async fn terminate(
        self: &Arc<Self>,
        context: &RequestContext,
        id: &UploadId,
    ) -> Result<HookReply, Error> {
        // The store may not answer before the end of a completion.
        let known = match self.live.completing(id) {
            Some(completing) => completing.whole(),
            None => self.load_removable(id).await?,
        };
        if self.has_expired(&known).await? {
            return Err(ProblemKind::Gone.into());
        }
        let reply = self.call_all(context, HookCall::Terminate(&known)).await?;
        self.remove_by_id(context, id, TerminationReason::Client)
            .await?;
        Ok(reply)
    }

    /// Calls no hook.
    pub(crate) async fn remove_by_id(
        self: &Arc<Self>,
        context: &RequestContext,
        id: &UploadId,
        why: TerminationReason,
    ) -> Result<(), Error> {
        let lease = self.lease(id).await?;
        let Snapshot { upload, offset, .. } = self.load_removable(id).await?;
        self.remove_detached(context, upload, offset, lease, why)
            .await
            .map(drop)
    }

    /// Only the id of a damaged upload is known.
    async fn load_removable(&self, id: &UploadId) -> Result<Snapshot, Error> {
        match self.load_present(id).await {
            Err(StoreError::Gone(remains)) => Ok(*remains),
            Err(StoreError::Damaged { .. }) => Ok(Snapshot::new(
                Arc::new(Upload::new(id.clone(), None)),
                0,
                SystemTime::now(),
            )),
            loaded => Ok(loaded?),
        }
    }

    pub(super) async fn remove_detached(
        self: &Arc<Self>,
        context: &RequestContext,
        upload: Arc<Upload>,
        offset: u64,
        lease: Lease,
        why: impl Into<Removal>,
    ) -> Result<bool, Error> {
        let why = why.into();
        let (engine, context) = (self.clone(), context.clone());
        self.detached(async move { engine.remove(&context, &upload, offset, &lease, why).await })
            .await
    }

    /// The caller must run detached. Returns whether there was anything to remove: another process may have been faster.
    /// Its event is emitted even then, because that process may have died before.
    pub(super) async fn remove(
        &self,
        context: &RequestContext,
        upload: &Arc<Upload>,
        offset: u64,
        lease: &Lease,
        why: impl Into<Removal>,
    ) -> Result<bool, Error> {
        let why = why.into();
        let has_expired = matches!(why, Removal::Expired(_));
        let is_removed = self.erase(context, upload, offset, lease, why).await?;
        if is_removed && has_expired {
            add(&self.counters.expired, 1);
            log_end("UploadExpired", Some(&**upload), None, context);
        } else if is_removed {
            add(&self.counters.terminated, 1);
            let (request, id) = (context.log(), upload.id.as_str());
            let is_lenient = request.is_some_and(LoggedRequest::is_lenient);
            let offset = (!is_lenient).then_some(offset);
            log_request!(request, "UploadTerminated", id, offset);
        }
        Ok(is_removed)
    }

    /// Returns whether there was anything to remove.
    async fn erase(
        &self,
        context: &RequestContext,
        upload: &Arc<Upload>,
        offset: u64,
        lease: &Lease,
        removal: Removal,
    ) -> Result<bool, Error> {
        let Some(terminator) = self.composer.terminator() else {
            return Err(ProblemKind::NotImplemented.into());
        };
        // No reason means that it has expired.
        let (why, denial) = match &removal {
            Removal::Requested(why) => (Some(*why), None),
            Removal::Denied(response) => (Some(TerminationReason::Hook), Some(response.clone())),
            Removal::Expired(_) => (None, None),
        };
        let fence = lease.fence();
        let erase = match removal {
            Removal::Requested(_) | Removal::Denied(_) => terminator.terminate(upload, fence),
            Removal::Expired(permission) => terminator.expire(upload, fence, permission),
        };
        if upload.is_description_only() {
            // The upload has ended before.
            return Self::while_held(lease, erase).await;
        }
        let mut event = events::removal(why, upload, offset, context);
        event.denial = denial.clone();
        let kind = event.kind;
        if self.event_kinds.contains(kind) {
            self.prepare(std::slice::from_ref(&event)).await?;
        }
        let reservations = self.reserve(kind).await?;
        let is_removed = Self::while_held(lease, erase).await?;
        self.final_uploads.remove(&upload.id);
        if why != Some(TerminationReason::Application) {
            self.final_uploads.forget_finished(&upload.id);
        }
        if upload.kind == UploadKind::Partial {
            self.final_uploads.invalidate_progress();
        }
        // A new sequence number: other requests may have emitted events in between.
        let mut event = events::removal(why, upload, offset, context);
        event.denial = denial;
        self.emit(reservations, event).await;
        Ok(is_removed)
    }

    /// Removes the remains of an upload whose removal was interrupted, that was denied, or whose data the
    /// application moved away. Returns whether there were any.
    pub(crate) async fn remove_remains(&self, id: &UploadId) -> Result<bool, Error> {
        let lease = self.lease(id).await?;
        let remains = match self.composer.store().load(id).await {
            Err(error) if is_missing(&error) => Arc::new(Upload::new(id.clone(), None)),
            Ok(found) if found.upload.is_description_only() => found.upload,
            // Created since.
            _ => return Ok(false),
        };
        self.remove_description(&remains, &lease).await
    }

    /// Emits no event. Returns whether there was one, and a store that can remove it.
    pub(super) async fn remove_description(
        &self,
        remains: &Upload,
        lease: &Lease,
    ) -> Result<bool, Error> {
        let Some(terminator) = self.composer.terminator() else {
            return Ok(false);
        };
        Self::while_held(lease, terminator.terminate(remains, lease.fence())).await
    }

    /// An upload may have the id of one that was denied before.
    pub(super) async fn remove_denied(&self, id: &UploadId) -> Result<(), Error> {
        let can_deny = self.hook_points.before_finish;
        if can_deny
            && let Ok(found) = self.composer.store().load(id).await
            && found.upload.completion.is_denied()
        {
            self.remove_remains(id).await?;
        }
        Ok(())
    }

    pub(crate) fn silent_for(&self, id: &UploadId) -> Option<Duration> {
        self.live.get(id).map(|live| live.silent_for())
    }

    /// An upload without a running request is removed directly: a client that sends in chunks has no request
    /// open most of the time.
    pub(super) fn stop_or_remove(
        self: &Arc<Self>,
        runtime: &Handle,
        context: &RequestContext,
        id: &UploadId,
        reply: ClientResponse,
    ) {
        let (engine, context, id) = (self.clone(), context.clone(), id.clone());
        let stopped = self.try_detach(runtime, async move {
            if let Err(error) = engine.remove_stopped(&context, &id, reply).await {
                tracing::warn!(%id, %error, "failed to remove stopped upload");
            }
        });
        if !stopped {
            tracing::warn!("failed to stop upload: too many effects are running");
        }
    }

    async fn remove_stopped(
        self: &Arc<Self>,
        context: &RequestContext,
        id: &UploadId,
        reply: ClientResponse,
    ) -> Result<(), Error> {
        if let Some(live) = self.live.get(id) {
            live.stop(reply.clone());
            // A request that has received its whole body ignores the stop.
            live.wait_end().await;
        }
        let lease = self.lease(id).await?;
        let snapshot = match self.load_present(id).await {
            Err(error) if is_missing(&error) => return Ok(()),
            loaded => loaded?,
        };
        // A stop after the last byte has no effect.
        if snapshot.is_complete() {
            return Ok(());
        }
        let (upload, offset) = (&snapshot.upload, snapshot.offset);
        self.remove(context, upload, offset, &lease, &reply).await?;
        log_stop(upload, &reply, context);
        Ok(())
    }
}
