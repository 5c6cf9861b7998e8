//! What an error of the file system means for an upload.

use std::io;

use rustix::io::Errno;

use super::paths::NotServed;
use crate::{store::StoreError, upload::UploadId};

/// Nothing exists, or the path passes through a link.
pub(super) fn is_missing(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| {
        [
            Errno::NOENT,
            Errno::NOTDIR,
            Errno::LOOP,
            Errno::XDEV,
            Errno::NAMETOOLONG,
        ]
        .contains(&Errno::from_raw_os_error(code))
    })
}

pub(super) fn failed(id: &UploadId, action: &str, error: io::Error) -> StoreError {
    if is_missing(&error) {
        StoreError::NotFound(id.clone())
    } else if let Some(unserved) = NotServed::of(&error) {
        StoreError::Unavailable(unserved.clone().into())
    } else {
        StoreError::io(format!("{action} of upload {id}"), error)
    }
}
