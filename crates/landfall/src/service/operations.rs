//! The HTTP operations: from a parsed head to the engine, and back to a response.

use std::{pin::Pin, time::SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use http_body::Body;
use landfall_protocol::{
    Algorithm, Append, Concat, Create, FieldNames, Fields, Operation, Problem, ProblemKind,
    TUS_VERSION, headers, number_value, parse_size, require_version,
    rufh::{DraftRequest, InteropVersion, UPLOAD_LIMIT, UploadLimits, wanted_digests},
    text_value,
};

use tokio::time::Instant;

use super::{
    Handler, download,
    interim::InterimProgress,
    response::{self, Rejection, ResponseBuilder, ResponseContent},
    rufh,
};
use crate::{
    config::Limits,
    engine::{AppendRequest, CreateRequest, Created, Error, RequestContext},
    hook::Intent,
    request_body::RequestBody,
    upload::{Upload, UploadId, UploadKind},
};

pub(super) struct RequestHead<'a> {
    pub(super) parts: &'a Parts,
    pub(super) names: FieldNames,
    pub(super) context: RequestContext,
    /// Set when an operation begins.
    pub(super) content_length: Option<u64>,
    /// `None` for a request of tus.
    pub(super) draft: Option<DraftRequest>,
}

impl<'a> RequestHead<'a> {
    fn fields(&self) -> Fields<'a> {
        Fields::with_names(&self.parts.headers, self.names)
    }
}

impl Handler {
    /// Fills `reply` in.
    pub(super) async fn operate<B: RequestBody>(
        &self,
        head: &mut RequestHead<'_>,
        mut body: Pin<&mut B>,
        operation: Operation,
        id: Option<&Result<UploadId, Problem>>,
        reply: &mut ResponseBuilder,
    ) -> Result<(), Rejection> {
        let engine = &self.0.engine;
        let headers = &head.parts.headers;
        let is_unversioned = operation == Operation::Terminate
            && head.draft.is_none()
            && self.names_no_protocol(headers);
        match head.draft {
            Some(draft) => draft.check_fields(operation, headers)?,
            None if is_unversioned => {}
            None => require_version(operation, head.fields())?,
        }
        head.content_length = content_length(head.fields(), body.as_ref().get_ref())?;
        let id = match (operation, id) {
            (Operation::Create, _) => {
                return Ok(self.handle_create(head, &mut body, reply).await?);
            }
            (_, Some(Ok(id))) => id,
            (_, Some(Err(problem))) => return Err(problem.clone().into()),
            (_, None) => return Err(ProblemKind::NotFound.into()),
        };
        let intent = match operation {
            Operation::Inspect => Intent::Inspect,
            Operation::Append => Intent::Write,
            Operation::Terminate => Intent::Terminate,
            Operation::Download => Intent::Read,
            Operation::Options | Operation::Create => {
                return Err(ProblemKind::MethodNotAllowed.into());
            }
        };
        if engine.checks_access() {
            engine.check_access(&head.context, intent, Some(id)).await?;
        }
        if is_unversioned {
            // Boxed because it is rare: the largest branch sets the size of every request's future.
            let found = engine.inspect_soon(&head.context, id, Instant::now());
            let (found, _) = Box::pin(found).await?;
            if !found.upload.created_by_draft {
                return Err(ProblemKind::UnsupportedVersion.into());
            }
        }
        match intent {
            Intent::Write => self.handle_append(head, id, &mut body, reply).await?,
            Intent::Inspect => self.handle_inspect(head, id, reply).await?,
            Intent::Terminate => {
                let answer = engine.terminate(&head.context, id).await?;
                reply.status = StatusCode::NO_CONTENT;
                reply.apply(answer.map(|answer| *answer).unwrap_or_default());
                reply.created_by_draft = is_unversioned;
            }
            _ => *reply = download::handle(engine, &head.context, id, headers).await?,
        }
        Ok(())
    }

    /// Clients of the draft need not name it when they inspect or cancel an upload: the protocol that created
    /// the upload decides.
    pub(super) fn names_no_protocol(&self, fields: &HeaderMap) -> bool {
        !fields.contains_key(headers::TUS_RESUMABLE)
            && !self.0.engine.config.interop_versions.is_off()
    }

