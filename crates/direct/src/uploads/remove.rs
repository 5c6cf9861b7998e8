//! Removes cancelled, failed and expired uploads, with their data in S3.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use http::request::Parts;
use landfall::{
    BoxError, Resolution,
    event::{Event, EventKind, TerminationReason},
    external::ExternalUploads,
    hook::{Intent, RequestInfo},
    upload::{Snapshot, UploadId},
};
use landfall_objects::{Cloud as _, if_exists};
use landfall_state::{queue::JobEnd, sql::RowLease};

use super::{Direct, decide::RemovalReason, key, request_info};
use crate::{DirectError, Record, Status, TransferMode, settings::count};

const RETRY_DELAY: Duration = Duration::from_secs(60);
/// Of multipart uploads that are searched for those of one key.
const SCAN_LIMIT: usize = 1000;

impl Direct {
    /// Cancels an upload and removes its data. A removed upload stays removed.
    ///
    /// # Errors
    /// A hook denies it or failed, the upload is complete, or the database failed.
    ///
    /// # Cancel safety
    /// Dropped after the hooks were called, it continues.
    pub async fn cancel(&self, record: &Record, request: &mut Parts) -> Result<(), DirectError> {
        let dispatcher = self.dispatcher()?;
        let info = request_info(&dispatcher, request);
        let id = Some(record.id());
        dispatcher.admit(&info, Intent::Terminate, id).await?;
        match record.status {
            Status::Removed => return Ok(()),
            Status::Completed => return Err(already_complete()),
            _ => {}
        }
        let snapshot = snapshot(record);
        dispatcher.before_terminate(&info, &snapshot).await?;
        let (this, id) = (self.clone(), record.id().clone());
        let cancelled = tokio::spawn(async move {
            let (lease, record) = this.acquire_lease(&id).await?;
            match record.status {
                Status::Removed => Ok(()),
                Status::Completing | Status::Completed => Err(already_complete()),
                Status::Creating | Status::Open => {
                    let reason = RemovalReason::Unwanted(TerminationReason::Client);
                    let removed = this.remove(&lease, record, reason, Some(&info)).await;
                    lease.release().await;
                    removed.map(drop)
                }
            }
        });
        cancelled.await.map_err(DirectError::interrupted)?
    }

    /// The upload's process died while creating it. Its client does not know it.
    pub(crate) async fn abandon(&self, record: &Record) -> Result<(), DirectError> {
        let (lease, mut record) = self.acquire_lease(record.id()).await?;
        if record.status != Status::Creating {
            return Ok(());
        }
        record.status = Status::Removed;
        record.next_check_at = Some(self.queue().now() + RETRY_DELAY);
        if !self.update(&mut record).await? {
            return Ok(());
        }
        // The client may have retried meanwhile, and opened another upload.
        let bound = self.queue().bound_upload(record.job).await?;
        if bound.is_none_or(|(bound, _)| bound == *record.id()) {
            let why = JobEnd::Failed("it was never created in the bucket".into());
            self.queue().finish(record.job, why).await?;
        }
        self.clean_up_leased(&lease, record).await
    }

    /// Data remains after a failed removal, or if it arrived later.
    pub(crate) async fn clean_up(&self, record: &Record) -> Result<(), DirectError> {
        let (lease, record) = self.acquire_lease(record.id()).await?;
        if record.status != Status::Removed {
            return Ok(());
        }
        self.clean_up_leased(&lease, record).await
    }

    /// Prepares the event, records the removal, deletes the data, emits the event. Returns the error if data
    /// remains in S3; the sweeper retries. After a failure of this call, nothing has changed.
    pub(super) async fn remove(
        &self,
        lease: &RowLease,
        mut record: Record,
        reason: RemovalReason,
        info: Option<&Arc<RequestInfo>>,
    ) -> Result<Option<DirectError>, DirectError> {
        let dispatcher = self.dispatcher()?;
        let (upload, stored) = (record.upload.clone(), record.stored);
        let (event, removal) = reason.event();
        dispatcher.prepare(event, &upload, stored, info).await?;
        let permit = dispatcher.reserve(event).await?;
        Self::ensure_leased(lease)?;
        record.status = Status::Removed;
        record.next_check_at = Some(self.queue().now() + RETRY_DELAY);
        if !self.update(&mut record).await? {
            return Err(DirectError::Locked);
        }
        self.count(&reason);
        let job = record.job;
        // The sink of the queue ends the job as well, but does not know why it failed: the first end stays.
        if let Some(why) = reason.failure()
            && let Err(error) = self.queue().finish(job, JobEnd::Failed(why)).await
        {
            tracing::error!(id = %upload.id, %job, %error, "failed to record job end");
        }
        let left = self.clean_up_leased(lease, record).await.err();
        if let Some(error) = &left {
            tracing::warn!(id = %upload.id, %error, "failed to remove upload from the bucket");
        }
        let mut ended = Event::new(event, upload.clone(), stored, info.cloned());
        ended.reason = removal;
        dispatcher.emit(permit, ended).await;
        tracing::debug!(id = %upload.id, %job, ?reason, "DirectUploadEnded");
        Ok(left)
    }

    fn count(&self, reason: &RemovalReason) {
        let stats = &self.settings().stats;
        count(match reason {
            RemovalReason::Unwanted(TerminationReason::Client | TerminationReason::Application) => {
                &stats.cancelled
            }
            RemovalReason::Expired => &stats.expired,
            _ => &stats.failed,
        });
    }

