//! Direct uploads as a handler sees them.

use std::time::SystemTime;

use async_trait::async_trait;
use landfall::{
    BoxError, Outcome,
    direct::DirectUploads,
    event::EventKind,
    upload::{Snapshot, UploadId},
};

use super::{Direct, key};

#[async_trait]
impl DirectUploads for Direct {
    fn owns(&self, id: &UploadId) -> bool {
        key::uuid_of(id).is_some()
    }

    async fn look(&self, id: &UploadId) -> Result<Option<Snapshot>, BoxError> {
        todo!()
    }

    async fn remove(&self, id: &UploadId) -> Result<bool, BoxError> {
        todo!()
    }

    async fn settle(
        &self,
        kind: EventKind,
        id: &UploadId,
        created: Option<SystemTime>,
    ) -> Result<Outcome, BoxError> {
        todo!()
    }
}
