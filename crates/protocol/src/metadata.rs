//! `Upload-Metadata` (tus 1.0.0, Creation).

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use base64::{
    Engine,
    engine::{
        DecodePaddingMode,
        general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD},
    },
};

/// Padding may be missing, but not wrong; the alphabet is the standard one (T-CRE-14, E-17).
const LENIENT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a client or a hook said about a file: unique keys, each with a value of any bytes.
///
/// It remembers the header it came from, because HEAD must give back what was sent at creation
/// (T-CRE-18), byte for byte (E-16).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    pairs: Vec<(String, Vec<u8>)>,
    header: String,
}

/// Why an `Upload-Metadata` header is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMetadata {
    /// Two commas with nothing between, or a leading or trailing comma.
    #[error("there is an empty element between two commas")]
    EmptyElement,
    /// A key with characters other than visible ASCII.
    #[error("the key {0:?} holds characters other than visible ASCII")]
    Key(String),
    /// The same key twice.
    #[error("the key {0:?} occurs twice")]
    Duplicate(String),
    /// A value that is not standard Base64.
    #[error("the value of {0:?} is not Base64 (RFC 4648, standard alphabet)")]
    Value(String),
    /// More than a key and a value in one element.
    #[error("the element of {0:?} has more than a key and a value")]
    TrailingData(String),
    /// A header longer than [`Metadata::MAX_BYTES`].
    #[error("it has {0} bytes, at most {max} are allowed", max = Metadata::MAX_BYTES)]
    TooLong(usize),
    /// More pairs than [`Metadata::MAX_PAIRS`].
    #[error("it has {0} pairs, at most {max} are allowed", max = Metadata::MAX_PAIRS)]
    TooManyPairs(usize),
}

/// How the metadata of clients is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MetadataSyntax {
    /// A malformed pair is an error, so that its sender hears of it.
    #[default]
    Strict,
    /// A malformed pair is dropped, and of a key given twice the last value counts, as in tusd.
    Lenient,
}

impl Metadata {
    /// The longest header that a client may send, in bytes.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// The most pairs that a client may send.
    pub const MAX_PAIRS: usize = 128;

    /// Parses a client's header, within [`Self::MAX_BYTES`] and [`Self::MAX_PAIRS`]: each upload's
    /// metadata is kept in memory and in events.
    ///
    /// # Errors
    /// [`InvalidMetadata`].
    pub fn from_client(header: &str, syntax: MetadataSyntax) -> Result<Self, InvalidMetadata> {
        if header.len() > Self::MAX_BYTES {
            return Err(InvalidMetadata::TooLong(header.len()));
        }
        let pairs = header.split(',').count();
        if pairs > Self::MAX_PAIRS {
            return Err(InvalidMetadata::TooManyPairs(pairs));
        }
        match (Self::from_header(header), syntax) {
            (Err(_), MetadataSyntax::Lenient) => Ok(Self::from_valid_pairs(header)),
            (parsed, _) => parsed,
        }
    }

    /// The pairs of a header that tusd would take; the header is written anew.
    fn from_valid_pairs(header: &str) -> Self {
        Self::from_pairs(header.split(',').filter_map(|element| {
            let mut words = element.trim_matches([' ', '\t']).split(' ');
            let (key, value) = (words.next()?, words.next().unwrap_or_default());
            if words.next().is_some() {
                return None;
            }
            Some((key, STANDARD.decode(value).ok()?))
        }))
    }

