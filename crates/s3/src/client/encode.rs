//! Queries in the order that SigV4 requires, and the keys of listings.

use std::collections::BTreeMap;

use landfall_objects::segment;
use percent_encoding::percent_decode_str;

#[derive(Clone, Debug, Default)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.push(name, value);
        self
    }

    pub(super) fn push(&mut self, name: &str, value: &str) {
        let (name, value) = (segment(name).to_string(), segment(value).to_string());
        self.0.insert(name, value);
    }

    pub(super) fn canonical(&self) -> String {
        let pairs = self.0.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("&")
    }
}

/// Of pairs that are encoded.
impl From<&str> for Query {
    fn from(query: &str) -> Self {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        Self(
            pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }
}

pub(super) fn decode_listed(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(key: &str) -> String {
        landfall_objects::path(key).to_string()
    }

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
            "left as it is"
        );
    }
}
