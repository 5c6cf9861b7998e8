//! Conversions between Rust values and columns: times in milliseconds, counts, and texts without U+0000.
//!
//! They clamp and never fail, so that an extreme value does not prevent a row from being read or written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Converts a duration to milliseconds, the unit of all stored times.
pub fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Converts a time to milliseconds since 1970.
pub fn unix_millis(at: SystemTime) -> i64 {
    millis(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Converts milliseconds since 1970 to a time.
pub fn from_unix_millis(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(unsigned(millis))
}

/// Converts a count to a column, clamped to its maximum.
pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Converts a column to a count; negative numbers become 0.
pub fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// Replaces U+0000, which PostgreSQL does not store.
pub fn replace_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
