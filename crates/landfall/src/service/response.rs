//! Builds responses: protocol fields, errors, changes by hooks, and the treatment of an unread request body.
//!
//! Hooks cannot set `RESERVED_HEADERS`. Caches must not store a response unless `is_cacheable` is set. A builder is
//! reused by the next response of its thread: `into_response` must reset every field.

use std::{
    cell::Cell,
    future::poll_fn,
    mem,
    pin::Pin,
    task::Poll,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header,
    request::Parts,
};
use http_body::Body;
use landfall_protocol::{
    Extensions, Operation, ProblemKind, TUS_VERSION, Target, headers, number_value, rufh, with_date,
};

use super::{FieldLines, ResponseBody};
use crate::{
    engine::{Error, LoggedRequest},
    hook::ClientResponse,
    store::StoreError,
    upload::UploadId,
};

/// Headers that hooks cannot set: those of the protocol, of message framing, and of caching.
const RESERVED_HEADERS: [HeaderName; 26] = [
    headers::TUS_RESUMABLE,
    headers::TUS_VERSION,
    headers::TUS_EXTENSION,
    headers::TUS_MAX_SIZE,
    headers::TUS_CHECKSUM_ALGORITHM,
    headers::UPLOAD_OFFSET,
    headers::UPLOAD_LENGTH,
    headers::UPLOAD_DEFER_LENGTH,
    headers::UPLOAD_METADATA,
    headers::UPLOAD_EXPIRES,
    headers::UPLOAD_CHECKSUM,
    headers::UPLOAD_CONCAT,
    rufh::INTEROP_VERSION,
    rufh::UPLOAD_COMPLETE,
    rufh::UPLOAD_INCOMPLETE,
    rufh::UPLOAD_LIMIT,
    header::LOCATION,
    header::CACHE_CONTROL,
    header::X_CONTENT_TYPE_OPTIONS,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::TRANSFER_ENCODING,
    header::TRAILER,
    header::TE,
    header::UPGRADE,
    header::CONNECTION,
];

pub(super) struct Rejection {
    pub(super) error: Error,
    pub(super) expires: Option<SystemTime>,
    /// The offset of the upload, where it is known.
    pub(super) offset: Option<u64>,
}

impl<E: Into<Error>> From<E> for Rejection {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            expires: None,
            offset: None,
        }
    }
}

pub(super) enum ResponseContent {
    Empty,
    Head { length: Option<u64> },
    Body(ResponseBody),
}

pub(super) struct ResponseBuilder {
    pub(super) status: StatusCode,
    /// Fields that are set once, and that hooks cannot set.
    pub(super) lines: FieldLines,
    /// The others.
    pub(super) headers: HeaderMap,
    pub(super) outcome: ResponseContent,
    /// True if caches may store it: only a finished file is immutable.
    pub(super) is_cacheable: bool,
    pub(super) close_after: bool,
    /// True if a request of the IETF draft created the upload.
    pub(super) created_by_draft: bool,
}

impl ResponseBuilder {
    /// An empty one, in the place and with the memory of an earlier response.
    pub(super) fn reused() -> Box<Self> {
        let spare = SPARE.take();
        spare.unwrap_or_else(|| Box::new(Self::new(StatusCode::OK)))
    }

    pub(super) fn new(status: StatusCode) -> Self {
        Self {
            status,
            lines: FieldLines::default(),
            headers: HeaderMap::new(),
            outcome: ResponseContent::Empty,
            is_cacheable: false,
            close_after: false,
            created_by_draft: false,
        }
    }

    pub(super) fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.insert(name, value);
    }

    pub(super) fn expires(&mut self, at: Option<SystemTime>) {
        if let Some(at) = at {
            with_date(at, |date| self.lines.add("Upload-Expires: ", date));
        }
    }

    pub(super) fn apply(&mut self, reply: ClientResponse) {
        if let Some(status) = reply.status {
            self.status = status;
        }
        let names = reply.headers.keys();
        for name in names.filter(|name| !RESERVED_HEADERS.contains(name)) {
            self.headers.remove(name);
            for value in reply.headers.get_all(name) {
                self.headers.append(name, value.clone());
            }
        }
        if let Some(body) = reply.body {
            self.outcome = ResponseContent::Body(ResponseBody::full(body));
        }
    }

    /// Takes the memory of the request, and its lines if its server writes them.
    pub(super) fn into_response(mut self: Box<Self>, mut request: Parts) -> Response<ResponseBody> {
        let may_have_body =
            self.status != StatusCode::NO_CONTENT && self.status != StatusCode::NOT_MODIFIED;
        let (mut body, length) = match mem::replace(&mut self.outcome, ResponseContent::Empty) {
            ResponseContent::Empty => (ResponseBody::empty(), Some(0)),
            ResponseContent::Head { length } => (ResponseBody::empty(), length),
            ResponseContent::Body(body) if may_have_body => {
                let length = body.size_hint().exact();
                (body, length)
            }
            ResponseContent::Body(_) => (ResponseBody::empty(), Some(0)),
        };
        // POST may override HEAD: whether the client waits for a body depends on the method on the wire.
        if request.method == Method::HEAD {
            body = ResponseBody::empty();
        }
        if !self.is_cacheable {
            self.headers.remove(header::CACHE_CONTROL);
            self.lines.add_constant("Cache-Control: no-store\r\n");
        }
        if let Some(length) = length.filter(|_| may_have_body) {
            self.lines.set_content_length(length);
        }
        let mut response = Response::new(body);
        *response.status_mut() = mem::replace(&mut self.status, StatusCode::OK);
        request.headers.clear();
        mem::swap(
            response.headers_mut(),
            match self.headers.is_empty() {
                true => &mut request.headers,
                false => &mut self.headers,
            },
        );
        match request.extensions.get_mut::<FieldLines>() {
            Some(returned) => {
                mem::swap(returned, &mut self.lines);
                *response.extensions_mut() = request.extensions;
            }
            None => self.lines.move_to(response.headers_mut()),
        }
        // Every field is named, so that the next response has none of this one. Headers and outcome have been taken.
        let Self {
            status: _,
            lines,
            headers: _,
            outcome: _,
            is_cacheable,
            close_after,
            created_by_draft,
        } = &mut *self;
        lines.clear();
        (*is_cacheable, *close_after, *created_by_draft) = (false, false, false);
        SPARE.set(Some(self));
        response
    }
}