    /// Parses the header. Accepted beyond the letter of the specification: blanks around commas, a
    /// key with or without a space when the value is empty (tus-js-client sends one), missing
    /// padding. An empty header is no metadata (E-15).
    ///
    /// # Errors
    /// [`InvalidMetadata`] names the key and what is wrong with it.
    pub fn from_header(header: &str) -> Result<Self, InvalidMetadata> {
        if header.trim_matches([' ', '\t']).is_empty() {
            return Ok(Self::default());
        }
        let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
        // A set, not a search: a long header may hold many thousands of keys.
        let mut keys = HashSet::new();
        for element in header.split(',') {
            let mut words = element.split([' ', '\t']).filter(|word| !word.is_empty());
            let key = words.next().ok_or(InvalidMetadata::EmptyElement)?;
            if !key.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(InvalidMetadata::Key(key.into()));
            }
            if !keys.insert(key) {
                return Err(InvalidMetadata::Duplicate(key.into()));
            }
            let value = LENIENT_BASE64
                .decode(words.next().unwrap_or_default())
                .map_err(|_| InvalidMetadata::Value(key.into()))?;
            if words.next().is_some() {
                return Err(InvalidMetadata::TrailingData(key.into()));
            }
            pairs.push((key.into(), value));
        }
        Ok(Self {
            pairs,
            header: header.into(),
        })
    }

    /// Metadata that came some other way than by a header. Keys that can't stand in a header are
    /// left out, and of a key given twice the last value counts.
    pub fn from_pairs<K, V>(given: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<String>,
        V: Into<Vec<u8>>,
    {
        let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
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
        let header = encode(&pairs);
        Self { pairs, header }
    }

    /// The pairs together with the header they came from, if that is what the header says; for
    /// stores which keep both. Otherwise the pairs win.
    #[must_use]
    pub fn with_header(self, header: &str) -> Self {
        match Self::from_header(header) {
            Ok(parsed) if same_pairs(&parsed.pairs, &self.pairs) => parsed,
            _ => self,
        }
    }

    /// The header as it was sent, or as it would be sent; empty if there is no metadata.
    #[must_use]
    pub fn header(&self) -> &str {
        &self.header
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.pairs
            .iter()
            .find(|(other, _)| other == key)
            .map(|(_, value)| value.as_slice())
    }

    /// The value of a key as text; bytes that aren't UTF-8 become U+FFFD.
    #[must_use]
    pub fn get_text(&self, key: &str) -> Option<Cow<'_, str>> {
        self.get(key).map(String::from_utf8_lossy)
    }

    /// Keys and values in the order given.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        self.pairs
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()))
    }
}

fn same_pairs(parsed: &[(String, Vec<u8>)], kept: &[(String, Vec<u8>)]) -> bool {
    let kept_by_key: HashMap<_, _> = kept.iter().map(|(key, value)| (key, value)).collect();
    parsed.len() == kept.len()
        && parsed.iter().all(|(key, value)| {
            let kept = kept_by_key.get(key);
            kept.is_some_and(|&kept| value == kept || is_text_of(kept, value))
        })
}

/// Whether this is how stores keep a value, which they do as text: what isn't UTF-8 has become U+FFFD
/// there, one for each byte as Go writes them, or one for each broken character.
fn is_text_of(kept: &[u8], value: &[u8]) -> bool {
    const PREFIX: &[u8] = "\u{fffd}".as_bytes();
    if String::from_utf8_lossy(value).as_bytes() == kept {
        return true;
    }
    let mut rest = Some(kept);
    for chunk in value.utf8_chunks() {
        rest = rest.and_then(|rest| rest.strip_prefix(chunk.valid().as_bytes()));
        for _ in chunk.invalid() {
            rest = rest.and_then(|rest| rest.strip_prefix(PREFIX));
        }
    }
    rest.is_some_and(<[u8]>::is_empty)
}

