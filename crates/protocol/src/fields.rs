//! Field values: parsers, numbers, dates.

use std::{
    cell::RefCell,
    io::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use httpdate::HttpDate;

use crate::Syntax;

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
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(InvalidField::Repeated);
    }
    let text = first.to_str().map_err(|_| InvalidField::NotText)?;
    Ok(Some(text.trim_matches([' ', '\t'])))
}

/// Parses a number of bytes: digits only, at most 2^63-1 (E-3).
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

/// Writes a number. Unlike `HeaderValue::from`, it allocates at most once.
#[must_use]
pub fn number_value(number: u64) -> HeaderValue {
    const ZERO: HeaderValue = HeaderValue::from_static("0");
    if number == 0 {
        return ZERO;
    }
    HeaderValue::from_str(itoa::Buffer::new().format(number)).unwrap_or(ZERO)
}

/// Writes a time in the format of HTTP (RFC 9110, section 5.6.7), in whole seconds.
///
/// Times that many responses have, such as the present one, are formatted once on each thread.
#[must_use]
pub fn date_value(at: SystemTime) -> HeaderValue {
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
            return value.clone();
        }
        let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
        let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(seconds));
        // All dates have this length.
        let _ = write!(&mut text[..], "{date}");
        let value = HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""));
        place.insert((seconds, value)).1.clone()
    })
}

/// The field may occur only once. tusd accepts a sign.
pub(crate) fn size(
    headers: &HeaderMap,
    name: &HeaderName,
    syntax: Syntax,
) -> Result<Option<u64>, InvalidField> {
    let text = single_value(headers, name)?;
    let unsigned = |text: &'_ str| match text.strip_prefix('+') {
        Some(rest) if syntax == Syntax::Lenient => parse_size(rest),
        _ => parse_size(text),
    };
    text.map(unsigned).transpose()
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
    fn a_field_counts_once() {
        let name = HeaderName::from_static("upload-offset");
        let mut headers = HeaderMap::new();
        assert_eq!(single_value(&headers, &name), Ok(None));
        headers.append(&name, HeaderValue::from_static(" 5\t"));
        assert_eq!(size(&headers, &name, Syntax::Strict), Ok(Some(5)));
        headers.insert(&name, HeaderValue::from_static("+5"));
        let signed = size(&headers, &name, Syntax::Strict);
        assert_eq!(signed, Err(InvalidField::NotANumber));
        assert_eq!(size(&headers, &name, Syntax::Lenient), Ok(Some(5)));
        headers.append(&name, HeaderValue::from_static("5"));
        assert_eq!(single_value(&headers, &name), Err(InvalidField::Repeated));
    }
}
