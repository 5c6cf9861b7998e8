//! Direct uploads as the registry of external uploads of a handler.

use std::time::SystemTime;

use async_trait::async_trait;
use landfall::{
    BoxError, Resolution,
    event::{EventKind, TerminationReason},
    external::ExternalUploads,
    upload::{Snapshot, UploadId},
};

use super::{Direct, decide::RemovalReason, key, remove::snapshot};
use crate::{DirectError, Status};

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
