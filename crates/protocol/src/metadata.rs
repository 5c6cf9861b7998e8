//! `Upload-Metadata` (tus 1.0.0, Creation).

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use base64::{
    Engine,
    engine::{
        DecodePaddingMode,
        general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD},
    },
};
use http::HeaderValue;

/// Padding is optional, but must be right if present; only the standard alphabet.
const LENIENT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The metadata of an upload: unique keys with binary values.
///
/// Keeps the original header, because HEAD must return it (`tus/metadata/is-returned-exactly`) byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata(Option<Arc<Parsed>>);

/// At least one pair.
#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    /// The rest is derived from it.
    header: HeaderValue,
    pairs: Vec<Pair>,
    /// The decoded values, one after another.
    values: Vec<u8>,
    is_canonical: bool,
}

/// A key's bytes in the header, and its value's in the values.
#[derive(Debug, PartialEq, Eq)]
struct Pair {
    key: Range<usize>,
    value: Range<usize>,
}

/// A reason why an `Upload-Metadata` header is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMetadata {
    /// An empty element: two commas in a row, or a leading or trailing comma.
    #[error("there is an empty element between two commas")]
    EmptyElement,
    /// A key with characters other than visible ASCII.
    #[error("the key {0:?} has characters other than visible ASCII")]
    Key(String),
    /// A duplicate key.
    #[error("the key {0:?} occurs twice")]
    Duplicate(String),
    /// A value that is not standard Base64.
    #[error("the value of {0:?} is not Base64 (RFC 4648, standard alphabet)")]
    Value(String),
    /// An element with more than a key and a value.
    #[error("the element of {0:?} has more than a key and a value")]
    TrailingData(String),
    /// A header longer than [`Metadata::MAX_BYTES`].
    #[error("it has {0} bytes, at most {max} are allowed", max = Metadata::MAX_BYTES)]
    TooLong(usize),
    /// More pairs than [`Metadata::MAX_PAIRS`].
    #[error("it has {0} pairs, at most {max} are allowed", max = Metadata::MAX_PAIRS)]
    TooManyPairs(usize),
}

/// The strictness of parsing what clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Syntax {
    /// Rejects malformed pairs, so that clients notice.
    #[default]
    Strict,
    /// As tusd: skips malformed pairs of metadata, uses the last value of a duplicate key, and accepts a sign of
    /// numbers, and content with `Content-Encoding`, which is stored as it is.
    Lenient,
}

impl Metadata {
    /// Maximum length of a client's header, in bytes.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// Maximum number of pairs in a client's header.
    pub const MAX_PAIRS: usize = 128;

    /// Parses a client's header. Limited to [`Self::MAX_BYTES`] and [`Self::MAX_PAIRS`], because
    /// metadata is held in memory and in events.
    ///
    /// # Errors
    /// [`InvalidMetadata`].
    pub fn from_client(header: &str, syntax: Syntax) -> Result<Self, InvalidMetadata> {
        if header.len() > Self::MAX_BYTES {
            return Err(InvalidMetadata::TooLong(header.len()));
        }
        let pairs = || 1 + header.bytes().filter(|byte| *byte == b',').count();
        // A shorter one cannot have as many.
        if header.len() >= Self::MAX_PAIRS
            && let pairs = pairs()
            && pairs > Self::MAX_PAIRS
        {
            return Err(InvalidMetadata::TooManyPairs(pairs));
        }
        match (Self::from_header(header), syntax) {
            (Err(_), Syntax::Lenient) => Ok(Self::from_valid_pairs(header)),
            (parsed, _) => parsed,
        }
    }

    /// The header is built from the pairs.
    fn from_valid_pairs(header: &str) -> Self {
        Self::from_pairs(header.split(',').filter_map(|element| {
            let mut fields = element.trim_matches([' ', '\t']).split(' ');
            let (key, value) = (fields.next()?, fields.next().unwrap_or_default());
            if fields.next().is_some() {
                return None;
            }
            Some((key, STANDARD.decode(value).ok()?))
        }))
    }

