//! Error responses in the formats of the APIs: the only place where errors become responses.

use std::{borrow::Cow, time::Duration};

use axum::response::Response;
use http::{HeaderName, StatusCode, header};
use landfall::{hook::HookError, upload::UploadId};
use landfall_access::Problem;
use landfall_objects::{self as objects, ErrorKind};
use landfall_state::queue::QueueError;
use serde_json::{Value, json};

use crate::DirectError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ApiFamily {
    Api,
    S3,
}

pub(super) fn field(field: &'static str, why: impl Into<Cow<'static, str>>) -> Problem {
    Problem::field(field, why).with_status(StatusCode::BAD_REQUEST)
}

pub(super) fn nothing_here() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path")
}

pub(super) fn respond(problem: Problem, family: ApiFamily) -> Response {
    let (status, message) = (problem.status(), problem.detail());
    let mut body = match family {
        ApiFamily::Api => json!({
            "statusCode": status.as_u16(),
            "error": status.canonical_reason().unwrap_or("Error"),
            "message": message,
        }),
        // Companion has only `error`, and its clients show only `message`.
        ApiFamily::S3 => json!({"message": message, "error": message}),
    };
    if let Some((field, _)) = problem.errors().first() {
        body["field"] = Value::from(field_name(field, family));
    }
    problem.respond_with("application/json; charset=utf-8", &body)
}

fn field_name(field: &str, family: ApiFamily) -> &str {
    match (field, family) {
        ("filename" | "file_name", ApiFamily::Api) => "file_name",
        ("filename" | "file_name", ApiFamily::S3) => "filename",
        ("filesize" | "file_size" | "size", ApiFamily::Api) => "file_size",
        ("filesize" | "file_size" | "size", ApiFamily::S3) => "size",
        ("filetype" | "file_type" | "type", ApiFamily::Api) => "file_type",
        ("filetype" | "file_type" | "type", ApiFamily::S3) => "type",
        (other, _) => other,
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ProblemContext<'a> {
    pub(super) request_id: &'a str,
    pub(super) upload: Option<&'a UploadId>,
}

impl ProblemContext<'_> {
    /// Internal errors are logged with their cause, which clients do not see.
    pub(super) fn problem(self, error: DirectError) -> Problem {
        match error {
            DirectError::Invalid { field, message } => self::field(field, message),
            DirectError::NotFound => Problem::new(StatusCode::NOT_FOUND, error.to_string()),
            DirectError::NotUploaded => Problem::new(StatusCode::CONFLICT, error.to_string()),
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
            DirectError::InvalidParts(message) => Problem::new(StatusCode::BAD_REQUEST, message),
            DirectError::Policy(no) => no.into(),
            DirectError::LimitExceeded(refusal) => refusal.into(),
            DirectError::Hook(declined) => self.hook_error(*declined),
            DirectError::Storage(error) => self.storage(&error),
            DirectError::Unsupported(message) => Problem::new(StatusCode::NOT_IMPLEMENTED, message),
            DirectError::Queue(error) => self.queue(&error),
            DirectError::Database(error) => {
                self.log(&error, "database error");
                Problem::unavailable("the server's database is not available right now")
            }
            DirectError::Internal(ref why) => {
                self.log(why, "internal error");
                let why = "internal server error; see the server's log";
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, why)
            }
            DirectError::Locked => Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
                .retry_after(Duration::from_secs(1)),
        }
    }

    pub(super) fn queue(self, error: &QueueError) -> Problem {
        if let QueueError::TooLong(_) = error {
            return Problem::new(StatusCode::BAD_REQUEST, error.to_string());
        }
        self.log(error, "upload queue error");
        Problem::unavailable("the upload queue is not available right now")
    }

    fn hook_error(self, declined: HookError) -> Problem {
        let HookError {
            status,
            headers,
            message,
            cause,
            ..
        } = declined;
        if let Some(cause) = cause {
            self.log(&*cause, "hook or event sink failed");
        }
        let headers = headers.iter().filter(|(name, _)| can_set_header(name));
        headers.fold(
            Problem::denied(status, message),
            |problem, (name, value)| problem.with_header(name.clone(), value.clone()),
        )
    }

    fn storage(self, error: &objects::Error) -> Problem {
        match error.kind() {
            ErrorKind::NoSuchUpload => Problem::new(
                StatusCode::NOT_FOUND,
                "the storage does not have this multipart upload",
            ),
            ErrorKind::NoSuchKey => {
                Problem::new(StatusCode::NOT_FOUND, "the storage does not have this file")
            }
            ErrorKind::EntityTooSmall => Problem::new(
                StatusCode::BAD_REQUEST,
                "a part other than the last is too small; most services require at least 5 MiB",
            ),
            ErrorKind::Unavailable { retry_after } => {
                self.log(error, "storage is unavailable");
                let problem = Problem::unavailable("the storage is not available right now");
                match retry_after {
                    Some(wait) => problem.retry_after(*wait),
                    None => problem,
                }
            }
            ErrorKind::AccessDenied => {
                self.log(error, "storage denied access");
                Problem::new(StatusCode::FORBIDDEN, "the storage denies access")
            }
            ErrorKind::AccountDisabled => {
                self.log(error, "storage account is closed or suspended");
                let why = "the server's storage account is closed or suspended";
                Problem::new(StatusCode::FORBIDDEN, why)
            }
            ErrorKind::Archived => {
                let why = "the file is archived and must be restored in the storage first";
                Problem::new(StatusCode::FORBIDDEN, why)
            }
            ErrorKind::StorageFull => {
                self.log(error, "storage is full");
                let why = "no space is left in the storage, or a quota is reached";
                let problem = Problem::new(StatusCode::INSUFFICIENT_STORAGE, why);
                problem.retry_after(Duration::from_secs(60))
            }
            ErrorKind::InvalidPart => Problem::new(
                StatusCode::BAD_REQUEST,
                "the storage does not have these parts in this order",
            ),
            ErrorKind::EntityTooLarge => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the file exceeds the size limit of the storage",
            ),
            _ => {
                self.log(error, "storage error");
                let why = "storage error; see the server's log";
                Problem::new(StatusCode::BAD_GATEWAY, why)
            }
        }
    }

    fn log(self, error: &dyn std::fmt::Display, what: &'static str) {
        let upload = self.upload.map(UploadId::as_str);
        tracing::error!(%error, upload, requestId = self.request_id, "{what}");
    }
}

/// False for headers of the response itself and of CORS.
pub(super) fn can_set_header(name: &HeaderName) -> bool {
    const RESERVED_HEADERS: [HeaderName; 6] = [
        header::CONTENT_TYPE,
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::CACHE_CONTROL,
    ];
    !RESERVED_HEADERS.contains(name) && !name.as_str().starts_with("access-control-")
}
