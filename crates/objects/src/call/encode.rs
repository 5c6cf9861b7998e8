//! Percent-encoding of everything but `A-Z a-z 0-9 - . _ ~`, once, as signatures require it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// Encodes a name as one segment of a path, or a value of a query.
pub fn segment(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

/// Encodes a key as a path, whose slashes stay.
pub fn path(key: &str) -> PercentEncode<'_> {
    utf8_percent_encode(key, RESERVED_IN_PATH)
}