    /// Parses a header.
    ///
    /// Accepts more than the specification: blanks around commas, an empty value with or without a space
    /// after the key (tus-js-client sends one), and missing padding. An empty header is no metadata.
    ///
    /// # Errors
    /// [`InvalidMetadata`], with the key where there is one.
    pub fn from_header(header: &str) -> Result<Self, InvalidMetadata> {
        if trim(header).is_empty() {
            return Ok(Self::default());
        }
        let mut pairs: Vec<Pair> = Vec::new();
        let mut values = Vec::with_capacity(header.len() / 4 * 3);
        let mut is_canonical = true;
        let mut start = 0;
        for element in header.split(',') {
            let end = start + element.len();
            let pair = &element[element.bytes().take_while(is_blank).count()..];
            let blank = pair.bytes().position(|byte| is_blank(&byte));
            let (key, rest) = pair.split_at(blank.unwrap_or(pair.len()));
            if key.is_empty() {
                return Err(InvalidMetadata::EmptyElement);
            }
            if !key.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(InvalidMetadata::Key(key.into()));
            }
            let text = trim(rest);
            let value = values.len();
            if LENIENT_BASE64.decode_vec(text, &mut values).is_err() {
                let key = key.to_owned();
                return Err(match text.split_once([' ', '\t']) {
                    Some((text, _)) if LENIENT_BASE64.decode(text).is_ok() => {
                        InvalidMetadata::TrailingData(key)
                    }
                    _ => InvalidMetadata::Value(key),
                });
            }
            let separator = if text.is_empty() { "" } else { " " };
            is_canonical &= text.len().is_multiple_of(4)
                && element.len() == key.len() + separator.len() + text.len()
                && element[key.len()..].starts_with(separator)
                && pairs
                    .last()
                    .is_none_or(|last| header[last.key.clone()] < *key);
            start = end - pair.len();
            pairs.push(Pair {
                key: start..start + key.len(),
                value: value..values.len(),
            });
            start = end + 1;
        }
        if !is_canonical {
            let mut keys: Vec<&str> = pairs.iter().map(|pair| &header[pair.key.clone()]).collect();
            keys.sort_unstable();
            if let Some([key, _]) = keys.array_windows().find(|[one, next]| one == next) {
                return Err(InvalidMetadata::Duplicate((*key).into()));
            }
        }
        // Keys and Base64 are visible ASCII.
        let header =
            HeaderValue::from_str(header).map_err(|_| InvalidMetadata::Key(header.into()))?;
        Ok(Self(Some(Arc::new(Parsed {
            header,
            pairs,
            values,
            is_canonical,
        }))))
    }

    /// Creates metadata without a header. Skips keys that are not valid in a header; the last value
    /// of a duplicate key is used.
    pub fn from_pairs<K, V>(given: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<String>,
        V: Into<Vec<u8>>,
    {
        let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for (key, value) in given {
            let (key, value) = (key.into(), value.into());
            if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic() && b != b',') {
                continue;
            }
            match places.get(&key) {
                Some(&place) => pairs[place].1 = value,
                None => {
                    places.insert(key.clone(), pairs.len());
                    pairs.push((key, value));
                }
            }
        }
        Self::from_header(&encode(&pairs)).unwrap_or_default()
    }

    /// Restores the original header, if it has the same pairs; for stores which keep both.
    #[must_use]
    pub fn with_header(self, header: &str) -> Self {
        match Self::from_header(header) {
            Ok(parsed) if has_same_pairs(&parsed, &self) => parsed,
            _ => self,
        }
    }

    /// Returns the header, as received or built from the pairs; empty without metadata.
    #[must_use]
    pub fn header(&self) -> &str {
        self.0.as_ref().map_or("", |parsed| parsed.header())
    }

    /// Returns the header as the value of a field, without copying it; `None` without metadata.
    #[must_use]
    pub fn header_value(&self) -> Option<&HeaderValue> {
        self.0.as_ref().map(|parsed| &parsed.header)
    }

    /// Returns whether the header is the one that is built from its pairs in the order of their keys.
    #[must_use]
    pub fn is_canonical(&self) -> bool {
        self.0.as_ref().is_none_or(|parsed| parsed.is_canonical)
    }

    /// Returns whether there are no pairs.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.iter()
            .find(|(other, _)| *other == key)
            .map(|(_, value)| value)
    }

    /// Returns the value of a key as text; invalid UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn get_text(&self, key: &str) -> Option<Cow<'_, str>> {
        self.get(key).map(String::from_utf8_lossy)
    }

    /// Iterates over keys and values in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        let (header, pairs, values) = match &self.0 {
            Some(parsed) => (parsed.header(), &*parsed.pairs, &*parsed.values),
            None => ("", &[][..], &[][..]),
        };
        let pairs = pairs.iter();
        pairs.map(move |pair| (&header[pair.key.clone()], &values[pair.value.clone()]))
    }
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Returns the text without blanks at its ends.
fn trim(text: &str) -> &str {
    let text = &text[text.bytes().take_while(is_blank).count()..];
    &text[..text.len() - text.bytes().rev().take_while(is_blank).count()]
}

