//! The heads of "Resumable Uploads for HTTP" (draft-ietf-httpbis-resumable-upload), a second protocol for
//! the same uploads.
//!
//! Each revision of the draft that changed the protocol has an interop version, which requests name. One
//! parser serves all of them; [`InteropVersion`] has the differences. `R-…` are requirements of the draft,
//! listed in `docs/protocol.md`.

mod digest;
mod disposition;
mod field;
mod limits;
mod request;
mod version;

pub use self::{
    limits::UploadLimits,
    request::DraftRequest,
    version::{InteropVersion, InteropVersions, InvalidInteropVersion},
};

use http::HeaderName;

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

/// The media type of upload data (section 4.4).
pub const PARTIAL_UPLOAD: &str = "application/partial-upload";
