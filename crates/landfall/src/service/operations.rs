//! One function for each operation: from what the head says to what the engine does, and back to an
//! answer.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header, request::Parts};
use http_body::Body;
use landfall_protocol::{
    Algorithm, Append, Concat, Create, Operation, Problem, ProblemKind, TUS_VERSION, headers,
    parse_size, require_version,
};

use super::{
    Handler, Peer,
    answer::{self, Rejection, ResponseContent, ResponseDraft},
    download,
    urls::RequestOrigin,
};
use crate::{
    BoxError,
    engine::{AppendRequest, CreateRequest, Error, RequestContext},
    hook::{Intent, RequestInfo, UploadToken},
    upload::{UploadId, UploadKind},
};

/// What every operation needs to know of its request.
struct RequestHead<'a> {
    parts: &'a Parts,
    caller: RequestContext,
    content_length: Option<u64>,
}

impl RequestHead<'_> {
    fn place(&self) -> RequestOrigin<'_> {
        RequestOrigin::from_parts(self.parts)
    }
}

impl Handler {
    pub(super) async fn operate<B>(
        &self,
        parts: &Parts,
        mut body: Pin<&mut B>,
        operation: Operation,
        id: Option<Result<UploadId, Problem>>,
        token: Option<UploadToken>,
    ) -> Result<ResponseDraft, Rejection>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        require_version(operation, &parts.headers)?;
        let engine = &self.0.engine;
        let peer = parts.extensions.get().copied();
        let head = RequestHead {
            parts,
            caller: engine.wants_requests().then(|| {
                let mut info = request_info(parts, peer, token);
                info.uri = self.0.place.original(info.uri);
                Arc::new(info)
            }),
            content_length: content_length(parts, body.as_ref().get_ref())?,
        };
        let id = match (operation, id) {
            (Operation::Create, _) => return Ok(self.handle_create(head, &mut body).await?),
            (_, Some(id)) => id?,
            (_, None) => return Err(ProblemKind::NotFound.into()),
        };
        Ok(match operation {
            Operation::Inspect => self.handle_inspect(head, &id).await?,
            Operation::Append => self.handle_append(head, &id, &mut body).await?,
            Operation::Terminate => self.handle_terminate(head, &id).await?,
            Operation::Download => self.handle_download(head, &id).await?,
            Operation::Options | Operation::Create => {
                return Err(ProblemKind::MethodNotAllowed.into());
            }
        })
    }

    pub(super) fn capabilities(&self) -> ResponseDraft {
        let mut answer = ResponseDraft::new(StatusCode::OK);
        let inner = &*self.0;
        answer.set(headers::TUS_VERSION, HeaderValue::from_static(TUS_VERSION));
        answer.set(headers::TUS_EXTENSION, inner.extension_list.clone());
        answer.set(
            headers::TUS_CHECKSUM_ALGORITHM,
            HeaderValue::from_static(Algorithm::LIST),
        );
        if let Some(max) = &inner.max_size {
            answer.set(headers::TUS_MAX_SIZE, max.clone());
        }
        answer
    }

    async fn handle_create<B>(
        &self,
        head: RequestHead<'_>,
        body: &mut Pin<&mut B>,
    ) -> Result<ResponseDraft, Error>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        let inner = &*self.0;
        let engine = &inner.engine;
        let create = Create::parse_with(
            &head.parts.headers,
            inner.extensions,
            engine.limits.max_size,
            inner.metadata_syntax,
        )?;
        let ids = match &create.concat {
            Some(Concat::Final { urls, .. }) => urls
                .iter()
                .map(|url| inner.place.resolve(&head.place(), url))
                .collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        let request = CreateRequest {
            head: create,
            parts: ids,
            content_length: head.content_length,
        };
        let created = engine.create(&head.caller, request, body).await?;
        let mut answer = ResponseDraft::new(StatusCode::CREATED);
        let location = inner.place.location(&head.place(), &created.upload.id);
        tracing::debug!(
            id = %created.upload.id,
            requestId = answer::request_id(head.parts),
            size = created.upload.length,
            url = location,
            "UploadCreated"
        );
        answer.expires(created.expires);
        if let Some(offset) = created.offset {
            answer.set(headers::UPLOAD_OFFSET, offset.into());
        }
        answer.apply(created.reply);
        answer.leaves_body = created.existed;
        answer.set(header::LOCATION, answer::value(&location)?);
        Ok(answer)
    }

    async fn handle_append<B>(
        &self,
        head: RequestHead<'_>,
        id: &UploadId,
        body: &mut Pin<&mut B>,
    ) -> Result<ResponseDraft, Rejection>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        let engine = &self.0.engine;
        engine
            .check_access(&head.caller, Intent::Write, Some(id))
            .await?;
        let append = match Append::parse(&head.parts.headers) {
            Ok(append) => append,
            // What is wrong with the upload comes before what is wrong with the request (E-4).
            Err(problem) => {
                let inspected = engine.inspect(&head.caller, id).await?;
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
        let appended = engine.append(&head.caller, id, request, body).await?;
        let mut answer = ResponseDraft::new(StatusCode::NO_CONTENT);
        answer.expires(appended.expires);
        answer.set(headers::UPLOAD_OFFSET, appended.offset.into());
        answer.apply(appended.reply);
        Ok(answer)
    }

    async fn handle_inspect(
        &self,
        head: RequestHead<'_>,
        id: &UploadId,
    ) -> Result<ResponseDraft, Error> {
        let engine = &self.0.engine;
        engine
            .check_access(&head.caller, Intent::Inspect, Some(id))
            .await?;
        engine.settle_writer(id).await;
        let inspected = engine.inspect(&head.caller, id).await?;
        let upload = &inspected.upload;
        let mut answer = ResponseDraft::new(StatusCode::OK);
        answer.outcome = ResponseContent::Head {
            length: upload.length,
        };
        if let Some(offset) = inspected.offset {
            answer.set(headers::UPLOAD_OFFSET, offset.into());
        }
        match upload.length {
            Some(length) => answer.set(headers::UPLOAD_LENGTH, length.into()),
            None if upload.is_final() => {}
            None => answer.set(headers::UPLOAD_DEFER_LENGTH, HeaderValue::from_static("1")),
        }
        match &upload.kind {
            UploadKind::Regular => {}
            UploadKind::Partial => {
                answer.set(headers::UPLOAD_CONCAT, HeaderValue::from_static("partial"));
            }
            // One that tusd made: it doesn't keep the header.
            UploadKind::Final { header, parts, .. } if header.is_empty() => {
                let place = head.place();
                let urls = parts.iter().map(|part| self.0.place.location(&place, part));
                let urls: Vec<_> = urls.collect();
                let list = format!("final;{}", urls.join(" "));
                answer.set(headers::UPLOAD_CONCAT, answer::value(&list)?);
            }
            UploadKind::Final { header, .. } => {
                answer.set(headers::UPLOAD_CONCAT, answer::value(header)?);
            }
        }
        if !upload.metadata.is_empty() {
            answer.set(
                headers::UPLOAD_METADATA,
                answer::value(upload.metadata.header())?,
            );
        }
        answer.expires(inspected.expires);
        if self.0.extensions.download && inspected.is_complete() {
            download::object_headers(&inspected, answer.headers_mut());
        }
        Ok(answer)
    }

    async fn handle_terminate(
        &self,
        head: RequestHead<'_>,
        id: &UploadId,
    ) -> Result<ResponseDraft, Error> {
        let engine = &self.0.engine;
        engine
            .check_access(&head.caller, Intent::Terminate, Some(id))
            .await?;
        let reply = engine.terminate(&head.caller, id).await?;
        let mut answer = ResponseDraft::new(StatusCode::NO_CONTENT);
        answer.apply(reply);
        Ok(answer)
    }

    async fn handle_download(
        &self,
        head: RequestHead<'_>,
        id: &UploadId,
    ) -> Result<ResponseDraft, Error> {
        let engine = &self.0.engine;
        engine
            .check_access(&head.caller, Intent::Read, Some(id))
            .await?;
        download::answer(engine, &head.caller, id, &head.parts.headers).await
    }
}

pub(crate) fn request_info(
    parts: &Parts,
    peer: Option<Peer>,
    token: Option<UploadToken>,
) -> RequestInfo {
    RequestInfo {
        method: parts.method.clone(),
        uri: parts.uri.clone(),
        remote: peer.as_ref().map_or_else(String::new, Peer::text),
        headers: parts.headers.clone(),
        extensions: parts.extensions.clone(),
        token,
    }
}

/// The body's length as its head states it; without one, what the body itself knows.
fn content_length(parts: &Parts, body: &impl Body) -> Result<Option<u64>, Problem> {
    let stated = landfall_protocol::single_value(&parts.headers, &header::CONTENT_LENGTH)
        .and_then(|value| value.map(parse_size).transpose())
        .map_err(|error| {
            ProblemKind::UnexpectedEof
                .with_detail(format_args!("Content-Length is invalid: {error}"))
        })?;
    Ok(stated.or_else(|| body.size_hint().exact()))
}
