//! Parsers of field values.

use http::{HeaderMap, HeaderName};

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
    use http::HeaderValue;

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
