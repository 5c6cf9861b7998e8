//! Appends the content of a request to an upload, and decides whether its current writer must yield.
//!
//! A writer is interrupted only by a request that fits the known state and whose body, if it has one, has begun. The
//! request is checked again under the lease, before a byte is written, in the order of tests/protocol.md. With a
//! checksum, or without `Content-Length`, a declared length is recorded only after the body.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use landfall_protocol::{Append as Head, Checksum, DeclaredEnd, ProblemKind};
use tokio::time::timeout;

use super::{
    Engine, Error, HookReply, RequestContext,
    create::can_complete,
    finishing::Finishing,
    hooks::smaller,
    live::completing::Received,
    receive::BodyStream,
    transfer::{BoxedObserver, Interruption},
};
use crate::{
    BoxError,
    event::{EventKind, TerminationReason},
    lease::Lease,
    request_body::RequestBody,
    upload::{Completion, Upload, UploadId},
};

const OFFSET_POLL_INTERVAL: Duration = Duration::from_millis(250);
const MAX_OFFSET_POLL_INTERVAL: Duration = Duration::from_secs(4);

pub(crate) struct AppendRequest {
    pub(crate) head: Head,
    pub(crate) content_length: Option<u64>,
    /// The maximum content of the request, which may be longer than stated; `u64::MAX` is unlimited.
    pub(crate) max_content: u64,
}

pub(super) struct AppendBounds {
    declared_length: Option<u64>,
    length: Option<u64>,
    pub(super) remaining: u64,
    /// True if the upload waits for its end, and this content is it.
    ends: bool,
    ends_beyond_length: bool,
}

impl Engine {
    /// Returns when the upload of a failed append expires, which its response reports, too
    /// (`tus/expiration/patch-has-upload-expires`).
    pub(crate) fn expiry_after(
        &self,
        id: &UploadId,
        error: &Error,
        known: Option<SystemTime>,
    ) -> Option<SystemTime> {
        if error.has_removed() {
            return None;
        }
        // The live writer knows the upload, so this needs no call to the store.
        known.or_else(|| {
            let live = self.live.get(id)?;
            self.expiry(&live.upload, live.offset(), SystemTime::now())
        })
    }