impl Parsed {
    fn header(&self) -> &str {
        std::str::from_utf8(self.header.as_bytes()).unwrap_or_default()
    }
}

fn has_same_pairs(parsed: &Metadata, stored: &Metadata) -> bool {
    let kept_by_key: HashMap<_, _> = stored.iter().collect();
    parsed.iter().len() == stored.iter().len()
        && parsed.iter().all(|(key, value)| {
            let stored = kept_by_key.get(key);
            stored.is_some_and(|&stored| value == stored || is_text_of(stored, value))
        })
}

/// Returns whether a stored text corresponds to a value. Stores replace invalid UTF-8 by U+FFFD,
/// one for each byte as Go does, or one for each broken character.
fn is_text_of(stored: &[u8], value: &[u8]) -> bool {
    const PREFIX: &[u8] = "\u{fffd}".as_bytes();
    if String::from_utf8_lossy(value).as_bytes() == stored {
        return true;
    }
    let mut rest = Some(stored);
    for chunk in value.utf8_chunks() {
        rest = rest.and_then(|rest| rest.strip_prefix(chunk.valid().as_bytes()));
        for _ in chunk.invalid() {
            rest = rest.and_then(|rest| rest.strip_prefix(PREFIX));
        }
    }
    rest.is_some_and(<[u8]>::is_empty)
}