/// Applies a hook's response, too. The status is that of [`ProblemKind::response_status`].
pub(super) fn reject(
    rejection: &Rejection,
    operation: Option<Operation>,
    target: Target,
    offered: Extensions,
) -> ResponseBuilder {
    let error = &rejection.error;
    let problem = error.problem();
    let mut response = ResponseBuilder::new(StatusCode::INTERNAL_SERVER_ERROR);
    response.set(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response.expires(rejection.expires);
    let mut text = problem.to_string();
    match (problem.kind, error) {
        (ProblemKind::UnsupportedVersion, _) => {
            response.set(headers::TUS_VERSION, HeaderValue::from_static(TUS_VERSION));
        }
        (ProblemKind::MethodNotAllowed, _) => {
            response.set(
                header::ALLOW,
                HeaderValue::from_static(Operation::allow(target, offered)),
            );
            // Same text as tusd.
            text = "method not allowed".into();
        }
        (_, Error::Offset(offset)) => response.set(headers::UPLOAD_OFFSET, number_value(*offset)),
        _ => {}
    }
    response.outcome = ResponseContent::Body(ResponseBody::full(text));
    let chosen = error.hook_response().and_then(|reply| reply.status);
    let chosen = chosen.map(|status| status.as_u16());
    let (status, retry_after) = problem.kind.response_status(operation, chosen);
    if let Some(seconds) = retry_after {
        response.set(header::RETRY_AFTER, seconds.into());
    }
    if let Some(reply) = error.hook_response() {
        response.apply(reply.clone());
    }
    response.status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

thread_local! {
    static SPARE: Cell<Option<Box<ResponseBuilder>>> = const { Cell::new(None) };
}

pub(super) fn not_found(response: &mut ResponseBuilder) {
    response.status = StatusCode::NOT_FOUND;
    response.set(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response.outcome = ResponseContent::Body(ResponseBody::full("404 page not found\n"));
}

pub(super) fn log(
    error: &Error,
    parts: &Parts,
    id: Option<&UploadId>,
    request: Option<&LoggedRequest>,
) {
    let error = match error {
        Error::Shared {
            error,
            is_first: true,
        } => error,
        error => error,
    };
    if let Error::Store(StoreError::LeaseLost(id)) = error {
        tracing::warn!(
            id = id.as_str(),
            requestId = request_id(parts),
            method = %parts.method,
            "stale fence: the store has seen a newer lease of this upload; if this persists, the \
             fences of the locker do not grow over restarts or between nodes, or a clock was set back"
        );
        return;
    }
    if !error.is_ours() {
        return;
    }
    let mut causes = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !causes.ends_with(&cause_text) {
            causes.push_str(": ");
            causes.push_str(&cause_text);
        }
        source = cause.source();
    }
    if !tracing::dispatcher::has_been_set() {
        print_once(&causes);
    }
    tracing::error!(
        method = %parts.method,
        path = request.map_or(parts.uri.path(), LoggedRequest::path),
        requestId = request_id(parts),
        id = id.map_or("", UploadId::as_str),
        error = causes,
        "InternalServerError"
    );
}

/// Without a subscriber, the cause of a 500 would appear nowhere.
fn print_once(causes: &str) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        eprintln!(
            "landfall: a request failed: {causes}\nlandfall: further failures are not printed; install a \
             subscriber of `tracing` to log them, for example tracing_subscriber::fmt::init()"
        );
    });
}

pub(super) fn request_id(parts: &Parts) -> &str {
    let id = parts
        .headers
        .get(headers::X_REQUEST_ID)
        .and_then(|id| id.to_str().ok());
    id.map_or("", |id| &id[..id.len().min(36)])
}

const MAX_DRAIN_BYTES: u64 = 64 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

/// Drains a small rest, otherwise closes an HTTP/1.1 connection after the response. A client that
/// waits for `100 Continue` is not asked to send.
pub(super) async fn close_after<B>(parts: &Parts, mut body: Pin<&mut B>, reply: &mut HeaderMap)
where
    B: Body<Data = Bytes>,
{
    if parts.version > Version::HTTP_11 {
        return;
    }
    let expects = parts.headers.contains_key(header::EXPECT);
    let is_small = body
        .size_hint()
        .upper()
        .is_some_and(|rest| rest <= MAX_DRAIN_BYTES);
    let drain = poll_fn(|cx| {
        loop {
            match body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    let drained = !expects
        && is_small
        && tokio::time::timeout(DRAIN_TIMEOUT, drain)
            .await
            .unwrap_or(false);
    if !drained {
        reply.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

pub(super) fn value(text: String) -> Result<HeaderValue, Error> {
    HeaderValue::try_from(text).map_err(|error| Error::Hook(error.into()))
}
