//! Conversion of client errors to store errors.

use landfall::{store::StoreError, upload::UploadId};

use crate::client::{Error, ErrorKind};

/// Converts an error of `action` on an upload.
///
/// Errors that an operator has to fix (credentials, permissions, the bucket) do not concern this
/// upload: the client may retry.
pub(super) fn failed(id: &UploadId, action: &str, error: Error) -> StoreError {
    match error.kind() {
        ErrorKind::NoSuchKey => StoreError::NotFound(id.clone()),
        ErrorKind::PreconditionFailed => StoreError::LeaseLost(id.clone()),
        ErrorKind::Unavailable { retry_after } => StoreError::Unavailable {
            retry_after: *retry_after,
            source: error.into(),
        },
        ErrorKind::NoSuchBucket
        | ErrorKind::AccessDenied
        | ErrorKind::BadCredentials
        | ErrorKind::ClockSkew
        | ErrorKind::WrongRegion => StoreError::Unavailable {
            retry_after: None,
            source: error.into(),
        },
        _ => StoreError::Other {
            action: format!("{action} of upload {id}"),
            source: error.into(),
        },
    }
}

pub(super) fn damaged(id: &UploadId, what: impl Into<String>) -> StoreError {
    StoreError::Damaged {
        id: id.clone(),
        what: what.into(),
    }
}
