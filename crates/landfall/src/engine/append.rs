//! More bytes for an upload.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use http_body::Body;
use landfall_protocol::{Announced, Append as Head, Fault};

use super::{Caller, Engine, Error, create::may_complete, receive::Incoming};
use crate::{
    BoxError,
    event::EventKind,
    hook::Reply,
    lease::Lease,
    upload::{Upload, UploadId},
};

/// An append as the protocol read it.
#[derive(Debug)]
pub(crate) struct AppendRequest {
    pub(crate) head: Head,
    /// `Content-Length`, if the body has one.
    pub(crate) content_length: Option<u64>,
}

/// An append that is done.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) offset: u64,
    pub(crate) expires: Option<SystemTime>,
    pub(crate) reply: Reply,
}

/// An append that failed.
#[derive(Debug)]
pub(crate) struct AppendError {
    pub(crate) error: Error,
    /// When the upload expires, if it is known and still there.
    pub(crate) expires: Option<SystemTime>,
}

impl Engine {
    /// Appends a body; a failure, too, says when the upload expires (T-EXP-2).
    pub(crate) async fn append<B>(
        self: &Arc<Self>,
        caller: &Caller,
        id: &UploadId,
        request: AppendRequest,
        body: &mut B,
    ) -> Result<Appended, AppendError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let mut expires = None;
        let appended = self
            .append_body(caller, id, request, body, &mut expires)
            .await;
        match appended {
            Ok((offset, reply)) => Ok(Appended {
                offset,
                expires,
                reply,
            }),
            Err(error) => {
                match error.problem().fault {
                    // The writer that has the lease knows the upload, so this costs nothing.
                    Fault::Locked => {
                        expires = self.live.get(id).and_then(|live| {
                            self.expiry(&live.upload, live.offset(), SystemTime::now())
                        });
                    }
                    // Removed by the hook that refused or stopped it.
                    Fault::Rejected | Fault::Stopped => expires = None,
                    _ => {}
                }
                Err(AppendError { error, expires })
            }
        }
    }

    /// Appends a body (tus 1.0.0, PATCH). The checks come in the order of E-4; a writer that is still
    /// at it is asked to yield, so a client whose old connection hangs gets through at once.
    async fn append_body<B>(
        self: &Arc<Self>,
        caller: &Caller,
        id: &UploadId,
        request: AppendRequest,
        body: &mut B,
        expires: &mut Option<SystemTime>,
    ) -> Result<(u64, Reply), Error>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let AppendRequest {
            head,
            content_length,
        } = request;
        let slot = self
            .transfers
            .try_acquire()
            .map_err(|_| Fault::TooManyUploads)?;
        let lease = self.lease(id).await?;
        let (snapshot, append) = self.parts.get_store().resume(id, lease.fence()).await?;
        if self.has_expired(&snapshot) {
            return Err(Fault::Gone.into());
        }
        *expires = self.expiry(&snapshot.upload, snapshot.offset, snapshot.modified);
        let was_complete = snapshot.is_complete();
        let (mut upload, mut offset) = (snapshot.upload, snapshot.offset);
        if upload.is_final() {
            return Err(Fault::ModifyFinal.into());
        }
        if head.offset != offset {
            return Err(Error::Offset(offset));
        }
        if let Some(length) = head.length {
            let end = offset.saturating_add(content_length.unwrap_or_default());
            upload = self.declare_length(upload, length, end, &lease).await?;
        }
        if !was_complete && !upload.awaited && self.has_finish_audience() {
            upload = self.await_finish(upload, &lease).await?;
        }
        if !was_complete && let Some(end) = may_complete(&upload, offset, content_length) {
            let completed = [(EventKind::Completed, end)];
            self.announce(&completed, &upload, caller).await?;
        }
        let room = self.room(&upload, offset);
        if content_length.is_some_and(|n| n > room) {
            return Err(Fault::SizeExceeded.into());
        }
        let nothing_to_do =
            room == 0 && content_length == Some(0) && head.checksum == Announced::Nothing;
        if !nothing_to_do {
            let incoming = Incoming {
                body,
                content_length,
                checksum: head.checksum,
            };
            let received = self
                .receive(caller, &upload, append, &lease, room, incoming)
                .await?;
            offset = received.offset;
            *expires = self.expiry(&upload, offset, SystemTime::now());
            if let Some(interruption) = received.interruption {
                return Err(self
                    .interrupted(caller, &upload, offset, &lease, interruption)
                    .await);
            }
        }
        // Hooks may take long to think about it; other transfers needn't wait for that.
        drop(slot);
        let mut reply = Reply::default();
        if upload.is_complete_at(offset) {
            reply = self
                .finish(caller, upload.clone(), lease, !was_complete)
                .await?;
        }
        *expires = self.expiry(&upload, offset, SystemTime::now());
        Ok((offset, reply))
    }

    /// Notes that somebody waits for the upload's completion, who didn't when it was created or when
    /// another program had it: whatever is complete without this note was complete before.
    async fn await_finish(&self, upload: Arc<Upload>, lease: &Lease) -> Result<Arc<Upload>, Error> {
        let mut awaited = (*upload).clone();
        awaited.awaited = true;
        self.parts.get_store().save(&awaited, lease.fence()).await?;
        Ok(Arc::new(awaited))
    }

    /// The most bytes that the upload may have.
    pub(super) fn max_size(&self, upload: &Upload) -> Option<u64> {
        smaller(upload.max_size, self.limits.max_size)
    }

    /// How many bytes the upload still takes.
    pub(super) fn room(&self, upload: &Upload, offset: u64) -> u64 {
        let end = upload
            .length
            .or(self.max_size(upload))
            .unwrap_or(i64::MAX.unsigned_abs());
        end.saturating_sub(offset)
    }

    /// Takes the length that a client tells late (tus 1.0.0, Creation Defer Length); `end` is where
    /// the body that comes with it will end at least. Telling the same length again is fine: the
    /// request that told it first may have been cut (E-11).
    async fn declare_length(
        &self,
        upload: Arc<Upload>,
        length: u64,
        end: u64,
        lease: &Lease,
    ) -> Result<Arc<Upload>, Error> {
        match upload.length {
            Some(known) if known == length => return Ok(upload),
            Some(known) => {
                return Err(Fault::InvalidUploadLength
                    .because(format_args!("the length is {known} and can't change"))
                    .into());
            }
            None => {}
        }
        let Some(deferrer) = self.parts.get_length_deferrer() else {
            return Err(Fault::NotImplemented.into());
        };
        if self.max_size(&upload).is_some_and(|max| length > max) {
            return Err(Fault::MaxSizeExceeded.into());
        }
        if length < end {
            return Err(Fault::InvalidUploadLength
                .because(format_args!("{length} is less than the {end} bytes sent"))
                .into());
        }
        Ok(deferrer
            .declare_length(&upload, length, lease.fence())
            .await?)
    }
}

/// The smaller of two limits, `None` being no limit.
pub(super) fn smaller(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}
