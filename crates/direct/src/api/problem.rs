//! Refusals: the one place where errors become answers.

use std::{borrow::Cow, time::Duration};

use axum::{body::Body, response::Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use landfall::{direct::HookError, upload::UploadId};
use landfall_grants::{
    api::NoBody,
    caller::Denied,
    policy::No,
    queue::{QueueError, Refusal},
};
use landfall_s3::client::{self, ErrorKind};
use serde_json::{Value, json};

use super::route::Area;
use crate::DirectError;

/// When to come again if nothing better is known.
const LATER: Duration = Duration::from_secs(5);
/// When to come again while too much is under way: nobody knows when some of it ends.
const BUSY: Duration = Duration::from_secs(60);

/// Why a request isn't answered as its sender would like.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    /// For people.
    message: Cow<'static, str>,
    /// What of the request is wrong, if it is one thing.
    field: Option<&'static str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            message: message.into(),
            field: None,
            headers: Vec::new(),
        }
    }

    /// Something of the request makes no sense (400).
    pub(super) fn field(field: &'static str, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: Some(field),
            ..Self::new(StatusCode::BAD_REQUEST, why)
        }
    }

    pub(super) fn nothing_here() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is nothing here")
    }

    pub(super) fn allow(mut self, methods: &'static str) -> Self {
        let methods = HeaderValue::from_static(methods);
        self.headers.push((header::ALLOW, methods));
        self
    }

    pub(super) fn challenge(mut self, challenge: HeaderValue) -> Self {
        self.headers.push((header::WWW_AUTHENTICATE, challenge));
        self
    }

    pub(super) fn retry_after(mut self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.headers
            .push((header::RETRY_AFTER, seconds.max(1).into()));
        self
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// What of the request is wrong, as it is called in here.
    #[cfg(test)]
    pub(super) fn named_field(&self) -> Option<&'static str> {
        self.field
    }

    /// The answer, in the words of an area.
    pub(super) fn respond(self, area: Area) -> Response {
        let mut body = match area {
            Area::Api => json!({
                "statusCode": self.status.as_u16(),
                "error": self.status.canonical_reason().unwrap_or("Error"),
                "message": self.message,
            }),
            // Companion has only the second, and its clients show only the first.
            Area::S3 => json!({"message": self.message, "error": self.message}),
        };
        if let Some(field) = self.field {
            body["field"] = Value::from(spelled(field, area));
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.extend(self.headers);
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, json);
        response
    }
}

/// A field, as it is called in an area.
fn spelled(field: &'static str, area: Area) -> &'static str {
    match (field, area) {
        ("filename" | "file_name", Area::Api) => "file_name",
        ("filename" | "file_name", Area::S3) => "filename",
        ("filesize" | "file_size" | "size", Area::Api) => "file_size",
        ("filesize" | "file_size" | "size", Area::S3) => "size",
        ("filetype" | "file_type" | "type", Area::Api) => "file_type",
        ("filetype" | "file_type" | "type", Area::S3) => "type",
        (other, _) => other,
    }
}

/// Which request it was, for the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) request_id: &'a str,
    pub(super) upload: Option<&'a UploadId>,
}

