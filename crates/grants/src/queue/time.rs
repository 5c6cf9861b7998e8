//! Times in the database: milliseconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) const MINUTE: i64 = 60_000;

pub(super) fn millis(at: SystemTime) -> i64 {
    span(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(super) fn span(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}
