//! The options of a run.

use std::collections::BTreeSet;
use std::time::Duration;

use url::Url;

use crate::profile::Profile;
use crate::requirement::{Capability, Protocol};

/// The interop version of the IETF draft that the checks follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InteropVersion {
    /// The newest one that the server accepts.
    #[default]
    Newest,
    /// The value of `Upload-Draft-Interop-Version`.
    Number(u8),
    /// Requests without `Upload-Draft-Interop-Version`, by the rules of the newest version.
    Absent,
}

/// The version of HTTP of all requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, without TLS by prior knowledge.
    Http2,
    /// HTTP/3, over TLS alone.
    #[cfg(feature = "http3")]
    Http3,
}

impl HttpVersion {
    /// Returns the name for TLS (ALPN).
    pub(crate) const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
            #[cfg(feature = "http3")]
            Self::Http3 => b"h3",
        }
    }
}

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The URL at which uploads are created.
    pub endpoint: Url,
    /// Fields of every request, for example credentials.
    pub headers: Vec<(String, String)>,
    /// Pairs added to `Upload-Metadata` of every creation.
    pub metadata: Vec<(String, String)>,
    /// The largest upload that the checks make, in bytes.
    pub max_size: u64,
    /// Capabilities without which checks fail instead of being skipped.
    pub expected: BTreeSet<Capability>,
    /// Protocols whose checks run even if the response to OPTIONS does not show them.
    pub expected_protocols: BTreeSet<Protocol>,
    /// The protocols to check, instead of those that OPTIONS shows.
    pub protocols: Option<BTreeSet<Protocol>>,
    /// The version of the IETF draft.
    pub interop_version: InteropVersion,
    /// The version of HTTP; checks that need HTTP/1.1 are skipped with others.
    pub http_version: HttpVersion,
    /// The documented choices of the server.
    pub profile: Option<&'static Profile>,
    /// Runs only checks whose names contain one of these texts; `*` matches any characters.
    pub only: Vec<String>,
    /// Adds checks with random interruptions and concurrency.
    pub chaos: bool,
    /// Compares the stored bytes by GET, where the server supports it.
    pub downloads: bool,
    /// The seed of random values.
    pub seed: u64,
    /// Checks that run at the same time.
    pub concurrency: usize,
    /// The longest wait for a connection or a response.
    pub timeout: Duration,
    /// The longest duration of a check; checks of `chaos` may take ten times as long.
    pub check_timeout: Duration,
    /// The longest duration of the run.
    pub run_timeout: Duration,
}

impl Options {
    /// Returns the defaults of the command line.
    #[must_use]
    pub const fn new(endpoint: Url) -> Self {
        Self {
            endpoint,
            headers: Vec::new(),
            metadata: Vec::new(),
            max_size: 16 << 20,
            expected: BTreeSet::new(),
            expected_protocols: BTreeSet::new(),
            protocols: None,
            interop_version: InteropVersion::Newest,
            http_version: HttpVersion::Http1,
            profile: None,
            only: Vec::new(),
            chaos: false,
            downloads: true,
            seed: 0,
            concurrency: 4,
            timeout: Duration::from_secs(10),
            check_timeout: Duration::from_secs(60),
            run_timeout: Duration::from_secs(1800),
        }
    }

    pub(crate) fn selects(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|pattern| contains(id, pattern))
    }
}

/// Returns whether the parts of the pattern between `*` occur in this order.
fn contains(id: &str, pattern: &str) -> bool {
    let mut rest = id;
    pattern.split('*').all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn patterns_match_parts_in_order() {
        assert!(contains("tus/creation/location", "creation"));
        assert!(contains("tus/creation/location", "tus/*/loc"));
        assert!(!contains("tus/creation/location", "loc*tus"));
        assert!(contains("tus/creation/location", ""));
    }
}
