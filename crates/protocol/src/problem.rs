//! The table of errors: status, code and message of each kind.

use std::{borrow::Cow, fmt};

macro_rules! problem_kinds {
    ($($kind:ident => $status:literal, $code:literal, $message:literal;)*) => {
        /// The kind of a [`Problem`]. Codes and messages are tusd's where tusd has one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ProblemKind {
            $(#[doc = concat!($status, " ", $code, ": ", $message)] $kind,)*
        }

        impl ProblemKind {
            /// All kinds, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Returns status code, error code and message. [`Self::response_status`] is what a client gets.
            #[must_use]
            pub const fn describe(self) -> (u16, &'static str, &'static str) {
                match self {
                    $(Self::$kind => ($status, $code, $message),)*
                }
            }
        }
    };
}

problem_kinds! {
    UnsupportedVersion => 412, "ERR_UNSUPPORTED_VERSION",
        "missing, invalid or unsupported Tus-Resumable header";
    MaxSizeExceeded => 413, "ERR_MAX_SIZE_EXCEEDED", "maximum size exceeded";
    AppendTooLarge => 413, "ERR_APPEND_TOO_LARGE", "the content of the request is too large";
    AppendTooSmall => 400, "ERR_APPEND_TOO_SMALL", "the content of the request is too small";
    InvalidContentType => 415, "ERR_INVALID_CONTENT_TYPE", "missing or invalid Content-Type header";
    ContentEncoding => 415, "ERR_UNSUPPORTED_CONTENT_ENCODING", "Content-Encoding is not supported";
    InvalidUploadLength => 400, "ERR_INVALID_UPLOAD_LENGTH",
        "missing or invalid Upload-Length header";
    InvalidOffset => 400, "ERR_INVALID_OFFSET", "missing or invalid Upload-Offset header";
    InvalidMetadata => 400, "ERR_INVALID_METADATA", "invalid Upload-Metadata header";
    InvalidMethod => 400, "ERR_INVALID_METHOD", "invalid X-HTTP-Method-Override header";
    InvalidPath => 400, "ERR_INVALID_PATH", "invalid upload URL";
    NotFound => 404, "ERR_UPLOAD_NOT_FOUND", "upload not found";
    Gone => 410, "ERR_UPLOAD_GONE", "upload has expired or was removed";
    Locked => 423, "ERR_UPLOAD_LOCKED", "file currently locked";
    CompletionPending => 423, "ERR_COMPLETION_PENDING",
        "the application has not decided on the upload yet, try again later";
    MismatchedOffset => 409, "ERR_MISMATCHED_OFFSET", "mismatched offset";
    SizeExceeded => 413, "ERR_UPLOAD_SIZE_EXCEEDED", "upload's size exceeded";
    NotImplemented => 501, "ERR_NOT_IMPLEMENTED", "feature not implemented";
    NotFinished => 400, "ERR_UPLOAD_NOT_FINISHED", "one of the partial uploads is not finished";
    InvalidConcat => 400, "ERR_INVALID_CONCAT", "invalid Upload-Concat header";
    ConcatenationUnsupported => 400, "ERR_CONCATENATION_UNSUPPORTED",
        "Upload-Concat header is not supported by server";
    ModifyFinal => 403, "ERR_MODIFY_FINAL", "modifying a final upload is not allowed";
    AmbiguousLength => 400, "ERR_AMBIGUOUS_UPLOAD_LENGTH",
        "provided both Upload-Length and Upload-Defer-Length";
    InvalidDeferLength => 400, "ERR_INVALID_UPLOAD_LENGTH_DEFER",
        "invalid Upload-Defer-Length header";
    InvalidChecksum => 400, "ERR_INVALID_CHECKSUM", "invalid Upload-Checksum header";
    UnsupportedChecksum => 400, "ERR_UNSUPPORTED_CHECKSUM_ALGORITHM",
        "unsupported checksum algorithm";
    InvalidInteropVersion => 400, "ERR_INVALID_INTEROP_VERSION",
        "invalid Upload-Draft-Interop-Version header";
    InvalidUploadComplete => 400, "ERR_INVALID_UPLOAD_COMPLETE",
        "missing or invalid Upload-Complete header";
    InconsistentUploadLength => 400, "ERR_INCONSISTENT_UPLOAD_LENGTH",
        "inconsistent upload length values";
    InvalidDigest => 400, "ERR_INVALID_DIGEST", "invalid Content-Digest or Repr-Digest header";
    DigestMismatch => 400, "ERR_DIGEST_MISMATCH", "the upload does not match its Repr-Digest";
    ChecksumMismatch => 460, "ERR_CHECKSUM_MISMATCH", "checksum mismatch";
    Stopped => 400, "ERR_UPLOAD_STOPPED", "upload has been stopped by server";
    Rejected => 400, "ERR_UPLOAD_REJECTED", "upload creation has been rejected by server";
    TerminationRejected => 400, "ERR_UPLOAD_TERMINATION_REJECTED",
        "upload termination has been rejected by server";
    Forbidden => 403, "ERR_FORBIDDEN", "access to the upload is not allowed";
    Interrupted => 423, "ERR_UPLOAD_INTERRUPTED",
        "upload has been interrupted by another request for this upload resource";
    ShuttingDown => 503, "ERR_SERVER_SHUTDOWN",
        "request has been interrupted because the server is shutting down";
    OriginNotAllowed => 403, "ERR_ORIGIN_NOT_ALLOWED", "request origin is not allowed";
    UnexpectedEof => 400, "ERR_UNEXPECTED_EOF", "server expected to receive more bytes";
    ReadTimeout => 500, "ERR_READ_TIMEOUT", "timeout while reading request body";
    ConnectionReset => 500, "ERR_CONNECTION_RESET", "TCP connection reset by peer";
    IncompleteUpload => 400, "ERR_INCOMPLETE_UPLOAD", "cannot stream non-finished upload";
    MethodNotAllowed => 405, "ERR_METHOD_NOT_ALLOWED", "method not allowed";
    AlreadyExists => 409, "ERR_UPLOAD_EXISTS", "an upload or a file with this id or name exists already";
    RangeNotSatisfiable => 416, "ERR_RANGE_NOT_SATISFIABLE", "the range lies outside the upload";
    TooManyUploads => 503, "ERR_TOO_MANY_UPLOADS",
        "too many uploads are in progress, try again later";
    StorageFull => 507, "ERR_STORAGE_FULL", "no space is left for this upload, try again later";
    StorageRefused => 403, "ERR_STORAGE_REFUSED", "the storage refuses this";
    Unavailable => 503, "ERR_STORAGE_UNAVAILABLE", "storage is unavailable, try again later";
    Damaged => 500, "ERR_UPLOAD_DAMAGED", "the stored upload is damaged";
    Internal => 500, "ERR_INTERNAL_SERVER_ERROR", "internal server error";
}

impl ProblemKind {
    /// Returns the seconds for `Retry-After`. `None` means that the same request never succeeds.
    #[must_use]
    pub const fn retry_after(self) -> Option<u64> {
        match self {
            Self::Locked
            | Self::CompletionPending
            | Self::Interrupted
            | Self::ReadTimeout
            | Self::ConnectionReset => Some(1),
            Self::ShuttingDown | Self::TooManyUploads | Self::Unavailable | Self::Internal => {
                Some(5)
            }
            Self::StorageFull | Self::StorageRefused => Some(60),
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
