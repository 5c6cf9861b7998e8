//! Creations on behalf of clients that get nothing but the URL. Nothing is received here.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http_body_util::Empty;
use landfall_protocol::{
    ChecksumPlacement, Create, DeclaredEnd, DeclaredLength, Metadata, ProblemKind,
};

use super::{Handler, response};
use crate::{
    REQUEST_LOG,
    engine::{CreateRequest, Error, RequestContext},
    hook::{HookError, RequestInfo, UploadToken},
};

impl Handler {
    /// Creates an upload without content for a client, and returns its URL, as the client of `request` sees it.
    ///
    /// Checks, hooks and events are those of a POST: hooks and sinks get `request`, with the `token` of a grant, if
    /// any. `length` is `None` if it is not known yet.
    ///
    /// # Errors
    /// The creation is denied, or failed. Errors of the server are logged, and are those with a
    /// [cause](HookError::cause).
    ///
    /// # Cancel safety
    /// If dropped, the upload may exist or not.
    pub async fn create_upload(
        &self,
        request: &Parts,
        token: Option<UploadToken>,
        length: Option<u64>,
        metadata: Metadata,
    ) -> Result<String, HookError> {
        let created = self.create_empty(request, token, length, metadata).await;
        created.map_err(|error| {
            response::log(&error, request, None, None);
            error.into()
        })
    }

    async fn create_empty(
        &self,
        request: &Parts,
        token: Option<UploadToken>,
        length: Option<u64>,
        metadata: Metadata,
    ) -> Result<String, Error> {
        let (engine, extensions) = (&self.0.engine, self.0.extensions);
        let max_size = engine.config.limits.max_size;
        let declared = match length {
            Some(length) if max_size.is_some_and(|max| length > max) => {
                return Err(ProblemKind::MaxSizeExceeded.into());
            }
            Some(length) => DeclaredLength::Known(length),
            None if !extensions.defer_length => return Err(ProblemKind::NotImplemented.into()),
            None => DeclaredLength::Deferred,
        };
        let head = Create {
            declared,
            metadata,
            concat: None,
            with_upload: false,
            checksum: ChecksumPlacement::None,
            repr_digest: None,
            end: DeclaredEnd::AtLength,
            is_draft: false,
        };
        let creation = CreateRequest {
            head,
            parts: Vec::new(),
            content_length: Some(0),
        };
        let info = Arc::new(RequestInfo::from_parts(request, token));
        let context = RequestContext::new(Some(info), self.0.urls.client(request), None);
        let mut repeated = None;
        let started = engine.create(&context, creation, &mut repeated).await;
        let mut no_body = Empty::<Bytes>::new();
        let created = engine
            .complete_create(&context, started, repeated, 0, None, &mut no_body)
            .await?;
        if let Some(reply) = created.reply
            && reply.status.is_some_and(|status| !status.is_success())
        {
            // A hook has allowed the creation with a response from which a client takes the opposite.
            return Err(Error::Rejected(ProblemKind::Rejected, reply));
        }
        let url = self.0.urls.location(request, &created.upload.id);
        tracing::debug!(
            target: REQUEST_LOG,
            id = %created.upload.id,
            requestId = response::request_id(request),
            size = length,
            url,
            "UploadCreated"
        );
        Ok(url)
    }
}