    /// All checks run before anything is written, in the order of tests/protocol.md. A writer whose client has
    /// disconnected yields, so that a client whose old connection hangs gets through at once.
    ///
    /// Sets when the upload expires, if that is known: see [`Self::expiry_after`].
    #[expect(
        clippy::manual_async_fn,
        reason = "the future of an async fn stores the arguments twice"
    )]
    pub(crate) fn append<B: RequestBody + Unpin>(
        self: &Arc<Self>,
        context: &RequestContext,
        id: &UploadId,
        request: &mut AppendRequest,
        observer: Option<&BoxedObserver<'_>>,
        body: &mut B,
        expires: &mut Option<SystemTime>,
    ) -> impl Future<Output = Result<(Arc<Upload>, u64, HookReply), Error>> {
        async move {
            let _in_flight = self.enter_transfer()?;
            let body = &mut PeekedBody::new(body);
            if let Some(completing) = self.live.repeatable(id) {
                // Boxed because it is rare: the largest branch sets the size of every request's future.
                let joined = Box::pin(self.join_completion(&completing, request, body)).await;
                if let Some((upload, reply)) = joined? {
                    let offset = upload.length.unwrap_or_default();
                    *expires = self.expiry(&upload, offset, SystemTime::now());
                    return Ok((upload, offset, reply));
                }
            }
            let permit = self.transfer_permit().await?;
            let (mut starting, is_live) = self.live.start(id);
            let lease = self.lease_for_append(id, request, body, is_live).await?;
            let store = self.composer.store();
            let (append, mut upload, was_complete, mut offset) = {
                let resumed = store.resume(id, lease.fence());
                let (snapshot, append) = Self::while_held(&lease, resumed).await?;
                *expires = self.check_usable(&snapshot).await?;
                // The bytes must be written at the offset that was checked.
                if append.offset() != snapshot.offset {
                    return Err(ProblemKind::Locked.into());
                }
                let (was_complete, offset) = (snapshot.is_complete(), snapshot.stated_offset());
                (append, snapshot.upload, was_complete, offset)
            };
            let mut bounds = match self.check_append(&upload, offset, request) {
                Ok(bounds) => bounds,
                Err(error) if !request.head.ends_beyond_length => return Err(error),
                Err(error) => {
                    drop(append);
                    // Boxed because it is rare, as below.
                    return Err(Box::pin(
                        self.end_beyond_length(context, upload, offset, lease, error),
                    )
                    .await);
                }
            };
            if upload.unannounced {
                // Its client has learned the URL nevertheless. Boxed because it is rare.
                upload = Box::pin(self.set_unannounced(upload, false, &lease)).await?;
            }
            let max_content = request.max_content;
            let head = &mut request.head;
            let (end, is_verified) = (head.end, head.checksum.is_present());
            if !was_complete && self.must_prepare_completion(&upload, head) {
                // Boxed because it is rare: the largest branch sets the size of every request's future.
                upload = Box::pin(self.prepare_completion(upload, head.repr_digest.take(), &lease))
                    .await?;
            }
            // With a checksum, the length is declared only after the bytes are verified.
            let declares_late = is_verified || request.content_length.is_none();
            if !declares_late {
                upload = self.declare(upload, &bounds, end, &lease).await?;
            }
            let reached = can_complete(bounds.length, offset, request.content_length);
            let reached = reached.filter(|_| !upload.awaits_end || bounds.ends);
            let mut is_prepared = !was_complete && reached.is_some();
            if is_prepared && let Some(length) = reached {
                let completed = [(EventKind::Completed, length)];
                self.prepare_kinds(&completed, &upload, context).await?;
            }
            // An upload that waits for its completion has told no offset at its end.
            let (start, told) = (offset, if was_complete { 0 } else { offset });
            let (told, interruption) =
                if bounds.remaining > 0 || request.content_length != Some(0) || is_verified {
                    let mut body_stream = BodyStream {
                        body,
                        content_length: request.content_length,
                        limits_request: max_content < bounds.remaining,
                        checksum: &mut head.checksum,
                        observer,
                    };
                    let received = self
                        .receive(
                            context,
                            &upload,
                            append,
                            &lease,
                            bounds.remaining.min(max_content),
                            &mut body_stream,
                        )
                        .await;
                    starting.disarm();
                    let received = received?;
                    if !was_complete {
                        offset = received.offset;
                    }
                    *expires = self.expiry(&upload, offset, SystemTime::now());
                    (received.told, received.interruption)
                } else {
                    (told, None)
                };
            let is_overrun = matches!(interruption, Some(Interruption::Overrun));
            let is_wrong = is_overrun
                || matches!(interruption, Some(Interruption::Checksum(_)))
                || (is_verified && interruption.is_some());
            let is_cut = interruption.is_some() && end == DeclaredEnd::WithContent;
            if declares_late && !is_wrong && !is_cut {
                bounds.ends &= bounds.length == Some(offset);
                upload = self.declare(upload, &bounds, end, &lease).await?;
            }
            if is_overrun {
                let error = Error::beyond_length(bounds.length, false);
                if !bounds.ends_beyond_length {
                    return Err(error);
                }
                return Err(Box::pin(
                    self.end_beyond_length(context, upload, offset, lease, error),
                )
                .await);
            }
            if let Some(interruption) = interruption {
                let error = self.interrupted(context, &upload, offset, lease, interruption);
                return Err(Box::pin(error).await);
            }
            if end == DeclaredEnd::WithContent && upload.length != Some(offset) {
                upload = Box::pin(self.declare_reached(context, &upload, offset, &lease)).await?;
                is_prepared = true;
            }
            // Hooks may take long; other transfers can use the permit meanwhile, and HEAD waits for no start.
            drop((starting, permit));
            let mut reply = None;
            if upload.is_complete_at(offset) {
                let finished = upload.clone();
                let how = Finishing {
                    fresh: !was_complete,
                    is_prepared,
                    knows_url: true,
                    received: Received {
                        start,
                        told,
                        is_creation: false,
                    },
                };
                reply = self.finish(context, finished, lease, how).await?;
            }
            *expires = self.expiry(&upload, offset, SystemTime::now());
            Ok((upload, offset, reply))
        }
    }

    /// Content beyond the length ends an incomplete upload (IETF draft, section 4.1.3).
    async fn end_beyond_length(
        self: &Arc<Self>,
        context: &RequestContext,
        upload: Arc<Upload>,
        offset: u64,
        lease: Lease,
        error: Error,
    ) -> Error {
        let Error::BeyondLength { length, .. } = error else {
            return error;
        };
        if upload.is_complete_at(offset) || self.composer.terminator().is_none() {
            return error;
        }
        let why = TerminationReason::Client;
        let removed = self.remove_detached(context, upload, offset, lease, why);
        match removed.await {
            Ok(_) => Error::BeyondLength {
                length,
                is_removed: true,
            },
            Err(error) => error,
        }
    }

    /// Checks an append before its lease, of an upload that has reached an offset. Content that ends the upload is
    /// checked under the lease alone: a request at another offset must not end it.
    fn precheck_append(
        &self,
        upload: &Upload,
        reached: u64,
        request: &AppendRequest,
    ) -> Result<(), Error> {
        let offset = match upload.is_complete_at(reached) {
            true => reached,
            // The holder may be about to reach it.
            false => reached.max(request.head.offset),
        };
        match self.check_append(upload, offset, request) {
            Err(Error::BeyondLength { .. }) if request.head.ends_beyond_length => Ok(()),
            checked => checked.map(drop),
        }
    }

    /// The holder is interrupted only if the append fits the upload's known state and its client sends
    /// data: a late request of a disconnected client interrupts nothing.
    async fn lease_for_append<B: RequestBody + Unpin>(
        &self,
        id: &UploadId,
        request: &AppendRequest,
        body: &mut PeekedBody<'_, B>,
        is_live: bool,
    ) -> Result<Lease, Error> {
        let at = request.head.offset;
        if !is_live && let Some(lease) = self.free_lease(id).await? {
            return Ok(lease);
        }
        let live = self.live.get(id);
        match &live {
            Some(live) => self.precheck_append(&live.upload, live.offset(), request)?,
            None => {
                // Another process has the lease, or a request that is not writing at the moment.
                let loaded = timeout(self.config.lease_wait, self.load(id)).await;
                let snapshot = loaded.map_err(|_| ProblemKind::Locked)??;
                self.precheck_append(&snapshot.upload, snapshot.stated_offset(), request)?;
            }
        }
        if request.content_length != Some(0)
            && timeout(self.config.lease_wait, body.peek()).await.is_err()
        {
            return self.free_lease(id).await?.ok_or(ProblemKind::Locked.into());
        }
        if let Some(live) = live {
            live.take_over(at).await.map_err(Error::Offset)?;
        }
        self.lease_at(id, at).await
    }

    /// Fails if a holder in another process, which keeps the lease, stores bytes past `at`.
    async fn lease_at(&self, id: &UploadId, at: u64) -> Result<Lease, Error> {
        let locker = self.composer.locker();
        let mut acquired = pin!(locker.acquire_at(id, Some(at), self.config.lease_wait));
        let mut interval = OFFSET_POLL_INTERVAL;
        loop {
            if let Ok(lease) = timeout(interval, acquired.as_mut()).await {
                return Ok(lease?);
            }
            let stored = tokio::select! {
                biased;
                lease = acquired.as_mut() => return Ok(lease?),
                // Its holder may keep the store busy.
                stored = self.load(id) => stored?,
            };
            if stored.is_settled && stored.offset > at {
                return Err(Error::Offset(stored.offset));
            }
            interval = (interval * 2).min(MAX_OFFSET_POLL_INTERVAL);
        }
    }

    pub(super) fn check_append(
        &self,
        upload: &Upload,
        offset: u64,
        request: &AppendRequest,
    ) -> Result<AppendBounds, Error> {
        if upload.is_final() {
            return Err(ProblemKind::ModifyFinal.into());
        }
        if request.head.offset != offset {
            return Err(Error::Offset(offset));
        }
        if request.head.end == DeclaredEnd::Later && upload.is_complete_at(offset) {
            return Err(ProblemKind::InvalidUploadComplete
                .with_detail("the upload is complete")
                .into());
        }
        if let (Some(known), Some(stated)) = (&upload.repr_digest, &request.head.repr_digest)
            && known != stated
        {
            return Err(ProblemKind::InvalidDigest
                .with_detail("the upload has another Repr-Digest")
                .into());
        }
        let body_length = request.content_length.unwrap_or_default();
        let body_end = offset.saturating_add(body_length);
        let is_last = request.head.end == DeclaredEnd::WithContent;
        let whole = (is_last && request.content_length.is_some()).then_some(body_end);
        let stated = request.head.length;
        let known = stated.or(upload.length);
        // A length that the request states itself, too, if such content ends the upload.
        let bound = upload
            .length
            .or(stated.filter(|_| request.head.ends_beyond_length));
        if let Some(length) = bound
            && stated.is_none_or(|stated| stated == length)
            && (offset..body_end).contains(&length)
        {
            return Err(Error::beyond_length(Some(length), false));
        }
        if let (Some(whole), Some(known)) = (whole, known)
            && whole != known
        {
            let detail = format!("the upload has {known} bytes, and its content ends at {whole}");
            return Err(ProblemKind::InconsistentUploadLength
                .with_detail(detail)
                .into());
        }
        let declared_length = match stated.or(whole) {
            Some(length) => self.check_length(upload, length, body_end)?,
            None => None,
        };
        let length = declared_length.or(upload.length);
        let remaining = self.remaining(upload, length, offset);
        if body_length > remaining {
            return Err(Error::beyond_length(length, false));
        }
        let reaches_end = can_complete(length, offset, request.content_length).is_some();
        let ends = match request.head.end {
            DeclaredEnd::AtLength => reaches_end,
            DeclaredEnd::WithContent => true,
            DeclaredEnd::Later => false,
        };
        Ok(AppendBounds {
            declared_length,
            length,
            remaining,
            ends: ends && upload.awaits_end,
            ends_beyond_length: request.head.ends_beyond_length,
        })
    }

    fn must_prepare_completion(&self, upload: &Upload, head: &Head) -> bool {
        let states_digest = head.repr_digest.is_some() && upload.repr_digest.is_none();
        let is_untracked = upload.completion == Completion::NotTracked;
        states_digest || (is_untracked && self.tracks_completion(upload))
    }

    /// Records the digest of the whole, and the completion of an upload that was created without hooks and
    /// sinks, or by tusd. A complete upload without this record was complete before.
    async fn prepare_completion(
        &self,
        mut upload: Arc<Upload>,
        digest: Option<Box<Checksum>>,
        lease: &Lease,
    ) -> Result<Arc<Upload>, Error> {
        let changed = Arc::make_mut(&mut upload);
        changed.repr_digest = changed.repr_digest.take().or(self.verifiable(digest));
        if changed.completion == Completion::NotTracked && self.tracks_completion(changed) {
            changed.completion = Completion::Pending;
        }
        let store = self.composer.store();
        Self::while_held(lease, store.save(&upload, lease.fence())).await?;
        Ok(upload)
    }

    /// Ignores a digest that cannot be verified, because the bytes cannot be read.
    pub(super) fn verifiable(&self, digest: Option<Box<Checksum>>) -> Option<Box<Checksum>> {
        digest.filter(|_| self.composer.reader().is_some())
    }

    pub(crate) fn max_size(&self, upload: &Upload) -> Option<u64> {
        smaller(upload.max_size, self.config.limits.max_size)
    }

    pub(super) fn remaining(&self, upload: &Upload, length: Option<u64>, offset: u64) -> u64 {
        let end = length
            .or(self.max_size(upload))
            .unwrap_or(i64::MAX.unsigned_abs());
        end.saturating_sub(offset)
    }

    /// `end` is the smallest offset that the request's body can end at. Returns `None` if the length is
    /// already declared: the request that declared it may have been interrupted.
    fn check_length(&self, upload: &Upload, length: u64, end: u64) -> Result<Option<u64>, Error> {
        match upload.length {
            Some(known) if known == length => return Ok(None),
            Some(known) => {
                return Err(ProblemKind::InvalidUploadLength
                    .with_detail(format_args!("the length is {known} and cannot change"))
                    .into());
            }
            None => {}
        }
        if self.composer.length_deferrer().is_none() {
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

    /// Records the length and the end that a request has declared.
    async fn declare(
        &self,
        mut upload: Arc<Upload>,
        bounds: &AppendBounds,
        end: DeclaredEnd,
        lease: &Lease,
    ) -> Result<Arc<Upload>, Error> {
        if let Some(length) = bounds.declared_length {
            upload = self.declare_length(&upload, length, lease).await?;
        }
        let awaits_end = match end {
            DeclaredEnd::Later => upload.awaits_end || bounds.declared_length.is_some(),
            _ => upload.awaits_end && !bounds.ends,
        };
        if awaits_end != upload.awaits_end {
            Arc::make_mut(&mut upload).awaits_end = awaits_end;
            let store = self.composer.store();
            Self::while_held(lease, store.save(&upload, lease.fence())).await?;
        }
        Ok(upload)
    }

    /// The length of an upload is the offset at which its last content has ended.
    pub(super) async fn declare_reached(
        &self,
        context: &RequestContext,
        upload: &Upload,
        offset: u64,
        lease: &Lease,
    ) -> Result<Arc<Upload>, Error> {
        if upload.length.is_some() {
            return Err(ProblemKind::InconsistentUploadLength
                .with_detail("the content ends before the length of the upload")
                .into());
        }
        let completed = [(EventKind::Completed, offset)];
        self.prepare_kinds(&completed, upload, context).await?;
        self.declare_length(upload, offset, lease).await
    }

    async fn declare_length(
        &self,
        upload: &Upload,
        length: u64,
        lease: &Lease,
    ) -> Result<Arc<Upload>, Error> {
        let Some(deferrer) = self.composer.length_deferrer() else {
            return Err(ProblemKind::NotImplemented.into());
        };
        let declared = deferrer.declare_length(upload, length, lease.fence());
        Self::while_held(lease, declared).await
    }
}

type NextFrame = Option<Result<Frame<Bytes>, BoxError>>;

/// A body whose first frame can be polled before it is read.
pub(super) struct PeekedBody<'a, B> {
    body: &'a mut B,
    first: Option<Box<NextFrame>>,
}

impl<'a, B: RequestBody + Unpin> PeekedBody<'a, B> {
    fn new(body: &'a mut B) -> Self {
        Self { body, first: None }
    }

    async fn peek(&mut self) {
        if self.first.is_none() {
            self.first = Some(Box::new(poll_fn(|cx| self.poll_body(cx)).await));
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<NextFrame> {
        let frame = Pin::new(&mut *self.body).poll_frame(cx);
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }
}

impl<B: RequestBody + Unpin> Body for PeekedBody<'_, B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<NextFrame> {
        match self.first.take() {
            Some(frame) => Poll::Ready(*frame),
            None => self.poll_body(cx),
        }
    }
}
