//! Idempotent creation: binding uploads to jobs.

use std::net::IpAddr;

use async_trait::async_trait;
use http::StatusCode;
use landfall::{
    hook::{ClientResponse, IdempotencyError, IdempotencyKey},
    upload::{Upload, UploadId, UploadKind},
};
use landfall_state::queue::{
    Job, JobEnd, JobId, Queue, QueueError, StartOutcome, StartRequest,
    tracking::{denial, labels},
};
use parking_lot::Mutex;

use super::verify::TokenRejection;

#[derive(Debug)]
pub(super) struct GrantKey {
    queue: Queue,
    job: JobId,
    granted: u64,
    digest: String,
    is_part: bool,
    client: Option<IpAddr>,
    key: Option<UploadId>,
    /// The job had an upload before this creation had the lease.
    was_bound: bool,
    /// As read with the lease.
    noted: Mutex<Option<UploadId>>,
}

impl GrantKey {
    pub(super) fn new(
        queue: Queue,
        job: &Job,
        digest: String,
        upload: &Upload,
        client: Option<IpAddr>,
    ) -> Self {
        Self {
            queue,
            job: job.id,
            granted: job.size.or(job.max_size).unwrap_or(u64::MAX),
            digest,
            is_part: upload.kind == UploadKind::Partial,
            client,
            key: UploadId::new(&format!("grant-{}", job.id)).ok(),
            was_bound: job.upload_id.is_some(),
            noted: Mutex::default(),
        }
    }

    async fn read_bound(&self) -> Result<Option<UploadId>, IdempotencyError> {
        let bound = self.queue.bound_upload(self.job).await.map_err(failed)?;
        match bound {
            Some((_, digest)) if digest != self.digest => Err(lost(TokenRejection::Differs)),
            Some((upload, _)) => {
                *self.noted.lock() = Some(upload.clone());
                Ok(Some(upload))
            }
            None => Ok(None),
        }
    }
}

#[async_trait]
impl IdempotencyKey for GrantKey {
    fn key(&self) -> Option<&UploadId> {
        self.key.as_ref()
    }

    async fn stored_id(&self) -> Result<Option<UploadId>, IdempotencyError> {
        // A grant covers several partial uploads, which cannot be distinguished. A job without an upload most
        // likely still has none, and `store_id` notices if it has.
        match self.is_part || !self.was_bound {
            true => Ok(None),
            false => self.read_bound().await,
        }
    }

    async fn store_id(&self, upload: &mut Upload) -> Result<Option<UploadId>, IdempotencyError> {
        let noted = self.noted.lock().clone();
        let is_unread = !self.is_part && !self.was_bound && noted.is_none();
        let start = if self.is_part {
            StartRequest::part(upload.id.clone(), upload.length)
        } else {
            StartRequest::new(upload.id.clone(), upload.length, &*self.digest).replacing(noted)
        };
        let granted = self.granted;
        let start = self.queue.start(self.job, start.from_client(self.client));
        let outcome = start.await.map_err(failed)?;
        if is_unread
            && outcome != StartOutcome::Bound
            && let Some(other) = self.read_bound().await?
        {
            return Ok(Some(other));
        }
        match outcome {
            StartOutcome::Bound => Ok(None),
            // The lease that serializes creations was lost.
            StartOutcome::Other(other) => Ok(Some(other)),
            StartOutcome::Expired => Err(lost(TokenRejection::TooLate)),
            StartOutcome::Ended(state) => Err(lost(TokenRejection::ended(state))),
            StartOutcome::Conflict => Err(lost(TokenRejection::Differs)),
            StartOutcome::TooLarge if self.is_part => Err(lost(TokenRejection::TooManyParts)),
            StartOutcome::TooLarge => Err(lost(TokenRejection::TooLarge { granted })),
            StartOutcome::NotFound => Err(lost(TokenRejection::UnknownToken)),
        }
    }

    async fn deny(&self, response: &ClientResponse) {
        let status = response.status.unwrap_or(StatusCode::BAD_REQUEST);
        let end = JobEnd::Denied(denial(Some(response)), self.client);
        if JobEnd::is_final_denial(status)
            && let Err(error) = self.queue.finish(self.job, end).await
        {
            tracing::error!(job = %self.job, %error, "failed to end the job of a denied upload");
        }
    }
}

#[derive(Debug)]
pub(super) struct TrackedUploadKey {
    pub(super) queue: Queue,
    pub(super) client: Option<IpAddr>,
}

#[async_trait]
impl IdempotencyKey for TrackedUploadKey {
    fn key(&self) -> Option<&UploadId> {
        None
    }

    async fn stored_id(&self) -> Result<Option<UploadId>, IdempotencyError> {
        Ok(None)
    }

    async fn store_id(&self, upload: &mut Upload) -> Result<Option<UploadId>, IdempotencyError> {
        match self.queue.track(upload, self.client).await {
            Ok(job) => {
                upload.labels.insert(labels::JOB.into(), job.to_string());
            }
            // Tracking is optional and must not prevent an upload.
            Err(error) => tracing::warn!(id = %upload.id, %error, "failed to track upload"),
        }
        Ok(None)
    }
}

fn failed(error: QueueError) -> IdempotencyError {
    IdempotencyError::Failed(error.into())
}

fn lost(refused: TokenRejection) -> IdempotencyError {
    IdempotencyError::lost(refused.into())
}
