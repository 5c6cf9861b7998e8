//! Advances an upload as far as possible, under its lease. All triggers complete uploads by this
//! code.

use std::{sync::Arc, time::Duration};

use http::request::Parts;
use landfall::{
    event::{Event, EventKind},
    external::HookDispatcher,
    hook::{ClientResponse, Intent, RequestInfo},
    upload::{Completion, Snapshot, Upload, UploadId},
};
use landfall_objects::{self as objects, Cloud as _, ErrorKind, ObjectHead, ObjectHeaders};
use landfall_state::sql::RowLease;

use super::{
    COMPLETES, CompletedUpload, Direct, PARTS,
    decide::{Decision, DecisionInput, RemovalReason, decide},
    part_set::{PartSet, check_order},
    request_info,
    sign::multipart_id,
};
use crate::{DirectError, Record, Status, settings::count};

const RETRY_DELAY: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Default)]
pub(super) struct AdvanceRequest {
    pub(super) named: Option<Vec<(u32, String)>>,
    pub(super) may_expire: bool,
    pub(super) info: Option<Arc<RequestInfo>>,
}

#[derive(Debug)]
pub(super) enum AdvanceOutcome {
    Completed(Box<CompletedUpload>),
    /// Or being completed by another request.
    Pending,
    Removed(RemovalReason),
}

impl AdvanceOutcome {
    pub(super) fn completed(self) -> Result<CompletedUpload, DirectError> {
        match self {
            Self::Completed(complete) => Ok(*complete),
            Self::Pending => Err(DirectError::NotUploaded),
            Self::Removed(reason) => Err(reason.error()),
        }
    }
}

impl Direct {
    /// Runs in a separate task, which continues if the client disconnects.
    pub(super) async fn advance(
        &self,
        id: &UploadId,
        advance: AdvanceRequest,
    ) -> Result<AdvanceOutcome, DirectError> {
        let (this, id) = (self.clone(), id.clone());
        let task = tokio::spawn(async move {
            let (lease, record) = this.acquire_lease(&id).await?;
            let outcome = this.advance_leased(&lease, record, &advance).await;
            lease.release().await;
            outcome
        });
        task.await.map_err(DirectError::interrupted)?
    }

    async fn advance_leased(
        &self,
        lease: &RowLease,
        mut record: Record,
        advance: &AdvanceRequest,
    ) -> Result<AdvanceOutcome, DirectError> {
        match record.status {
            Status::Completed => return Ok(self.completed_response(record)),
            Status::Removed => return Err(DirectError::gone()),
            Status::Creating => return Err(DirectError::Locked),
            Status::Open | Status::Completing => {}
        }
        let info = advance.info.as_ref();
        let mut is_prepared = false;
        let mut observation = self.observe(&record).await?;
        loop {
            match decide(&self.input(&record, advance), observation) {
                Decision::Wait { .. } => return Ok(AdvanceOutcome::Pending),
                Decision::Reject(why) => return Err(DirectError::InvalidParts(why)),
                Decision::Reopen(why) => {
                    self.reopen(record).await?;
                    return Err(DirectError::InvalidParts(why));
                }
                Decision::Remove(reason) => {
                    self.remove(lease, record, reason.clone(), info).await?;
                    return Ok(AdvanceOutcome::Removed(reason));
                }
                Decision::Assemble(set) => {
                    self.prepare(&mut record, set.size, Some(&set), info)
                        .await?;
                    is_prepared = true;
                    if let Err(why) = self.complete_multipart(&record, &set).await? {
                        self.reopen(record).await?;
                        return Err(DirectError::InvalidParts(why));
                    }
                    observation = self.observe_object(&record).await?;
                }
                Decision::Finish(head) => {
                    if !is_prepared {
                        self.prepare(&mut record, head.size, None, info).await?;
                    }
                    return self.complete_object(lease, record, head, info).await;
                }
            }
        }
    }

