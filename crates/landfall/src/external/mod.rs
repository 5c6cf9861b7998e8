//! Uploads whose bytes bypass the handler: their clients send them directly to the storage.
//!
//! A registry of such uploads implements [`ExternalUploads`], so that the handler can inspect and remove
//! them like its own. It uses the [`HookDispatcher`] of the handler to call the same hooks and emit events
//! to the same sinks.

pub(crate) mod registry;

use std::sync::Arc;

use http::request::Parts;

use crate::{
    engine::{Engine, HookCall, RequestContext, Reservations, log_end},
    event::{Event, EventKind},
    hook::{ClientResponse, HookError, Intent, RequestInfo, UploadToken},
    upload::{Snapshot, Upload, UploadId},
};
pub use registry::ExternalUploads;

/// Calls the hooks and sinks of a handler for uploads whose bytes bypass it. Cheap to clone.
///
/// Use it in the order of the handler itself: call hooks, prepare, reserve, perform the effect, emit. An
/// event that was prepared but not emitted when the process died is resolved by
/// [`ExternalUploads::resolve`].
#[derive(Debug, Clone)]
pub struct HookDispatcher(Arc<Engine>);

/// Reserved capacity for one event in every sink that receives it.
#[derive(Debug)]
#[must_use = "the event is emitted into it"]
pub struct EventReservation(Reservations);

impl HookDispatcher {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self(engine)
    }

    /// Converts a request for hooks and sinks.
    ///
    /// Its upload token is removed from the headers of `request`; it must not be logged or stored.
    pub fn request(&self, request: &mut Parts) -> Arc<RequestInfo> {
        let token = UploadToken::extract(&mut request.headers);
        Arc::new(RequestInfo::from_parts(request, token))
    }

    /// Checks whether the request may access the upload (`None` for a creation).
    ///
    /// # Errors
    /// Access is denied.
    pub async fn admit(
        &self,
        request: &Arc<RequestInfo>,
        intent: Intent,
        id: Option<&UploadId>,
    ) -> Result<(), HookError> {
        let context = request.clone().into();
        Ok(self.0.check_access(&context, intent, id).await?)
    }

    /// Returns whether a hook may change or deny the creation of an upload.
    #[must_use]
    pub fn has_creation_hooks(&self) -> bool {
        self.0.has_creation_hooks()
    }

    /// Checks whether the upload may be created, and applies the changes of the hooks.
    ///
    /// An idempotency key of a hook is ignored: the registry ensures one upload per grant.
    ///
    /// # Errors
    /// The creation is denied.
    pub async fn before_create(
        &self,
        request: &Arc<RequestInfo>,
        upload: &mut Upload,
    ) -> Result<ClientResponse, HookError> {
        let context = request.clone().into();
        let (reply, ..) = self.0.call_pre_create(&context, upload).await?;
        Ok(*reply.unwrap_or_default())
    }

    /// Checks whether the hooks accept an upload as complete. All of its bytes must be stored.
    ///
    /// # Errors
    /// The upload is denied and must be removed. With a [cause](HookError::cause) there is no decision:
    /// call this again later.
    pub async fn before_finish(
        &self,
        request: Option<&Arc<RequestInfo>>,
        upload: &Snapshot,
    ) -> Result<ClientResponse, HookError> {
        let context = request.cloned().into();
        let reply = self.0.call_all(&context, HookCall::Finish(upload)).await?;
        Ok(*reply.unwrap_or_default())
    }

    /// Checks whether a client may remove the upload.
    ///
    /// # Errors
    /// The removal is denied.
    pub async fn before_terminate(
        &self,
        request: &Arc<RequestInfo>,
        upload: &Snapshot,
    ) -> Result<ClientResponse, HookError> {
        let context = request.clone().into();
        let call = HookCall::Terminate(upload);
        let reply = self.0.call_all(&context, call).await?;
        Ok(*reply.unwrap_or_default())
    }

    /// Prepares an event in the sinks, before its effect.
    ///
    /// # Errors
    /// A sink is full; the effect must not happen.
    pub async fn prepare(
        &self,
        kind: EventKind,
        upload: &Upload,
        offset: u64,
        request: Option<&Arc<RequestInfo>>,
    ) -> Result<(), HookError> {
        let context = request.cloned().into();
        Ok(self
            .0
            .prepare_kinds(&[(kind, offset)], upload, &context)
            .await?)
    }

    /// Reserves capacity for one event in every sink that receives it, right before the effect.
    ///
    /// # Errors
    /// A sink is full; the effect must not happen.
    ///
    /// # Cancel safety
    /// A dropped call, like a dropped [`EventReservation`], leaves nothing reserved.
    pub async fn reserve(&self, kind: EventKind) -> Result<EventReservation, HookError> {
        Ok(EventReservation(self.0.reserve(kind).await?))
    }

    /// Emits an event after its effect, using the capacity that was reserved for its kind.
    pub async fn emit(&self, reservation: EventReservation, event: Event) {
        if event.kind == EventKind::Completed {
            log_end(
                "UploadFinished",
                Some(&event.upload),
                None,
                RequestContext::NONE,
            );
        }
        self.0.emit(reservation.0, event).await;
    }

    /// Emits the offset of an upload to the sinks that can accept it at once.
    pub fn emit_progress(&self, upload: &Arc<Upload>, offset: u64) {
        let event = Event::new(EventKind::Progress, upload.clone(), offset, None);
        self.0.offer_progress(&event);
    }
}
