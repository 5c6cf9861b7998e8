//! Creates an upload: checks, hooks and idempotency key, then the description, then the content of the request.
//!
//! Nothing of the upload is stored before its hooks have allowed it, and no transfer permit is held while they run. A
//! rejected creation leaves nothing, because its client may never learn the URL. The bytes of an interrupted one are
//! kept until they expire: for an hour if neither its client nor the application can know the URL
//! ([`Unannounced`]). What is stored of a creation that succeeds has no trace of that, and costs no request.

use std::{future::Future, mem, sync::Arc, time::SystemTime};

use futures_util::{TryFutureExt as _, future::Either};
use landfall_protocol::{
    ChecksumPlacement, Concat, Create as Head, DeclaredEnd, DeclaredLength, ProblemKind,
};
use tokio::{runtime::Handle, sync::SemaphorePermit, time::Instant};

use super::{
    Engine, Error, HookReply, Inspected, RequestContext, add,
    finishing::Finishing,
    hooks::merge,
    in_flight::InFlightGuard,
    live::completing::Received,
    receive::BodyStream,
    transfer::{BoxedObserver, Interruption},
};
use crate::{
    event::{Event, EventKind, TerminationReason},
    hook::{IdempotencyError, IdempotencyKey, Intent},
    lease::Lease,
    request_body::RequestBody,
    store::{Append, StoreError},
    upload::{Completion, Digest, Upload, UploadId, UploadKind},
};

pub(crate) struct CreateRequest {
    pub(crate) head: Head,
    pub(crate) parts: Vec<UploadId>,
    pub(crate) content_length: Option<u64>,
}

pub(crate) enum CreationStart<'a> {
    Created(Created),
    /// It exists, and its content is to be received.
    Receiving(Box<ReceivingCreate<'a>>),
}

pub(crate) struct ReceivingCreate<'a> {
    upload: Arc<Upload>,
    append: Box<dyn Append>,
    lease: Lease,
    permit: SemaphorePermit<'a>,
    in_flight: InFlightGuard,
    content_length: Option<u64>,
    checksum: ChecksumPlacement,
    end: DeclaredEnd,
    reply: HookReply,
    names_upload: bool,
    /// True if only the response tells the id.
    is_secret: bool,
}

/// Until it is dropped, the response to a creation may tell its client the URL. Then it never will.
struct Unannounced<'a> {
    engine: &'a Arc<Engine>,
    /// `None` if the client, or the application, may know it.
    id: Option<UploadId>,
}

impl Drop for Unannounced<'_> {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), Handle::try_current()) else {
            return;
        };
        let engine = self.engine.clone();
        // If too many effects are running, it expires later.
        let _ = self.engine.try_detach(&runtime, async move {
            if let Err(error) = engine.mark_unannounced(&id).await {
                tracing::debug!(%id, %error, "failed to shorten the lifetime of an upload that nobody knows");
            }
        });
    }
}

/// The creation that an existing upload must match, and the response of the hooks.
#[derive(Debug)]
pub(crate) struct RepeatedCreate {
    digest: Digest,
    reply: HookReply,
    /// It carries all bytes of the upload.
    is_whole: bool,
}

#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) upload: Arc<Upload>,
    /// The number of stored bytes; `None` if the request could not carry any.
    pub(crate) offset: Option<u64>,
    pub(crate) expires: Option<SystemTime>,
    pub(crate) reply: HookReply,
    /// True if an earlier request created it; this request's body is then left unread.
    pub(crate) existed: bool,
}

#[allow(clippy::large_enum_variant, reason = "the large one is the usual one")]
enum Prepared<'a> {
    Answered(Created),
    /// Its hooks have allowed it.
    New {
        upload: Arc<Upload>,
        key_lease: Option<Lease>,
        /// The permit and the lease of a request whose body is upload data.
        transfer: Option<(SemaphorePermit<'a>, Lease)>,
        reply: HookReply,
        /// True if the client can name the upload even if it gets no response.
        names_upload: bool,
        /// True if neither the client nor the application can know it without a response.
        is_secret: bool,
    },
}

