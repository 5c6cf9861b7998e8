//! Error responses: the only place where errors become responses.

use std::{borrow::Cow, time::Duration};

use axum::{body::Body, response::Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use landfall::{external::HookError, upload::UploadId};
use landfall_grants::{
    api::JsonBodyError,
    auth::AuthError,
    policy::PolicyDenial,
    queue::{LimitExceeded, QueueError},
};
use landfall_s3::client::{self, ErrorKind};
use serde_json::{Value, json};

use super::route::ApiFamily;
use crate::DirectError;

/// `Retry-After` if the time is unknown.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// `Retry-After` when a limit is exceeded.
const LIMIT_RETRY_AFTER: Duration = Duration::from_secs(60);

/// An error response.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    /// The message for people.
    message: Cow<'static, str>,
    /// The invalid field of the request.
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

    /// Creates a problem with a field of the request (400).
    pub(super) fn field(field: &'static str, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: Some(field),
            ..Self::new(StatusCode::BAD_REQUEST, why)
        }
    }

    pub(super) fn nothing_here() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is nothing at this path")
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

    /// Returns the internal name of the invalid field.
    #[cfg(test)]
    pub(super) fn named_field(&self) -> Option<&'static str> {
        self.field
    }

    /// Creates the response in the format of an API family.
    pub(super) fn respond(self, family: ApiFamily) -> Response {
        let mut body = match family {
            ApiFamily::Api => json!({
                "statusCode": self.status.as_u16(),
                "error": self.status.canonical_reason().unwrap_or("Error"),
                "message": self.message,
            }),
            // Companion has only `error`, and its clients show only `message`.
            ApiFamily::S3 => json!({"message": self.message, "error": self.message}),
        };
        if let Some(field) = self.field {
            body["field"] = Value::from(field_name(field, family));
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

/// Returns the name of a field in an API family.
fn field_name(field: &'static str, family: ApiFamily) -> &'static str {
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

/// The request and upload, for the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProblemContext<'a> {
    pub(super) request_id: &'a str,
    pub(super) upload: Option<&'a UploadId>,
}

impl ProblemContext<'_> {
    /// Converts an error. Internal errors are logged with their cause, which clients do not see.
    pub(super) fn problem(self, error: DirectError) -> Problem {
        match error {
            DirectError::Invalid { field, message } => Problem::field(field, message),
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
            DirectError::LimitExceeded(refusal) => limit_exceeded(&refusal),
            DirectError::Hook(declined) => self.hook_error(*declined),
            DirectError::S3(error) => self.s3(&error),
            DirectError::Queue(error) => self.queue(&error),
            DirectError::Database(error) => {
                self.log(&error, "database error");
                unavailable("the server's database is not available right now")
            }
            DirectError::Internal(ref why) => {
                self.log(why, "internal error");
                Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal server error; see the server's log",
                )
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
        unavailable("the upload queue is not available right now")
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
        let status = match status.is_client_error() || status.is_server_error() {
            true => status,
            // The hook's response is neither an upload nor an error.
            false => StatusCode::BAD_GATEWAY,
        };
        let message = match message.is_empty() {
            true => format!("the upload was denied with {status}"),
            false => message,
        };
        let mut problem = Problem::new(status, message);
        let named = headers.iter().filter(|(name, _)| can_set_header(name));
        let named = named.map(|(name, value)| (name.clone(), value.clone()));
        problem.headers.extend(named);
        problem
    }

    fn s3(self, error: &client::Error) -> Problem {
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
                Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the storage is not available right now",
                )
                .retry_after(retry_after.unwrap_or(RETRY_AFTER))
            }
            ErrorKind::AccessDenied => {
                self.log(error, "storage denied access");
                Problem::new(StatusCode::FORBIDDEN, "the storage denies access")
            }
            _ => match error.code() {
                Some("InvalidPart" | "InvalidPartOrder" | "InvalidPartNumber") => Problem::new(
                    StatusCode::BAD_REQUEST,
                    "the storage does not have these parts in this order",
                ),
                Some("EntityTooLarge") => Problem::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the file exceeds the size limit of the storage",
                ),
                _ => {
                    self.log(error, "storage error");
                    Problem::new(
                        StatusCode::BAD_GATEWAY,
                        "storage error; see the server's log",
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
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(RETRY_AFTER)
}

/// Returns whether a hook can set a header: not those of the response itself or of CORS.
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

fn limit_exceeded(refusal: &LimitExceeded) -> Problem {
    let (message, wait) = match refusal {
        LimitExceeded::Active(limit) => (
            format!("the limit of {limit} active uploads is reached; finish or cancel one"),
            LIMIT_RETRY_AFTER,
        ),
        LimitExceeded::Rate(wait) => ("the rate limit for new uploads is exceeded".into(), *wait),
        LimitExceeded::Quota { quota, used } => (
            format!("the quota of {quota} bytes is exceeded: {used} bytes are used or reserved"),
            LIMIT_RETRY_AFTER,
        ),
    };
    Problem::new(StatusCode::TOO_MANY_REQUESTS, message).retry_after(wait)
}

impl From<JsonBodyError> for Problem {
    fn from(none: JsonBodyError) -> Self {
        Self::new(none.status(), none.to_string())
    }
}

impl From<AuthError> for Problem {
    fn from(denied: AuthError) -> Self {
        let problem = Self::new(denied.status(), denied.to_string());
        match denied {
            AuthError::Unauthenticated { challenge, .. } => problem.challenge(challenge),
            AuthError::TooManyFailures { retry_after } => problem.retry_after(retry_after),
            AuthError::Unavailable => problem.retry_after(RETRY_AFTER),
            AuthError::Forbidden(_) | AuthError::CrossSite => problem,
        }
    }
}

impl From<PolicyDenial> for Problem {
    fn from(no: PolicyDenial) -> Self {
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
