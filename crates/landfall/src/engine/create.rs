//! A new upload, perhaps with its first bytes.

use std::{future::Future, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http_body::Body;
use landfall_protocol::{Concat, Create as Head, DeclaredLength, ProblemKind};

use super::{
    Engine, Error, RequestContext, add,
    claim::KeyState,
    receive::{Incoming, Interruption},
};
use crate::{
    BoxError,
    event::{EventKind, TerminationReason},
    hook::{ClientResponse, Intent},
    lease::Lease,
    upload::{Completion, Upload, UploadId, UploadKind},
};

/// A creation as the protocol read it.
#[derive(Debug)]
pub(crate) struct CreateRequest {
    pub(crate) head: Head,
    /// The partial uploads that a final upload names.
    pub(crate) parts: Vec<UploadId>,
    /// `Content-Length`, if the body has one.
    pub(crate) content_length: Option<u64>,
}

/// A creation that is done.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) upload: Arc<Upload>,
    /// How many bytes are stored; `None` if none could come with this request.
    pub(crate) offset: Option<u64>,
    pub(crate) expires: Option<SystemTime>,
    pub(crate) reply: ClientResponse,
    /// Whether it was there before, so that the body of this request is nobody's.
    pub(crate) existed: bool,
}

impl Engine {
    /// Creates an upload (tus 1.0.0, Creation, Creation With Upload, Concatenation).
    pub(crate) async fn create<B>(
        self: &Arc<Self>,
        caller: &RequestContext,
        request: CreateRequest,
        body: &mut B,
    ) -> Result<Created, Error>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let CreateRequest {
            head,
            parts,
            content_length,
        } = request;
        let _in_flight = self.enter_transfer()?;
        self.check_access(caller, Intent::Create, None).await?;
        let length = match head.declared {
            DeclaredLength::Known(length) => Some(length),
            DeclaredLength::Deferred | DeclaredLength::SumOfParts => None,
        };
        let mut upload = Upload::new(UploadId::random(), length);
        upload.metadata = head.metadata;
        upload.created = Some(SystemTime::now());
        if self.tracks_completion() {
            upload.completion = Completion::Pending;
        }
        match head.concat {
            None => {}
            Some(Concat::Partial) => upload.kind = UploadKind::Partial,
            Some(Concat::Final { header, .. }) => {
                if head.with_upload && content_length != Some(0) {
                    return Err(ProblemKind::ModifyFinal.into());
                }
                upload.kind = UploadKind::Final {
                    parts,
                    header,
                    concatenated: false,
                };
                // Boxed, like whatever few requests do: the largest way decides how much memory each takes.
                return Box::pin(self.create_final(caller, upload)).await;
            }
        }
        let with_upload = head.with_upload;
        if with_upload && content_length.is_some_and(|n| n > self.room(&upload, 0)) {
            return Err(ProblemKind::SizeExceeded.into());
        }
        // A body without bytes is no transfer; what is left then is an empty upload or a plain one.
        let is_transfer = with_upload && (content_length != Some(0) || head.checksum.has_length());
        if is_transfer {
            // Reject before hooks run, but hold no permit while they do.
            drop(self.transfer_permit().await?);
        }
        let (mut reply, claim) = self.call_pre_create(caller, &mut upload).await?;
        let claim = match self.claim(claim, &reply).await? {
            KeyState::New(claim) => claim,
            KeyState::Exists(created) => return Ok(created),
        };
        self.assign_id(&mut upload, claim.as_ref()).await?;
        let comes = if is_transfer { content_length } else { Some(0) };
        let permit = if is_transfer {
            Some(self.transfer_permit().await?)
        } else {
            None
        };
        self.announce_creation(caller, &upload, comes).await?;
        let Some(permit) = permit else {
            let engine = self.clone();
            let create = async move {
                let upload = engine.parts.get_store().create(upload).await?;
                // From here on its offset answers other requests with this claim.
                drop(claim);
                Ok((upload, ()))
            };
            // Before it is stored: Upload-Expires must not be later than what the stored time gives.
            let now = SystemTime::now();
            let (upload, ()) = self.emit_created(caller, create).await?;
            if upload.is_complete_at(0) {
                let lease = self.lease(&upload.id).await?;
                reply.merge(self.finish(caller, upload.clone(), lease, true).await?);
            }
            let expires = self.expiry(&upload, 0, now);
            return Ok(Created {
                upload,
                offset: with_upload.then_some(0),
                expires,
                reply,
                existed: false,
            });
        };

