//! Structured fields (RFC 9651), joined from all lines of a field.

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, FieldType as _, Item, Parser};

/// A field of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field<T> {
    Absent,
    /// It is malformed, of another type or out of range: to be ignored (`draft/syntax/`).
    Invalid,
    Valid(T),
}

impl<T> Field<T> {
    pub(super) fn valid(self) -> Option<T> {
        match self {
            Self::Valid(value) => Some(value),
            Self::Absent | Self::Invalid => None,
        }
    }
}

pub(super) fn boolean(headers: &HeaderMap, name: &HeaderName) -> Field<bool> {
    item(headers, name, |item| item.as_boolean())
}

/// A number of bytes; negative ones are invalid.
pub(super) fn integer(headers: &HeaderMap, name: &HeaderName) -> Field<u64> {
    item(headers, name, |item| {
        let number = item.as_integer()?;
        u64::try_from(i64::from(number)).ok()
    })
}

fn item<T>(
    headers: &HeaderMap,
    name: &HeaderName,
    read: impl FnOnce(&BareItem) -> Option<T>,
) -> Field<T> {
    let Some(text) = joined(headers, name) else {
        return Field::Absent;
    };
    let parsed: Result<Item, _> = Parser::new(&text).parse();
    match parsed.ok().and_then(|item| read(&item.bare_item)) {
        Some(value) => Field::Valid(value),
        None => Field::Invalid,
    }
}

/// Returns a dictionary; `None` if it is absent or malformed.
pub(super) fn dictionary(headers: &HeaderMap, name: &HeaderName) -> Option<Dictionary> {
    Parser::new(&joined(headers, name)?).parse().ok()
}

/// Writes a dictionary of integers. Those that do not fit are left out.
pub(super) fn write_integers(members: impl IntoIterator<Item = (&'static str, u64)>) -> String {
    let mut dictionary = Dictionary::new();
    for (key, number) in members {
        let number = i64::try_from(number)
            .ok()
            .and_then(|n| sfv::Integer::try_from(n).ok());
        if let (Ok(key), Some(number)) = (sfv::Key::try_from(key.to_owned()), number) {
            dictionary.insert(key, Item::new(number).into());
        }
    }
    dictionary.serialize().unwrap_or_default()
}

/// Writes a dictionary of one byte sequence.
pub(super) fn write_bytes(key: &'static str, bytes: &[u8]) -> String {
    let mut dictionary = Dictionary::new();
    if let Ok(key) = sfv::Key::try_from(key.to_owned()) {
        dictionary.insert(key, Item::new(bytes.to_vec()).into());
    }
    dictionary.serialize().unwrap_or_default()
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let mut lines = headers.get_all(name).iter();
    let mut text = lines.next()?.as_bytes().to_vec();
    for line in lines {
        text.extend_from_slice(b", ");
        text.extend_from_slice(line.as_bytes());
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const NAME: HeaderName = HeaderName::from_static("upload-complete");

    fn headers(lines: &[&str]) -> HeaderMap {
        let lines = lines.iter();
        lines
            .map(|line| (NAME, HeaderValue::from_str(line).unwrap()))
            .fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            })
    }

    #[test]
    fn booleans_are_items_with_parameters() {
        for (text, value) in [
            ("?1", true),
            ("?0", false),
            ("?0;x=1", false),
            (" ?1 ", true),
        ] {
            assert_eq!(
                boolean(&headers(&[text]), &NAME),
                Field::Valid(value),
                "{text:?}"
            );
        }
        for bad in [
            "1", "true", "?2", "?", "\"?1\"", "?1, ?1", "", "?1;", "?1 ?1",
        ] {
            assert_eq!(boolean(&headers(&[bad]), &NAME), Field::Invalid, "{bad:?}");
        }
        assert_eq!(boolean(&headers(&["?1", "?1"]), &NAME), Field::Invalid);
        assert_eq!(boolean(&HeaderMap::new(), &NAME), Field::Absent);
    }

    #[test]
    fn integers_have_up_to_15_digits() {
        let largest = "999999999999999";
        for (text, value) in [
            ("0", 0),
            ("42", 42),
            ("007", 7),
            ("5;a", 5),
            (largest, 999_999_999_999_999),
        ] {
            assert_eq!(
                integer(&headers(&[text]), &NAME),
                Field::Valid(value),
                "{text:?}"
            );
        }
        for bad in [
            "+5",
            "-1",
            "5.0",
            "1e3",
            "0x10",
            "\"5\"",
            "1000000000000000",
            "5 6",
            "5, 5",
            "",
        ] {
            assert_eq!(integer(&headers(&[bad]), &NAME), Field::Invalid, "{bad:?}");
        }
    }

    #[test]
    fn limits_are_written_as_a_dictionary() {
        let members = [("min-size", 0), ("max-size", 7), ("max-age", 1 << 60)];
        assert_eq!(write_integers(members), "min-size=0, max-size=7");
    }
}
