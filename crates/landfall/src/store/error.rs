//! Errors of stores, grouped by the reaction of the caller.

use std::io;

use crate::{
    BoxError,
    upload::{Snapshot, UploadId},
};

/// An error of a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The upload does not exist.
    #[error("upload {0} does not exist")]
    NotFound(UploadId),
    /// Only remains of the upload are stored: its bytes were removed, by an interrupted removal or by the
    /// service that stores them. A removal removes the remains.
    ///
    /// The upload is as its description says, with offset 0.
    #[error("the bytes of upload {} are gone", .0.upload.id)]
    Gone(Box<Snapshot>),
    /// The id is taken, by the upload with this id; it differs if ids contain more than the requested one.
    #[error("upload {0} exists already")]
    AlreadyExists(UploadId),
    /// A hook requested an invalid path, for example outside of the store's directory.
    #[error("invalid storage path: {0}")]
    InvalidPath(String),
    /// The client's metadata leads to an invalid path.
    #[error("the metadata leads to an invalid storage path: {0}")]
    InvalidMetadata(String),
    /// No space is left, or a quota is reached.
    #[error("no space left: {0}")]
    Full(#[source] BoxError),
    /// The upload exceeds the maximum size of the store.
    #[error("uploads are limited to {limit} bytes")]
    TooLarge {
        /// The maximum size in bytes.
        limit: u64,
    },
    /// A newer lease exists for this upload.
    #[error("the lease for upload {0} has passed to another writer")]
    LeaseLost(UploadId),
    /// The stored state of the upload is inconsistent.
    #[error("upload {id} is damaged: {what}")]
    Damaged {
        /// The upload.
        id: UploadId,
        /// A description of the damage.
        what: String,
    },
    /// The store is temporarily unavailable; a retry may succeed.
    #[error("the store is unavailable: {0}")]
    Unavailable(#[source] BoxError),
    /// The service that stores the uploads refuses this until its operator changes something.
    #[error("{reason}: {source}")]
    Refused {
        /// The reason, which clients see.
        reason: &'static str,
        /// The cause, for the log.
        source: BoxError,
    },
    /// Any other error.
    #[error("{action}: {source}")]
    Other {
        /// The failed action, for the log.
        action: String,
        /// The cause.
        source: BoxError,
    },
}

impl StoreError {
    /// Describes the damage of an upload.
    #[must_use]
    pub fn damaged(id: &UploadId, what: impl Into<String>) -> Self {
        Self::Damaged {
            id: id.clone(),
            what: what.into(),
        }
    }

    /// Wraps the cause of a refusal.
    #[must_use]
    pub fn refused(reason: &'static str, source: impl Into<BoxError>) -> Self {
        Self::Refused {
            reason,
            source: source.into(),
        }
    }

    /// Wraps the cause of a failed action.
    #[must_use]
    pub fn other(action: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Other {
            action: action.into(),
            source: source.into(),
        }
    }

    /// Converts the I/O error of an action.
    ///
    /// A full disk or quota becomes [`StoreError::Full`]. Running out of file descriptors or memory becomes
    /// [`StoreError::Unavailable`], because a retry succeeds once other requests have finished.
    #[must_use]
    pub fn io(action: impl Into<String>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full(source.into()),
            _ if is_exhausted(&source) => {
                Self::Unavailable(format!("{}: {source}", action.into()).into())
            }
            _ => Self::other(action, source),
        }
    }
}

/// File descriptors or memory.
fn is_exhausted(error: &io::Error) -> bool {
    #[cfg(all(unix, feature = "file-store"))]
    if let Some(code) = error.raw_os_error() {
        use rustix::io::Errno;
        let errno = Errno::from_raw_os_error(code);
        return [Errno::MFILE, Errno::NFILE, Errno::NOMEM].contains(&errno);
    }
    error.kind() == io::ErrorKind::OutOfMemory
}

#[cfg(all(test, feature = "file-store"))]
mod tests {
    use nix::libc;

    use super::*;

    #[test]
    fn exhausted_descriptors_are_unavailable_and_a_failing_disk_is_not() {
        let io = |code| StoreError::io("opening", io::Error::from_raw_os_error(code));
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM] {
            let error = io(code);
            assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
            assert!(error.to_string().contains("opening: "), "{error}");
        }
        for code in [libc::ENOSPC, libc::EDQUOT, libc::EFBIG] {
            assert!(matches!(io(code), StoreError::Full(_)), "{code}");
        }
        assert!(matches!(io(libc::EIO), StoreError::Other { .. }));
    }
}
