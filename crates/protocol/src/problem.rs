//! The table of errors: status, code and message of each kind.

use std::{borrow::Cow, fmt};

/// The kind of a [`Problem`]. Codes and messages are tusd's where tusd has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "documented by the table below")]
pub enum ProblemKind {
    UnsupportedVersion,
    MaxSizeExceeded,
    InvalidContentType,
    ContentEncoding,
    InvalidUploadLength,
    InvalidOffset,
    InvalidMetadata,
    InvalidMethod,
    InvalidPath,
    NotFound,
    Gone,
    Locked,
    MismatchedOffset,
    SizeExceeded,
    NotImplemented,
    NotFinished,
    InvalidConcat,
    ConcatenationUnsupported,
    ModifyFinal,
    AmbiguousLength,
    InvalidDeferLength,
    InvalidChecksum,
    UnsupportedChecksum,
    ChecksumMismatch,
    Stopped,
    Rejected,
    TerminationRejected,
    Forbidden,
    Interrupted,
    ShuttingDown,
    OriginNotAllowed,
    UnexpectedEof,
    ReadTimeout,
    ConnectionReset,
    IncompleteUpload,
    MethodNotAllowed,
    AlreadyExists,
    RangeNotSatisfiable,
    TooManyUploads,
    StorageFull,
    Unavailable,
    Internal,
}

