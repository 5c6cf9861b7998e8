//! Fingerprints, by which an upload is found again after a restart.

use std::{fmt, io, path::PathBuf};

/// A store of fingerprints. Each is a small record under a short name of hexadecimal digits.
///
/// Calls may block for the time of a small file operation.
pub trait FingerprintStore: fmt::Debug + Send + Sync {
    /// Returns a record.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Stores a record atomically: after a crash there is the old or the new one.
    ///
    /// # Errors
    /// If the store cannot be written.
    fn set(&self, name: &str, record: &[u8]) -> io::Result<()>;

    /// Removes a record, if there is one.
    ///
    /// # Errors
    /// If the store cannot be written.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// Fingerprints as files of one directory, which is created when needed.
#[derive(Debug, Clone)]
pub struct FileFingerprints {
    #[expect(dead_code)]
    directory: PathBuf,
}

/// Fingerprints in memory, for tests and programs that resume only while they run.
#[derive(Debug, Default)]
pub struct MemoryFingerprints {}

impl FileFingerprints {
    /// Creates a store in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Creates a store in the user's directory for state: `$XDG_STATE_HOME/landfall/uploads`, by default
    /// `~/.local/state/landfall/uploads`. `None` without a home directory.
    #[must_use]
    pub fn in_state_directory() -> Option<Self> {
        todo!()
    }
}

impl FingerprintStore for FileFingerprints {
    fn get(&self, _: &str) -> io::Result<Option<Vec<u8>>> {
        todo!()
    }
    fn set(&self, _: &str, _: &[u8]) -> io::Result<()> {
        todo!()
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        todo!()
    }
}

impl FingerprintStore for MemoryFingerprints {
    fn get(&self, _: &str) -> io::Result<Option<Vec<u8>>> {
        todo!()
    }
    fn set(&self, _: &str, _: &[u8]) -> io::Result<()> {
        todo!()
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        todo!()
    }
}
