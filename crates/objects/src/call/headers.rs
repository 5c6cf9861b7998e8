//! The headers of responses that all clouds send. It knows no cloud's own.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use http::{
    HeaderMap, StatusCode,
    header::{AsHeaderName, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, LAST_MODIFIED, RETRY_AFTER},
    response::Parts,
};

/// Returns the text of a header; `None` if it is missing, empty, or not ASCII.
pub fn header_text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let text = headers.get(name)?.to_str().ok()?;
    Some(text).filter(|text| !text.is_empty())
}

/// Returns `Content-Length`.
pub fn content_length(head: &Parts) -> Option<u64> {
    header_text(&head.headers, CONTENT_LENGTH)?.parse().ok()
}

/// Returns the entity tag.
pub(crate) fn etag(head: &Parts) -> Option<String> {
    header_text(&head.headers, ETAG).map(str::to_owned)
}

/// Returns the time of the service.
pub fn service_time(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(header_text(headers, DATE)?).ok()
}

/// Returns a sentence about the difference between the clocks of this machine and of the service.
pub fn clock_skew(headers: &HeaderMap) -> Option<String> {
    let theirs = service_time(headers)?;
    let (apart, word) = match SystemTime::now().duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    let seconds = apart.as_secs();
    Some(format!(
        "this machine's clock is {seconds} s {word} the service's"
    ))
}

/// Returns the time of the last modification.
pub(crate) fn modified(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(header_text(headers, LAST_MODIFIED)?).ok()
}

/// Returns the delay that the service requests: seconds, or until a date.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = header_text(headers, RETRY_AFTER)?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = httpdate::parse_http_date(value).ok()?;
            date.duration_since(SystemTime::now()).ok()
        }
    }
}

/// Returns the range of the object that a body has, and the size of the object.
///
/// # Errors
/// The response has another range than was requested, or its length is unknown.
pub fn body_range(
    head: &Parts,
    requested: Option<Range<u64>>,
) -> Result<(Range<u64>, u64), &'static str> {
    let bounds = match head.status {
        StatusCode::PARTIAL_CONTENT => content_range(&head.headers),
        _ => content_length(head).map(|length| (0..length, length)),
    };
    let (given, size) = bounds.ok_or("the response has no length")?;
    let expected = requested.map_or(0..size, |range| range.start..range.end.min(size));
    match given == expected {
        true => Ok((given, size)),
        false => Err("the service ignored the range"),
    }
}

fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, u64)> {
    let text = header_text(headers, CONTENT_RANGE)?;
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size): (u64, u64, u64) =
        (first.parse().ok()?, last.parse().ok()?, size.parse().ok()?);
    (first <= last && last < size).then_some((first..last + 1, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, text.parse().expect("a value"));
        headers
    }

    #[test]
    fn content_ranges() {
        let parse = |text: &str| content_range(&headers("content-range", text));
        assert_eq!(parse("bytes 0-9/443"), Some((0..10, 443)));
        assert_eq!(parse("bytes 442-442/443"), Some((442..443, 443)));
        for text in [
            "bytes 0-443/443",
            "bytes 5-4/9",
            "bytes */443",
            "bytes 0-9/*",
            "0-9/10",
            "",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn body_has_the_range_that_was_requested() {
        let range = |status: u16, name: &'static str, text: &str, requested| {
            let mut response = http::Response::new(());
            *response.status_mut() = status.try_into().expect("a status");
            *response.headers_mut() = headers(name, text);
            body_range(&response.into_parts().0, requested)
        };
        assert_eq!(range(200, "content-length", "9", None), Ok((0..9, 9)));
        assert_eq!(
            range(200, "content-length", "9", Some(0..99)),
            Ok((0..9, 9))
        );
        assert_eq!(
            range(206, "content-range", "bytes 3-8/9", Some(3..99)),
            Ok((3..9, 9))
        );
        range(200, "content-length", "9", Some(3..9)).expect_err("ignored");
        range(206, "content-length", "9", Some(3..9)).expect_err("no range");
    }

    #[test]
    fn delays_in_seconds_and_as_a_date() {
        let after = |value: &str| retry_after(&headers("retry-after", value));
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        let until = after(&date).expect("a time");
        assert!(
            until > Duration::from_secs(55) && until <= Duration::from_secs(60),
            "{until:?}"
        );
        assert_eq!(after("soon"), None);
        assert_eq!(after("Thu, 01 Jan 1970 00:00:00 GMT"), None);
    }
}
