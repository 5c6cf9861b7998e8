//! Requests that come again while their upload is being completed, and get the result of that completion.
//!
//! Such a request repeats bytes that are received already, so its content is read and not stored. It holds neither the
//! lease nor a transfer permit.

use std::{future::poll_fn, pin::Pin, sync::Arc, time::SystemTime};

use landfall_protocol::{ChecksumPlacement, DeclaredEnd, ProblemKind};
use tokio::time::timeout;

use super::{
    Engine, Error, HookReply, RequestBodyError,
    append::AppendRequest,
    create::Created,
    hooks::merge,
    is_missing,
    live::completing::{Completed, Completing, reply_of},
    verifier::Verifier,
};
use crate::{request_body::RequestBody, store::StoreError, upload::Upload};

impl Engine {
    /// Returns `None` for a request that is like any other: the completion has ended without a result, or the upload has
    /// changed since.
    pub(super) async fn join_completion<B: RequestBody + Unpin>(
        &self,
        completing: &Completing,
        request: &mut AppendRequest,
        body: &mut B,
    ) -> Result<Option<(Arc<Upload>, HookReply)>, Error> {
        let (upload, at) = (&completing.upload, request.head.offset);
        let is_running = completing.is_running();
        let repeats = completing.repeats(at) && request.head.end != DeclaredEnd::Later;
        let has_told = || repeats && upload.length != Some(at) && completing.has_succeeded();
        if !is_running && !has_told() {
            return Ok(None);
        }
        if upload.is_final() {
            return Err(ProblemKind::ModifyFinal.into());
        }
        if !repeats {
            return Err(Error::Offset(completing.offset()));
        }
        let remaining = self.check_append(upload, at, request)?.remaining;
        if !is_running && !self.is_still_complete(upload).await? {
            return Ok(None);
        }
        self.read_repeated(request, remaining, upload, body).await?;
        match completing.ended().await {
            Completed::Succeeded(reply) => {
                let reply = reply.or_else(|| reply_of(upload));
                Ok(Some((upload.clone(), reply)))
            }
            Completed::Failed(error) => {
                let is_first = false;
                Err(Error::Shared { error, is_first })
            }
            Completed::Dropped => Err(ProblemKind::Locked.into()),
        }
    }

    /// The completion of an upload whose creation, with all bytes, is repeated.
    pub(super) async fn join_creation(
        &self,
        completing: &Completing,
        mut reply: HookReply,
    ) -> Result<Created, Error> {
        let (upload, offset) = (completing.upload.clone(), completing.upload.length);
        let completed = match completing.ended().await {
            Completed::Succeeded(reply) => reply,
            Completed::Failed(error) => {
                let is_first = false;
                return Err(Error::Shared { error, is_first });
            }
            Completed::Dropped => return Err(ProblemKind::Locked.into()),
        };
        merge(&mut reply, completed);
        let reached = offset.unwrap_or_default();
        Ok(Created {
            expires: self.expiry(&upload, reached, SystemTime::now()),
            upload,
            offset,
            reply,
            existed: true,
        })
    }

    async fn is_still_complete(&self, upload: &Upload) -> Result<bool, StoreError> {
        let stored = match self.composer.store().load(&upload.id).await {
            Err(error) if is_missing(&error) => return Ok(false),
            stored => stored?,
        };
        let is_same = stored.upload.created == upload.created;
        Ok(is_same && stored.is_complete() && stored.upload.length == upload.length)
    }

    /// Reads content that is stored already. Its checksum is verified, as that of any other.
    async fn read_repeated<B: RequestBody + Unpin>(
        &self,
        request: &mut AppendRequest,
        mut remaining: u64,
        upload: &Upload,
        body: &mut B,
    ) -> Result<(), Error> {
        let checksum = std::mem::replace(&mut request.head.checksum, ChecksumPlacement::None);
        let mut verifier = Verifier::new(&checksum);
        let mut trailers = None;
        loop {
            let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
            let frame = match self.config.body_timeout {
                None => frame.await,
                Some(limit) => timeout(limit, frame)
                    .await
                    .map_err(|_| ProblemKind::from(RequestBodyError::Timeout))?,
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| {
                let error: crate::BoxError = error.into();
                Error::from(ProblemKind::from(RequestBodyError::classify(&*error)))
            })?;
            match frame.into_data() {
                Ok(data) => {
                    verifier.update(&data);
                    let left = remaining.checked_sub(data.len() as u64);
                    remaining = left.ok_or_else(|| Error::beyond_length(upload.length, false))?;
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        match checksum.with_trailers(trailers.as_ref())? {
            Some(stated) if !verifier.matches(&stated) => Err(ProblemKind::ChecksumMismatch.into()),
            _ => Ok(()),
        }
    }
}
