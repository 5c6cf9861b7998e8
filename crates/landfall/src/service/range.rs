//! Byte ranges (RFC 9110, section 14) and the conditions around them (section 13).

use std::{ops::Range, time::SystemTime};

use http::{HeaderMap, HeaderName, header};

/// What a `Range` header asks of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything: no header, or one that has to be ignored.
    All,
    /// One range. Several ranges are answered with everything, as the RFC allows.
    Part(Range<u64>),
    /// A range outside the resource.
    Outside,
}

/// Parses `Range` for a resource of `length` bytes.
pub(crate) fn parse(value: Option<&str>, length: u64) -> Wanted {
    let Some(value) = value else {
        return Wanted::All;
    };
    let Some((unit, set)) = value.split_once('=') else {
        return Wanted::All;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return Wanted::All;
    }
    let Some((first, last)) = set.trim().split_once('-') else {
        return Wanted::All;
    };
    let number = |text: &str| -> Option<u64> {
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Wanted::All,
        (Some(first), Some(_)) if first >= length => Wanted::Outside,
        (Some(first), Some(last)) => Wanted::Part(first..last.saturating_add(1).min(length)),
        (Some(_), None) if !last.is_empty() => Wanted::All,
        (Some(first), None) if first >= length => Wanted::Outside,
        (Some(first), None) => Wanted::Part(first..length),
        (None, Some(suffix)) if first.is_empty() => match suffix {
            0 => Wanted::Outside,
            _ if length == 0 => Wanted::Outside,
            suffix => Wanted::Part(length.saturating_sub(suffix)..length),
        },
        _ => Wanted::All,
    }
}

/// What the request's conditions say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Go on; `Range` counts only if the flag is set.
    Go {
        /// Whether `If-Range` lets `Range` count.
        range: bool,
    },
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Evaluates `If-Match`, `If-Unmodified-Since`, `If-None-Match`, `If-Modified-Since` and `If-Range`
/// in the order of RFC 9110, section 13.2.2.
pub(crate) fn condition(headers: &HeaderMap, etag: &str, modified: SystemTime) -> Condition {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let date = |name| text(name).and_then(|value| httpdate::parse_http_date(value).ok());
    // Dates in headers have whole seconds.
    let is_newer = |than: SystemTime| {
        modified
            .duration_since(than)
            .is_ok_and(|newer| newer.as_secs() >= 1)
    };
    let lists = |list: &str, weakly: bool| {
        list.trim() == "*"
            || list.split(',').map(str::trim).any(|other| {
                other == etag || weakly && other.strip_prefix("W/").is_some_and(|o| o == etag)
            })
    };
    if let Some(list) = text(header::IF_MATCH) {
        if !lists(list, false) {
            return Condition::Failed;
        }
    } else if date(header::IF_UNMODIFIED_SINCE).is_some_and(is_newer) {
        return Condition::Failed;
    }
    if let Some(list) = text(header::IF_NONE_MATCH) {
        if lists(list, true) {
            return Condition::NotModified;
        }
    } else if date(header::IF_MODIFIED_SINCE).is_some_and(|since| !is_newer(since)) {
        return Condition::NotModified;
    }
    let range = match text(header::IF_RANGE) {
        None => true,
        Some(value) if value.starts_with('"') => value == etag,
        Some(value) => httpdate::parse_http_date(value).is_ok_and(|date| !is_newer(date)),
    };
    Condition::Go { range }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "they are ranges")]
    fn ranges() {
        use Wanted::*;
        for (value, wanted) in [
            ("bytes=0-0", Part(0..1)),
            ("bytes=2-", Part(2..10)),
            ("bytes=-3", Part(7..10)),
            ("bytes=-30", Part(0..10)),
            ("bytes=5-99999999999999999999999", Part(5..10)),
            ("Bytes = 1-2", Part(1..3)),
            ("bytes=10-", Outside),
            ("bytes=10-12", Outside),
            ("bytes=-0", Outside),
            ("bytes=3-2", All),
            ("bytes=0-1,3-4", All),
            ("bytes=a-b", All),
            ("bytes=11-b", All),
            ("bytes=-", All),
            ("lines=1-2", All),
        ] {
            assert_eq!(parse(Some(value), 10), wanted, "{value}");
        }
        assert_eq!(parse(Some("bytes=-1"), 0), Outside);
        assert_eq!(parse(None, 10), All);
    }

    #[test]
    fn conditions() {
        let at = UNIX_EPOCH + Duration::from_millis(1_000_000_500);
        let same = httpdate::fmt_http_date(at);
        let before = httpdate::fmt_http_date(at - Duration::from_secs(10));
        let check = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            condition(&headers, "\"e\"", at)
        };
        let go = Condition::Go { range: true };
        let whole = Condition::Go { range: false };
        assert_eq!(
            check("if-none-match", "\"x\", W/\"e\""),
            Condition::NotModified
        );
        assert_eq!(check("if-none-match", "\"x\""), go);
        assert_eq!(check("if-match", "W/\"e\""), Condition::Failed);
        assert_eq!(check("if-match", "*"), go);
        assert_eq!(check("if-modified-since", &same), Condition::NotModified);
        assert_eq!(check("if-modified-since", &before), go);
        assert_eq!(check("if-unmodified-since", &before), Condition::Failed);
        assert_eq!(check("if-range", "\"e\""), go);
        assert_eq!(check("if-range", "\"x\""), whole);
        assert_eq!(check("if-range", "W/\"e\""), whole);
        assert_eq!(check("if-range", &same), go);
        assert_eq!(check("if-range", &before), whole);
    }
}
