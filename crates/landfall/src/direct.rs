//! Uploads whose bytes don't pass through a handler: its client sends them straight to where they are
//! kept, and somebody else makes sure of what arrived.
//!
//! That somebody implements [`ExternalUploads`], so that the handler can look at such uploads and remove
//! them as it does with its own, and uses the handler's [`Audience`]: the same hooks are asked, the same
//! sinks told.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, request::Parts};
use landfall_protocol::ProblemKind;

use crate::{
    BoxError, Resolution,
    engine::{Engine, Error, Reservations},
    event::{EventKind, TerminationReason},
    hook::{ClientResponse, Intent, RequestInfo, UploadToken},
    service::request_info,
    upload::{Snapshot, Upload, UploadId},
};

/// Who keeps books of direct uploads.
#[async_trait]
pub trait ExternalUploads: std::fmt::Debug + Send + Sync + 'static {
    /// Whether an upload with this id is one of these, or was or may become one: told by the id alone.
    fn owns(&self, id: &UploadId) -> bool;

    /// As [`Handler::get`](crate::Handler::get), for one of these.
    ///
    /// # Errors
    /// It can't be found out now.
    async fn get(&self, id: &UploadId) -> Result<Option<Snapshot>, BoxError>;

    /// As [`Handler::remove`](crate::Handler::remove), for one of these.
    ///
    /// # Errors
    /// It may still be there.
    async fn remove(&self, id: &UploadId) -> Result<bool, BoxError>;

    /// As [`Handler::resolve`](crate::Handler::resolve), for one of these.
    ///
    /// # Errors
    /// It can't be found out now.
    async fn resolve(
        &self,
        kind: EventKind,
        id: &UploadId,
        created: Option<SystemTime>,
    ) -> Result<Resolution, BoxError>;
}

/// Why something isn't done: a hook refused, or somebody who has to be asked or told can't be.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct HookError {
    /// The status of the answer.
    pub status: StatusCode,
    /// Headers that the hook wants in the answer.
    pub headers: HeaderMap,
    /// What the client is told: the hook's words, or a short one.
    pub message: String,
    /// The fault of ours behind it, if it is no refusal: for the log, and worth another try.
    #[source]
    pub cause: Option<BoxError>,
}

impl From<Error> for HookError {
    fn from(error: Error) -> Self {
        let problem = error.problem();
        let usual = StatusCode::from_u16(problem.status());
        let mut declined = Self {
            status: usual.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers: HeaderMap::new(),
            message: problem.to_string().trim().to_owned(),
            cause: None,
        };
        if let Error::Refused(_, reply) = &error {
            let ClientResponse {
                status,
                headers,
                body,
            } = &**reply;
            declined.status = status.unwrap_or(declined.status);
            declined.headers = headers.clone();
            if let Some(body) = body {
                declined.message = words(body);
            }
        }
        let has_no_answer = matches!(error, Error::Refused(ProblemKind::Internal, _));
        if error.is_ours() || has_no_answer {
            declined.cause = Some(error.into());
        }
        declined
    }
}

fn words(body: &Bytes) -> String {
    String::from_utf8_lossy(body).trim().to_owned()
}

/// The hooks and sinks of a handler, for uploads whose bytes don't pass through it. Cheap to clone.
///
/// The order of things is the handler's own: ask, announce, reserve, do, emit. An event that was announced and
/// not told when the process died comes back by [`ExternalUploads::settle`].
#[derive(Debug, Clone)]
pub struct HookDispatcher(Arc<Engine>);

/// Room for one event in every sink that wants it.
#[derive(Debug)]
#[must_use = "the event is emitted into it"]
pub struct EventRoom(Reservations);

