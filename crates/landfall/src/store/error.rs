//! What can go wrong in a store, by what the caller can do about it.

use std::{io, time::Duration};

use crate::{BoxError, upload::UploadId};

/// What can go wrong in a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such upload.
    #[error("upload {0} does not exist")]
    NotFound(UploadId),
    /// The id is taken.
    #[error("upload {0} exists already")]
    AlreadyExists(UploadId),
    /// A hook asked for a place the store can't give, for example outside its directory.
    #[error("the place asked for can't be used: {0}")]
    InvalidPath(String),
    /// The client's metadata leads to a place that the store cannot give.
    #[error("the metadata leads to a place that cannot be used: {0}")]
    InvalidMetadata(String),
    /// No space left, or a quota reached.
    #[error("no space is left: {0}")]
    Full(#[source] BoxError),
    /// The upload is, or gets, larger than what the store can keep.
    #[error("an upload can't be larger than {limit} bytes here")]
    TooLarge {
        /// The most bytes it takes.
        limit: u64,
    },
    /// The lease behind this call has been overtaken by a newer one.
    #[error("the lease for upload {0} has passed to another writer")]
    LeaseLost(UploadId),
    /// What the store holds for this upload makes no sense.
    #[error("upload {id} is damaged: {what}")]
    Damaged {
        /// The upload.
        id: UploadId,
        /// What is wrong with it.
        what: String,
    },
    /// The store can't be reached for now; the same call may work later.
    #[error("the store is unavailable: {source}")]
    Unavailable {
        /// How long to wait, if the store said so.
        retry_after: Option<Duration>,
        /// The cause.
        source: BoxError,
    },
    /// Anything else.
    #[error("{action}: {source}")]
    Other {
        /// What was being done, for the log.
        action: String,
        /// The cause.
        source: BoxError,
    },
}

impl StoreError {
    /// Converts an I/O error met while `doing` something.
    ///
    /// A full disk or quota becomes [`StoreError::Full`]. Running out of file descriptors or memory
    /// becomes [`StoreError::Unavailable`], because the same call works once others have finished.
    #[must_use]
    pub fn io(doing: impl Into<String>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full(source.into()),
            _ if is_exhausted(&source) => Self::Unavailable {
                retry_after: None,
                source: format!("{}: {source}", doing.into()).into(),
            },
            _ => Self::Other {
                action: doing.into(),
                source: source.into(),
            },
        }
    }
}

/// Whether the process or the system has run out of file descriptors or memory.
fn is_exhausted(error: &io::Error) -> bool {
    #[cfg(unix)]
    if let Some(code) = error.raw_os_error() {
        use rustix::io::Errno;
        let errno = Errno::from_raw_os_error(code);
        return [Errno::MFILE, Errno::NFILE, Errno::NOMEM].contains(&errno);
    }
    error.kind() == io::ErrorKind::OutOfMemory
}

#[cfg(test)]
mod tests {
    use nix::libc;

    use super::*;

    #[test]
    fn exhausted_descriptors_are_worth_a_retry_and_a_failing_disk_is_not() {
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
