//! What a failed call means for the store's caller.

use landfall::{store::StoreError, upload::UploadId};

use crate::client::{Error, ErrorKind};

/// An error that came up while `doing` something for an upload. What lasts until somebody repairs it
/// (credentials, rights, the bucket) is no fault of this upload: the client may come again.
pub(super) fn failed(id: &UploadId, doing: &str, error: Error) -> StoreError {
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
            action: format!("{doing} of upload {id}"),
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
