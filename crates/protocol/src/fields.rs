//! Field values: parsers, numbers, dates.

use std::{
    cell::RefCell,
    io::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, header::GetAll};
use httpdate::HttpDate;

use crate::{Syntax, TUS_VERSION, headers::TUS_RESUMABLE};

/// A reason why a field is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidField {
    /// The field occurs more than once.
    #[error("the header was sent more than once")]
    Repeated,
    /// The value has bytes other than visible ASCII and blanks.
    #[error("the value has characters other than ASCII")]
    NotText,
    /// Not a plain number (digits only, no sign, fraction or exponent).
    #[error("the value must be a whole number of bytes in plain digits")]
    NotANumber,
    /// Larger than 2^63-1.
    #[error("the number is too large")]
    TooLarge,
}

/// Returns the trimmed value of a field that may occur only once.
///
/// # Errors
/// [`InvalidField::Repeated`], [`InvalidField::NotText`].
pub fn single_value<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, InvalidField> {
    let Some(first) = headers.get(name) else {
        return Ok(None);
    };
    // In most heads no name occurs twice.
    if headers.len() > headers.keys_len() && headers.get_all(name).iter().nth(1).is_some() {
        return Err(InvalidField::Repeated);
    }
    let text = first.to_str().map_err(|_| InvalidField::NotText)?;
    Ok(Some(text.trim_ascii()))
}

/// The fields of a head. Most of those that a parser looks for are absent, which a set of bits of names shows.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    map: &'a HeaderMap,
    names: FieldNames,
}

/// The names of a head's fields, as a set of bits. Two more are about its `Tus-Resumable`.
#[derive(Debug, Clone, Copy)]
pub struct FieldNames(u64);

/// It is [`TUS_VERSION`], once.
const KNOWN_VERSION: u64 = 1 << 62;
const OTHER_VERSION: u64 = 1 << 63;

impl<'a> Fields<'a> {
    /// Reads each name once.
    #[must_use]
    pub fn new(map: &'a HeaderMap) -> Self {
        const VERSION: u64 = bit(b"tus-resumable");
        let mut names = 0;
        for (name, value) in map {
            let bit = name_bit(name);
            if bit == VERSION && *name == TUS_RESUMABLE {
                let is_known = value.as_bytes().trim_ascii() == TUS_VERSION.as_bytes();
                names |= match is_known && names & KNOWN_VERSION == 0 {
                    true => KNOWN_VERSION,
                    false => OTHER_VERSION,
                };
            }
            names |= bit;
        }
        let names = FieldNames(names);
        Self { map, names }
    }

    /// Returns whether `Tus-Resumable` is present.
    pub(crate) fn has_version(self) -> bool {
        self.names.0 & (KNOWN_VERSION | OTHER_VERSION) != 0
    }

    /// Returns whether `Tus-Resumable` is [`TUS_VERSION`].
    pub(crate) fn has_known_version(self) -> bool {
        self.names.0 & (KNOWN_VERSION | OTHER_VERSION) == KNOWN_VERSION
    }

    /// The names are those of the head that `map` is of; some fields may have been removed since.
    #[inline]
    #[must_use]
    pub fn with_names(map: &'a HeaderMap, names: FieldNames) -> Self {
        Self { map, names }
    }

    /// Returns the names without the fields.
    #[inline]
    #[must_use]
    pub fn names(self) -> FieldNames {
        self.names
    }

