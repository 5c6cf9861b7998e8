//! Percent-encoding by the rules of SigV4: everything but `A-Z a-z 0-9 - . _ ~`, once.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// Appends a key, whose slashes stay.
pub(super) fn push_path(out: &mut String, key: &str) {
    out.extend(utf8_percent_encode(key, PATH));
}

/// A path or a copy source: slashes stay.
pub(super) fn path(key: &str) -> String {
    utf8_percent_encode(key, PATH).to_string()
}

/// Names and values of a query, in the order and the spelling in which they are both signed and
/// sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.push(name, value);
        self
    }

    pub(super) fn push(&mut self, name: &str, value: &str) {
        let encode = |text| utf8_percent_encode(text, QUERY).to_string();
        self.pairs.push((encode(name), encode(value)));
    }

    /// Sorted by encoded name and value, each with its `=`.
    pub(super) fn canonical(&self) -> String {
        let mut pairs: Vec<_> = self.pairs.iter().collect();
        pairs.sort_unstable();
        let mut out = String::new();
        for (name, value) in pairs {
            if !out.is_empty() {
                out.push('&');
            }
            out.push_str(name);
            out.push('=');
            out.push_str(value);
        }
        out
    }
}

/// Undoes `encoding-type=url` of a listing, where a space may stand as `+`; `None` if it is no UTF-8.
pub(super) fn decode_listed(text: &str) -> Option<String> {
    let text = if text.contains('+') {
        Cow::Owned(text.replace('+', " "))
    } else {
        text.into()
    };
    percent_decode_str(&text)
        .decode_utf8()
        .ok()
        .map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_encoded_once_by_segment() {
        assert_eq!(
            path("a b+c~d%20e/../é//f"),
            "a%20b%2Bc~d%2520e/../%C3%A9//f"
        );
        assert_eq!(path("-._~"), "-._~");
        assert_eq!(
            path("!'()*:@&=$,;?#[]"),
            "%21%27%28%29%2A%3A%40%26%3D%24%2C%3B%3F%23%5B%5D"
        );
    }

    #[test]
    fn queries_are_sorted_by_their_encoded_names() {
        let query = Query::new()
            .with("uploads", "")
            .with("b", "2/3 +")
            .with("a-b", "1")
            .with("a", "z")
            .with("B", "");
        assert_eq!(query.canonical(), "B=&a=z&a-b=1&b=2%2F3%20%2B&uploads=");
        assert_eq!(Query::new().canonical(), "");
    }

    #[test]
    fn listed_keys_come_back() {
        for key in [
            "plain",
            "a b",
            "a+b",
            "100%",
            "é/ü",
            "x&y=z",
            "~",
            " lead and trail ",
        ] {
            assert_eq!(decode_listed(&path(key)).as_deref(), Some(key));
            let form = path(key).replace("%20", "+");
            assert_eq!(decode_listed(&form).as_deref(), Some(key));
        }
        assert_eq!(decode_listed("%FF"), None);
        assert_eq!(
            decode_listed("%zz").as_deref(),
            Some("%zz"),
            "not ours to judge"
        );
    }
}
