//! Temporary files that take the place of others, and that a takeover removes.
//!
//! They have one of few names, so that they are found without a listing. None is opened unless this process has
//! created it.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use super::{failure::failed, sys};
use crate::{
    store::{Result, StoreError},
    upload::UploadId,
};

/// Temporary names of an upload. More than one, because a process that died may have left it.
const SLOTS: u32 = 16;

/// A name of a temporary file that a takeover removes; `base` is that of the file it replaces.
fn slot(base: &str, number: u32) -> String {
    format!(".{base}.{:08x}.tmp", number % SLOTS)
}

/// Creates a temporary file with a free name.
pub(super) fn create_temporary(
    dir: BorrowedFd<'_>,
    base: &str,
    mode: u32,
) -> io::Result<(String, OwnedFd)> {
    let first = rand::random::<u32>() % SLOTS;
    for _ in 0..2 {
        for number in first..first + SLOTS {
            let name = slot(base, number);
            match sys::create_new(dir, &name, mode) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => return created.map(|file| (name, file)),
            }
        }
        // Left by processes that died.
        remove_temporaries(dir, base)?;
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

pub(super) fn remove_temporaries(dir: BorrowedFd<'_>, base: &str) -> io::Result<()> {
    (0..SLOTS).try_for_each(|number| sys::unlink(dir, &slot(base, number)).map(drop))
}

/// Renames a temporary file over another one. Another holder has removed it if it is missing.
pub(super) fn put(id: &UploadId, dir: BorrowedFd<'_>, temporary: &str, name: &str) -> Result<()> {
    sys::rename(dir, temporary, name).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::LeaseLost(id.clone()),
        _ => failed(id, "replacing a file", error),
    })
}
