//! Errors of calls, grouped by the possible reaction of the caller. It knows no service's codes.

use std::{error, fmt, time::Duration};

use http::StatusCode;
use landfall::BoxError;

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Returns `None` if the object does not exist.
///
/// # Errors
/// Any other error.
pub fn if_exists<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(None),
        result => result.map(Some),
    }
}

/// A call that failed, after all its attempts.
///
/// Its `Display` is one line: the operation, its target, and the service's message. It never
/// contains a secret or a signature.
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
    advice: Option<String>,
    request_id: Option<String>,
    source: Option<BoxError>,
    in_doubt: bool,
}

/// The kinds of errors that callers distinguish.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The object does not exist.
    NoSuchKey,
    /// The multipart upload does not exist: it was completed, aborted, or never created.
    NoSuchUpload,
    /// The bucket does not exist.
    NoSuchBucket,
    /// The [`Condition`](crate::Condition) of a write is not met.
    ///
    /// Also returned when another conditional write to the same key is in progress.
    PreconditionFailed,
    /// The credentials are valid but do not have this permission.
    AccessDenied,
    /// The account is closed, suspended or not signed up.
    AccountDisabled,
    /// The object is in an archive, from which it must be restored before it can be read.
    Archived,
    /// No space is left, or a quota is reached.
    StorageFull,
    /// The credentials are missing, unknown, expired or wrong.
    BadCredentials,
    /// The clock of this machine differs too much from the service's.
    ClockSkew,
    /// The bucket is in another region, which the message names if the service does.
    WrongRegion,
    /// A part other than the last is smaller than the service's minimum.
    EntityTooSmall,
    /// The object or part is larger than the service permits.
    EntityTooLarge,
    /// A part to complete is missing, has another entity tag, or is out of order.
    InvalidPart,
    /// The range is outside of the object.
    InvalidRange,
    /// The service does not support this operation.
    NotImplemented,
    /// The service was unreachable, failed, or throttled the request. Retry later.
    ///
    /// All attempts that the settings allow have been made.
    Unavailable {
        /// Delay requested by the service.
        retry_after: Option<Duration>,
    },
    /// Any other rejected request, or an invalid response.
    Other,
}

/// Returns the kind of an error with this status and no code, as far as all services agree.
pub fn kind_of_status(status: StatusCode) -> ErrorKind {
    match status.as_u16() {
        401 => ErrorKind::BadCredentials,
        403 => ErrorKind::AccessDenied,
        405 | 501 => ErrorKind::NotImplemented,
        412 => ErrorKind::PreconditionFailed,
        413 => ErrorKind::EntityTooLarge,
        416 => ErrorKind::InvalidRange,
        507 => ErrorKind::StorageFull,
        408 | 429 | 500 | 502..=599 => ErrorKind::Unavailable { retry_after: None },
        _ => ErrorKind::Other,
    }
}

impl Error {
    /// Creates an error of an operation on `target`.
    pub fn new(kind: ErrorKind, operation: &'static str, target: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Details {
                kind,
                operation,
                target: target.into(),
                status: None,
                code: None,
                message: None,
                advice: None,
                request_id: None,
                source: None,
                in_doubt: false,
            }),
        }
    }

    /// Adds the answer of the service, each text in one line unless it is empty.
    #[must_use]
    pub fn with_response(
        mut self,
        status: StatusCode,
        code: Option<String>,
        message: Option<String>,
        request_id: Option<String>,
    ) -> Self {
        let filled = |text: Option<String>| text.map(one_line).filter(|text| !text.is_empty());
        self.inner.status = Some(status);
        self.inner.code = filled(code);
        self.inner.message = filled(message);
        self.inner.request_id = filled(request_id);
        self
    }

    /// Adds a message for people.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.inner.message = Some(message.into());
        self
    }

    /// Adds what the operator can do, which follows the message.
    #[must_use]
    pub fn with_advice(mut self, advice: Option<String>) -> Self {
        self.inner.advice = advice;
        self
    }

    /// Removes what the operator can do, to print it elsewhere.
    pub fn take_advice(&mut self) -> Option<String> {
        self.inner.advice.take()
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// Records whether an attempt without a response may have taken effect.
    #[must_use]
    pub fn with_doubt(mut self, in_doubt: bool) -> Self {
        self.inner.in_doubt = in_doubt;
        self
    }

    /// Returns whether an attempt without a response may have taken effect.
    pub fn is_in_doubt(&self) -> bool {
        self.inner.in_doubt
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> &ErrorKind {
        &self.inner.kind
    }

    /// Returns the operation, such as `UploadPart`.
    pub fn operation(&self) -> &'static str {
        self.inner.operation
    }

    /// Returns the HTTP status of the last response; `None` if there was none.
    pub fn status(&self) -> Option<StatusCode> {
        self.inner.status
    }

    /// Returns the service's error code, such as `SlowDown`.
    pub fn code(&self) -> Option<&str> {
        self.inner.code.as_deref()
    }

    /// Returns the message of the service or of this client.
    pub fn message(&self) -> Option<&str> {
        self.inner.message.as_deref()
    }

    /// Returns the service's request id, which its support asks for.
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
            advice,
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
        if let Some(advice) = advice {
            let is_first = message.is_none() && source.is_none();
            write!(f, "{}{advice}", if is_first { ": " } else { "; " })?;
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

/// Returns the start of a service's message, in one line.
pub fn one_line(message: String) -> String {
    const MAX_LEN: usize = 300;
    let line: String = message.chars().take(MAX_LEN).collect();
    let mut line = line.replace(char::is_control, " ");
    if line.len() < message.len() {
        line.push('…');
    }
    line
}