pub(super) enum Assigned {
    /// With the lease of the key: while it is held, requests with the same key wait.
    New(Option<Lease>),
    Exists(Inspected),
}

impl Created {
    pub(super) fn existing((found, expires): Inspected, mut reply: HookReply) -> Self {
        if let Some(stored) = found.upload.completion.response() {
            merge(&mut reply, Some(Box::new((**stored).clone())));
        }
        Self {
            offset: found.shown_offset(),
            expires,
            upload: found.upload,
            reply,
            existed: true,
        }
    }
}

impl Engine {
    /// Creates an upload, and completes it if the request carries no upload data. If this fails because the upload
    /// exists, it may be that of this request: see [`Self::repeat_creation`].
    ///
    /// It is apart from [`Self::complete_create`], so that no future stores the request while it receives.
    #[allow(
        clippy::manual_async_fn,
        reason = "the future of an `async fn` would store the arguments twice"
    )]
    pub(crate) fn create<'a>(
        self: &'a Arc<Self>,
        context: &RequestContext,
        mut request: CreateRequest,
        repeated: &mut Option<Box<RepeatedCreate>>,
    ) -> impl Future<Output = Result<CreationStart<'a>, Error>> + Send {
        async move {
            let in_flight = self.enter_transfer()?;
            let prepared = self.prepare_upload(context, &mut request, repeated);
            let (upload, key_lease, transfer, mut reply, (names_upload, is_secret)) =
                match prepared.await? {
                    Prepared::Answered(created) => return Ok(CreationStart::Created(created)),
                    Prepared::New {
                        upload,
                        key_lease,
                        transfer,
                        reply,
                        names_upload,
                        is_secret,
                    } => (
                        upload,
                        key_lease,
                        transfer,
                        reply,
                        (names_upload, is_secret),
                    ),
                };
            let engine = self.clone();
            let Some((permit, lease)) = transfer else {
                let mut upload = upload;
                let create = async move {
                    let store = engine.composer.store();
                    match store.create_now(&mut upload, None) {
                        Some(created) => drop(created?),
                        None => upload = store.create(Arc::unwrap_or_clone(upload)).await?,
                    }
                    // From here on, requests with the same idempotency key get the offset of this upload.
                    drop(key_lease);
                    Ok((upload, ()))
                };
                // Taken before the store's time: Upload-Expires must not be later than the actual expiry.
                let now = SystemTime::now();
                let (upload, ()) = self.emit_created(context, create).await?;
                context.log_created(&upload);
                if upload.is_complete_at(0) {
                    let lease = self.lease(&upload.id).await?;
                    // Since it is listed, another process, or a redelivery, may have completed it.
                    let current = match self.load(&upload.id).await {
                        Ok(found) => found.upload,
                        Err(error) if names_upload => return Err(error),
                        // Boxed because it is rare: the largest branch sets the size of every request's future.
                        Err(error) => {
                            let error = self.roll_back_creation(context, upload, lease, error);
                            return Err(Box::pin(error).await);
                        }
                    };
                    // Its event was prepared before this lease.
                    let how = Finishing {
                        fresh: true,
                        knows_url: names_upload,
                        ..Finishing::default()
                    };
                    let finished = self.finish(context, current, lease, how);
                    merge(&mut reply, finished.await?);
                }
                let expires = self.expiry(&upload, 0, now);
                return Ok(CreationStart::Created(Created {
                    upload,
                    offset: request.head.with_upload.then_some(0),
                    expires,
                    reply,
                    existed: false,
                }));
            };
            let create = async move {
                let (store, mut upload, fence) = (engine.composer.store(), upload, lease.fence());
                let created = async {
                    match store.create_now(&mut upload, Some(fence)).transpose()? {
                        Some(Some(append)) => Ok((upload, append)),
                        _ => {
                            store
                                .create_append(Arc::unwrap_or_clone(upload), fence)
                                .await
                        }
                    }
                };
                let (upload, append) = Self::while_held(&lease, created).await?;
                drop(key_lease);
                Ok((upload, (append, lease)))
            };
            let (upload, (append, lease)) = self.emit_created(context, create).await?;
            context.log_created(&upload);
            Ok(CreationStart::Receiving(Box::new(ReceivingCreate {
                upload,
                append,
                lease,
                permit,
                in_flight,
                content_length: request.content_length,
                checksum: request.head.checksum,
                end: request.head.end,
                reply,
                names_upload,
                is_secret,
            })))
        }
    }

    /// Receives the content of a creation. `max_content` is its maximum, which may be longer than stated.
    #[allow(
        clippy::manual_async_fn,
        reason = "the future of an `async fn` would store the arguments twice"
    )]
    pub(crate) fn complete_create<'a, B: RequestBody + Unpin>(
        self: &'a Arc<Self>,
        context: &'a RequestContext,
        started: Result<CreationStart<'a>, Error>,
        repeated: Option<Box<RepeatedCreate>>,
        max_content: u64,
        observer: Option<&'a BoxedObserver<'a>>,
        body: &'a mut B,
    ) -> impl Future<Output = Result<Created, Error>> + Send + 'a {
        async move {
            let creation = match started {
                Ok(CreationStart::Receiving(creation)) => creation,
                Ok(CreationStart::Created(created)) => return Ok(created),
                Err(Error::Store(StoreError::AlreadyExists(id))) => {
                    // Boxed, as all that is rare below: the largest branch sets the size of every request's future.
                    return Box::pin(self.repeat_creation(id, repeated)).await;
                }
                Err(error) => return Err(error),
            };
            // Dropped after the lease, which it needs.
            let mut unannounced = Unannounced {
                engine: self,
                id: None,
            };
            let ReceivingCreate {
                mut upload,
                append,
                lease,
                permit,
                in_flight: _in_flight,
                content_length,
                mut checksum,
                end,
                mut reply,
                names_upload,
                is_secret,
            } = *creation;
            if let Some(observer) = observer {
                observer.created(&upload);
            }
            unannounced.id = (is_secret && observer.is_none()).then(|| upload.id.clone());
            let remaining = self.remaining(&upload, upload.length, 0);
            let mut body_stream = BodyStream {
                body,
                content_length,
                limits_request: max_content < remaining,
                checksum: &mut checksum,
                observer,
            };
            let most = remaining.min(max_content);
            let received = self.receive(context, &upload, append, &lease, most, &mut body_stream);
            let received = match received.await {
                Ok(received) => received,
                Err(error) => {
                    unannounced.id = None;
                    let rolled_back = self.roll_back_creation(context, upload, lease, error);
                    return Err(Box::pin(rolled_back).await);
                }
            };
            let offset = received.offset;
            if !matches!(received.interruption, Some(Interruption::Connection(_))) {
                // All is well, the upload is removed, or another request names it.
                unannounced.id = None;
            }
            match received.interruption {
                None => {}
                // Nothing may remain of a rejected creation, whose URL most clients never learn.
                // The bytes of an interrupted connection are kept until the upload expires.
                Some(
                    interruption @ (Interruption::Overrun
                    | Interruption::TooLarge
                    | Interruption::Checksum(_)
                    | Interruption::Evicted),
                ) => {
                    let error = match interruption {
                        Interruption::Overrun => Error::beyond_length(upload.length, true),
                        other => self.interruption_error(&upload.id, offset, other),
                    };
                    let rolled_back = self.roll_back_creation(context, upload, lease, error);
                    return Err(Box::pin(rolled_back).await);
                }
                Some(interruption) => {
                    let error = self.interrupted(context, &upload, offset, lease, interruption);
                    return Err(Box::pin(error).await);
                }
            }
            drop(permit);
            if end == DeclaredEnd::WithContent && upload.length != Some(offset) {
                upload = Box::pin(self.declare_reached(context, &upload, offset, &lease)).await?;
            }
            if upload.is_complete_at(offset) {
                let knows_url = observer.is_some() || names_upload;
                // Its event was prepared before its content, or with its length.
                let how = Finishing {
                    fresh: true,
                    is_prepared: true,
                    knows_url,
                    received: Received {
                        start: 0,
                        told: received.told,
                        is_creation: true,
                    },
                };
                let finished = self.finish(context, upload.clone(), lease, how);
                merge(&mut reply, finished.await?);
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
    }

    /// Runs the checks and the hooks of a creation, before anything is stored.
    async fn prepare_upload<'a>(
        self: &'a Arc<Self>,
        context: &RequestContext,
        request: &mut CreateRequest,
        repeated: &mut Option<Box<RepeatedCreate>>,
    ) -> Result<Prepared<'a>, Error> {
        let content_length = request.content_length;
        let head = &mut request.head;
        self.check_access(context, Intent::Create, None).await?;
        let length = match head.declared {
            DeclaredLength::Known(length) => Some(length),
            DeclaredLength::Deferred | DeclaredLength::SumOfParts => None,
        };
        let mut upload = Upload::new(UploadId::random(), length);
        upload.awaits_end = head.end == DeclaredEnd::Later && length.is_some();
        upload.created_by_draft = head.is_draft;
        upload.repr_digest = self.verifiable(head.repr_digest.take());
        upload.metadata = mem::take(&mut head.metadata);
        upload.created = Some(SystemTime::now());
        if self.tracks_completion(&upload) {
            upload.completion = Completion::Pending;
        }
        match head.concat.take() {
            None => {}
            Some(Concat::Partial) => upload.kind = UploadKind::Partial,
            Some(Concat::Final { header, .. }) => {
                if head.with_upload && content_length != Some(0) {
                    return Err(ProblemKind::ModifyFinal.into());
                }
                upload.kind = UploadKind::Final {
                    parts: mem::take(&mut request.parts),
                    header,
                    concatenated: false,
                };
                let created = Box::pin(self.create_final(context, upload)).await?;
                return Ok(Prepared::Answered(created));
            }
        }
        let with_upload = head.with_upload;
        if with_upload
            && content_length.is_some_and(|n| n > self.remaining(&upload, upload.length, 0))
        {
            return Err(Error::beyond_length(upload.length, true));
        }
        // A body without bytes needs no transfer: the result is the same as of a plain creation.
        let is_transfer = with_upload && (content_length != Some(0) || head.checksum.is_present());
        let mut permit = None;
        if is_transfer {
            // Reject before hooks run, but hold no permit while they do.
            let acquired = self.transfer_permit().await?;
            permit = (!self.hook_points.before_create).then_some(acquired);
        }
        let (reply, key, is_chosen) = self.call_pre_create(context, &mut upload).await?;
        // Clients of tus get the URL with the response. Those of the draft may have made it, or learn it before.
        let names_upload = is_chosen && upload.created_by_draft;
        // Those take a 2xx for the storage of their content.
        if is_chosen && !names_upload {
            upload.record_creation_digest();
            *repeated = upload.creation_digest().map(|digest| {
                let reply = reply.clone();
                let is_whole = is_transfer && content_length == upload.length;
                Box::new(RepeatedCreate {
                    digest,
                    reply,
                    is_whole,
                })
            });
        }
        let has_key = key.is_some();
        let key_lease = match self.assign_id(&mut upload, key).await? {
            Assigned::New(lease) => lease,
            Assigned::Exists(found) => {
                return Ok(Prepared::Answered(Created::existing(found, reply)));
            }
        };
        let body_length = if is_transfer { content_length } else { Some(0) };
        if is_transfer && permit.is_none() {
            permit = Some(self.transfer_permit().await?);
        }
        let end = can_complete(upload.length, 0, body_length).filter(|_| !upload.awaits_end);
        let transfer = match permit {
            Some(permit) => Some((permit, self.lease_of_new(&upload).await?)),
            None => None,
        };
        self.prepare_creation(context, &upload, end).await?;
        // Hooks and sinks tell the application the id, and it may tell the client.
        let kinds = self.event_kinds;
        let is_told = self.hook_points.before_create || kinds.created || kinds.progress;
        Ok(Prepared::New {
            upload: Arc::new(upload),
            key_lease,
            transfer,
            reply,
            names_upload,
            is_secret: !is_told && !has_key,
        })
    }

    /// Has an unfinished upload expire early whose URL nobody can know. Without effect if another request writes it.
    async fn mark_unannounced(self: &Arc<Self>, id: &UploadId) -> Result<(), Error> {
        let Some(lease) = self.free_lease(id).await? else {
            return Ok(());
        };
        let Some(found) = self.stored(id).await? else {
            return Ok(());
        };
        if !found.is_complete() && !found.upload.is_description_only() {
            let upload = self.set_unannounced(found.upload, true, &lease).await?;
            self.record_due(&upload, found.offset);
        }
        Ok(())
    }

    pub(super) async fn set_unannounced(
        &self,
        mut upload: Arc<Upload>,
        unannounced: bool,
        lease: &Lease,
    ) -> Result<Arc<Upload>, Error> {
        Arc::make_mut(&mut upload).unannounced = unannounced;
        let saved = self.composer.store().save(&upload, lease.fence());
        Self::while_held(lease, saved).await?;
        Ok(upload)
    }

    /// The id that a hook chose may be that of an upload whose client is sending: it is not interrupted.
    async fn lease_of_new(&self, upload: &Upload) -> Result<Lease, Error> {
        let free = self.free_lease(&upload.id).await?;
        free.ok_or_else(|| StoreError::AlreadyExists(upload.id.clone()).into())
    }

    /// A client that missed the response creates its upload again, and the hook chooses the same id: it gets the
    /// response again, while nothing has been appended. Later, the bytes may be those of another client.
    pub(crate) async fn repeat_creation(
        self: &Arc<Self>,
        id: UploadId,
        repeated: Option<Box<RepeatedCreate>>,
    ) -> Result<Created, Error> {
        let exists = Err(StoreError::AlreadyExists(id.clone()).into());
        if let Some(repeated) = &repeated
            && repeated.is_whole
            && let Some(completing) = self.live.completing(&id)
            && completing.is_by_creation()
            && completing.upload.creation_digest() == Some(repeated.digest)
        {
            return self
                .join_creation(&completing, repeated.reply.clone())
                .await;
        }
        let (Some(repeated), Some(found)) = (repeated, self.stored(&id).await?) else {
            return exists;
        };
        if found.upload.creation_digest() != Some(repeated.digest) || found.offset > 0 {
            return exists;
        }
        if self.free_lease(&id).await?.is_none() {
            return Err(ProblemKind::Locked.into());
        }
        match self.inspect(RequestContext::NONE, &id).await {
            Ok(found) if found.0.shown_offset() == Some(0) => {
                Ok(Created::existing(found, repeated.reply))
            }
            Err(error) if error.problem().kind != ProblemKind::Gone => Err(error),
            _ => exists,
        }
    }

    /// The completion, too, if the creation may complete the upload, at `end`.
    pub(super) async fn prepare_creation(
        &self,
        context: &RequestContext,
        upload: &Upload,
        end: Option<u64>,
    ) -> Result<(), Error> {
        let completed = (EventKind::Completed, end.unwrap_or_default());
        let kinds = [(EventKind::Created, 0), completed];
        let kinds = &kinds[..1 + usize::from(end.is_some())];
        self.prepare_kinds(kinds, upload, context).await
    }

    /// Not an `async fn`: its future would store that of the creation twice.
    pub(super) fn emit_created<T: Send + 'static>(
        self: &Arc<Self>,
        context: &RequestContext,
        create: impl Future<Output = Result<(Arc<Upload>, T), Error>> + Send + 'static,
    ) -> impl Future<Output = Result<(Arc<Upload>, T), Error>> + Send {
        let count = |created: &(Arc<Upload>, T)| {
            add(&self.counters.created, 1);
            self.record_due(&created.0, 0);
        };
        if !self.event_kinds.created {
            // Without an event, the effect can be dropped with the request.
            return Either::Left(create.inspect_ok(count));
        }
        let context = context.clone();
        Either::Right(Box::pin(async move {
            let reservations = self.reserve(EventKind::Created).await?;
            let engine = self.clone();
            let emitted = Box::pin(async move {
                let created = create.await?;
                let event = Event::new(EventKind::Created, created.0.clone(), 0, context.info);
                engine.emit(reservations, event).await;
                Ok(created)
            });
            self.detached(emitted).await.inspect(count)
        }))
    }

    /// Finds the upload of an earlier creation with the same key, or assigns the id of a new one.
    pub(super) async fn assign_id(
        self: &Arc<Self>,
        upload: &mut Upload,
        key: Option<Arc<dyn IdempotencyKey>>,
    ) -> Result<Assigned, Error> {
        let Some(key) = key else {
            self.composer.store().assign_id(upload).await?;
            return Ok(Assigned::New(None));
        };
        let lease = match key.key() {
            Some(lock) => Some(self.lease(lock).await?),
            None => None,
        };
        let stored = key.stored_id().await?;
        if let Some(found) = Box::pin(self.inspect_stored(stored)).await? {
            return Ok(Assigned::Exists(found));
        }
        self.composer.store().assign_id(upload).await?;
        let stored = key.store_id(upload).await?;
        if stored.is_some() {
            if let Some(found) = Box::pin(self.inspect_stored(stored)).await? {
                return Ok(Assigned::Exists(found));
            }
            if let Some(other) = key.store_id(upload).await? {
                let reason = format!("the upload {other} was created with this key meanwhile");
                return Err(IdempotencyError::Failed(reason.into()).into());
            }
        }
        Ok(Assigned::New(lease))
    }

    /// Returns `None` if its creation failed.
    async fn inspect_stored(
        self: &Arc<Self>,
        stored: Option<UploadId>,
    ) -> Result<Option<Inspected>, Error> {
        let Some(id) = stored else {
            return Ok(None);
        };
        match self
            .inspect_soon(RequestContext::NONE, &id, Instant::now())
            .await
        {
            Ok(found) => Ok(Some(found)),
            Err(error)
                if matches!(
                    error.problem().kind,
                    ProblemKind::NotFound | ProblemKind::Rejected
                ) =>
            {
                Ok(None)
            }
            // A crash during creation leaves a damaged upload, which cannot be resumed.
            Err(Error::Store(StoreError::Damaged { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn roll_back_creation(
        self: &Arc<Self>,
        context: &RequestContext,
        upload: Arc<Upload>,
        lease: Lease,
        error: Error,
    ) -> Error {
        let id = upload.id.clone();
        if let Err(left) = self
            .remove_detached(context, upload, 0, lease, TerminationReason::RolledBack)
            .await
        {
            tracing::warn!(%id, error = %left, "failed to roll back creation");
        }
        error
    }
}

pub(super) fn can_complete(
    length: Option<u64>,
    offset: u64,
    body_length: Option<u64>,
) -> Option<u64> {
    length.filter(|length| body_length.is_none_or(|n| offset.saturating_add(n) >= *length))
}