impl About<'_> {
    /// What an error becomes. Faults of ours are logged with their cause, which isn't the client's
    /// business.
    pub(super) fn problem(self, error: DirectError) -> Problem {
        match error {
            DirectError::Bad { field, message } => Problem::field(field, message),
            DirectError::NotFound => Problem::new(StatusCode::NOT_FOUND, error.to_string()),
            DirectError::NotYet => Problem::new(StatusCode::CONFLICT, error.to_string()),
            DirectError::Conflict { gone, message } => {
                let status = match gone {
                    true => StatusCode::GONE,
                    false => StatusCode::CONFLICT,
                };
                Problem::new(status, message)
            }
            DirectError::TooLarge { .. } => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())
            }
            DirectError::Parts(message) => Problem::new(StatusCode::BAD_REQUEST, message),
            DirectError::Policy(no) => no.into(),
            DirectError::Refused(refusal) => refused(&refusal),
            DirectError::Declined(declined) => self.declined(*declined),
            DirectError::S3(error) => self.s3(&error),
            DirectError::Queue(error) => self.queue(&error),
            DirectError::Database(error) => {
                self.log(&error, "the books failed");
                unavailable("the server's database is not available right now")
            }
            DirectError::Fault(ref why) => {
                self.log(why, "something that can't be is so");
                Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the server failed; its log says why",
                )
            }
            DirectError::Busy => Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
                .retry_after(Duration::from_secs(1)),
        }
    }

    pub(super) fn queue(self, error: &QueueError) -> Problem {
        if let QueueError::TooLong(_) = error {
            return Problem::new(StatusCode::BAD_REQUEST, error.to_string());
        }
        self.log(error, "the queue failed");
        unavailable("the upload queue is not available right now")
    }

    fn declined(self, declined: HookError) -> Problem {
        let HookError {
            status,
            headers,
            message,
            cause,
            ..
        } = declined;
        if let Some(cause) = cause {
            self.log(&*cause, "somebody who has to be asked or told can't be");
        }
        let status = match status.is_client_error() || status.is_server_error() {
            true => status,
            // A hook answers in a way that leaves no upload and is no error either.
            false => StatusCode::BAD_GATEWAY,
        };
        let message = match message.is_empty() {
            true => format!("the upload was refused with {status}"),
            false => message,
        };
        let mut problem = Problem::new(status, message);
        let named = headers.iter().filter(|(name, _)| may_be_set(name));
        let named = named.map(|(name, value)| (name.clone(), value.clone()));
        problem.headers.extend(named);
        problem
    }

    fn s3(self, error: &client::Error) -> Problem {
        match error.kind() {
            ErrorKind::NoSuchUpload => Problem::new(
                StatusCode::NOT_FOUND,
                "the storage has no such multipart upload, or has it no more",
            ),
            ErrorKind::NoSuchKey => {
                Problem::new(StatusCode::NOT_FOUND, "the storage has no such file")
            }
            ErrorKind::EntityTooSmall => Problem::new(
                StatusCode::BAD_REQUEST,
                "a part other than the last is too small; most services want 5 MiB at least",
            ),
            ErrorKind::Unavailable { retry_after } => {
                self.log(error, "the storage is not available");
                Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the storage is not available right now",
                )
                .retry_after(retry_after.unwrap_or(LATER))
            }
            ErrorKind::AccessDenied => {
                self.log(error, "the storage refused");
                Problem::new(StatusCode::FORBIDDEN, "the storage doesn't allow this")
            }
            _ => match error.code() {
                Some("InvalidPart" | "InvalidPartOrder" | "InvalidPartNumber") => Problem::new(
                    StatusCode::BAD_REQUEST,
                    "the storage has no such parts, or not in this order",
                ),
                Some("EntityTooLarge") => Problem::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the storage takes no files as large as this",
                ),
                _ => {
                    self.log(error, "the storage failed");
                    Problem::new(
                        StatusCode::BAD_GATEWAY,
                        "the storage failed; the server's log says why",
                    )
                }
            },
        }
    }

    fn log(self, error: &dyn std::fmt::Display, what: &'static str) {
        let upload = self.upload.map(UploadId::as_str);
        tracing::error!(%error, upload, requestId = self.request_id, "{what}");
    }
}

fn unavailable(message: &'static str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(LATER)
}

/// Whether a hook may set this header: not what the answer itself says, nor whose page may read it.
pub(super) fn may_be_set(name: &HeaderName) -> bool {
    const OURS: [HeaderName; 6] = [
        header::CONTENT_TYPE,
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::CACHE_CONTROL,
    ];
    !OURS.contains(name) && !name.as_str().starts_with("access-control-")
}

fn refused(refusal: &Refusal) -> Problem {
    let (message, wait) = match refusal {
        Refusal::Active(most) => (
            format!("{most} uploads are under way, which is the most; finish or cancel one"),
            BUSY,
        ),
        Refusal::Rate(wait) => ("too many uploads were asked for".into(), *wait),
        Refusal::Quota { quota, used } => (
            format!("{used} of {quota} bytes are used or reserved, and the rest is too little"),
            BUSY,
        ),
    };
    Problem::new(StatusCode::TOO_MANY_REQUESTS, message).retry_after(wait)
}

impl From<NoBody> for Problem {
    fn from(none: NoBody) -> Self {
        Self::new(none.status(), none.to_string())
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let problem = Self::new(denied.status(), denied.to_string());
        match denied {
            Denied::Unknown { challenge, .. } => problem.challenge(challenge),
            Denied::TooMany { retry_after } => problem.retry_after(retry_after),
            Denied::Unavailable => problem.retry_after(LATER),
            Denied::Forbidden(_) | Denied::CrossSite => problem,
        }
    }
}

impl From<No> for Problem {
    fn from(no: No) -> Self {
        let problem = Self {
            field: no.field,
            ..Self::new(no.status, no.message)
        };
        match no.retry_after {
            Some(wait) => problem.retry_after(wait),
            None => problem,
        }
    }
}