    pub(super) fn capabilities(
        &self,
        request: Option<DraftRequest>,
        response: &mut ResponseBuilder,
    ) {
        let inner = &*self.0;
        response.set(headers::TUS_VERSION, HeaderValue::from_static(TUS_VERSION));
        response.set(headers::TUS_EXTENSION, inner.extension_list.clone());
        if inner.extensions.checksum {
            let algorithms = HeaderValue::from_static(Algorithm::LIST);
            response.set(headers::TUS_CHECKSUM_ALGORITHM, algorithms);
        }
        if let Some(max) = &inner.max_size {
            response.set(headers::TUS_MAX_SIZE, max.clone());
        }
        let config = &inner.engine.config;
        if !config.interop_versions.is_off() {
            let mut limits = rufh::limits(&config.limits, None);
            limits.max_age = config.lifetimes.unfinished;
            let version = request.map_or(InteropVersion::NEWEST, DraftRequest::version);
            if let Ok(value) = limits.to_field(version).try_into() {
                response.set(UPLOAD_LIMIT, value);
            }
            if let Some(wanted) = wanted_digests() {
                response.set(headers::WANT_CONTENT_DIGEST, wanted.clone());
                response.set(headers::WANT_REPR_DIGEST, wanted);
            }
        }
    }

    async fn handle_create<B: RequestBody>(
        &self,
        head: &RequestHead<'_>,
        body: &mut Pin<&mut B>,
        response: &mut ResponseBuilder,
    ) -> Result<(), Error> {
        let engine = &self.0.engine;
        let mut repeated = None;
        let request = self.parse_create(head)?;
        let started = engine.create(&head.context, request, &mut repeated).await;
        let interim = InterimProgress::observer(self, head.parts, head.draft, 0);
        let (max, observer) = (
            max_content(head.draft, &engine.config.limits),
            interim.as_ref(),
        );
        let created = engine
            .complete_create(&head.context, started, repeated, max, observer, body)
            .await;
        self.respond_to_creation(head, created, response)
    }

