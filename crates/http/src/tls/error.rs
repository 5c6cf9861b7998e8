//! The error of a TLS file (certificate, key or authorities): which file, and the reason.

use std::fmt;
use std::path::{Path, PathBuf};

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct TlsError {
    /// The path of the file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl TlsError {
    pub(super) fn new(path: &Path, reason: impl fmt::Display) -> Self {
        Self {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}
