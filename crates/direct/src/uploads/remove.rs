//! Removing an upload that was cancelled, has failed or expired, with all that S3 has of it.

use std::{sync::Arc, time::Duration};

use http::request::Parts;
use landfall::{
    event::TerminationReason,
    hook::{Intent, RequestInfo},
    upload::Snapshot,
};
use landfall_grants::queue;
use landfall_s3::client::{self, ErrorKind};

use super::{Direct, decide::RemovalReason, request};
use crate::{DirectError, Record, Standing, Way, stats::count};
use landfall_database::RowLease;

/// When it is tried again to remove what couldn't be removed.
const RETRY_DELAY: Duration = Duration::from_secs(60);
/// Multipart uploads that are searched for those of one key.
const SCAN_LIMIT: usize = 1000;

impl Direct {
    /// Its client doesn't want it any more: what there is of it goes. One that is gone stays gone.
    ///
    /// # Errors
    /// A hook refuses or can't be asked; it is complete; the books fail.
    ///
    /// # Cancel safety
    /// It goes on if dropped, once the hooks have been asked.
    pub async fn cancel(&self, record: &Record, request: &mut Parts) -> Result<(), DirectError> {
        let audience = self.audience()?;
        let info = request::info(&audience, request);
        let id = Some(record.id());
        audience.admit(&info, Intent::Terminate, id).await?;
        match record.standing {
            Standing::Gone => return Ok(()),
            Standing::Finished => return Err(complete_already()),
            _ => {}
        }
        audience.before_terminate(&info, &snapshot(record)).await?;
        let (this, id) = (self.clone(), record.id().clone());
        let cancelled = tokio::spawn(async move {
            let (lease, record) = this.acquire_lease(&id).await?;
            match record.standing {
                Standing::Gone => Ok(()),
                Standing::Finishing | Standing::Finished => Err(complete_already()),
                Standing::Opening | Standing::Open => {
                    let reason = RemovalReason::Unwanted(TerminationReason::Client);
                    let removed = this.remove(&lease, record, reason, Some(&info)).await;
                    lease.release().await;
                    removed.map(drop)
                }
            }
        });
        cancelled.await.map_err(DirectError::broken_off)?
    }

    /// Removes what there is of one that was being opened when its process died. Nobody has heard of
    /// it.
    ///
    /// # Errors
    /// S3, the books or the queue fail; the next time does the rest.
    pub(crate) async fn abandon(&self, record: &Record) -> Result<(), DirectError> {
        let (lease, mut record) = self.acquire_lease(record.id()).await?;
        if record.standing != Standing::Opening {
            return Ok(());
        }
        record.standing = Standing::Gone;
        record.check_at = Some(self.queue().now() + RETRY_DELAY);
        if !self.change(&mut record).await? {
            return Ok(());
        }
        // Its client may have asked again meanwhile, and got another one.
        let bound = self.queue().bound(record.job).await?;
        if bound.is_none_or(|(bound, _)| bound == *record.id()) {
            let why = queue::End::Failed("it was never begun on S3".into());
            self.queue().end(record.job, why).await?;
        }
        self.clear_leased(&lease, record).await
    }

    /// Removes what may be left of one that is gone: what couldn't be removed, or came late.
    ///
    /// # Errors
    /// S3 or the books fail.
    pub(crate) async fn clear(&self, record: &Record) -> Result<(), DirectError> {
        let (lease, record) = self.acquire_lease(record.id()).await?;
        if record.standing != Standing::Gone {
            return Ok(());
        }
        self.clear_leased(&lease, record).await
    }