fn encode(pairs: &[(String, Vec<u8>)]) -> String {
    let mut header = String::new();
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
    use super::*;

    #[test]
    fn reads_what_clients_send() {
        let m = Metadata::from_header("filename d29ybGQucGRm,empty ,bare, padded YQ").unwrap();
        assert_eq!(m.get("filename"), Some(&b"world.pdf"[..]));
        assert_eq!(m.get("empty"), Some(&b""[..]));
        assert_eq!(m.get("bare"), Some(&b""[..]));
        assert_eq!(m.get("padded"), Some(&b"a"[..]));
        assert_eq!(m.header(), "filename d29ybGQucGRm,empty ,bare, padded YQ");
        assert!(Metadata::from_header(" ").unwrap().is_empty());
    }

    #[test]
    fn refuses_what_makes_no_sense() {
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
    fn a_hundred_thousand_keys_take_no_longer_than_reading_them() {
        let header: Vec<String> = (0..100_000).map(|n| format!("{n} YQ==")).collect();
        let header = header.join(",");
        let started = std::time::Instant::now();
        let parsed = Metadata::from_header(&header).unwrap();
        let printed = Metadata::from_pairs(parsed.iter());
        assert_eq!(printed.with_header(&header), parsed);
        // Comparing each key with each other takes minutes in a debug build.
        assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    }

    #[test]
    fn clients_are_told_the_bounds() {
        let header = |n: usize| {
            let pairs: Vec<_> = (0..n).map(|i| format!("k{i} YQ==")).collect();
            pairs.join(",")
        };
        let parse = |header: &str| Metadata::from_client(header, MetadataSyntax::Strict);
        assert_eq!(parse(&header(128)).unwrap().iter().len(), 128);
        let error = parse(&header(129)).unwrap_err();
        assert_eq!(error, InvalidMetadata::TooManyPairs(129));
        assert!(error.to_string().contains("at most 128"), "{error}");
        let long = |bytes: usize| format!("a {}", "A".repeat(bytes - 2));
        assert!(parse(&long(16 * 1024 - 2)).is_ok());
        let error = parse(&long(16 * 1024 + 1)).unwrap_err();
        assert!(error.to_string().contains("at most 16384"), "{error}");
        // What is stored already is read whatever its size.
        assert!(Metadata::from_header(&header(129)).is_ok());
    }

    #[test]
    fn the_lenient_syntax_keeps_what_tusd_keeps() {
        let parse = |header: &str| Metadata::from_client(header, MetadataSyntax::Lenient).unwrap();
        for (sent, kept) in [
            ("a YQ==,b ?,c YQ", "a YQ=="),
            ("a YQ== YQ==,,b eA==,", "b eA=="),
            ("a YQ==,a eA==", "a eA=="),
            ("a,b ?", "a"),
            ("?", "?"),
            (",", ""),
            // Nothing is wrong with it, so it stays as it was sent.
            ("a ,b YQ", "a ,b YQ"),
        ] {
            let parsed = parse(sent);
            assert_eq!(parsed.header(), kept, "{sent}");
            if !kept.is_empty() {
                assert_eq!(Metadata::from_header(kept).unwrap(), parsed);
            }
        }
    }

    #[test]
    fn pairs_become_a_header_and_back() {
        let m = Metadata::from_pairs([("b", "x"), ("a", ""), ("b", "y"), ("bad key", "z")]);
        assert_eq!(m.header(), "b eQ==,a");
        assert_eq!(Metadata::from_header(m.header()).unwrap(), m);
    }

    #[test]
    fn a_kept_header_is_used_only_if_it_says_the_same() {
        let kept = Metadata::from_pairs([("b", "y"), ("a", "")]);
        assert_eq!(kept.clone().with_header("a ,b eQ==").header(), "a ,b eQ==");
        assert_eq!(kept.with_header("a ,b eg==").header(), "b eQ==,a");
        // EB AF 16: a broken character of two bytes, as stores write it that count bytes or characters.
        for text in ["\u{fffd}\u{fffd}\u{16}", "\u{fffd}\u{16}"] {
            let kept = Metadata::from_pairs([("a", text)]).with_header("a 668W");
            assert_eq!(kept.get("a"), Some(&b"\xeb\xaf\x16"[..]));
        }
        let other = Metadata::from_pairs([("a", "\u{fffd}\u{fffd}\u{fffd}\u{16}")]);
        assert_eq!(other.clone().with_header("a 668W"), other);
    }
}
