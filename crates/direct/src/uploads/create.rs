//! Creates an authorized upload in the repository, the queue and the bucket, and rolls back if that fails.

use std::sync::Arc;

use landfall::{
    event::{Event, EventKind},
    external::HookDispatcher,
    hook::RequestInfo,
};
use landfall_objects::Cloud as _;
use landfall_state::queue::{
    GrantOutcome, Job, JobEnd, NewJob, StartOutcome, StartRequest, tracking::labels,
};

use super::{Direct, authorize::Authorization, decide::first_interval, object_headers};
use crate::{DirectError, Record, Status, TransferMode, record::CREATION_TIMEOUT};

impl Direct {
    /// One transaction, then the upload in the bucket.
    pub(super) async fn create(
        &self,
        dispatcher: &HookDispatcher,
        info: &Arc<RequestInfo>,
        authorization: Authorization,
        mut record: Record,
    ) -> Result<(Arc<Record>, bool), DirectError> {
        let created = match self.bind(&authorization, &record).await {
            // A concurrent call with the same request has opened it first.
            Ok(Some(other)) => return Ok((Arc::new(other), false)),
            Ok(None) => self.create_in_bucket(dispatcher, info, &mut record).await,
            Err(error) => Err(error),
        };
        Ok((self.conclude(&authorization, record, created).await?, true))
    }

    pub(super) async fn create_with_job(
        &self,
        dispatcher: &HookDispatcher,
        info: &Arc<RequestInfo>,
        new: NewJob,
        mut authorization: Authorization,
        mut record: Record,
    ) -> Result<OpenOutcome, DirectError> {
        let (draft, repository) = (record.clone(), self.0.repository.clone());
        let (fingerprint, client) = (authorization.fingerprint.clone(), authorization.client);
        let start = move |job: &Job| {
            let mut record = draft.clone();
            apply_job(&mut record, job);
            let start = StartRequest::new(record.id().clone(), record.upload.length, &*fingerprint);
            start
                .from_client(client)
                .with_statement(repository.insert_statement(&record))
        };
        let granted = match self.queue().grant_and_start(new, start).await {
            Ok(granted) => granted,
            Err(error) => {
                // The transaction may have been committed.
                self.delete_draft(record).await;
                return Err(error.into());
            }
        };
        let (job, started) = match granted {
            GrantOutcome::Created(job, started) => (job, started),
            GrantOutcome::Existing(job, ()) => {
                (authorization.job, authorization.is_new) = (job, false);
                return Ok(OpenOutcome::Existing(authorization));
            }
            GrantOutcome::Conflict(_) => return Err(DirectError::conflicting_request("id")),
            GrantOutcome::LimitExceeded(refusal) => return Err(refusal.into()),
        };
        apply_job(&mut record, &job);
        authorization.job = job;
        if let Some(error) = start_error(&started, &authorization.job, &record) {
            self.on_denied(&authorization, &error).await;
            return Err(error);
        }
        let created = self.create_in_bucket(dispatcher, info, &mut record).await;
        let concluded = self.conclude(&authorization, record, created).await;
        concluded.map(OpenOutcome::Opened)
    }

    async fn conclude(
        &self,
        authorization: &Authorization,
        record: Record,
        created: Result<(), DirectError>,
    ) -> Result<Arc<Record>, DirectError> {
        match created {
            Ok(()) => {
                tracing::debug!(
                    id = %record.upload.id,
                    job = %record.job,
                    subject = record.subject,
                    mode = ?record.mode,
                    key = record.object.key,
                    "DirectUploadOpened"
                );
                Ok(Arc::new(record))
            }
            Err(error) => {
                self.delete_draft(record).await;
                self.on_denied(authorization, &error).await;
                Err(error)
            }
        }
    }

    /// Returns the upload that was opened for the job instead, if any.
    async fn bind(
        &self,
        authorization: &Authorization,
        record: &Record,
    ) -> Result<Option<Record>, DirectError> {
        let upload = &record.upload;
        let fingerprint = &*authorization.fingerprint;
        let start = StartRequest::new(upload.id.clone(), upload.length, fingerprint)
            .replacing(authorization.replaced.clone())
            .from_client(authorization.client)
            .with_statement(self.0.repository.insert_statement(record));
        let started = self.queue().start(authorization.job.id, start).await?;
        if let StartOutcome::Other(other) = &started {
            let other = self.0.repository.get(other).await?;
            let other = other.filter(|other| other.status != Status::Creating);
            return Ok(Some(other.ok_or(DirectError::Locked)?));
        }
        start_error(&started, &authorization.job, record).map_or(Ok(None), Err)
    }