    async fn clean_up_leased(
        &self,
        lease: &RowLease,
        mut record: Record,
    ) -> Result<(), DirectError> {
        Self::ensure_leased(lease)?;
        self.remove_from_bucket(&record).await?;
        let now = self.queue().agreed_time().time();
        // Earlier signatures may still be used.
        let until = match record.mode {
            TransferMode::Multipart => None,
            mode => Some(record.active_at + self.settings().arrival_window(mode)),
        };
        record.next_check_at = until.filter(|until| *until > now);
        self.update(&mut record).await?;
        Ok(())
    }

    async fn remove_from_bucket(&self, record: &Record) -> Result<(), DirectError> {
        if let Some(multipart) = &record.multipart {
            let client = &self.s3()?.client;
            client.abort_multipart(&record.object, multipart).await?;
        }
        // Other multipart uploads at the key: S3's response was lost, or the client created them.
        let is_known = record.mode == TransferMode::Multipart && record.multipart.is_some();
        if !is_known && record.mode.is_multipart() {
            self.remove_orphaned_parts(record).await?;
        }
        let (bucket, object) = (self.bucket(), &record.object);
        let Some(head) = if_exists(bucket.cloud().head_object(object).await)? else {
            if record.mode == TransferMode::Resumable && self.is_latest(record).await {
                bucket.remove_unfinished(object).await?;
            }
            return Ok(());
        };
        if self.is_from_client(record, &head) && self.is_latest(record).await {
            bucket.cloud().delete_version(object, &head.etag).await?;
        }
        Ok(())
    }

    /// No newer upload has the same key.
    async fn is_latest(&self, record: &Record) -> bool {
        let (repository, object) = (&self.0.repository, &record.object);
        match repository.find_by_object(&object.bucket, &object.key).await {
            Ok(newest) => newest.is_none_or(|newest| newest.id() == record.id()),
            Err(_) => false,
        }
    }

    async fn remove_orphaned_parts(&self, record: &Record) -> Result<(), DirectError> {
        let (client, object) = (&self.s3()?.client, &record.object);
        if !self.is_latest(record).await {
            return Ok(());
        }
        let mut after = None;
        let mut seen = 0;
        while seen < SCAN_LIMIT {
            let page = client.list_multiparts(&object.bucket, &object.key, after, 1000);
            let page = page.await?;
            for stray in page.uploads.iter().filter(|one| one.key == object.key) {
                client.abort_multipart(object, &stray.upload_id).await?;
            }
            seen += page.uploads.len();
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        Ok(())
    }
}

pub(super) fn snapshot(record: &Record) -> Snapshot {
    Snapshot::new(record.upload.clone(), record.stored, record.active_at)
}

fn already_complete() -> DirectError {
    DirectError::conflict("the file is complete and cannot be cancelled")
}

#[async_trait]
impl ExternalUploads for Direct {
    fn owns(&self, id: &UploadId) -> bool {
        key::uuid_of(id).is_some()
    }

    async fn get(&self, id: &UploadId) -> Result<Option<Snapshot>, BoxError> {
        let found = self.0.repository.get(id).await?;
        let found = found.filter(|record| record.status != Status::Removed);
        Ok(found.as_ref().map(snapshot))
    }

    /// Also removes the remaining data of a removed upload.
    async fn remove(&self, id: &UploadId) -> Result<bool, BoxError> {
        let (this, id) = (self.clone(), id.clone());
        let removed = tokio::spawn(async move { this.remove_by_id(&id).await });
        Ok(removed.await??)
    }

    async fn resolve(
        &self,
        kind: EventKind,
        id: &UploadId,
        created: Option<SystemTime>,
    ) -> Result<Resolution, BoxError> {
        let found = self.0.repository.get(id).await?;
        let found = found.filter(|record| record.upload.created == created);
        let Some(record) = found else {
            let is_removal = matches!(kind, EventKind::Terminated | EventKind::Expired);
            return Ok(match is_removal {
                true => Resolution::Happened(None),
                false => Resolution::DidNotHappen,
            });
        };
        let happened = || Resolution::Happened(Some(snapshot(&record)));
        Ok(match (kind, record.status) {
            // The opener emits the event, or the sweeper removes the upload.
            (EventKind::Created, Status::Creating) => Resolution::Busy,
            (EventKind::Created, Status::Removed) => Resolution::DidNotHappen,
            (EventKind::Created, _) => happened(),
            (EventKind::Completed, Status::Completed) => happened(),
            (EventKind::Completed, Status::Completing) => match self.check(&record, None).await {
                Ok(done) => Resolution::Happened(Some(snapshot(&done.record))),
                Err(DirectError::Locked) => Resolution::Busy,
                Err(DirectError::Hook(declined)) if declined.cause.is_none() => {
                    Resolution::DidNotHappen
                }
                Err(DirectError::Conflict { .. } | DirectError::InvalidParts(_)) => {
                    Resolution::DidNotHappen
                }
                Err(error) => return Err(error.into()),
            },
            (EventKind::Terminated | EventKind::Expired, Status::Removed) => {
                Resolution::Happened(None)
            }
            _ => Resolution::DidNotHappen,
        })
    }
}

impl Direct {
    async fn remove_by_id(&self, id: &UploadId) -> Result<bool, DirectError> {
        let (lease, record) = match self.acquire_lease(id).await {
            Ok(found) => found,
            Err(DirectError::NotFound) => return Ok(false),
            Err(error) => return Err(error),
        };
        if record.status == Status::Removed {
            lease.release().await;
            if record.next_check_at.is_some() {
                self.clean_up(&record).await?;
            }
            return Ok(false);
        }
        let reason = RemovalReason::Unwanted(TerminationReason::Application);
        let removed = self.remove(&lease, record, reason, None).await;
        lease.release().await;
        match removed? {
            None => Ok(true),
            Some(left) => Err(left),
        }
    }
}