    pub(super) fn input<'a>(
        &self,
        record: &'a Record,
        advance: &'a AdvanceRequest,
    ) -> DecisionInput<'a> {
        let settings = self.settings();
        DecisionInput {
            record,
            size_limit: self.size_limit(record),
            named: advance.named.as_deref(),
            idle_timeout: advance.may_expire.then_some(settings.idle_timeout),
            now: self.queue().agreed_time().time(),
        }
    }

    pub(super) fn size_limit(&self, record: &Record) -> u64 {
        let limit = self.settings().objects.max_object;
        record.size_limit().map_or(limit, |bound| bound.min(limit))
    }

    async fn prepare(
        &self,
        record: &mut Record,
        size: u64,
        set: Option<&PartSet>,
        info: Option<&Arc<RequestInfo>>,
    ) -> Result<(), DirectError> {
        if record.status == Status::Open || record.stored != size {
            record.status = Status::Completing;
            record.stored = size;
            record.check_count = 0;
            record.next_check_at = Some(self.queue().now() + RETRY_DELAY);
            let ranges = set.filter(|set| !set.is_all).map(PartSet::ranges);
            record.upload = with_parts(&record.upload, ranges);
            if !self.update(record).await? {
                return Err(DirectError::Locked);
            }
        }
        let upload = completed_upload(&record.upload, size, None);
        let dispatcher = self.dispatcher()?;
        let prepared = dispatcher.prepare(EventKind::Completed, &upload, size, info);
        Ok(prepared.await?)
    }

    /// The inner error is S3's reason to reject the parts.
    async fn complete_multipart(
        &self,
        record: &Record,
        set: &PartSet,
    ) -> Result<Result<(), String>, DirectError> {
        let client = &self.s3()?.client;
        let multipart = record.multipart.as_deref().unwrap_or_default();
        let (parts, none) = (&set.parts, ObjectHeaders::default());
        let made = client.complete_multipart(&record.object, multipart, parts, &none);
        match made.await {
            Ok(_) => Ok(Ok(())),
            Err(error) if rejects_parts(&error) => {
                let why = error.message().or(error.code());
                let why = why.unwrap_or("they do not match");
                Ok(Err(format!("S3 rejects these parts: {why}")))
            }
            // It may have been assembled before; entity tags do not always show it.
            Err(error) if *error.kind() == ErrorKind::NoSuchUpload => Ok(Ok(())),
            Err(error) => Err(error.into()),
        }
    }

    /// The client can then send parts again.
    async fn reopen(&self, mut record: Record) -> Result<(), DirectError> {
        let now = self.queue().now();
        record.upload = with_parts(&record.upload, None);
        record.status = Status::Open;
        record.active_at = now;
        record.next_check_at = Some(now + self.settings().check_interval);
        self.update(&mut record).await?;
        Ok(())
    }

    async fn complete_object(
        &self,
        lease: &RowLease,
        record: Record,
        head: ObjectHead,
        info: Option<&Arc<RequestInfo>>,
    ) -> Result<AdvanceOutcome, DirectError> {
        let dispatcher = self.dispatcher()?;
        Self::ensure_leased(lease)?;
        let snapshot = Snapshot::new(
            completed_upload(&record.upload, head.size, None),
            head.size,
            head.modified.unwrap_or_else(|| self.queue().now()),
        );
        let reply = match dispatcher.before_finish(info, &snapshot).await {
            Ok(reply) => reply,
            Err(declined) if declined.cause.is_none() => {
                let response = format!("{} {}", declined.status.as_u16(), declined.message);
                let reason = RemovalReason::Denied(response);
                self.remove(lease, record, reason, info).await?;
                return Err(declined.into());
            }
            // The upload stays, and the hooks are called again later.
            Err(declined) => return Err(declined.into()),
        };
        if self.can_be_replaced(&record) && !self.is_unchanged(&record, &head).await? {
            // The upload stays, and the hooks are called again for the new object.
            let why = "the file was replaced while it was checked; complete it again";
            return Err(DirectError::conflict(why));
        }
        self.record_completion(&dispatcher, record, &head, reply, info)
            .await
    }

    async fn record_completion(
        &self,
        dispatcher: &HookDispatcher,
        mut record: Record,
        head: &ObjectHead,
        reply: ClientResponse,
        info: Option<&Arc<RequestInfo>>,
    ) -> Result<AdvanceOutcome, DirectError> {
        record.upload = completed_upload(&record.upload, head.size, Some(&head.etag));
        Arc::make_mut(&mut record.upload).completion =
            Completion::Done((!reply.is_empty()).then(|| Arc::new(reply)));
        record.status = Status::Completed;
        record.next_check_at = None;
        let permit = dispatcher.reserve(EventKind::Completed).await?;
        if !self.update(&mut record).await? {
            return Err(DirectError::Locked);
        }
        count(&self.settings().stats.completed);
        let (kind, info) = (EventKind::Completed, info.cloned());
        let completed = Event::new(kind, record.upload.clone(), head.size, info);
        dispatcher.emit(permit, completed).await;
        Ok(self.completed_response(record))
    }

    /// The same response each time.
    fn completed_response(&self, record: Record) -> AdvanceOutcome {
        let upload = &record.upload;
        let response = upload.completion.response();
        AdvanceOutcome::Completed(Box::new(CompletedUpload {
            location: self.location(&record),
            etag: upload.etag.clone().unwrap_or_default(),
            size: upload.length.unwrap_or(record.stored),
            response: response.map_or_else(ClientResponse::default, |it| ClientResponse::clone(it)),
            record,
        }))
    }
}

