//! Completing an upload because its client, the bucket or the outbox says that its bytes are there.

use http::request::Parts;
use landfall::hook::Intent;

use super::{
    Complete, Direct,
    apply::{Advance, Outcome},
    part_set::check_order,
    request,
    sign::multipart,
};
use crate::{DirectError, Record, Way};

impl Direct {
    /// Completes an upload whose object is in S3 and right: once, however often it is called. `request`
    /// is that of a client; `None` for notifications and the sweeper.
    ///
    /// # Errors
    /// It isn't there yet; it is too large or of another length than was said (then it is gone); a hook
    /// refuses (then it is gone) or can't be asked; S3 fails.
    ///
    /// # Cancel safety
    /// It goes on if dropped.
    pub async fn check(
        &self,
        record: &Record,
        request: Option<&mut Parts>,
    ) -> Result<Complete, DirectError> {
        let audience = self.audience()?;
        let advance = Advance {
            info: request.map(|request| request::info(&audience, request)),
            ..Advance::default()
        };
        self.advance(record.id(), advance).await?.completed()
    }

    /// Completes a multipart upload from these parts (number and entity tag); repeated, it gives the
    /// same response.
    ///
    /// # Errors
    /// The parts aren't right; there is too much of them (then it is gone); a hook refuses (then it is
    /// gone) or can't be asked; S3 fails.
    ///
    /// # Cancel safety
    /// It goes on if dropped.
    pub async fn complete(
        &self,
        record: &Record,
        parts: &[(u32, String)],
        request: &mut Parts,
    ) -> Result<Complete, DirectError> {
        let audience = self.audience()?;
        let info = request::info(&audience, request);
        if !matches!(record.way, Way::Multipart | Way::SignedMultipart) {
            return Err(DirectError::Conflict {
                gone: false,
                message: "this file isn't sent in parts".into(),
            });
        }
        check_order(parts).map_err(DirectError::Parts)?;
        audience
            .admit(&info, Intent::Write, Some(record.id()))
            .await?;
        let advance = Advance {
            named: Some(parts.to_vec()),
            info: Some(info),
            ..Advance::default()
        };
        self.advance(record.id(), advance).await?.completed()
    }

    /// Makes sure that a client that completes its upload itself hasn't sent too much.
    pub(super) async fn within_bounds(&self, record: &Record) -> Result<(), DirectError> {
        multipart(record)?;
        match self.advance(record.id(), Advance::default()).await? {
            Outcome::Removed(reason) => Err(reason.error()),
            Outcome::Completed(_) => Err(DirectError::Conflict {
                gone: false,
                message: "the file is complete".into(),
            }),
            Outcome::Pending => Ok(()),
        }
    }
}
