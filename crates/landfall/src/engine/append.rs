//! More bytes for an upload.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body::Body;
use landfall_protocol::{Append as Head, ProblemKind};
use tokio::time::timeout;

use super::{
    Engine, Error, RequestContext,
    create::may_complete,
    peek::PeekedBody,
    receive::{Incoming, Interruption},
};
use crate::{
    BoxError,
    event::EventKind,
    hook::ClientResponse,
    lease::Lease,
    upload::{Completion, Upload, UploadId},
};

/// How often a request that waits for the lease of another process reads the stored offset, at first.
const OFFSET_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// And at last: each time costs the store some calls.
const MAX_OFFSET_POLL_INTERVAL: Duration = Duration::from_secs(4);

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
    pub(crate) reply: ClientResponse,
}

/// An append that failed.
#[derive(Debug)]
pub(crate) struct AppendError {
    pub(crate) error: Error,
    /// When the upload expires, if it is known and still there.
    pub(crate) expires: Option<SystemTime>,
}

/// What an upload takes of an append.
struct Fit {
    /// The length that the request declares.
    declares: Option<u64>,
    /// The upload's length, as far as it is known then.
    length: Option<u64>,
    /// How many bytes the upload still takes.
    remaining: u64,
}

impl Engine {
    /// Appends a body; a failure, too, says when the upload expires (T-EXP-2).
    pub(crate) async fn append<B>(
        self: &Arc<Self>,
        caller: &RequestContext,
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
                match error.problem().kind {
                    // Removed by the hook that refused or stopped it.
                    ProblemKind::Rejected | ProblemKind::Stopped => expires = None,
                    // The writer that has the lease knows the upload, so this costs nothing.
                    _ if expires.is_none() => {
                        expires = self.live.get(id).and_then(|live| {
                            self.expiry(&live.upload, live.offset(), SystemTime::now())
                        });
                    }
                    _ => {}
                }
                Err(AppendError { error, expires })
            }
        }
    }

    /// Appends a body (tus 1.0.0, PATCH). The checks come in the order of E-4, and all of them before
    /// anything is written. A writer whose client has gone gives way, so that a client whose old
    /// connection hangs gets through at once; a request that can't succeed interrupts nobody.
    async fn append_body<B>(
        self: &Arc<Self>,
        caller: &RequestContext,
        id: &UploadId,
        request: AppendRequest,
        body: &mut B,
        expires: &mut Option<SystemTime>,
    ) -> Result<(u64, ClientResponse), Error>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let _in_flight = self.enter_transfer()?;
        let permit = self.transfer_permit().await?;
        let body = &mut PeekedBody::new(body);
        let lease = self.lease_for_append(id, &request, body).await?;
        let store = self.parts.get_store();
        let (snapshot, append) = Self::while_held(&lease, store.resume(id, lease.fence())).await?;
        if self.has_expired(&snapshot) {
            return Err(ProblemKind::Gone.into());
        }
        *expires = self.expiry(&snapshot.upload, snapshot.offset, snapshot.modified);
        let was_complete = snapshot.is_complete();
        let (mut upload, mut offset) = (snapshot.upload, snapshot.offset);
        // The bytes must land where the checks expect them.
        if append.offset() != offset {
            return Err(ProblemKind::Locked.into());
        }
        let fit = self.check_append(&upload, offset, &request)?;
        let AppendRequest {
            head,
            content_length,
        } = request;
        let is_verified = head.checksum.has_length();
        // A length that comes with bytes that turn out to be wrong isn't declared.
        let declares_late = is_verified || content_length.is_none();
        if let Some(length) = fit.declares.filter(|_| !declares_late) {
            upload = self.declare_length(&upload, length, &lease).await?;
        }
        if !was_complete && upload.completion == Completion::NotTracked && self.tracks_completion()
        {
            upload = self.track_completion(upload, &lease).await?;
        }
        if !was_complete && let Some(end) = may_complete(fit.length, offset, content_length) {
            let completed = [(EventKind::Completed, end)];
            self.prepare_kinds(&completed, &upload, caller).await?;
        }
        let mut interruption = None;
        if fit.remaining > 0 || content_length != Some(0) || is_verified {
            let incoming = Incoming {
                body,
                content_length,
                checksum: head.checksum,
            };
            let received = self
                .receive(caller, &upload, append, &lease, fit.remaining, incoming)
                .await?;
            offset = received.offset;
            *expires = self.expiry(&upload, offset, SystemTime::now());
            interruption = received.interruption;
        }
        let is_wrong = matches!(interruption, Some(Interruption::Checksum(_)))
            || (is_verified && interruption.is_some());
        if let Some(length) = fit.declares.filter(|_| declares_late && !is_wrong) {
            upload = self.declare_length(&upload, length, &lease).await?;
        }
        if let Some(interruption) = interruption {
            return Err(self
                .interrupted(caller, &upload, offset, lease, interruption)
                .await);
        }
        // Hooks may take long to think about it; other transfers needn't wait for that.
        drop(permit);
        let mut reply = ClientResponse::default();
        if upload.is_complete_at(offset) {
            reply = self
                .finish(caller, upload.clone(), lease, !was_complete)
                .await?;
        }
        *expires = self.expiry(&upload, offset, SystemTime::now());
        Ok((offset, reply))
    }

    /// Acquires the lease for an append. Its holder is interrupted only if the append fits what is known
    /// of the upload and its client sends: a late request of a client that is gone interrupts nothing.
    async fn lease_for_append<B>(
        &self,
        id: &UploadId,
        request: &AppendRequest,
        body: &mut PeekedBody<'_, B>,
    ) -> Result<Lease, Error>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let at = request.head.offset;
        if self.live.get(id).is_none()
            && let Some(lease) = self.free_lease(id).await?
        {
            return Ok(lease);
        }
        let live = self.live.get(id);
        match &live {
            Some(live) if at < live.offset() => return Err(Error::Offset(live.offset())),
            Some(live) => {
                self.check_append(&live.upload, at, request)?;
            }
            None => {
                // Another process has it, or a request that doesn't write yet or any more.
                let snapshot = self.load(id).await?;
                self.check_append(&snapshot.upload, at.max(snapshot.offset), request)?;
            }
        }
        if request.content_length != Some(0) && timeout(self.lease_wait, body.peek()).await.is_err()
        {
            return self.free_lease(id).await?.ok_or(ProblemKind::Locked.into());
        }
        if let Some(live) = live {
            live.take_over(at).await.map_err(Error::Offset)?;
        }
        self.lease_at(id, at).await
    }

    /// Acquires the lease for an append at an offset. A holder in another process that has more bytes
    /// keeps it and stores them, which the request finds out here.
    async fn lease_at(&self, id: &UploadId, at: u64) -> Result<Lease, Error> {
        let locker = self.parts.get_locker();
        let mut acquired = pin!(locker.acquire_at(id, at, self.lease_wait));
        let mut interval = OFFSET_POLL_INTERVAL;
        loop {
            if let Ok(lease) = timeout(interval, acquired.as_mut()).await {
                return Ok(lease?);
            }
            let stored = self.load(id).await?.offset;
            if stored > at {
                return Err(Error::Offset(stored));
            }
            interval = (interval * 2).min(MAX_OFFSET_POLL_INTERVAL);
        }
    }

    /// Whether an upload with so many bytes takes what a request brings, as far as its head tells.
    fn check_append(
        &self,
        upload: &Upload,
        offset: u64,
        request: &AppendRequest,
    ) -> Result<Fit, Error> {
        if upload.is_final() {
            return Err(ProblemKind::ModifyFinal.into());
        }
        if request.head.offset != offset {
            return Err(Error::Offset(offset));
        }
        let comes = request.content_length.unwrap_or_default();
        let declares = match request.head.length {
            Some(length) => self.check_length(upload, length, offset.saturating_add(comes))?,
            None => None,
        };
        let length = declares.or(upload.length);
        let end = length
            .or(self.max_size(upload))
            .unwrap_or(i64::MAX.unsigned_abs());
        let remaining = end.saturating_sub(offset);
        if comes > remaining {
            return Err(ProblemKind::SizeExceeded.into());
        }
        Ok(Fit {
            declares,
            length,
            remaining,
        })
    }

    /// Records that hooks or sinks follow the upload's completion, which none did when it was created
    /// or when tusd had it. An upload that is complete without this record was complete before.
    async fn track_completion(
        &self,
        mut upload: Arc<Upload>,
        lease: &Lease,
    ) -> Result<Arc<Upload>, Error> {
        Arc::make_mut(&mut upload).completion = Completion::Pending;
        let store = self.parts.get_store();
        Self::while_held(lease, store.save(&upload, lease.fence())).await?;
        Ok(upload)
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

    /// Checks a length that a client tells late (tus 1.0.0, Creation Defer Length); `end` is where the
    /// body that comes with it will end at least. Telling the same length again is fine, and nothing
    /// new: the request that told it first may have been cut (E-11).
    fn check_length(&self, upload: &Upload, length: u64, end: u64) -> Result<Option<u64>, Error> {
        match upload.length {
            Some(known) if known == length => return Ok(None),
            Some(known) => {
                return Err(ProblemKind::InvalidUploadLength
                    .with_detail(format_args!("the length is {known} and can't change"))
                    .into());
            }
            None => {}
        }
        if self.parts.get_length_deferrer().is_none() {
            return Err(ProblemKind::NotImplemented.into());
        }
        if self.max_size(upload).is_some_and(|max| length > max) {
            return Err(ProblemKind::MaxSizeExceeded.into());
        }
        if length < end {
            return Err(ProblemKind::InvalidUploadLength
                .with_detail(format_args!("{length} is less than the {end} bytes sent"))
                .into());
        }
        Ok(Some(length))
    }

    async fn declare_length(
        &self,
        upload: &Upload,
        length: u64,
        lease: &Lease,
    ) -> Result<Arc<Upload>, Error> {
        let Some(deferrer) = self.parts.get_length_deferrer() else {
            return Err(ProblemKind::NotImplemented.into());
        };
        let declared = deferrer.declare_length(upload, length, lease.fence());
        Self::while_held(lease, declared).await
    }
}

/// The smaller of two limits, `None` being no limit.
pub(super) fn smaller(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}
