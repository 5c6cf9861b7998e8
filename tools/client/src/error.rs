//! Errors, by the reaction that is possible.

use std::{io, time::Duration};

use http::StatusCode;

/// An error of a callback.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error of a transfer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server rejected the request, and would reject it again.
    #[error("the server rejected the request: {0}")]
    Rejected(Box<Rejection>),
    /// Credentials are missing, invalid or not sufficient (401, 403).
    #[error("{prefix}{0}", prefix = unauthorized(.0))]
    Unauthorized(Box<Rejection>),
    /// The upload does not exist any more (404, 410), and may not be started again.
    #[error("the upload is gone: {0}")]
    Gone(Box<Rejection>),
    /// The source changed during the upload.
    #[error("the source changed during the upload: {0}")]
    SourceChanged(String),
    /// The source cannot be read.
    #[error("failed to read the source: {0}")]
    Source(#[source] io::Error),
    /// The target of a download cannot be written.
    #[error("failed to write the target: {0}")]
    Target(#[source] io::Error),
    /// A fingerprint cannot be stored or read.
    #[error("failed to access the fingerprint store: {0}")]
    Fingerprints(#[source] io::Error),
    /// The connection failed, or the server is overloaded or restarting.
    #[error("the connection failed: {0}")]
    Connection(#[source] BoxError),
    /// The certificate of the server is not trusted or not valid. Repeating the request does not help.
    #[error("the server's certificate was rejected: {0}")]
    Certificate(String),
    /// The server cannot process the request now (5xx, 423, 429 and others).
    #[error("the server is unavailable: {0}")]
    Unavailable(Box<Rejection>),
    /// No attempt made progress.
    #[error("gave up after {attempts} attempt{} without progress: {last}", plural(*.attempts))]
    GaveUp {
        /// The number of attempts without progress.
        attempts: u32,
        /// The error of the last attempt.
        #[source]
        last: Box<Self>,
    },
    /// The server reports an offset from which the source cannot continue.
    #[error("the server has {offset} bytes, but the source continues at {available}")]
    OffsetMismatch {
        /// The offset of the server.
        offset: u64,
        /// The first offset that the source still has.
        available: u64,
    },
    /// The received bytes differ from the digest that the server sent.
    #[error("the digest of the received bytes differs from that of the server")]
    DigestMismatch,
    /// The server violates the protocol.
    #[error("the server violates the protocol: {0}")]
    Protocol(String),
    /// The server lacks something that the call requires.
    #[error("not supported by the server: {0}")]
    Unsupported(String),
    /// [`Control::cancel`](crate::Control::cancel) was called.
    #[error("cancelled")]
    Cancelled,
    /// The authentication callback failed.
    #[error("failed to authenticate: {0}")]
    Authentication(#[source] BoxError),
    /// A setting or URL is invalid.
    #[error("invalid configuration: {0}")]
    Configuration(String),
}

/// A refusal with a reason is not about credentials, as a rule.
fn unauthorized(rejection: &Rejection) -> &'static str {
    match rejection.status == StatusCode::FORBIDDEN && !rejection.message.is_empty() {
        true => "",
        false => "not authorized: ",
    }
}

fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// A response that rejects a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejection {
    /// The status.
    pub status: StatusCode,
    /// The `type` of the problem (RFC 9457), unless it is `about:blank`.
    pub problem_type: Option<String>,
    /// The error code of the server, such as `ERR_UPLOAD_NOT_FOUND`.
    pub code: Option<String>,
    /// The explanation of the server, shortened; empty without one.
    pub message: String,
    /// The time after which the request may be repeated (`Retry-After`).
    pub retry_after: Option<Duration>,
}

impl Error {
    /// Returns whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Connection(_) | Self::Unavailable(_) | Self::GaveUp { .. } | Self::Cancelled
        )
    }

    /// Returns whether the request may succeed when it is repeated.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Connection(_) | Self::Unavailable(_))
    }

    /// Creates the error of a failed read of the source.
    pub(crate) fn from_source(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::SourceChanged("it became shorter".into());
        }
        error.downcast().unwrap_or_else(Self::Source)
    }

    /// Returns the time after which the request may be repeated, if the server named one.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.rejection()?.retry_after
    }

    /// Returns the response that caused the error.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection)
            | Self::Unauthorized(rejection)
            | Self::Gone(rejection)
            | Self::Unavailable(rejection) => Some(rejection),
            Self::GaveUp { last, .. } => last.rejection(),
            _ => None,
        }
    }
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status)?;
        match self.message.as_str() {
            "" => Ok(()),
            message => write!(f, ": {message}"),
        }
    }
}
