//! The HTTP operations: from a parsed head to the engine, and back to a response.

use std::{pin::Pin, sync::Arc};

use http::{HeaderValue, StatusCode, header, request::Parts};
use http_body::Body;
use landfall_protocol::{
    Algorithm, Append, Concat, Create, Operation, Problem, ProblemKind, TUS_VERSION, headers,
    parse_size, require_version,
};

use super::{
    Handler, download,
    response::{self, Rejection, ResponseContent, ResponseDraft},
};
use crate::{
    engine::{AppendRequest, CreateRequest, Error, RequestContext},
    hook::{Intent, RequestInfo, UploadToken},
    request_body::RequestBody,
    upload::{UploadId, UploadKind},
};

struct RequestHead<'a> {
    parts: &'a Parts,
    context: RequestContext,
    content_length: Option<u64>,
}

impl Handler {
    pub(super) async fn operate<B: RequestBody>(
        &self,
        parts: &Parts,
        mut body: Pin<&mut B>,
        operation: Operation,
        id: Option<Result<UploadId, Problem>>,
        token: Option<UploadToken>,
    ) -> Result<ResponseDraft, Rejection> {
        require_version(operation, &parts.headers)?;
        let engine = &self.0.engine;
        let head = RequestHead {
            parts,
            context: engine
                .needs_request_info()
                .then(|| Arc::new(RequestInfo::from_parts(parts, token))),
            content_length: content_length(parts, body.as_ref().get_ref())?,
        };
        let id = match (operation, id) {
            (Operation::Create, _) => return Ok(self.handle_create(head, &mut body).await?),
            (_, Some(id)) => id?,
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
        engine
            .check_access(&head.context, intent, Some(&id))
            .await?;
        Ok(match intent {
            Intent::Write => self.handle_append(head, &id, &mut body).await?,
            Intent::Inspect => self.handle_inspect(head, &id).await?,
            Intent::Terminate => {
                let reply = engine.terminate(&head.context, &id).await?;
                let mut draft = ResponseDraft::new(StatusCode::NO_CONTENT);
                draft.apply(reply);
                draft
            }
            _ => download::handle(engine, &head.context, &id, &parts.headers).await?,
        })
    }

    pub(super) fn capabilities(&self) -> ResponseDraft {
        let mut draft = ResponseDraft::new(StatusCode::OK);
        let inner = &*self.0;
        draft.set(headers::TUS_VERSION, HeaderValue::from_static(TUS_VERSION));
        draft.set(headers::TUS_EXTENSION, inner.extension_list.clone());
        draft.set(
            headers::TUS_CHECKSUM_ALGORITHM,
            HeaderValue::from_static(Algorithm::LIST),
        );
        if let Some(max) = &inner.max_size {
            draft.set(headers::TUS_MAX_SIZE, max.clone());
        }
        draft
    }

    async fn handle_create<B: RequestBody>(
        &self,
        head: RequestHead<'_>,
        body: &mut Pin<&mut B>,
    ) -> Result<ResponseDraft, Error> {
        let inner = &*self.0;
        let engine = &inner.engine;
        let create = Create::parse(
            &head.parts.headers,
            inner.extensions,
            engine.config.limits.max_size,
            inner.metadata_syntax,
        )?;
        let ids = match &create.concat {
            Some(Concat::Final { urls, .. }) => urls
                .iter()
                .map(|url| inner.urls.resolve(head.parts, url))
                .collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        let request = CreateRequest {
            head: create,
            parts: ids,
            content_length: head.content_length,
        };
        let created = engine.create(&head.context, request, body).await?;
        let mut draft = ResponseDraft::new(StatusCode::CREATED);
        let location = inner.urls.location(head.parts, &created.upload.id);
        tracing::debug!(
            id = %created.upload.id,
            requestId = response::request_id(head.parts),
            size = created.upload.length,
            url = location,
            "UploadCreated"
        );
        draft.expires(created.expires);
        if let Some(offset) = created.offset {
            draft.set(headers::UPLOAD_OFFSET, offset.into());
        }
        draft.apply(created.reply);
        draft.close_after = created.existed;
        draft.set(header::LOCATION, response::value(&location)?);
        Ok(draft)
    }

    async fn handle_append<B: RequestBody>(
        &self,
        head: RequestHead<'_>,
        id: &UploadId,
        body: &mut Pin<&mut B>,
    ) -> Result<ResponseDraft, Rejection> {
        let engine = &self.0.engine;
        let append = match Append::parse(&head.parts.headers) {
            Ok(append) => append,
            // Errors of the upload precede errors of the request (E-4).
            Err(problem) => {
                let inspected = engine.inspect(&head.context, id).await?;
                let is_final = matches!(inspected.upload.kind, UploadKind::Final { .. });
                return Err(Rejection {
                    error: if is_final {
                        ProblemKind::ModifyFinal.into()
                    } else {
                        problem.into()
                    },
                    expires: inspected.expires,
                });
            }
        };
        let request = AppendRequest {
            head: append,
            content_length: head.content_length,
        };
        let (expires, appended) = engine.append(&head.context, id, request, body).await;
        let (offset, reply) = appended.map_err(|error| Rejection { error, expires })?;
        let mut draft = ResponseDraft::new(StatusCode::NO_CONTENT);
        draft.expires(expires);
        draft.set(headers::UPLOAD_OFFSET, offset.into());
        draft.apply(reply);
        Ok(draft)
    }

    async fn handle_inspect(
        &self,
        head: RequestHead<'_>,
        id: &UploadId,
    ) -> Result<ResponseDraft, Error> {
        let engine = &self.0.engine;
        engine.wait_for_stable_offset(id).await;
        let inspected = engine.inspect(&head.context, id).await?;
        let upload = &inspected.upload;
        let mut draft = ResponseDraft::new(StatusCode::OK);
        draft.outcome = ResponseContent::Head {
            length: upload.length,
        };
        if let Some(offset) = inspected.offset {
            draft.set(headers::UPLOAD_OFFSET, offset.into());
        }
        match upload.length {
            Some(length) => draft.set(headers::UPLOAD_LENGTH, length.into()),
            None if upload.is_final() => {}
            None => draft.set(headers::UPLOAD_DEFER_LENGTH, HeaderValue::from_static("1")),
        }
        match &upload.kind {
            UploadKind::Regular => {}
            UploadKind::Partial => {
                draft.set(headers::UPLOAD_CONCAT, HeaderValue::from_static("partial"));
            }
            // tusd does not store the header.
            UploadKind::Final { header, parts, .. } if header.is_empty() => {
                let urls = parts.iter();
                let urls = urls.map(|part| self.0.urls.location(head.parts, part));
                let urls: Vec<_> = urls.collect();
                let list = format!("final;{}", urls.join(" "));
                draft.set(headers::UPLOAD_CONCAT, response::value(&list)?);
            }
            UploadKind::Final { header, .. } => {
                draft.set(headers::UPLOAD_CONCAT, response::value(header)?);
            }
        }
        if !upload.metadata.is_empty() {
            draft.set(
                headers::UPLOAD_METADATA,
                response::value(upload.metadata.header())?,
            );
        }
        draft.expires(inspected.expires);
        if self.0.extensions.download && inspected.is_complete() {
            download::object_headers(&inspected, &mut draft.headers);
        }
        Ok(draft)
    }
}

fn content_length(parts: &Parts, body: &impl Body) -> Result<Option<u64>, Problem> {
    let stated = landfall_protocol::single_value(&parts.headers, &header::CONTENT_LENGTH)
        .and_then(|value| value.map(parse_size).transpose())
        .map_err(|error| {
            ProblemKind::UnexpectedEof
                .with_detail(format_args!("Content-Length is invalid: {error}"))
        })?;
    Ok(stated.or_else(|| body.size_hint().exact()))
}
