//! Percent-encoding as SigV4 requires it: everything but `A-Z a-z 0-9 - . _ ~`, once.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Appends a key; slashes are not encoded.
pub(super) fn push_path(out: &mut String, key: &str) {
    push(out, key, |byte| is_plain(byte) || byte == b'/');
}

pub(super) fn path(key: &str) -> String {
    let mut out = String::with_capacity(key.len() + 16);
    push_path(&mut out, key);
    out
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[inline]
fn push(out: &mut String, text: &str, is_plain: impl Fn(u8) -> bool) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| !is_plain(byte)) {
        // `at` is a character boundary: everything before it is ASCII.
        out.push_str(&rest[..at]);
        let next = rest[at..].chars().next().map_or(1, char::len_utf8);
        for byte in rest[at..at + next].bytes() {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        rest = &rest[at + next..];
    }
    out.push_str(rest);
}

/// A query string, encoded and ordered as it is both signed and sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    /// All encoded names and values, concatenated.
    text: String,
    pairs: Vec<Pair>,
}

/// Byte positions of one pair in the text.
#[derive(Clone, Copy, Debug)]
struct Pair {
    name: usize,
    value: usize,
    end: usize,
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
        let start = self.text.len();
        push(&mut self.text, name, is_plain);
        let middle = self.text.len();
        push(&mut self.text, value, is_plain);
        self.pairs.push(Pair {
            name: start,
            value: middle,
            end: self.text.len(),
        });
    }

    /// Returns the canonical query: sorted by encoded name and value, each name followed by `=`.
    pub(super) fn canonical(&self) -> String {
        let slices = |pair: &Pair| {
            let name = &self.text[pair.name..pair.value];
            (name, &self.text[pair.value..pair.end])
        };
        let mut pairs: Vec<_> = self.pairs.iter().map(slices).collect();
        pairs.sort_unstable();
        // Reserves space for a signature.
        let mut out = String::with_capacity(self.text.len() + 2 * pairs.len() + 96);
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

/// Decodes a key of a listing with `encoding-type=url`, where `+` may encode a space.
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
            "left as it is"
        );
    }
}
