//! Advances an upload as far as possible, under its lease: whoever finds that it is complete, it becomes
//! so in one way.

use std::{sync::Arc, time::Duration};

use landfall::{
    direct::HookDispatcher,
    event::{EventKind, TerminationReason},
    hook::{ClientResponse, RequestInfo},
    upload::{Completion, Snapshot, Upload, UploadId},
};
use landfall_grants::queue;
use landfall_s3::client::{self, ErrorKind, ObjectHead};

use super::{
    COMPLETES, Complete, Direct, PARTS,
    decide::{Decision, Facts, RemovalReason, decide},
    part_set::PartSet,
};
use crate::{DirectError, Record, Standing, stats::count};
use landfall_database::RowLease;

/// When the sweeper checks an upload again that is being completed.
const RETRY_DELAY: Duration = Duration::from_secs(30);

/// Why an upload is advanced.
#[derive(Debug, Clone, Default)]
pub(super) struct Advance {
    /// The parts that its client names, if it completes it now.
    pub(super) named: Option<Vec<(u32, String)>>,
    /// Whether it may expire.
    pub(super) may_expire: bool,
    /// The client's request.
    pub(super) info: Option<Arc<RequestInfo>>,
}

/// What has become of an upload.
#[derive(Debug)]
pub(super) enum Outcome {
    Completed(Box<Complete>),
    /// It is open, or being completed by another request.
    Pending,
    Removed(RemovalReason),
}

impl Outcome {
    /// The completed upload, for whoever waits for that.
    ///
    /// # Errors
    /// It is not complete.
    pub(super) fn completed(self) -> Result<Complete, DirectError> {
        match self {
            Self::Completed(complete) => Ok(*complete),
            Self::Pending => Err(DirectError::NotYet),
            Self::Removed(reason) => Err(reason.error()),
        }
    }
}

impl Direct {
    /// Advances an upload in a task of its own, so that it continues if its client disconnects.
    ///
    /// # Errors
    /// S3, a hook, a sink or the database fails; its parts are not right; another request has its lease.
    pub(super) async fn advance(
        &self,
        id: &UploadId,
        advance: Advance,
    ) -> Result<Outcome, DirectError> {
        let (this, id) = (self.clone(), id.clone());
        let task = tokio::spawn(async move {
            let (lease, record) = this.acquire_lease(&id).await?;
            let outcome = this.advance_leased(&lease, record, &advance).await;
            lease.release().await;
            outcome
        });
        task.await.map_err(DirectError::broken_off)?
    }

    async fn advance_leased(
        &self,
        lease: &RowLease,
        mut record: Record,
        advance: &Advance,
    ) -> Result<Outcome, DirectError> {
        match record.standing {
            Standing::Finished => return Ok(self.completed_response(record)),
            Standing::Gone => return Err(DirectError::gone()),
            Standing::Opening => return Err(DirectError::Busy),
            Standing::Open | Standing::Finishing => {}
        }
        let info = advance.info.as_ref();
        let mut is_prepared = false;
        let mut observation = self.observe(&record).await?;
        loop {
            match decide(&self.facts(&record, advance), observation) {
                Decision::Wait { .. } => return Ok(Outcome::Pending),
                Decision::Reject(why) => return Err(DirectError::Parts(why)),
                Decision::Reopen(why) => {
                    self.reopen(record).await?;
                    return Err(DirectError::Parts(why));
                }
                Decision::Remove(reason) => {
                    self.remove(lease, record, reason.clone(), info).await?;
                    return Ok(Outcome::Removed(reason));
                }
                Decision::Assemble(set) => {
                    self.prepare(&mut record, set.size, Some(&set), info)
                        .await?;
                    is_prepared = true;
                    if let Err(why) = self.complete_multipart(&record, &set).await? {
                        self.reopen(record).await?;
                        return Err(DirectError::Parts(why));
                    }
                    observation = self.observe_object(&record).await?;
                }
                Decision::Finish(head) => {
                    if !is_prepared {
                        self.prepare(&mut record, head.size, None, info).await?;
                    }
                    return self.finish(lease, record, head, info).await;
                }
            }
        }
    }

    pub(super) fn facts<'a>(&self, record: &'a Record, advance: &'a Advance) -> Facts<'a> {
        let settings = self.settings();
        Facts {
            record,
            most: self.most(record),
            named: advance.named.as_deref(),
            idle_timeout: advance.may_expire.then_some(settings.patience),
            now: self.queue().now(),
        }
    }

    /// The most bytes that an upload may have, and that S3 keeps.
    pub(super) fn most(&self, record: &Record) -> u64 {
        let most = self.settings().objects.max_object;
        record.most().map_or(most, |bound| bound.min(most))
    }

    /// Records that an upload is being completed, with which parts, and prepares the event of it.
    async fn prepare(
        &self,
        record: &mut Record,
        size: u64,
        set: Option<&PartSet>,
        info: Option<&Arc<RequestInfo>>,
    ) -> Result<(), DirectError> {
        if record.standing == Standing::Open || record.stored != size {
            record.standing = Standing::Finishing;
            record.stored = size;
            record.looks = 0;
            record.check_at = Some(self.queue().now() + RETRY_DELAY);
            let ranges = set.filter(|set| !set.is_all).map(PartSet::ranges);
            record.upload = with_parts(&record.upload, ranges);
            if !self.change(record).await? {
                return Err(DirectError::Busy);
            }
        }
        let upload = complete(&record.upload, size, None);
        let audience = self.audience()?;
        let prepared = audience.prepare(EventKind::Completed, &upload, size, info);
        Ok(prepared.await?)
    }

