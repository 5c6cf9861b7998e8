//! What can go wrong in a call, sorted by what the caller can do about it.

use std::{error, fmt, time::Duration};

use http::StatusCode;
use landfall::BoxError;

/// What calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A call that failed, after all its attempts.
///
/// Its text is one line that says what was tried, on what, and what the service said. It never
/// holds a secret or a signature.
#[derive(Debug)]
pub struct Error {
    inner: Box<Details>,
}

#[derive(Debug)]
struct Details {
    kind: ErrorKind,
    operation: &'static str,
    target: String,
    status: Option<StatusCode>,
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
    source: Option<BoxError>,
}

/// The sorts of failure that callers tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such object.
    NoSuchKey,
    /// There is no such multipart upload: it never was, or was completed, or aborted.
    NoSuchUpload,
    /// There is no such bucket.
    NoSuchBucket,
    /// The [`Condition`](super::Condition) of a write doesn't hold, or another conditional write to
    /// the same key is under way.
    PreconditionFailed,
    /// The credentials are known but don't have this right.
    AccessDenied,
    /// The credentials are missing, unknown, ended or wrong.
    BadCredentials,
    /// The clock of this machine and that of the service are too far apart.
    ClockSkew,
    /// The bucket is in another region; the message names it where the service told.
    WrongRegion,
    /// A part other than the last is below the service's minimum.
    EntityTooSmall,
    /// A part that is to be completed isn't there, or has another entity tag.
    InvalidPart,
    /// The range lies outside of the object.
    InvalidRange,
    /// The service doesn't have this operation.
    NotImplemented,
    /// The service couldn't be reached, failed, or asked for less; trying later may help. All
    /// attempts that the settings allow have been made.
    Unavailable {
        /// How long the service asked to wait.
        retry_after: Option<Duration>,
    },
    /// Anything else: a request the service didn't like, or an answer that made no sense.
    Other,
}

impl Error {
    pub(super) fn new(kind: ErrorKind, operation: &'static str, target: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Details {
                kind,
                operation,
                target: target.into(),
                status: None,
                code: None,
                message: None,
                request_id: None,
                source: None,
            }),
        }
    }

    pub(super) fn with_answer(
        mut self,
        status: StatusCode,
        code: Option<String>,
        message: Option<String>,
        request_id: Option<String>,
    ) -> Self {
        self.inner.status = Some(status);
        self.inner.code = code;
        self.inner.message = message;
        self.inner.request_id = request_id;
        self
    }

    pub(super) fn with_message(mut self, message: impl Into<String>) -> Self {
        self.inner.message = Some(message.into());
        self
    }

    pub(super) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// Which sort of failure it is.
    pub fn kind(&self) -> &ErrorKind {
        &self.inner.kind
    }

    /// The S3 operation that was tried, such as `UploadPart`.
    pub fn operation(&self) -> &'static str {
        self.inner.operation
    }

    /// The HTTP status of the last answer; `None` if none came.
    pub fn status(&self) -> Option<StatusCode> {
        self.inner.status
    }

    /// The service's code, such as `SlowDown`.
    pub fn code(&self) -> Option<&str> {
        self.inner.code.as_deref()
    }

    /// What the service, or this client, says about it.
    pub fn message(&self) -> Option<&str> {
        self.inner.message.as_deref()
    }

    /// The service's name for the request, which its operators ask for.
    pub fn request_id(&self) -> Option<&str> {
        self.inner.request_id.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details {
            operation,
            target,
            status,
            code,
            message,
            request_id,
            source,
            ..
        } = &*self.inner;
        f.write_str(operation)?;
        if !target.is_empty() {
            write!(f, " {target}")?;
        }
        match (status, code) {
            (Some(status), Some(code)) => write!(f, ": {} {code}", status.as_u16())?,
            (Some(status), None) => write!(f, ": {status}")?,
            (None, _) => {}
        }
        if let Some(message) = message {
            write!(f, ": {message}")?;
        }
        if let Some(source) = source {
            write!(f, ": {source}")?;
        }
        if let Some(id) = request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}
