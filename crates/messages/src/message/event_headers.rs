use std::collections::BTreeSet;

use super::canonical;

/// None of these is a credential.
const BUILT_IN_HEADERS: [&str; 18] = [
    "Content-Length",
    "Content-Type",
    "Host",
    "Origin",
    "Traceparent",
    "Tus-Resumable",
    "Upload-Checksum",
    "Upload-Complete",
    "Upload-Concat",
    "Upload-Defer-Length",
    "Upload-Draft-Interop-Version",
    "Upload-Length",
    "Upload-Offset",
    "User-Agent",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Http-Method-Override",
    "X-Request-Id",
];

/// Credentials, and the metadata, which events already contain.
const EXCLUDED_HEADERS: [&str; 4] = [
    "Authorization",
    "Cookie",
    "Proxy-Authorization",
    "Upload-Metadata",
];

/// Clients choose these values, and each event is stored once per route.
const MAX_VALUE_LEN: usize = 256;

/// The allow-list of request headers in events (`post-…`).
///
/// Blocking hooks receive all headers. Events are stored, retried for days and published to brokers,
/// so they carry only a built-in list and what the operator adds. `Authorization`, `Cookie`,
/// `Proxy-Authorization` and `Upload-Metadata` cannot be added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventHeaders {
    /// In Go's spelling.
    added: BTreeSet<String>,
}

impl EventHeaders {
    /// Allows these headers too, by their names in any spelling.
    #[must_use]
    pub fn with<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        let names = names
            .into_iter()
            .map(|name| canonical(name.as_ref().trim()));
        self.added
            .extend(names.filter(|name| !EXCLUDED_HEADERS.contains(&name.as_str())));
        self
    }

    /// The name is in Go's spelling.
    pub(super) fn allows(&self, name: &str, value: &str) -> bool {
        self.added.contains(name)
            || (BUILT_IN_HEADERS.contains(&name) && value.len() <= MAX_VALUE_LEN)
    }
}
