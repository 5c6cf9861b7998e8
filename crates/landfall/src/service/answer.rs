//! Where outcomes and errors become HTTP answers.

use std::{
    future::poll_fn,
    pin::Pin,
    task::Poll,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header, request::Parts,
};
use http_body::Body;
use landfall_protocol::{Extensions, Operation, ProblemKind, TUS_VERSION, Target, headers};

use super::ResponseBody;
use crate::{
    engine::{AppendError, Error},
    hook::ClientResponse,
    store::StoreError,
    upload::UploadId,
};

/// Headers that hooks cannot set: those of the protocol, of the message framing, and of caching.
const RESERVED_HEADERS: [HeaderName; 22] = [
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

fn is_reserved(name: &HeaderName) -> bool {
    RESERVED_HEADERS.contains(name)
}

/// What ends a request early, and what its answer says besides.
pub(super) struct Rejection {
    pub(super) error: Error,
    /// When the upload expires, if it is known and still there (T-EXP-2).
    pub(super) expires: Option<SystemTime>,
}

impl<E: Into<Error>> From<E> for Rejection {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            expires: None,
        }
    }
}

impl From<AppendError> for Rejection {
    fn from(AppendError { error, expires }: AppendError) -> Self {
        Self { error, expires }
    }
}

/// What an answer has besides its head.
pub(super) enum ResponseContent {
    Empty,
    /// An answer to HEAD: no body, but its length, if there were one.
    Head {
        length: Option<u64>,
    },
    Body(ResponseBody),
}

/// An answer in the making.
pub(super) struct ResponseDraft {
    status: StatusCode,
    headers: HeaderMap,
    pub(super) outcome: ResponseContent,
    /// Whether caches may store it: only a finished file never changes.
    pub(super) is_cacheable: bool,
    /// Whether nobody has read the request's body.
    pub(super) leaves_body: bool,
}

impl ResponseDraft {
    pub(super) fn new(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::with_capacity(12),
            outcome: ResponseContent::Empty,
            is_cacheable: false,
            leaves_body: false,
        }
    }

    pub(super) fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.insert(name, value);
    }

    pub(super) fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    pub(super) fn expires(&mut self, at: Option<SystemTime>) {
        if let Some(at) = at {
            self.set(headers::UPLOAD_EXPIRES, date(at));
        }
    }

    /// Lays what a hook wants the client to be told over this.
    pub(super) fn apply(&mut self, reply: ClientResponse) {
        if let Some(status) = reply.status {
            self.status = status;
        }
        for name in reply.headers.keys().filter(|name| !is_reserved(name)) {
            self.headers.remove(name);
            for value in reply.headers.get_all(name) {
                self.headers.append(name, value.clone());
            }
        }
        if let Some(body) = reply.body {
            self.outcome = ResponseContent::Body(ResponseBody::full(body));
        }
    }

    pub(super) fn into_response(self) -> Response<ResponseBody> {
        let may_have_body =
            self.status != StatusCode::NO_CONTENT && self.status != StatusCode::NOT_MODIFIED;
        let (body, length) = match self.outcome {
            ResponseContent::Empty => (ResponseBody::empty(), Some(0)),
            ResponseContent::Head { length } => (ResponseBody::empty(), length),
            ResponseContent::Body(body) if may_have_body => {
                let length = body.size_hint().exact();
                (body, length)
            }
            ResponseContent::Body(_) => (ResponseBody::empty(), Some(0)),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if !self.is_cacheable {
            let no_store = HeaderValue::from_static("no-store");
            response
                .headers_mut()
                .insert(header::CACHE_CONTROL, no_store);
        }
        if let Some(length) = length.filter(|_| may_have_body) {
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, length.into());
        }
        response
    }
}

/// The answer to an error: the line of the protocol's table, with what a hook said laid over it.
pub(super) fn reject(
    rejection: &Rejection,
    target: Target,
    offered: Extensions,
    wants_head: bool,
) -> Response<ResponseBody> {
    let error = &rejection.error;
    let problem = error.problem();
    let status =
        StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = ResponseDraft::new(status);
    answer.set(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if let Some(seconds) = problem.kind.retry_after() {
        answer.set(header::RETRY_AFTER, seconds.into());
    }
    answer.expires(rejection.expires);
    let mut text = problem.to_string();
    match (problem.kind, error) {
        (ProblemKind::UnsupportedVersion, _) => {
            answer.set(headers::TUS_VERSION, HeaderValue::from_static(TUS_VERSION));
        }
        (ProblemKind::MethodNotAllowed, _) => {
            answer.set(
                header::ALLOW,
                HeaderValue::from_static(Operation::allow(target, offered)),
            );
            // As tusd says it.
            text = "method not allowed".into();
        }
        (_, Error::Offset(offset)) => answer.set(headers::UPLOAD_OFFSET, (*offset).into()),
        _ => {}
    }
    answer.outcome = ResponseContent::Body(ResponseBody::full(text));
    if let Error::Refused(_, reply) = error {
        answer.apply((**reply).clone());
    }
    let mut response = answer.into_response();
    if wants_head {
        *response.body_mut() = ResponseBody::empty();
    }
    response
}

/// The answer to a request outside the base path.
pub(super) fn not_found() -> Response<ResponseBody> {
    let mut answer = ResponseDraft::new(StatusCode::NOT_FOUND);
    answer.set(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer.outcome = ResponseContent::Body(ResponseBody::full("404 page not found\n"));
    answer.into_response()
}

/// A fault of ours goes to the log with its cause; the client hears none of that.
pub(super) fn log(error: &Error, parts: &Parts, id: Option<&UploadId>) {
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
    tracing::error!(
        id = id.map_or("", UploadId::as_str),
        requestId = request_id(parts),
        method = %parts.method,
        path = parts.uri.path(),
        error = causes,
        "InternalServerError"
    );
}

/// The request's `X-Request-ID`, as far as it is fit for a log.
pub(super) fn request_id(parts: &Parts) -> &str {
    let id = parts
        .headers
        .get(headers::X_REQUEST_ID)
        .and_then(|id| id.to_str().ok());
    id.map_or("", |id| &id[..id.len().min(36)])
}

/// Small rests of a body are swallowed, so that the connection lives on.
const SMALL_REST: u64 = 64 * 1024;
/// How long that may take.
const SWALLOW_TIME: Duration = Duration::from_millis(200);

/// Deals with a body that wasn't read because nobody wants it: a small rest is swallowed,
/// anything else makes HTTP/1.1 close the connection after the answer (E-56). A client that waits for
/// `100 Continue` isn't asked to send anything (E-55).
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
        .is_some_and(|rest| rest <= SMALL_REST);
    let swallow = poll_fn(|cx| {
        loop {
            match body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    let swallowed = !expects
        && is_small
        && tokio::time::timeout(SWALLOW_TIME, swallow)
            .await
            .unwrap_or(false);
    if !swallowed {
        reply.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// A text as a header's value.
pub(super) fn value(text: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(text).map_err(|error| Error::Hook(error.into()))
}

/// A time as a header's value (IMF-fixdate, T-EXP-5).
pub(super) fn date(at: SystemTime) -> HeaderValue {
    HeaderValue::from_str(&httpdate::fmt_http_date(at))
        .unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}