impl ProblemKind {
    /// Returns status code, error code and message.
    #[must_use]
    pub const fn describe(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::UnsupportedVersion => (
                412,
                "ERR_UNSUPPORTED_VERSION",
                "missing, invalid or unsupported Tus-Resumable header",
            ),
            Self::MaxSizeExceeded => (413, "ERR_MAX_SIZE_EXCEEDED", "maximum size exceeded"),
            Self::InvalidContentType => (
                415,
                "ERR_INVALID_CONTENT_TYPE",
                "missing or invalid Content-Type header",
            ),
            Self::ContentEncoding => (
                415,
                "ERR_UNSUPPORTED_CONTENT_ENCODING",
                "Content-Encoding is not supported",
            ),
            Self::InvalidUploadLength => (
                400,
                "ERR_INVALID_UPLOAD_LENGTH",
                "missing or invalid Upload-Length header",
            ),
            Self::InvalidOffset => (
                400,
                "ERR_INVALID_OFFSET",
                "missing or invalid Upload-Offset header",
            ),
            Self::InvalidMetadata => (
                400,
                "ERR_INVALID_METADATA",
                "invalid Upload-Metadata header",
            ),
            Self::InvalidMethod => (
                400,
                "ERR_INVALID_METHOD",
                "invalid X-HTTP-Method-Override header",
            ),
            Self::InvalidPath => (400, "ERR_INVALID_PATH", "invalid upload URL"),
            Self::NotFound => (404, "ERR_UPLOAD_NOT_FOUND", "upload not found"),
            Self::Gone => (410, "ERR_UPLOAD_GONE", "upload has expired or was removed"),
            Self::Locked => (423, "ERR_UPLOAD_LOCKED", "file currently locked"),
            Self::MismatchedOffset => (409, "ERR_MISMATCHED_OFFSET", "mismatched offset"),
            Self::SizeExceeded => (413, "ERR_UPLOAD_SIZE_EXCEEDED", "upload's size exceeded"),
            Self::NotImplemented => (501, "ERR_NOT_IMPLEMENTED", "feature not implemented"),
            Self::NotFinished => (
                400,
                "ERR_UPLOAD_NOT_FINISHED",
                "one of the partial uploads is not finished",
            ),
            Self::InvalidConcat => (400, "ERR_INVALID_CONCAT", "invalid Upload-Concat header"),
            Self::ConcatenationUnsupported => (
                400,
                "ERR_CONCATENATION_UNSUPPORTED",
                "Upload-Concat header is not supported by server",
            ),
            Self::ModifyFinal => (
                403,
                "ERR_MODIFY_FINAL",
                "modifying a final upload is not allowed",
            ),
            Self::AmbiguousLength => (
                400,
                "ERR_AMBIGUOUS_UPLOAD_LENGTH",
                "provided both Upload-Length and Upload-Defer-Length",
            ),
            Self::InvalidDeferLength => (
                400,
                "ERR_INVALID_UPLOAD_LENGTH_DEFER",
                "invalid Upload-Defer-Length header",
            ),
            Self::InvalidChecksum => (
                400,
                "ERR_INVALID_CHECKSUM",
                "invalid Upload-Checksum header",
            ),
            Self::UnsupportedChecksum => (
                400,
                "ERR_UNSUPPORTED_CHECKSUM_ALGORITHM",
                "unsupported checksum algorithm",
            ),
            Self::ChecksumMismatch => (460, "ERR_CHECKSUM_MISMATCH", "checksum mismatch"),
            Self::Stopped => (
                400,
                "ERR_UPLOAD_STOPPED",
                "upload has been stopped by server",
            ),
            Self::Rejected => (
                400,
                "ERR_UPLOAD_REJECTED",
                "upload creation has been rejected by server",
            ),
            Self::TerminationRejected => (
                400,
                "ERR_UPLOAD_TERMINATION_REJECTED",
                "upload termination has been rejected by server",
            ),
            Self::Forbidden => (403, "ERR_FORBIDDEN", "access to the upload is not allowed"),
            Self::Interrupted => (
                423,
                "ERR_UPLOAD_INTERRUPTED",
                "upload has been interrupted by another request for this upload resource",
            ),
            Self::ShuttingDown => (
                503,
                "ERR_SERVER_SHUTDOWN",
                "request has been interrupted because the server is shutting down",
            ),
            Self::OriginNotAllowed => (
                403,
                "ERR_ORIGIN_NOT_ALLOWED",
                "request origin is not allowed",
            ),
            Self::UnexpectedEof => (
                400,
                "ERR_UNEXPECTED_EOF",
                "server expected to receive more bytes",
            ),
            Self::ReadTimeout => (
                500,
                "ERR_READ_TIMEOUT",
                "timeout while reading request body",
            ),
            Self::ConnectionReset => (500, "ERR_CONNECTION_RESET", "TCP connection reset by peer"),
            Self::IncompleteUpload => (
                400,
                "ERR_INCOMPLETE_UPLOAD",
                "cannot stream non-finished upload",
            ),
            Self::MethodNotAllowed => (405, "ERR_METHOD_NOT_ALLOWED", "method not allowed"),
            Self::AlreadyExists => (
                409,
                "ERR_UPLOAD_EXISTS",
                "an upload with this id exists already",
            ),
            Self::RangeNotSatisfiable => (
                416,
                "ERR_RANGE_NOT_SATISFIABLE",
                "the range lies outside the upload",
            ),
            Self::TooManyUploads => (
                503,
                "ERR_TOO_MANY_UPLOADS",
                "too many uploads are in progress, try again later",
            ),
            Self::StorageFull => (
                507,
                "ERR_STORAGE_FULL",
                "no space is left for this upload, try again later",
            ),
            Self::Unavailable => (
                503,
                "ERR_STORAGE_UNAVAILABLE",
                "storage is unavailable, try again later",
            ),
            Self::Internal => (500, "ERR_INTERNAL_SERVER_ERROR", "internal server error"),
        }
    }

    /// Returns the seconds for `Retry-After`, where a retry makes sense.
    #[must_use]
    pub const fn retry_after(self) -> Option<u64> {
        match self {
            Self::Locked | Self::Interrupted => Some(1),
            Self::ShuttingDown | Self::TooManyUploads | Self::Unavailable => Some(5),
            Self::StorageFull => Some(60),
            _ => None,
        }
    }

    /// Returns a problem of this kind with a specific explanation.
    #[must_use]
    pub fn with_detail(self, detail: impl fmt::Display) -> Problem {
        Problem {
            kind: self,
            detail: Some(Cow::Owned(detail.to_string())),
        }
    }
}

/// An error of a request, with a detail for the client where the message is not enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The kind of error.
    pub kind: ProblemKind,
    /// The specific cause; safe to show to the client.
    pub detail: Option<Cow<'static, str>>,
}

impl From<ProblemKind> for Problem {
    fn from(kind: ProblemKind) -> Self {
        Self { kind, detail: None }
    }
}

impl Problem {
    /// Returns the status code.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.kind.describe().0
    }

    /// Returns the error code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.kind.describe().1
    }
}

/// Writes the body of an error response: `CODE: message`, the detail if there is one, a newline.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, code, message) = self.kind.describe();
        match &self.detail {
            Some(detail) => writeln!(f, "{code}: {message}: {detail}"),
            None => writeln!(f, "{code}: {message}"),
        }
    }
}

impl std::error::Error for Problem {}
