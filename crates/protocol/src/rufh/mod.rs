//! The heads of "Resumable Uploads for HTTP" (draft-ietf-httpbis-resumable-upload).
//!
//! Each revision of the draft that changed the protocol has an interop version, which requests name. One
//! parser serves all of them; [`InteropVersion`] has the differences. `R-…` are requirements of the draft,
//! listed in `crates/landfall/tests/protocol.md`.

mod digest;
mod disposition;
mod field;
mod limits;
mod request;
mod version;

pub use self::{
    digest::{wanted_digests, wanted_repr_digest},
    limits::UploadLimits,
    request::DraftRequest,
    version::{InteropVersion, InteropVersions, InvalidInteropVersion},
};

pub use crate::headers::{
    ACCEPT_PATCH, INTEROP_VERSION, PARTIAL_UPLOAD, UPLOAD_COMPLETE, UPLOAD_INCOMPLETE, UPLOAD_LIMIT,
};
