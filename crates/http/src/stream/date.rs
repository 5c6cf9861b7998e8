//! The `Date` of responses (RFC 9110 section 6.6.1), formatted once a second on each thread.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

thread_local! {
    /// A time in seconds, as the value of the field.
    static LAST: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
}

pub(super) fn now() -> Option<HeaderValue> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    LAST.with_borrow_mut(|last| {
        if last.as_ref().is_none_or(|(time, _)| *time != seconds) {
            let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            *last = Some((seconds, HeaderValue::try_from(date).ok()?));
        }
        last.as_ref().map(|(_, value)| value.clone())
    })
}