    pub(crate) fn map(&self) -> &'a HeaderMap {
        self.map
    }

    /// Returns false if a field is absent, without looking for it.
    #[inline]
    #[must_use]
    pub fn could_have(&self, name: &HeaderName) -> bool {
        self.names.0 & name_bit(name) != 0
    }

    /// Returns whether a field is present.
    #[inline]
    #[must_use]
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.could_have(name) && self.map.contains_key(name)
    }

    /// See [`HeaderMap::get_all`]; `None` if the field is absent.
    pub(crate) fn all(&self, name: &HeaderName) -> Option<GetAll<'a, HeaderValue>> {
        self.could_have(name).then(|| self.map.get_all(name))
    }

    /// See [`single_value`].
    ///
    /// # Errors
    /// Those of [`single_value`].
    #[inline]
    pub fn single(&self, name: &HeaderName) -> Result<Option<&'a str>, InvalidField> {
        match self.could_have(name) {
            true => single_value(self.map, name),
            false => Ok(None),
        }
    }

    /// The field may occur only once. tusd accepts a sign.
    pub(crate) fn size(
        &self,
        name: &HeaderName,
        syntax: Syntax,
    ) -> Result<Option<u64>, InvalidField> {
        let unsigned = |text: &'_ str| match text.strip_prefix('+') {
            Some(rest) if syntax == Syntax::Lenient => parse_size(rest),
            _ => parse_size(text),
        };
        self.single(name)?.map(unsigned).transpose()
    }
}

impl<'a> From<&'a HeaderMap> for Fields<'a> {
    fn from(map: &'a HeaderMap) -> Self {
        Self::new(map)
    }
}

#[inline]
fn name_bit(name: &HeaderName) -> u64 {
    bit(name.as_str().as_bytes())
}

/// No name is empty.
#[inline]
const fn bit(name: &[u8]) -> u64 {
    let (last, middle) = (name[name.len() - 1], name[name.len() / 2]);
    // Usual names and those that are looked for have different bits.
    1 << ((name.len() + 2 * last as usize + 10 * middle as usize) % 62)
}

/// Parses a number of bytes: digits only, at most 2^63-1.
///
/// # Errors
/// [`InvalidField::NotANumber`], [`InvalidField::TooLarge`].
pub fn parse_size(text: &str) -> Result<u64, InvalidField> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidField::NotANumber);
    }
    match text.parse::<i64>() {
        Ok(n) => Ok(n.unsigned_abs()),
        Err(_) => Err(InvalidField::TooLarge),
    }
}

/// Writes a number.
#[must_use]
pub fn number_value(number: u64) -> HeaderValue {
    const ZERO: HeaderValue = HeaderValue::from_static("0");
    if number == 0 {
        return ZERO;
    }
    text_value(&[itoa::Buffer::new().format(number)]).unwrap_or(ZERO)
}

/// Writes the parts of a value, one after another; `None` if one has characters that no value may have.
///
/// Values that are written on a thread share buffers, since most live no longer than a response. Unlike those of
/// `HeaderValue::from`, few of them allocate.
#[must_use]
pub fn text_value(parts: &[&str]) -> Option<HeaderValue> {
    /// A buffer is written again once its values are gone.
    const BUFFER: usize = 2048;
    thread_local! {
        static TEXT: RefCell<BytesMut> = RefCell::default();
    }
    TEXT.with_borrow_mut(|text| {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if text.capacity() < len {
            text.reserve(len.max(BUFFER));
        }
        parts
            .iter()
            .for_each(|part| text.extend_from_slice(part.as_bytes()));
        HeaderValue::from_maybe_shared(text.split().freeze()).ok()
    })
}

/// Writes a time in the format of HTTP (RFC 9110, section 5.6.7), in whole seconds.
///
/// Times that many responses have, such as the present one, are formatted once on each thread.
#[must_use]
pub fn date_value(at: SystemTime) -> HeaderValue {
    with_date(at, HeaderValue::clone)
}

