//! The protocols and extensions of a server, from the response to OPTIONS.

use std::time::Duration;

use landfall_protocol::Algorithm;

/// What a server supports, by its response to OPTIONS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// True if the server has tus 1.0.0 (`Tus-Version`).
    pub tus: bool,
    /// The extensions of tus (`Tus-Extension`), such as `creation-with-upload`.
    pub extensions: Vec<String>,
    /// The checksum algorithms that the server verifies and this crate computes (`Tus-Checksum-Algorithm`).
    pub checksum_algorithms: Vec<Algorithm>,
    /// The maximum length of an upload in bytes (`Tus-Max-Size` or `max-size`).
    pub max_size: Option<u64>,
    /// The limits of the IETF draft (`Upload-Limit`), if the server has it.
    pub draft: Option<UploadLimits>,
}

/// The limits of `Upload-Limit` (IETF draft, section 4.1.4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadLimits {
    /// The maximum length of an upload in bytes.
    pub max_size: Option<u64>,
    /// The maximum content of one request in bytes.
    pub max_append_size: Option<u64>,
    /// The minimum content of one request in bytes, except the last.
    pub min_append_size: Option<u64>,
    /// The remaining lifetime of the upload.
    pub max_age: Option<Duration>,
}

impl Capabilities {
    /// Returns whether tus has this extension on the server.
    #[must_use]
    pub fn has(&self, extension: &str) -> bool {
        self.extensions.iter().any(|one| one == extension)
    }
}
