//! Downloads by ranges.

use std::{path::PathBuf, sync::Arc};

use crate::{Control, Error, Event, client::Shared};

/// A download that was not started yet; [`Client::download`](crate::Client::download) creates it.
#[derive(Debug)]
#[must_use = "a download does nothing until it is run"]
pub struct Download {}

/// A finished download.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Downloaded {
    /// The size of the file in bytes.
    pub length: u64,
    /// The bytes received in this run, without those of an earlier one.
    pub bytes_received: u64,
    /// True if the server sent a digest of the whole (`Repr-Digest`), which is that of the file.
    pub verified: bool,
}

impl Download {
    pub(crate) fn new(_: Arc<Shared>, _: &str, _: PathBuf) -> Self {
        todo!()
    }
    /// Sets how many ranges are received at a time; 1 by default.
    pub fn parallel(self, connections: usize) -> Self {
        let _ = connections;
        todo!()
    }

    /// Sets whether an earlier download to the same file is resumed; true by default.
    pub fn resume(self, resume: bool) -> Self {
        let _ = resume;
        todo!()
    }

    /// Sets the callback for events. It must not block.
    pub fn on_event(self, callback: impl Fn(Event) + Send + Sync + 'static) -> Self {
        let _ = callback;
        todo!()
    }

    /// Returns a handle that pauses, resumes or cancels the download from another task.
    #[must_use]
    pub fn control(&self) -> Control {
        todo!()
    }

    /// Downloads the file.
    ///
    /// The bytes are written to a file next to the target, which replaces the target when it is complete.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// # Cancel safety
    /// Cancel safe: the next download to the same target resumes.
    pub async fn run(self) -> Result<Downloaded, Error> {
        todo!()
    }
}