/// Passes [`date_value`] on without copying it.
pub fn with_date<T>(at: SystemTime, done: impl FnOnce(&HeaderValue) -> T) -> T {
    /// A prime, so that times that differ by a lifetime of days have their own places.
    const PLACES: usize = 61;
    /// The last second of the year 9999, after which there is no format.
    const MAX_SECONDS: u64 = 253_402_300_799;
    thread_local! {
        static RECENT: RefCell<[Option<(u64, HeaderValue)>; PLACES]> =
            const { RefCell::new([const { None }; PLACES]) };
    }
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = seconds.min(MAX_SECONDS);
    RECENT.with_borrow_mut(|recent| {
        let place = &mut recent[(seconds % PLACES as u64) as usize];
        if let Some((time, value)) = place
            && *time == seconds
        {
            return done(value);
        }
        let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
        let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(seconds));
        // All dates have this length.
        let _ = write!(&mut text[..], "{date}");
        let value = HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""));
        done(&place.insert((seconds, value)).1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_plain_digits() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("007"), Ok(7));
        assert_eq!(parse_size("9223372036854775807"), Ok(i64::MAX as u64));
        for bad in ["", "+5", "-1", "5.0", "1e3", "0x10", "٣", "5 5"] {
            assert_eq!(parse_size(bad), Err(InvalidField::NotANumber), "{bad:?}");
        }
        for large in ["9223372036854775808", "99999999999999999999999999"] {
            assert_eq!(parse_size(large), Err(InvalidField::TooLarge));
        }
    }

    #[test]
    fn numbers_and_dates_are_written() {
        for number in [0, 1, 5000, u64::MAX] {
            assert_eq!(number_value(number), number.to_string());
        }
        // Some of them have the same place.
        for seconds in [0, 13, 26, 13, 1_763_625_141, 253_402_300_799, 0] {
            let at = UNIX_EPOCH + Duration::from_secs(seconds);
            let value = date_value(at + Duration::from_millis(999));
            assert_eq!(value, httpdate::fmt_http_date(at));
        }
        let last = "Fri, 31 Dec 9999 23:59:59 GMT";
        let at = UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(date_value(at), last);
        assert_eq!(
            date_value(UNIX_EPOCH - Duration::from_secs(1)),
            date_value(UNIX_EPOCH)
        );
    }

    #[test]
    fn values_of_a_buffer_stay_when_it_is_written_again() {
        let number = |n: u64| n * 1_000_003;
        let kept: Vec<_> = (1..2000).map(|n| number_value(number(n))).collect();
        for (n, value) in (1..2000).zip(&kept) {
            assert_eq!(value, &number(n).to_string());
            assert_eq!(
                text_value(&["a", "", &number(n).to_string()])
                    .unwrap()
                    .len(),
                1 + value.len()
            );
        }
        let long = "x".repeat(10_000);
        assert_eq!(text_value(&[&long, "y"]).unwrap(), format!("{long}y"));
        assert_eq!(text_value(&["a", "\n"]), None);
        assert_eq!(text_value(&[]).unwrap(), "");
    }

    #[test]
    fn fields_are_found_as_in_their_map() {
        use crate::headers::*;
        let names = [
            TUS_RESUMABLE,
            UPLOAD_OFFSET,
            UPLOAD_LENGTH,
            UPLOAD_CONCAT,
            UPLOAD_METADATA,
            UPLOAD_CHECKSUM,
        ];
        for present in 0_u32..1 << names.len() {
            let mut map = HeaderMap::new();
            for (n, name) in names
                .iter()
                .enumerate()
                .filter(|(n, _)| present & 1 << n != 0)
            {
                map.append(name, HeaderValue::from(n));
                if n % 2 == 1 {
                    map.append(name, HeaderValue::from(n));
                }
            }
            let fields = Fields::new(&map);
            for name in &names {
                assert_eq!(fields.single(name), single_value(&map, name));
                assert!(fields.could_have(name) || !map.contains_key(name));
            }
        }
    }

    #[test]
    fn a_field_counts_once() {
        let name = HeaderName::from_static("upload-offset");
        let mut headers = HeaderMap::new();
        assert_eq!(single_value(&headers, &name), Ok(None));
        headers.append(&name, HeaderValue::from_static(" 5\t"));
        let size = |headers: &_, syntax| Fields::new(headers).size(&name, syntax);
        assert_eq!(size(&headers, Syntax::Strict), Ok(Some(5)));
        headers.insert(&name, HeaderValue::from_static("+5"));
        let signed = size(&headers, Syntax::Strict);
        assert_eq!(signed, Err(InvalidField::NotANumber));
        assert_eq!(size(&headers, Syntax::Lenient), Ok(Some(5)));
        headers.append(&name, HeaderValue::from_static("5"));
        assert_eq!(single_value(&headers, &name), Err(InvalidField::Repeated));
    }
}