    /// Removes an upload: prepares the event, records the removal, removes what S3 has, emits the event.
    /// Returns why S3 still has something of it, if that is so: the sweeper removes it later.
    ///
    /// # Errors
    /// A sink or the database fails, or the lease was lost; nothing has happened then.
    pub(super) async fn remove(
        &self,
        lease: &RowLease,
        mut record: Record,
        reason: RemovalReason,
        info: Option<&Arc<RequestInfo>>,
    ) -> Result<Option<DirectError>, DirectError> {
        let audience = self.audience()?;
        let (upload, stored) = (record.upload.clone(), record.stored);
        let (event, removal) = reason.event();
        audience.prepare(event, &upload, stored, info).await?;
        let room = audience.reserve(event).await?;
        Self::ensure_leased(lease)?;
        record.standing = Standing::Gone;
        record.check_at = Some(self.queue().now() + RETRY_DELAY);
        if !self.change(&mut record).await? {
            return Err(DirectError::Busy);
        }
        self.count(&reason);
        let job = record.job;
        // The sink of the queue does not know why; the first reason stays.
        if reason.is_failure() {
            self.end_job(&record, &reason).await;
        }
        let left = self.clear_leased(lease, record.clone()).await.err();
        if let Some(error) = &left {
            tracing::warn!(id = %upload.id, %error, "failed to remove an ended upload from S3");
        }
        match removal {
            Some(why) => {
                let emitted = audience.emit_removed(room, why, &upload, stored, info);
                emitted.await;
            }
            None => audience.emit(room, event, &upload, stored, info).await,
        }
        self.end_job(&record, &reason).await;
        tracing::debug!(id = %upload.id, %job, ?reason, "DirectUploadEnded");
        Ok(left)
    }

    async fn end_job(&self, record: &Record, reason: &RemovalReason) {
        let job = record.job;
        if let Err(error) = self.queue().end(job, reason.job_end()).await {
            tracing::error!(id = %record.upload.id, %job, %error, "failed to record job end");
        }
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

    /// Removes what S3 has of a removed upload, and records that.
    async fn clear_leased(&self, lease: &RowLease, mut record: Record) -> Result<(), DirectError> {
        Self::ensure_leased(lease)?;
        self.remove_from_s3(&record).await?;
        let now = self.queue().now();
        // What was signed may still be used.
        let until = match record.way {
            Way::Multipart => None,
            Way::Put | Way::Post | Way::SignedMultipart => {
                Some(record.active_at + self.settings().may_arrive_for())
                    .filter(|until| *until > now)
            }
        };
        record.check_at = until;
        self.change(&mut record).await?;
        Ok(())
    }

    async fn remove_from_s3(&self, record: &Record) -> Result<(), client::Error> {
        let client = &self.settings().client;
        if let Some(multipart) = &record.multipart {
            client.abort_multipart(&record.place, multipart).await?;
        }
        // Others at its key: one whose id was lost with an answer, or that its client began besides.
        let is_known = record.way == Way::Multipart && record.multipart.is_some();
        if !is_known && matches!(record.way, Way::Multipart | Way::SignedMultipart) {
            self.remove_orphaned_parts(record).await?;
        }
        let head = match client.head_object(&record.place).await {
            Ok(head) => head,
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => return Ok(()),
            Err(error) => return Err(error),
        };
        match self.is_from_client(record, &head) && self.is_latest(record).await {
            true => client.delete_object(&record.place).await,
            false => Ok(()),
        }
    }

    /// Whether nobody else has a file at its key by now.
    async fn is_latest(&self, record: &Record) -> bool {
        let place = &record.place;
        match self.0.books.at(&place.bucket, &place.key).await {
            Ok(newest) => newest.is_none_or(|newest| newest.id() == record.id()),
            Err(_) => false,
        }
    }

    /// Drops multipart uploads of exactly its key.
    async fn remove_orphaned_parts(&self, record: &Record) -> Result<(), client::Error> {
        let (client, place) = (&self.settings().client, &record.place);
        if !self.is_latest(record).await {
            return Ok(());
        }
        let mut after = None;
        let mut seen = 0;
        while seen < SCAN_LIMIT {
            let page = client.list_multiparts(&place.bucket, &place.key, after, 1000);
            let page = page.await?;
            for stray in page.uploads.iter().filter(|one| one.key == place.key) {
                client.abort_multipart(place, &stray.upload_id).await?;
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

/// How a record stands, as hooks and sinks are told.
pub(super) fn snapshot(record: &Record) -> Snapshot {
    Snapshot {
        upload: record.upload.clone(),
        offset: record.stored,
        modified: record.active_at,
    }
}

fn complete_already() -> DirectError {
    DirectError::Conflict {
        gone: false,
        message: "the file is complete and can't be cancelled any more".into(),
    }
}
