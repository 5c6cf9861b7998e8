//! Responses of the IETF draft "Resumable Uploads for HTTP".

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use landfall_protocol::{
    Extensions, Operation, Problem, ProblemKind, headers, number_value,
    rufh::{
        ACCEPT_PATCH, DraftRequest, INTEROP_VERSION, PARTIAL_UPLOAD, UPLOAD_LIMIT, UploadLimits,
        wanted_repr_digest,
    },
};
use serde_json::json;

use super::{
    Handled, ResponseBody,
    response::{Rejection, ResponseBuilder, ResponseContent},
};
use crate::{config::Limits, engine::Error, upload::Upload};

const PROBLEM_TYPES: &str = "https://iana.org/assignments/http-problem-types#";

/// `max_age`: for how long the upload can be used.
pub(super) fn limits(limits: &Limits, max_age: Option<Duration>) -> UploadLimits {
    UploadLimits {
        max_size: limits.max_size,
        max_append_size: limits.max_append_size,
        min_append_size: limits.min_append_size,
        max_age,
    }
}

pub(super) fn set_limits(
    response: &mut ResponseBuilder,
    limits: UploadLimits,
    request: DraftRequest,
) {
    if let Ok(value) = HeaderValue::try_from(limits.to_field(request.version())) {
        response.set(UPLOAD_LIMIT, value);
    }
}

/// A client that wants the digest of a complete upload gets the one that was verified.
pub(super) fn set_repr_digest(
    response: &mut ResponseBuilder,
    fields: &HeaderMap,
    upload: &Upload,
    offset: u64,
) {
    if let Some(digest) = &upload.repr_digest
        && upload.length == Some(offset)
        && upload.is_complete_at(offset)
        && let Some(value) = wanted_repr_digest(fields, digest)
    {
        response.set(headers::REPR_DIGEST, value);
    }
}

/// The status of an append (section 4.4.2).
pub(super) fn append_status(request: DraftRequest, is_complete: bool) -> StatusCode {
    match request.version().completes_at_length() == is_complete {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::CREATED,
    }
}

/// The problem of an error, which tus may name differently.
pub(super) fn problem(error: &Error) -> Problem {
    if let Error::BeyondLength { .. } = error {
        return ProblemKind::InconsistentUploadLength.with_detail(error);
    }
    match error.problem() {
        problem if problem.kind == ProblemKind::SizeExceeded => ProblemKind::MaxSizeExceeded.into(),
        problem => problem,
    }
}

/// The response to a failed request: a problem (RFC 9457), with `Upload-Complete: ?1` only if it is useless
/// to try again.
pub(super) fn reject(
    rejection: &Rejection,
    request: DraftRequest,
    handled: &Handled,
    fields: &HeaderMap,
    offered: Extensions,
    limits: UploadLimits,
) -> ResponseBuilder {
    let error = &rejection.error;
    let problem = problem(error);
    let is_creation = handled.operation == Some(Operation::Create);
    let (status, is_final) = match problem.kind {
        // The older of two requests. The newer one decides the offset (section 4.6).
        ProblemKind::Interrupted => (409, false),
        // tus-js-client, which speaks no later version, sends the file from its first byte after any other status.
        ProblemKind::Locked | ProblemKind::CompletionPending
            if handled.operation == Some(Operation::Inspect) && request.version().number() <= 6 =>
        {
            (423, false)
        }
        ProblemKind::Locked | ProblemKind::CompletionPending => (503, false),
        ProblemKind::ChecksumMismatch => (400, false),
        // True if the upload has ended: nothing of a creation is left.
        ProblemKind::InconsistentUploadLength => (400, error.has_removed()),
        ProblemKind::Rejected | ProblemKind::Stopped | ProblemKind::DigestMismatch => {
            (problem.status(), true)
        }
        ProblemKind::MaxSizeExceeded | ProblemKind::Forbidden => (problem.status(), is_creation),
        _ => (problem.status(), false),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = ResponseBuilder::new(status);
    let (_, code, message) = problem.kind.describe();
    let mut body = json!({ "title": message, "status": status.as_u16(), "code": code });
    if let Some(detail) = &problem.detail {
        body["detail"] = json!(detail);
    }
    if let Some(seconds) = problem.kind.retry_after() {
        response.set(header::RETRY_AFTER, seconds.into());
    }
    if let Some(offset) = rejection.offset {
        response.set(headers::UPLOAD_OFFSET, number_value(offset));
    }
    match (problem.kind, error) {
        (_, Error::Offset(stored)) => {
            response.set(headers::UPLOAD_OFFSET, number_value(*stored));
            body["type"] = json!(format!("{PROBLEM_TYPES}mismatching-upload-offset"));
            body["expected-offset"] = json!(stored);
            body["provided-offset"] = json!(DraftRequest::offset(fields));
        }
        (ProblemKind::InconsistentUploadLength | ProblemKind::InvalidUploadLength, _) => {
            body["type"] = json!(format!("{PROBLEM_TYPES}inconsistent-upload-length"));
        }
        (
            ProblemKind::MaxSizeExceeded
            | ProblemKind::AppendTooLarge
            | ProblemKind::AppendTooSmall,
            _,
        ) => set_limits(&mut response, limits, request),
        (ProblemKind::InvalidContentType, _) => {
            response.set(ACCEPT_PATCH, HeaderValue::from_static(PARTIAL_UPLOAD));
        }
        (ProblemKind::MethodNotAllowed, _) => {
            let allow = Operation::allow(handled.target, offered);
            response.set(header::ALLOW, HeaderValue::from_static(allow));
        }
        _ => {}
    }
    response.set(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    response.outcome = ResponseContent::Body(ResponseBody::full(body.to_string()));
    if let Some(reply) = error.hook_response() {
        response.apply(reply.clone());
    }
    if !(is_creation && request.is_unknown()) {
        let (name, value) = request.complete_field(is_final);
        response.set(name, value);
    }
    response
}

/// Names the version of the request in its response.
pub(super) fn set_version(request: DraftRequest, reply: &mut HeaderMap) {
    if let Some(version) = request.named() {
        reply.insert(INTEROP_VERSION, u16::from(version.number()).into());
    }
}
