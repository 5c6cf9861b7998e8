//! Binding uploads to jobs.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use landfall::{
    hook::{IdempotencyError, IdempotencyKey},
    upload::{Upload, UploadId, UploadKind},
};

use super::{check::Refused, labels};
use crate::{
    Job, JobId, Queue,
    queue::{QueueError, Start, Started},
};

/// The claim of a grant.
#[derive(Debug)]
pub(super) struct Granted {
    queue: Queue,
    job: JobId,
    granted: u64,
    digest: String,
    is_part: bool,
    key: Option<UploadId>,
    /// The upload that was bound when it was asked for.
    noted: Mutex<Option<UploadId>>,
}

impl Granted {
    pub(super) fn new(queue: Queue, job: &Job, digest: String, upload: &Upload) -> Self {
        Self {
            queue,
            job: job.id,
            granted: job.size.or(job.max_size).unwrap_or(u64::MAX),
            digest,
            is_part: upload.kind == UploadKind::Partial,
            key: UploadId::new(&format!("grant-{}", job.id)).ok(),
            noted: Mutex::default(),
        }
    }
}

#[async_trait]
impl IdempotencyKey for Granted {
    fn key(&self) -> Option<&UploadId> {
        self.key.as_ref()
    }

    async fn stored_id(&self) -> Result<Option<UploadId>, IdempotencyError> {
        if self.is_part {
            // A grant covers several, and nothing tells one that is asked for again from another.
            return Ok(None);
        }
        let bound = self.queue.bound(self.job).await.map_err(failed)?;
        match bound {
            Some((_, digest)) if digest != self.digest => Err(lost(Refused::Differs)),
            Some((upload, _)) => {
                let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
                *noted = Some(upload.clone());
                Ok(Some(upload))
            }
            None => Ok(None),
        }
    }

    async fn store_id(&self, upload: &mut Upload) -> Result<(), IdempotencyError> {
        let start = if self.is_part {
            Start::part(upload.id.clone(), upload.length)
        } else {
            let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            Start::new(upload.id.clone(), upload.length, &*self.digest).instead_of(noted.clone())
        };
        match self.queue.start(self.job, start).await.map_err(failed)? {
            Started::Bound => Ok(()),
            // The lease that keeps others out was lost; the client finds the other one next time.
            Started::Other(other) => Err(IdempotencyError::Failed(
                format!("the upload {other} was created under this grant meanwhile").into(),
            )),
            Started::TooLate => Err(lost(Refused::TooLate)),
            Started::Ended(state) => Err(lost(Refused::Ended(state))),
            Started::Differs => Err(lost(Refused::Differs)),
            Started::TooMuch if self.is_part => Err(lost(Refused::TooManyParts)),
            Started::TooMuch => Err(lost(Refused::TooLarge {
                granted: self.granted,
            })),
            Started::Unknown => Err(lost(Refused::UnknownToken)),
        }
    }
}

/// No claim on anything: an upload without a grant gets a job of its own, so that it is seen.
#[derive(Debug)]
pub(super) struct Followed {
    queue: Queue,
}

impl Followed {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue }
    }
}

#[async_trait]
impl IdempotencyKey for Followed {
    fn key(&self) -> Option<&UploadId> {
        None
    }

    async fn stored_id(&self) -> Result<Option<UploadId>, IdempotencyError> {
        Ok(None)
    }

    async fn store_id(&self, upload: &mut Upload) -> Result<(), IdempotencyError> {
        match self.queue.follow(upload).await {
            Ok(job) => {
                upload.labels.insert(labels::JOB.into(), job.to_string());
            }
            // Nobody is kept from uploading because a list of uploads can't be kept.
            Err(error) => tracing::warn!(id = %upload.id, %error, "an upload can't be followed"),
        }
        Ok(())
    }
}

fn failed(error: QueueError) -> IdempotencyError {
    IdempotencyError::Failed(error.into())
}

fn lost(refused: Refused) -> IdempotencyError {
    IdempotencyError::lost(refused.into())
}
