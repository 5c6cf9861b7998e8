//! A new upload, perhaps with its first bytes.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use http_body::Body;
use landfall_protocol::{Concat, Create as Head, Declared, Fault};

use super::{
    Caller, Engine, Error, add,
    receive::{Incoming, Interruption},
};
use crate::{
    BoxError,
    event::EventKind,
    hook::{Answer, Intent, Reply},
    lease::Lease,
    upload::{Kind, Upload, UploadId},
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
    pub(crate) reply: Reply,
}

impl Engine {
    /// Creates an upload (tus 1.0.0, Creation, Creation With Upload, Concatenation).
    pub(crate) async fn create<B>(
        self: &Arc<Self>,
        caller: &Caller,
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
        self.admit(caller, Intent::Create, None).await?;
        let length = match head.declared {
            Declared::Length(length) => Some(length),
            Declared::Deferred | Declared::BySum => None,
        };
        let mut upload = Upload::new(UploadId::random(), length);
        upload.metadata = head.metadata;
        match head.concat {
            None => {}
            Some(Concat::Partial) => upload.kind = Kind::Partial,
            Some(Concat::Final { header, .. }) => {
                if head.with_upload && content_length != Some(0) {
                    return Err(Fault::ModifyFinal.into());
                }
                upload.kind = Kind::Final {
                    parts,
                    header,
                    joined: false,
                };
                return self.create_final(caller, upload).await;
            }
        }
        let with_upload = head.with_upload;
        if with_upload && content_length.is_some_and(|n| n > self.room(&upload, 0)) {
            return Err(Fault::SizeExceeded.into());
        }
        let mut reply = self.ask_before_create(caller, &mut upload).await?;
        self.parts.get_store().assign_id(&mut upload).await?;
        // A body without bytes is no transfer; what is left then is an empty upload or a plain one.
        if !with_upload || content_length == Some(0) && !head.checksum.is_stated() {
            let upload = self.parts.get_store().create(upload).await?;
            add(&self.counters.created, 1);
            self.tell(EventKind::Created, &upload, 0, caller).await;
            if upload.is_complete_at(0) {
                let lease = self.lease(&upload.id).await?;
                reply.merge(self.finish(caller, upload.clone(), lease, true).await?);
            }
            let expires = self.expiry(&upload, 0, SystemTime::now());
            return Ok(Created {
                upload,
                offset: with_upload.then_some(0),
                expires,
                reply,
            });
        }

        let _slot = self
            .transfers
            .try_acquire()
            .map_err(|_| Fault::TooManyUploads)?;
        let lease = self.lease(&upload.id).await?;
        let (upload, append) = self
            .parts
            .get_store()
            .create_append(upload, lease.fence())
            .await?;
        add(&self.counters.created, 1);
        self.tell(EventKind::Created, &upload, 0, caller).await;
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
            Err(error) => return Err(self.undo_creation(caller, &upload, &lease, error).await),
        };
        let offset = received.offset;
        match received.interruption {
            None => {}
            // The refusal is the whole answer: nothing may be left of which the client doesn't know
            // the URL (E-22). What a cut connection leaves is kept until it expires (E-21).
            Some(interruption @ (Interruption::Overrun | Interruption::Checksum(_))) => {
                let error = self
                    .interrupted(caller, &upload, offset, &lease, interruption)
                    .await;
                return Err(self.undo_creation(caller, &upload, &lease, error).await);
            }
            Some(interruption) => {
                return Err(self
                    .interrupted(caller, &upload, offset, &lease, interruption)
                    .await);
            }
        }
        if upload.is_complete_at(offset) {
            reply.merge(self.finish(caller, upload.clone(), lease, true).await?);
        }
        let expires = self.expiry(&upload, offset, SystemTime::now());
        Ok(Created {
            upload,
            offset: Some(offset),
            expires,
            reply,
        })
    }

    /// Asks the hooks, lays their changes over the upload, and returns what they want the client to
    /// be told.
    pub(super) async fn ask_before_create(
        &self,
        caller: &Caller,
        upload: &mut Upload,
    ) -> Result<Reply, Error> {
        let mut reply = Reply::default();
        if !self.asks.before_create {
            return Ok(reply);
        }
        let nobody = Arc::default();
        let request = caller.as_ref().unwrap_or(&nobody);
        for hook in self.hooks.iter().filter(|hook| hook.asks().before_create) {
            let creation = hook
                .before_create(request, upload)
                .await
                .map_err(Error::Hook)?;
            match creation.answer {
                Answer::Allow(more) => reply.merge(more),
                Answer::Refuse(no) => return Err(Error::Refused(Fault::Rejected, Box::new(no))),
            }
            if let Some(id) = creation.id {
                upload.id = id;
            }
            if let Some(metadata) = creation.metadata {
                upload.metadata = metadata;
            }
            upload.storage.extend(creation.storage);
            upload.expires = creation.expires.or(upload.expires);
        }
        Ok(reply)
    }

    async fn undo_creation(
        &self,
        caller: &Caller,
        upload: &Arc<Upload>,
        lease: &Lease,
        error: Error,
    ) -> Error {
        if let Err(left) = self.remove(caller, upload, 0, lease).await {
            tracing::warn!(id = %upload.id, error = %left, "a failed creation could not be undone");
        }
        error
    }
}