    async fn create_in_bucket(
        &self,
        dispatcher: &HookDispatcher,
        info: &Arc<RequestInfo>,
        record: &mut Record,
    ) -> Result<(), DirectError> {
        let upload = record.upload.clone();
        let prepared = dispatcher.prepare(EventKind::Created, &upload, 0, Some(info));
        prepared.await?;
        let permit = dispatcher.reserve(EventKind::Created).await?;
        if record.mode == TransferMode::Multipart {
            let object = object_headers::for_upload(&self.0.layout, &upload);
            let client = &self.s3()?.client;
            record.multipart = Some(client.create_multipart(&record.object, &object).await?);
        }
        if record.status == Status::Creating {
            record.status = Status::Open;
            record.next_check_at =
                Some(self.queue().now() + first_interval(self.settings(), record));
            if !self.update(record).await? {
                return Err(DirectError::gone());
            }
        }
        let created = Event::new(EventKind::Created, upload, 0, Some(info.clone()));
        dispatcher.emit(permit, created).await;
        Ok(())
    }

    async fn delete_draft(&self, mut record: Record) {
        let id = record.id().clone();
        record.status = Status::Removed;
        // If S3's response was lost, the id of the multipart upload is unknown.
        record.next_check_at =
            (record.mode == TransferMode::Multipart).then(|| self.queue().now() + CREATION_TIMEOUT);
        if let (Some(multipart), Some(s3)) = (&record.multipart, self.bucket().s3()) {
            let client = &s3.client;
            match client.abort_multipart(&record.object, multipart).await {
                Ok(()) => record.next_check_at = None,
                Err(error) => {
                    tracing::warn!(id = %record.upload.id, %error, "failed to abort multipart upload");
                }
            }
        }
        if let Err(error) = self.mark_removed(record).await {
            // The sweeper retries.
            tracing::warn!(%id, %error, "failed to delete draft record");
        }
    }

    async fn mark_removed(&self, mut record: Record) -> Result<(), DirectError> {
        if self.update(&mut record).await? {
            return Ok(());
        }
        // An earlier change may or may not have been written.
        let Some(now) = self.0.repository.get(record.id()).await? else {
            return Ok(());
        };
        if matches!(now.status, Status::Creating | Status::Open) {
            record.version = now.version;
            self.update(&mut record).await?;
        }
        Ok(())
    }

    /// Ends the job unless the client can retry.
    pub(super) async fn on_denied(&self, authorization: &Authorization, error: &DirectError) {
        let reason = format!("the upload was rejected: {error}");
        let end = match error {
            DirectError::Hook(denied) if authorization.by_token && denied.cause.is_none() => {
                let end = JobEnd::Denied(reason, authorization.client);
                JobEnd::is_final_denial(denied.status).then_some(end)
            }
            // A token can be used again.
            _ if authorization.by_token => None,
            error if authorization.can_retry && is_transient(error) => None,
            error if !authorization.is_new && belongs_to_other(error) => None,
            _ => Some(JobEnd::Failed(reason)),
        };
        let job = authorization.job.id;
        if let Some(end) = end
            && let Err(error) = self.queue().finish(job, end).await
        {
            tracing::error!(%job, %error, "failed to release quota reservation");
        }
    }
}

pub(super) enum OpenOutcome {
    Opened(Arc<Record>),
    Existing(Authorization),
}

fn apply_job(record: &mut Record, job: &Job) {
    record.job = job.id;
    let upload = Arc::make_mut(&mut record.upload);
    upload.max_size = job.max_size.filter(|_| upload.length.is_none());
    upload.labels.extend(labels::from_job(job));
}

fn start_error(started: &StartOutcome, job: &Job, record: &Record) -> Option<DirectError> {
    Some(match started {
        StartOutcome::Bound => return None,
        StartOutcome::TooLarge => DirectError::TooLarge {
            stored: record.upload.length.unwrap_or_default(),
            limit: job.size.or(job.max_size).unwrap_or_default(),
        },
        StartOutcome::Other(_) | StartOutcome::Conflict => {
            DirectError::conflicting_request("id or token")
        }
        StartOutcome::Expired | StartOutcome::Ended(_) | StartOutcome::NotFound => {
            DirectError::gone()
        }
    })
}

pub(super) fn is_transient(error: &DirectError) -> bool {
    match error {
        DirectError::Hook(declined) => {
            declined.cause.is_some() || declined.status.is_server_error()
        }
        // The bucket may be full, or its policy wrong: the operator can mend that.
        DirectError::Storage(_)
        | DirectError::Queue(_)
        | DirectError::Database(_)
        | DirectError::Locked
        | DirectError::Internal(_) => true,
        _ => false,
    }
}

/// Returns whether another upload has the object, which continues.
fn belongs_to_other(error: &DirectError) -> bool {
    matches!(error, DirectError::Locked | DirectError::Conflict { .. })
}