        let lease = self.lease(&upload.id).await?;
        let engine = self.clone();
        let create = async move {
            let store = engine.parts.get_store();
            let created = store.create_append(upload, lease.fence());
            let (upload, append) = Self::while_held(&lease, created).await?;
            drop(claim);
            Ok((upload, (append, lease)))
        };
        let (upload, (append, lease)) = self.emit_created(caller, create).await?;
        let room = self.room(&upload, 0);
        let incoming = Incoming {
            body,
            content_length,
            checksum: head.checksum,
        };
        let received = match self
            .receive(caller, &upload, append, &lease, room, incoming)
            .await
        {
            Ok(received) => received,
            Err(error) => return Err(self.undo_creation(caller, upload, lease, error).await),
        };
        let offset = received.offset;
        match received.interruption {
            None => {}
            // The refusal is the whole answer: nothing may be left of which the client doesn't know
            // the URL (E-22). What a cut connection leaves is kept until it expires (E-21).
            Some(Interruption::Overrun) => {
                let error = ProblemKind::SizeExceeded.into();
                return Err(self.undo_creation(caller, upload, lease, error).await);
            }
            Some(Interruption::Checksum(problem)) => {
                let error = problem.into();
                return Err(self.undo_creation(caller, upload, lease, error).await);
            }
            Some(Interruption::Evicted) => {
                let error = self.evicted(&upload.id, offset);
                return Err(self.undo_creation(caller, upload, lease, error).await);
            }
            Some(interruption) => {
                return Err(self
                    .interrupted(caller, &upload, offset, lease, interruption)
                    .await);
            }
        }
        drop(permit);
        if upload.is_complete_at(offset) {
            reply.merge(self.finish(caller, upload.clone(), lease, true).await?);
        }
        let expires = self.expiry(&upload, offset, SystemTime::now());
        Ok(Created {
            upload,
            offset: Some(offset),
            expires,
            reply,
            existed: false,
        })
    }

    /// Announces a creation, and the completion to which its body of so many bytes may lead.
    async fn announce_creation(
        &self,
        caller: &RequestContext,
        upload: &Upload,
        comes: Option<u64>,
    ) -> Result<(), Error> {
        let created = (EventKind::Created, 0);
        match may_complete(upload.length, 0, comes) {
            None => self.prepare_kinds(&[created], upload, caller).await,
            Some(end) => {
                let kinds = [created, (EventKind::Completed, end)];
                self.prepare_kinds(&kinds, upload, caller).await
            }
        }
    }

    /// Creates an upload and emits the event as one unit, even if the request is dropped.
    pub(super) async fn emit_created<T: Send + 'static>(
        self: &Arc<Self>,
        caller: &RequestContext,
        create: impl Future<Output = Result<(Arc<Upload>, T), Error>> + Send + 'static,
    ) -> Result<(Arc<Upload>, T), Error> {
        let created = if self.wants.created {
            let room = self.reserve(EventKind::Created).await?;
            let (engine, caller) = (self.clone(), caller.clone());
            self.detached(async move {
                let created = create.await?;
                engine
                    .emit_kind(room, EventKind::Created, &created.0, 0, &caller)
                    .await;
                Ok(created)
            })
            .await?
        } else {
            // Without an event there is nothing to cut in two.
            create.await?
        };
        add(&self.counters.created, 1);
        Ok(created)
    }

    async fn undo_creation(
        self: &Arc<Self>,
        caller: &RequestContext,
        upload: Arc<Upload>,
        lease: Lease,
        error: Error,
    ) -> Error {
        let id = upload.id.clone();
        if let Err(left) = self
            .remove_detached(caller, upload, 0, lease, TerminationReason::RolledBack)
            .await
        {
            tracing::warn!(%id, error = %left, "failed to undo a creation");
        }
        error
    }
}

/// The length of an upload, if a body of so many bytes (`None` = nobody knows) that begins at `offset`
/// may complete it.
pub(super) fn may_complete(length: Option<u64>, offset: u64, comes: Option<u64>) -> Option<u64> {
    length.filter(|length| comes.is_none_or(|n| offset.saturating_add(n) >= *length))
}
