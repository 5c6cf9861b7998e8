//! The headers of a request that events carry, by their transport.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use landfall::hook::UploadToken;
use serde::{Deserialize, Serialize};

/// None of these is a credential.
const PUBLIC_HEADERS: [&str; 18] = [
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

/// Clients choose these values, and each event is stored once per route.
const MAX_VALUE_LEN: usize = 256;

const API_KEY_PREFIX: &str = "lfk_";

/// The request headers that a transport receives with events, besides a built-in list.
///
/// Events are stored, retried for days and published to brokers, so transports get the built-in list. What
/// the settings of a transport name may be a credential: that transport alone gets it, and it is
/// [redacted](RedactedHeaders) everywhere else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventHeaders {
    /// In Go's spelling.
    named: BTreeSet<String>,
    all: bool,
}

impl EventHeaders {
    /// Names all headers of a request.
    #[must_use]
    pub fn all() -> Self {
        Self {
            all: true,
            ..Self::default()
        }
    }

    /// Names these headers too, in any spelling.
    #[must_use]
    pub fn with<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        let names = names.into_iter();
        self.named
            .extend(names.map(|name| canonical(name.as_ref().trim())));
        self
    }

    /// Names the headers of both.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.named.extend(other.named.iter().cloned());
        self.all |= other.all;
        self
    }

    /// Returns whether it names no header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.named.is_empty()
    }

    /// The name is in Go's spelling.
    pub(super) fn names(&self, name: &str) -> bool {
        self.all || self.named.contains(name)
    }
}

/// Headers that may be credentials, by their names in Go's spelling. `Debug` shows the names only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedactedHeaders(pub(super) BTreeMap<String, Vec<String>>);

impl RedactedHeaders {
    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns those that are named.
    #[must_use]
    pub fn of(&self, named: &EventHeaders) -> Self {
        let mut headers = self.0.clone();
        headers.retain(|name, _| named.names(name));
        Self(headers)
    }
}

impl fmt::Debug for RedactedHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Every transport may receive it. The name is in Go's spelling.
pub(super) fn is_public(name: &str, value: &str) -> bool {
    PUBLIC_HEADERS.contains(&name) && value.len() <= MAX_VALUE_LEN
}

/// Returns whether a text may contain an API key or upload token of Landfall.
#[must_use]
pub fn contains_secret(text: &str) -> bool {
    text.contains(API_KEY_PREFIX) || text.contains(UploadToken::PREFIX)
}

/// Go's canonical spelling: each word capitalized.
pub(super) fn canonical(name: &str) -> String {
    let mut upper = true;
    let spell = |c: char| {
        let spelled = if upper {
            c.to_ascii_uppercase()
        } else {
            c.to_ascii_lowercase()
        };
        upper = c == '-';
        spelled
    };
    name.chars().map(spell).collect()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use landfall::hook::RequestInfo;

    use super::*;
    use crate::RequestData;

    fn request(fields: &[(&'static str, &str)]) -> RequestInfo {
        let mut request = RequestInfo::default();
        for (name, value) in fields {
            let name = HeaderName::from_static(name);
            let value = HeaderValue::from_str(value).unwrap();
            request.headers.append(name, value);
        }
        request
    }

    #[test]
    fn named_headers_are_redacted_and_others_omitted() {
        let request = request(&[
            ("authorization", "Bearer secret"),
            ("cookie", "secret"),
            ("host", "h"),
            ("x-tenant", "seven"),
        ]);
        let named = EventHeaders::default().with(["AUTHORIZATION", " x-tenant ", "host"]);
        let data = RequestData::for_event(&request, &named);
        assert_eq!(data.headers.keys().collect::<Vec<_>>(), ["Host"]);
        let names: Vec<_> = data.redacted.0.keys().collect();
        assert_eq!(names, ["Authorization", "X-Tenant"]);
        let shown = format!("{data:?}");
        assert!(shown.contains("Authorization") && !shown.contains("secret"));
        assert!(!serde_json::to_string(&data).unwrap().contains("secret"));
        let all = RequestData::for_event(&request, &EventHeaders::all());
        assert_eq!(all.values("cookie"), ["secret"]);
    }

    #[test]
    fn long_values_are_redacted_if_named() {
        let long = "u".repeat(MAX_VALUE_LEN + 1);
        let request = request(&[("user-agent", &long), ("origin", &long), ("origin", "o")]);
        let named = EventHeaders::default().with(["User-Agent"]);
        let data = RequestData::for_event(&request, &named);
        assert_eq!(data.headers["Origin"], ["o"]);
        assert!(!data.headers.contains_key("User-Agent"));
        assert_eq!(data.redacted.0["User-Agent"], [long]);
    }

    #[test]
    fn own_keys_are_in_no_message() {
        let request = request(&[("authorization", "Bearer lfk_a"), ("x-token", "lft_a")]);
        for data in [
            RequestData::new(&request),
            RequestData::for_event(&request, &EventHeaders::all()),
        ] {
            assert_eq!(data.values("authorization"), [""; 0]);
            assert_eq!(data.values("x-token"), [""; 0]);
        }
    }
}
