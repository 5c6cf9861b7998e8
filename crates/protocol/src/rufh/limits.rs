//! `Upload-Limit` (section 4.1.4).

use std::time::Duration;

use super::{InteropVersion, field};
use crate::{Problem, ProblemKind};

/// The limits of a server or an upload. Limits that there are not are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UploadLimits {
    /// The maximum length of an upload in bytes.
    pub max_size: Option<u64>,
    /// The maximum content of one creation or append in bytes.
    pub max_append_size: Option<u64>,
    /// The minimum content of one creation or append in bytes, but for the last one and an empty creation.
    pub min_append_size: Option<u64>,
    /// The remaining lifetime of the upload.
    pub max_age: Option<Duration>,
}

impl UploadLimits {
    /// Returns the value of `Upload-Limit`, which is never empty (`draft/options/limits-are-a-dictionary`).
    #[must_use]
    pub fn to_field(self, version: InteropVersion) -> String {
        let lifetime = match version.names_expires() {
            true => "expires",
            false => "max-age",
        };
        let members = [
            ("min-size", Some(0)),
            ("max-size", self.max_size),
            ("min-append-size", self.min_append_size),
            ("max-append-size", self.max_append_size),
            (lifetime, self.max_age.map(|age| age.as_secs())),
        ];
        field::write_integers(
            members
                .into_iter()
                .filter_map(|(key, limit)| Some((key, limit?))),
        )
    }

    /// Checks the content of one request. `may_be_small`: it is the last content, or an empty creation.
    pub(super) fn check_append(&self, size: u64, may_be_small: bool) -> Result<(), Problem> {
        match (self.min_append_size, self.max_append_size) {
            (_, Some(max)) if size > max => Err(ProblemKind::AppendTooLarge
                .with_detail(format_args!("send at most {max} bytes per request"))),
            (Some(min), _) if size < min && !may_be_small => Err(ProblemKind::AppendTooSmall
                .with_detail(format_args!(
                    "send at least {min} bytes, or Upload-Complete: ?1"
                ))),
            _ => Ok(()),
        }
    }
}
