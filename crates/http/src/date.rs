//! The `Date` of responses (RFC 9110 section 6.6.1), formatted once a second on each thread.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

thread_local! {
    /// A time in seconds, as the value of the field.
    static LAST: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
}

/// Calls `use_it` with the date, if the clock is right enough to have one.
pub(super) fn with<R>(use_it: impl FnOnce(&HeaderValue) -> R) -> Option<R> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    LAST.with_borrow_mut(|last| {
        if last.as_ref().is_none_or(|(time, _)| *time != seconds) {
            let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            *last = Some((seconds, HeaderValue::try_from(date).ok()?));
        }
        last.as_ref().map(|(_, value)| use_it(value))
    })
}
