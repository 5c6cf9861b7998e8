//! `Upload-Limit` (section 4.1.4).

use std::time::Duration;

use super::{InteropVersion, field};

/// The limits of a server or an upload. Limits that there are not are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UploadLimits {
    /// The maximum length of an upload in bytes.
    pub max_size: Option<u64>,
    /// The remaining lifetime of the upload.
    pub max_age: Option<Duration>,
}

impl UploadLimits {
    /// Returns the value of `Upload-Limit`, which is never empty.
    #[must_use]
    pub fn to_field(self, version: InteropVersion) -> String {
        let lifetime = match version.names_expires() {
            true => "expires",
            false => "max-age",
        };
        let max_size = self.max_size.map(|size| ("max-size", size));
        let max_age = self.max_age.map(|age| (lifetime, age.as_secs()));
        field::write_integers([("min-size", 0)].into_iter().chain(max_size).chain(max_age))
    }
}
