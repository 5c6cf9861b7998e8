//! Completes an upload when its client, a notification or the outbox reports its object.

use http::request::Parts;
use landfall::hook::Intent;

use super::{
    CompletedUpload, Direct,
    apply::{AdvanceOutcome, AdvanceRequest},
    part_set::check_order,
    request,
    sign::multipart_id,
};
use crate::{DirectError, Record};

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
            info: request.map(|request| request::info(&dispatcher, request)),
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
        let info = request::info(&dispatcher, request);
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