    /// Makes the object of its parts; the inner error says why S3 rejects the parts.
    async fn complete_multipart(
        &self,
        record: &Record,
        set: &PartSet,
    ) -> Result<Result<(), String>, DirectError> {
        let client = &self.settings().client;
        let multipart = record.multipart.as_deref().unwrap_or_default();
        let made = client.complete_multipart(&record.place, multipart, &set.parts);
        match made.await {
            Ok(_) => Ok(Ok(())),
            Err(error) if rejects_parts(&error) => {
                let why = error.message().or(error.code()).unwrap_or("they don't fit");
                Ok(Err(format!("S3 doesn't take these parts: {why}")))
            }
            // It may have been made before; entity tags do not always show it.
            Err(error) if *error.kind() == ErrorKind::NoSuchUpload => Ok(Ok(())),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets the client send parts again.
    async fn reopen(&self, mut record: Record) -> Result<(), DirectError> {
        let now = self.queue().now();
        record.upload = with_parts(&record.upload, None);
        record.standing = Standing::Open;
        record.active_at = now;
        record.check_at = Some(now + self.settings().interval);
        self.change(&mut record).await?;
        Ok(())
    }

    /// Calls the hooks for an object that is right, and completes its upload.
    async fn finish(
        &self,
        lease: &RowLease,
        record: Record,
        head: ObjectHead,
        info: Option<&Arc<RequestInfo>>,
    ) -> Result<Outcome, DirectError> {
        let audience = self.audience()?;
        Self::ensure_leased(lease)?;
        let snapshot = Snapshot {
            upload: complete(&record.upload, head.size, None),
            offset: head.size,
            modified: head.modified.unwrap_or_else(|| self.queue().now()),
        };
        let reply = match audience.before_finish(info, &snapshot).await {
            Ok(reply) => reply,
            Err(declined) if declined.cause.is_none() => {
                let reason = RemovalReason::Unwanted(TerminationReason::Hook);
                self.remove(lease, record, reason, info).await?;
                return Err(declined.into());
            }
            // It stays, and the hooks are called again.
            Err(declined) => return Err(declined.into()),
        };
        if self.can_be_replaced(&record) && !self.is_unchanged(&record, &head).await? {
            // It stays, and the hooks are called again for what is there now.
            return Err(DirectError::Conflict {
                gone: false,
                message: "the file was replaced while it was checked: complete it again".into(),
            });
        }
        self.finished(&audience, record, &head, reply, info).await
    }

    async fn finished(
        &self,
        audience: &HookDispatcher,
        mut record: Record,
        head: &ObjectHead,
        reply: ClientResponse,
        info: Option<&Arc<RequestInfo>>,
    ) -> Result<Outcome, DirectError> {
        let mut upload = Upload::clone(&complete(&record.upload, head.size, Some(&head.etag)));
        upload.completion = Completion::Done((!reply.is_empty()).then(|| Arc::new(reply)));
        record.upload = Arc::new(upload);
        record.standing = Standing::Finished;
        record.check_at = None;
        let room = audience.reserve(EventKind::Completed).await?;
        if !self.change(&mut record).await? {
            return Err(DirectError::Busy);
        }
        count(&self.settings().stats.completed);
        let Record { upload, job, .. } = &record;
        audience
            .emit(room, EventKind::Completed, upload, head.size, info)
            .await;
        // The sink of the queue has done this already, if there is one.
        let end = queue::End::Completed(queue::Completion {
            bytes: head.size,
            etag: Some(head.etag.clone()),
        });
        if let Err(error) = self.queue().end(*job, end).await {
            tracing::error!(id = %upload.id, %job, %error, "failed to record job end");
        }
        tracing::debug!(id = %upload.id, size = head.size, "DirectUploadFinished");
        Ok(self.completed_response(record))
    }

    /// The response for a completed upload, the same each time.
    fn completed_response(&self, record: Record) -> Outcome {
        let upload = &record.upload;
        Outcome::Completed(Box::new(Complete {
            location: self.location(&record),
            etag: upload.etag.clone().unwrap_or_default(),
            size: upload.length.unwrap_or(record.stored),
            reply: upload
                .completion
                .response()
                .map(|response| ClientResponse::clone(response))
                .unwrap_or_default(),
            record,
        }))
    }
}

/// Whether S3 says that other parts would do.
fn rejects_parts(error: &client::Error) -> bool {
    *error.kind() == ErrorKind::EntityTooSmall
        || matches!(error.code(), Some("InvalidPart" | "InvalidPartOrder"))
}

/// The description of an upload that is complete.
fn complete(upload: &Upload, size: u64, etag: Option<&str>) -> Arc<Upload> {
    let mut upload = upload.clone();
    upload.length = Some(size);
    upload.storage.remove(PARTS);
    upload.storage.remove(COMPLETES);
    upload.etag = etag.map(str::to_owned);
    Arc::new(upload)
}

/// The description with these ranges of parts, from which it is being completed.
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
