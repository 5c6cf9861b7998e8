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
        ErrorKind::Unavailable { .. }
        | ErrorKind::NoSuchBucket
        | ErrorKind::AccessDenied
        | ErrorKind::BadCredentials
        | ErrorKind::ClockSkew
        | ErrorKind::WrongRegion => StoreError::Unavailable(error.into()),
        _ => StoreError::other(format!("{action} of upload {id}"), error),
    }
}
