//! Names of header fields.

use http::HeaderName;

/// `Tus-Resumable`.
pub const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
/// `Tus-Version`.
pub const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
/// `Tus-Extension`.
pub const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
/// `Tus-Max-Size`.
pub const TUS_MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
/// `Tus-Checksum-Algorithm`.
pub const TUS_CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("tus-checksum-algorithm");
/// `Upload-Offset`.
pub const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// `Upload-Length`.
pub const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
/// `Upload-Defer-Length`.
pub const UPLOAD_DEFER_LENGTH: HeaderName = HeaderName::from_static("upload-defer-length");
/// `Upload-Metadata`.
pub const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
/// `Upload-Expires`.
pub const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
/// `Upload-Checksum`.
pub const UPLOAD_CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
/// `Upload-Concat`.
pub const UPLOAD_CONCAT: HeaderName = HeaderName::from_static("upload-concat");
/// `Upload-Draft-Interop-Version`.
pub const INTEROP_VERSION: HeaderName = HeaderName::from_static("upload-draft-interop-version");
/// `Upload-Complete`.
pub const UPLOAD_COMPLETE: HeaderName = HeaderName::from_static("upload-complete");
/// `Upload-Incomplete`, the opposite of `Upload-Complete` in version 3.
pub const UPLOAD_INCOMPLETE: HeaderName = HeaderName::from_static("upload-incomplete");
/// `Accept-Patch` (RFC 5789).
pub const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
/// `Upload-Limit`.
pub const UPLOAD_LIMIT: HeaderName = HeaderName::from_static("upload-limit");
/// `Content-Digest` (RFC 9530), of the content of one message.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// `Repr-Digest` (RFC 9530), of the whole upload.
pub const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
/// `Want-Content-Digest` (RFC 9530).
pub const WANT_CONTENT_DIGEST: HeaderName = HeaderName::from_static("want-content-digest");
/// `Want-Repr-Digest` (RFC 9530).
pub const WANT_REPR_DIGEST: HeaderName = HeaderName::from_static("want-repr-digest");
/// `X-HTTP-Method-Override`.
pub const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");
/// `X-Request-ID`.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The media type of upload data (tus 1.0.0, PATCH).
pub const OFFSET_OCTET_STREAM: &str = "application/offset+octet-stream";

/// The media type of upload data (IETF draft, section 4.4).
pub const PARTIAL_UPLOAD: &str = "application/partial-upload";
