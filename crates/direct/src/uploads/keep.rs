//! Direct uploads as a handler sees them.

use std::time::SystemTime;

use async_trait::async_trait;
use landfall::{
    BoxError, Resolution,
    direct::ExternalUploads,
    event::{EventKind, TerminationReason},
    upload::{Snapshot, UploadId},
};

use super::{Direct, decide::RemovalReason, key, remove::snapshot};
use crate::{DirectError, Standing};

#[async_trait]
impl ExternalUploads for Direct {
    fn owns(&self, id: &UploadId) -> bool {
        key::uuid_of(id).is_some()
    }

    async fn get(&self, id: &UploadId) -> Result<Option<Snapshot>, BoxError> {
        let found = self.0.books.get(id).await?;
        let found = found.filter(|record| record.standing != Standing::Gone);
        Ok(found.as_ref().map(snapshot))
    }

    /// Removes one, complete or not; what is left of one that is gone goes, too.
    async fn remove(&self, id: &UploadId) -> Result<bool, BoxError> {
        let (this, id) = (self.clone(), id.clone());
        let removed = tokio::spawn(async move { this.remove_of(&id).await });
        Ok(removed.await??)
    }

    async fn resolve(
        &self,
        kind: EventKind,
        id: &UploadId,
        created: Option<SystemTime>,
    ) -> Result<Resolution, BoxError> {
        let found = self.0.books.get(id).await?;
        let found = found.filter(|record| record.upload.created == created);
        let Some(record) = found else {
            let is_removal = matches!(kind, EventKind::Terminated | EventKind::Expired);
            return Ok(match is_removal {
                true => Resolution::Happened(None),
                false => Resolution::DidNotHappen,
            });
        };
        let happened = || Resolution::Happened(Some(snapshot(&record)));
        Ok(match (kind, record.standing) {
            // Whoever opens it tells that, or the sweeper finds it left over.
            (EventKind::Created, Standing::Opening) => Resolution::Busy,
            (EventKind::Created, Standing::Gone) => Resolution::DidNotHappen,
            (EventKind::Created, _) => happened(),
            (EventKind::Completed, Standing::Finished) => happened(),
            (EventKind::Completed, Standing::Finishing) => match self.check(&record, None).await {
                Ok(done) => Resolution::Happened(Some(snapshot(&done.record))),
                Err(DirectError::Busy) => Resolution::Busy,
                Err(DirectError::Declined(declined)) if declined.cause.is_none() => {
                    Resolution::DidNotHappen
                }
                Err(DirectError::Conflict { .. } | DirectError::Parts(_)) => {
                    Resolution::DidNotHappen
                }
                Err(error) => return Err(error.into()),
            },
            (EventKind::Terminated | EventKind::Expired, Standing::Gone) => {
                Resolution::Happened(None)
            }
            _ => Resolution::DidNotHappen,
        })
    }
}

impl Direct {
    async fn remove_of(&self, id: &UploadId) -> Result<bool, DirectError> {
        let (lease, record) = match self.acquire_lease(id).await {
            Ok(found) => found,
            Err(DirectError::NotFound) => return Ok(false),
            Err(error) => return Err(error),
        };
        if record.standing == Standing::Gone {
            lease.release().await;
            if record.check_at.is_some() {
                self.clear(&record).await?;
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