fn encode(pairs: &[(String, Vec<u8>)]) -> String {
    let len = |(key, value): &(String, Vec<u8>)| key.len() + value.len() / 3 * 4 + 6;
    let mut header = String::with_capacity(pairs.iter().map(len).sum());
    for (key, value) in pairs {
        if !header.is_empty() {
            header.push(',');
        }
        header.push_str(key);
        if !value.is_empty() {
            header.push(' ');
            STANDARD.encode_string(value, &mut header);
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_spaces_and_tabs_are_blanks() {
        let parsed = Metadata::from_header("\t a \tYQ\t").unwrap();
        assert_eq!(parsed.get("a"), Some(&b"a"[..]));
        for header in ["\na YQ", "a YQ\n", "a \x0cYQ"] {
            assert!(Metadata::from_header(header).is_err(), "{header:?}");
        }
    }

    #[test]
    fn parses_headers_of_clients() {
        let m = Metadata::from_header("filename d29ybGQucGRm,empty ,bare, padded YQ").unwrap();
        assert_eq!(m.get("filename"), Some(&b"world.pdf"[..]));
        assert_eq!(m.get("empty"), Some(&b""[..]));
        assert_eq!(m.get("bare"), Some(&b""[..]));
        assert_eq!(m.get("padded"), Some(&b"a"[..]));
        assert_eq!(m.header(), "filename d29ybGQucGRm,empty ,bare, padded YQ");
        assert!(Metadata::from_header(" ").unwrap().is_empty());
    }

    #[test]
    fn rejects_malformed_headers() {
        use InvalidMetadata::*;
        for (header, error) in [
            ("a YQ==,a YQ==", Duplicate("a".into())),
            ("a ,,b", EmptyElement),
            ("a YQ==,", EmptyElement),
            ("a ?", Value("a".into())),
            ("a _-_-", Value("a".into())),
            ("a YQ== YQ==", TrailingData("a".into())),
            ("ä YQ==", Key("ä".into())),
        ] {
            assert_eq!(Metadata::from_header(header), Err(error), "{header}");
        }
    }

    #[test]
    fn many_keys_are_parsed_in_linear_time() {
        let header: Vec<String> = (0..100_000).map(|n| format!("{n} YQ==")).collect();
        let header = header.join(",");
        let started = std::time::Instant::now();
        let parsed = Metadata::from_header(&header).unwrap();
        let printed = Metadata::from_pairs(parsed.iter());
        assert_eq!(printed.with_header(&header), parsed);
        // Comparing each key with each other would take minutes in a debug build.
        assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    }

    #[test]
    fn limits_are_in_the_error() {
        let header = |n: usize| {
            let pairs: Vec<_> = (0..n).map(|i| format!("k{i} YQ==")).collect();
            pairs.join(",")
        };
        let parse = |header: &str| Metadata::from_client(header, Syntax::Strict);
        assert_eq!(parse(&header(128)).unwrap().iter().len(), 128);
        let error = parse(&header(129)).unwrap_err();
        assert_eq!(error, InvalidMetadata::TooManyPairs(129));
        assert!(error.to_string().contains("at most 128"), "{error}");
        let long = |bytes: usize| format!("a {}", "A".repeat(bytes - 2));
        assert!(parse(&long(16 * 1024 - 2)).is_ok());
        let error = parse(&long(16 * 1024 + 1)).unwrap_err();
        assert!(error.to_string().contains("at most 16384"), "{error}");
        // The limits do not apply to stored metadata.
        assert!(Metadata::from_header(&header(129)).is_ok());
    }

    #[test]
    fn lenient_syntax_keeps_the_pairs_that_tusd_keeps() {
        let parse = |header: &str| Metadata::from_client(header, Syntax::Lenient).unwrap();
        for (sent, stored) in [
            ("a YQ==,b ?,c YQ", "a YQ=="),
            ("a YQ== YQ==,,b eA==,", "b eA=="),
            ("a YQ==,a eA==", "a eA=="),
            ("a,b ?", "a"),
            ("?", "?"),
            (",", ""),
            // A valid header stays as received.
            ("a ,b YQ", "a ,b YQ"),
        ] {
            let parsed = parse(sent);
            assert_eq!(parsed.header(), stored, "{sent}");
            if !stored.is_empty() {
                assert_eq!(Metadata::from_header(stored).unwrap(), parsed);
            }
        }
    }

    #[test]
    fn pairs_survive_a_round_trip_through_the_header() {
        let m = Metadata::from_pairs([("b", "x"), ("a", ""), ("b", "y"), ("bad key", "z")]);
        assert_eq!(m.header(), "b eQ==,a");
        assert_eq!(Metadata::from_header(m.header()).unwrap(), m);
    }

    #[test]
    fn stored_header_is_used_only_if_equivalent() {
        let stored = Metadata::from_pairs([("b", "y"), ("a", "")]);
        assert_eq!(
            stored.clone().with_header("a ,b eQ==").header(),
            "a ,b eQ=="
        );
        assert_eq!(stored.with_header("a ,b eg==").header(), "b eQ==,a");
        // EB AF 16: a broken character of two bytes, as stores write it that replace bytes or characters.
        for text in ["\u{fffd}\u{fffd}\u{16}", "\u{fffd}\u{16}"] {
            let stored = Metadata::from_pairs([("a", text)]).with_header("a 668W");
            assert_eq!(stored.get("a"), Some(&b"\xeb\xaf\x16"[..]));
        }
        let other = Metadata::from_pairs([("a", "\u{fffd}\u{fffd}\u{fffd}\u{16}")]);
        assert_eq!(other.clone().with_header("a 668W"), other);
    }

    #[test]
    fn the_last_of_many_equal_keys_is_found() {
        for header in ["b,a,b", "a YQ==,b,c,a", "c,b,a,a YQ"] {
            let error = Metadata::from_header(header).unwrap_err();
            assert!(matches!(error, InvalidMetadata::Duplicate(_)), "{error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_finds_keys_values_and_canonical_headers(
            elements in proptest::collection::vec((
                proptest::sample::subsequence(vec![" ", "\t"], 0..2),
                0..6_usize,
                proptest::sample::select(vec![" ", "  ", "\t"]),
                proptest::sample::select(vec!["", "YQ==", "YQ", "YWI=", "YWJj", "/+8="]),
                proptest::sample::select(vec!["", " ", "\t"]),
            ), 1..6),
        ) {
            let mut expected: Vec<(String, Vec<u8>)> = Vec::new();
            let mut header = Vec::new();
            for (before, key, separator, value, after) in elements {
                let key = ["a", "b", "c", "a=", "b64", "~"][key];
                if expected.iter().any(|(other, _)| other == key) {
                    continue;
                }
                expected.push((key.into(), LENIENT_BASE64.decode(value).unwrap()));
                let before = before.concat();
                header.push(if value.is_empty() && after.is_empty() {
                    format!("{before}{key}")
                } else {
                    format!("{before}{key}{separator}{value}{after}")
                });
            }
            let header = header.join(",");
            let parsed = Metadata::from_header(&header).unwrap();
            let pairs: Vec<_> = parsed.iter().map(|(k, v)| (k.to_owned(), v.to_vec())).collect();
            prop_assert_eq!(&pairs, &expected);
            prop_assert_eq!(parsed.header(), &header);
            for (key, value) in &expected {
                prop_assert_eq!(parsed.get(key), Some(&**value));
            }
            let again = Metadata::from_pairs(expected.iter().cloned());
            prop_assert!(again.iter().eq(parsed.iter()));
            expected.sort();
            let sorted = Metadata::from_pairs(expected);
            prop_assert!(sorted.is_canonical());
            prop_assert_eq!(parsed.is_canonical(), sorted.header() == header);
        }
    }
}