impl HookDispatcher {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self(engine)
    }

    /// A request as hooks and sinks are told of it. Its upload token is taken out of the headers of
    /// `request`; nobody behind this may log or keep it.
    pub fn request(&self, request: &mut Parts) -> Arc<RequestInfo> {
        let token = UploadToken::extract(&mut request.headers);
        let peer = request.extensions.get().copied();
        Arc::new(request_info(request, peer, token))
    }

    /// Whether the request may touch the upload (for a creation: `None`) at all.
    ///
    /// # Errors
    /// It may not.
    pub async fn admit(
        &self,
        request: &Arc<RequestInfo>,
        intent: Intent,
        id: Option<&UploadId>,
    ) -> Result<(), HookError> {
        let caller = Some(request.clone());
        Ok(self.0.check_access(&caller, intent, id).await?)
    }

    /// Whether a hook may change or reject the creation of an upload.
    #[must_use]
    pub fn has_creation_hooks(&self) -> bool {
        self.0.has_creation_hooks()
    }

    /// Whether the upload may be created; lays the changes that hooks want over it. A claim of a hook
    /// isn't heeded: whoever keeps books of direct uploads sees to it that one comes of a grant.
    ///
    /// # Errors
    /// It may not.
    pub async fn before_create(
        &self,
        request: &Arc<RequestInfo>,
        upload: &mut Upload,
    ) -> Result<ClientResponse, HookError> {
        let caller = Some(request.clone());
        let (reply, _) = self.0.call_pre_create(&caller, upload).await?;
        Ok(reply)
    }

    /// Whether an upload all of whose bytes are stored counts as complete.
    ///
    /// # Errors
    /// It doesn't, and is to be removed; with a [cause](Declined::cause): nobody knows, ask again.
    pub async fn before_finish(
        &self,
        request: Option<&Arc<RequestInfo>>,
        upload: &Snapshot,
    ) -> Result<ClientResponse, HookError> {
        let caller = request.cloned();
        Ok(self.0.call_pre_finish(&caller, upload).await?)
    }

    /// Whether a client may remove the upload.
    ///
    /// # Errors
    /// It may not.
    pub async fn before_terminate(
        &self,
        request: &Arc<RequestInfo>,
        upload: &Snapshot,
    ) -> Result<ClientResponse, HookError> {
        let caller = Some(request.clone());
        Ok(self.0.call_pre_terminate(&caller, upload).await?)
    }

    /// Tells what may happen next.
    ///
    /// # Errors
    /// A sink can keep no more; nothing must happen then.
    pub async fn prepare(
        &self,
        kind: EventKind,
        upload: &Upload,
        offset: u64,
        request: Option<&Arc<RequestInfo>>,
    ) -> Result<(), HookError> {
        let caller = request.cloned();
        Ok(self
            .0
            .prepare_kinds(&[(kind, offset)], upload, &caller)
            .await?)
    }

    /// Reserves room for one event in every sink that wants it, right before the effect.
    ///
    /// # Errors
    /// A sink has no room; nothing must happen then.
    ///
    /// # Cancel safety
    /// A dropped call, like a dropped [`EventRoom`], leaves nothing reserved.
    pub async fn reserve(&self, kind: EventKind) -> Result<EventRoom, HookError> {
        Ok(EventRoom(self.0.reserve(kind).await?))
    }

    /// Emits an event after its effect, into the room that was reserved for its kind.
    pub async fn emit(
        &self,
        room: EventRoom,
        kind: EventKind,
        upload: &Arc<Upload>,
        offset: u64,
        request: Option<&Arc<RequestInfo>>,
    ) {
        let caller = request.cloned();
        self.0
            .emit_kind(room.0, kind, upload, offset, &caller)
            .await;
    }

    /// Emits the removal of an upload and its reason, into the room that was reserved for
    /// [`EventKind::Terminated`].
    pub async fn emit_removed(
        &self,
        room: EventRoom,
        reason: TerminationReason,
        upload: &Arc<Upload>,
        offset: u64,
        request: Option<&Arc<RequestInfo>>,
    ) {
        let caller = request.cloned();
        self.0
            .emit_removed(room.0, reason, upload, offset, &caller)
            .await;
    }

    /// Tells how far an upload got, to whoever can take it at once.
    pub fn emit_progress(&self, upload: &Arc<Upload>, offset: u64) {
        self.0.emit_progress_of(upload, offset);
    }
}