fn rejects_parts(error: &objects::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::EntityTooSmall | ErrorKind::InvalidPart
    )
}

fn completed_upload(upload: &Upload, size: u64, etag: Option<&str>) -> Arc<Upload> {
    let mut upload = upload.clone();
    upload.length = Some(size);
    upload.storage.remove(PARTS);
    upload.storage.remove(COMPLETES);
    upload.etag = etag.map(str::to_owned);
    Arc::new(upload)
}

fn with_parts(upload: &Arc<Upload>, ranges: Option<String>) -> Arc<Upload> {
    if upload.storage.get(PARTS) == ranges.as_ref() {
        return upload.clone();
    }
    let mut changed = Upload::clone(upload);
    match ranges {
        Some(ranges) => changed.storage.insert(PARTS.into(), ranges),
        None => changed.storage.remove(PARTS),
    };
    Arc::new(changed)
}

impl Direct {
    /// Verifies the object of an upload and completes it; repeated calls have no further effect.
    ///
    /// `request` is that of a client; `None` for notifications and the sweeper.
    ///
    /// # Errors
    /// The object does not exist yet. It is too large or has the wrong length, or a hook denies it:
    /// it is then removed. A hook or S3 failed.
    pub async fn check(
        &self,
        record: &Record,
        request: Option<&mut Parts>,
    ) -> Result<CompletedUpload, DirectError> {
        let dispatcher = self.dispatcher()?;
        let advance = AdvanceRequest {
            info: request.map(|request| request_info(&dispatcher, request)),
            ..AdvanceRequest::default()
        };
        self.advance(record.id(), advance).await?.completed()
    }

    /// Completes a multipart upload from parts (number and entity tag).
    ///
    /// Repeated calls return the same response.
    ///
    /// # Errors
    /// The parts are wrong. They are too large, or a hook denies the upload: it is then removed. A
    /// hook or S3 failed.
    pub async fn complete(
        &self,
        record: &Record,
        parts: &[(u32, String)],
        request: &mut Parts,
    ) -> Result<CompletedUpload, DirectError> {
        let dispatcher = self.dispatcher()?;
        let info = request_info(&dispatcher, request);
        if !record.mode.is_multipart() {
            return Err(DirectError::conflict("this file is not sent in parts"));
        }
        check_order(parts).map_err(DirectError::InvalidParts)?;
        dispatcher
            .admit(&info, Intent::Write, Some(record.id()))
            .await?;
        let advance = AdvanceRequest {
            named: Some(parts.to_vec()),
            info: Some(info),
            ..AdvanceRequest::default()
        };
        self.advance(record.id(), advance).await?.completed()
    }

    /// Called before the client completes its multipart upload in S3.
    pub(super) async fn check_size(&self, record: &Record) -> Result<(), DirectError> {
        multipart_id(record)?;
        match self.advance(record.id(), AdvanceRequest::default()).await? {
            AdvanceOutcome::Removed(reason) => Err(reason.error()),
            AdvanceOutcome::Completed(_) => Err(DirectError::conflict("the file is complete")),
            AdvanceOutcome::Pending => Ok(()),
        }
    }
}