    fn parse_create(&self, head: &RequestHead<'_>) -> Result<CreateRequest, Error> {
        let inner = &*self.0;
        let (fields, limits) = (&head.parts.headers, &inner.engine.config.limits);
        let syntax = inner.syntax;
        let create = match head.draft {
            Some(draft) => {
                let limits = rufh::limits(limits, None);
                draft.create(fields, head.content_length, &limits, syntax)?
            }
            None => Create::parse(head.fields(), inner.extensions, limits.max_size, syntax)?,
        };
        let ids = match &create.concat {
            Some(Concat::Final { urls, .. }) => urls
                .iter()
                .map(|url| inner.urls.resolve(head.parts, url))
                .collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        Ok(CreateRequest {
            head: create,
            parts: ids,
            content_length: head.content_length,
        })
    }

    fn respond_to_creation(
        &self,
        head: &RequestHead<'_>,
        created: Result<Created, Error>,
        response: &mut ResponseBuilder,
    ) -> Result<(), Error> {
        let fields = &head.parts.headers;
        let created = created?;
        response.status = StatusCode::CREATED;
        let location = self.location(head, &created.upload.id)?;
        let offset = created.offset.unwrap_or_default();
        match head.draft {
            // An ordinary request.
            Some(request) if request.is_unknown() => {}
            Some(request) => {
                let (upload, expires) = (&created.upload, created.expires);
                self.set_state(response, request, upload, offset, expires);
                rufh::set_repr_digest(response, fields, &created.upload, offset);
            }
            None => {
                response.expires(created.expires);
                if created.offset.is_some() {
                    response.lines.add_number("Upload-Offset: ", offset);
                }
            }
        }
        if let Some(reply) = created.reply {
            response.apply(*reply);
        }
        response.close_after = created.existed;
        response.lines.add("Location: ", &location);
        Ok(())
    }

    fn location(&self, head: &RequestHead<'_>, id: &UploadId) -> Result<HeaderValue, Error> {
        let location = self.0.urls.with_location(head.parts, id, text_value);
        location.ok_or_else(|| ProblemKind::Internal.into())
    }

    async fn handle_append<B: RequestBody>(
        &self,
        head: &RequestHead<'_>,
        id: &UploadId,
        body: &mut Pin<&mut B>,
        response: &mut ResponseBuilder,
    ) -> Result<(), Rejection> {
        // A reference to the engine that is used after an await would make the future of every request larger.
        let limits = &self.0.engine.config.limits;
        let parsed = match head.draft {
            Some(draft) => draft.append(
                &head.parts.headers,
                head.content_length,
                &rufh::limits(limits, None),
            ),
            None => Append::parse(head.fields(), self.0.extensions, self.0.syntax),
        };
        let mut request = match parsed.map(|append| AppendRequest {
            head: append,
            content_length: head.content_length,
            max_content: max_content(head.draft, limits),
        }) {
            Ok(request) => request,
            // Boxed because it is rare: the largest branch sets the size of every request's future.
            Err(problem) => return Err(Box::pin(self.reject_unparsed(head, id, problem)).await),
        };
        let interim = InterimProgress::observer(self, head.parts, head.draft, request.head.offset);
        let observer = interim.as_ref();
        let mut expires = None;
        let appended = self.0.engine.append(
            &head.context,
            id,
            &mut request,
            observer,
            body,
            &mut expires,
        );
        let (upload, offset, reply) = match appended.await {
            Ok(appended) => appended,
            // Boxed because it is rare, too.
            Err(error) if head.draft.is_some() => {
                return Err(Box::pin(self.reject_append(head, id, error)).await);
            }
            Err(error) => {
                return Err(Rejection {
                    expires: self.0.engine.expiry_after(id, &error, expires),
                    error,
                    offset: None,
                });
            }
        };
        response.status = StatusCode::NO_CONTENT;
        match head.draft {
            Some(request) => {
                let is_complete = self.set_state(response, request, &upload, offset, expires);
                response.status = rufh::append_status(request, is_complete);
                rufh::set_repr_digest(response, &head.parts.headers, &upload, offset);
                if is_complete {
                    response.set(header::LOCATION, self.location(head, id)?);
                }
            }
            None => {
                response.expires(expires);
                response.lines.add_number("Upload-Offset: ", offset);
            }
        }
        if let Some(reply) = reply {
            response.apply(*reply);
        }
        Ok(())
    }

    /// Errors of the upload precede errors of the request.
    async fn reject_unparsed(
        &self,
        head: &RequestHead<'_>,
        id: &UploadId,
        problem: Problem,
    ) -> Rejection {
        let inspected = self
            .0
            .engine
            .inspect_soon(&head.context, id, Instant::now());
        match inspected.await {
            Ok((found, expires)) => Rejection {
                error: match found.upload.is_final() {
                    true => ProblemKind::ModifyFinal.into(),
                    false => problem.into(),
                },
                expires,
                offset: found.shown_offset(),
            },
            Err(error) => error.into(),
        }
    }

    /// Clients of the draft learn the offset at which they can resume.
    async fn reject_append(
        &self,
        head: &RequestHead<'_>,
        id: &UploadId,
        error: Error,
    ) -> Rejection {
        let kind = error.problem().kind;
        if error.has_removed() || matches!(kind, ProblemKind::NotFound | ProblemKind::Interrupted) {
            return error.into();
        }
        let inspected = self
            .0
            .engine
            .inspect_soon(&head.context, id, Instant::now());
        match inspected.await {
            Ok((found, expires)) => Rejection {
                error,
                expires,
                offset: found.shown_offset(),
            },
            Err(_) => error.into(),
        }
    }

    /// Sets the state of an upload after a request of the draft, and returns whether it is complete.
    fn set_state(
        &self,
        response: &mut ResponseBuilder,
        request: DraftRequest,
        upload: &Upload,
        offset: u64,
        expires: Option<SystemTime>,
    ) -> bool {
        let is_complete = upload.is_complete_at(offset);
        response.set(headers::UPLOAD_OFFSET, number_value(offset));
        let (name, value) = request.complete_field(is_complete);
        response.set(name, value);
        rufh::set_limits(response, self.upload_limits(upload, expires), request);
        is_complete
    }

    pub(super) fn upload_limits(
        &self,
        upload: &Upload,
        expires: Option<SystemTime>,
    ) -> UploadLimits {
        let engine = &self.0.engine;
        let max_age = expires.map(|at| engine.time_until_expiry(at));
        UploadLimits {
            max_size: engine.max_size(upload),
            ..rufh::limits(&engine.config.limits, max_age)
        }
    }

    async fn handle_inspect(
        &self,
        head: &RequestHead<'_>,
        id: &UploadId,
        response: &mut ResponseBuilder,
    ) -> Result<(), Error> {
        let engine = &self.0.engine;
        let since = Instant::now();
        if engine.is_being_written(id) {
            // Boxed because it is rare: the largest branch sets the size of every request's future.
            Box::pin(engine.wait_for_stable_offset(id)).await;
        }
        let (found, expires) = engine.inspect_soon(&head.context, id, since).await?;
        let (upload, offset) = (&found.upload, found.shown_offset());
        let follows_draft = upload.created_by_draft && self.names_no_protocol(&head.parts.headers);
        let unnamed = follows_draft.then_some(DraftRequest::UNVERSIONED);
        if let Some(request) = head.draft.or(unnamed) {
            response.status = StatusCode::NO_CONTENT;
            response.created_by_draft = follows_draft;
            // Of a client that knows no protocol, and GET would return the file.
            if head.draft.is_none() && self.0.extensions.download && found.is_complete() {
                let length = upload.length;
                response.status = StatusCode::OK;
                response.outcome = ResponseContent::Head { length };
                download::object_headers(&found, &mut response.headers);
            }
            self.set_state(
                response,
                request,
                upload,
                offset.unwrap_or_default(),
                expires,
            );
            rufh::set_repr_digest(response, &head.parts.headers, upload, found.offset);
            if let Some(length) = upload.length {
                response.set(headers::UPLOAD_LENGTH, number_value(length));
            }
            return Ok(());
        }
        // For tus, all bytes would mean complete, but the completion has not begun.
        if upload.awaits_end && upload.length.is_some() && upload.length == offset {
            return Err(ProblemKind::CompletionPending.into());
        }
        response.outcome = ResponseContent::Head {
            length: upload.length,
        };
        if let Some(offset) = offset {
            response.lines.add_number("Upload-Offset: ", offset);
        }
        match upload.length {
            Some(length) => response.lines.add_number("Upload-Length: ", length),
            None if upload.is_final() => {}
            None => response.set(headers::UPLOAD_DEFER_LENGTH, HeaderValue::from_static("1")),
        }
        match &upload.kind {
            UploadKind::Regular => {}
            UploadKind::Partial => {
                response.set(headers::UPLOAD_CONCAT, HeaderValue::from_static("partial"));
            }
            // tusd does not store the header.
            UploadKind::Final { header, parts, .. } if header.is_empty() => {
                let urls = parts.iter();
                let urls = urls.map(|part| self.0.urls.location(head.parts, part));
                let urls: Vec<_> = urls.collect();
                let list = format!("final;{}", urls.join(" "));
                response.set(headers::UPLOAD_CONCAT, response::value(list)?);
            }
            UploadKind::Final { header, .. } => {
                response.set(headers::UPLOAD_CONCAT, response::value(header.clone())?);
            }
        }
        if let Some(value) = upload.metadata.header_value() {
            response.lines.add("Upload-Metadata: ", value);
        }
        response.expires(expires);
        if self.0.extensions.download && found.is_complete() {
            download::object_headers(&found, &mut response.headers);
            rufh::set_repr_digest(response, &head.parts.headers, upload, found.offset);
        }
        Ok(())
    }
}

/// Only clients of the draft learn the limit.
fn max_content(draft: Option<DraftRequest>, limits: &Limits) -> u64 {
    draft.and(limits.max_append_size).unwrap_or(u64::MAX)
}

fn content_length(fields: Fields<'_>, body: &impl Body) -> Result<Option<u64>, Problem> {
    let stated = fields
        .single(&header::CONTENT_LENGTH)
        .and_then(|value| value.map(parse_size).transpose())
        .map_err(|error| {
            ProblemKind::UnexpectedEof
                .with_detail(format_args!("Content-Length is invalid: {error}"))
        })?;
    Ok(stated.or_else(|| body.size_hint().exact()))
}
