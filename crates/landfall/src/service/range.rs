//! Range requests (RFC 9110, section 14) and preconditions (section 13).

#![allow(missing_docs, unreachable_pub, reason = "for the fuzz targets")]

use std::{ops::Range, time::SystemTime};

use http::{HeaderMap, HeaderName, header};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeRequest {
    Full,
    /// One range. Several ranges get the full resource, as the RFC allows.
    Partial(Range<u64>),
    Unsatisfiable,
}

impl RangeRequest {
    pub fn parse(value: Option<&str>, length: u64) -> Self {
        let fields = value
            .and_then(|value| value.split_once('='))
            .filter(|(unit, set)| unit.trim().eq_ignore_ascii_case("bytes") && !set.contains(','))
            .and_then(|(_, set)| set.trim().split_once('-'));
        let Some((first, last)) = fields else {
            return Self::Full;
        };
        let number = |text: &str| -> Option<u64> {
            (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
                .then(|| text.parse().unwrap_or(u64::MAX))
        };
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first > last => Self::Full,
            (Some(first), Some(_)) if first >= length => Self::Unsatisfiable,
            (Some(first), Some(last)) => Self::Partial(first..last.saturating_add(1).min(length)),
            (Some(_), None) if !last.is_empty() => Self::Full,
            (Some(first), None) if first >= length => Self::Unsatisfiable,
            (Some(first), None) => Self::Partial(first..length),
            (None, Some(suffix)) if first.is_empty() => match suffix {
                0 => Self::Unsatisfiable,
                _ if length == 0 => Self::Unsatisfiable,
                suffix => Self::Partial(length.saturating_sub(suffix)..length),
            },
            _ => Self::Full,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    Proceed { range: bool },
    NotModified,
    Failed,
}

impl Precondition {
    /// Follows the order of RFC 9110, section 13.2.2.
    pub fn evaluate(headers: &HeaderMap, etag: &str, modified: SystemTime) -> Self {
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
                return Self::Failed;
            }
        } else if date(header::IF_UNMODIFIED_SINCE).is_some_and(is_newer) {
            return Self::Failed;
        }
        if let Some(list) = text(header::IF_NONE_MATCH) {
            if lists(list, true) {
                return Self::NotModified;
            }
        } else if date(header::IF_MODIFIED_SINCE).is_some_and(|since| !is_newer(since)) {
            return Self::NotModified;
        }
        // Section 13.1.5: the strong comparison, and the very date.
        let range = match text(header::IF_RANGE) {
            None => true,
            Some(value) if value.starts_with('"') => value == etag,
            Some(value) => httpdate::parse_http_date(value)
                .is_ok_and(|date| date <= modified && !is_newer(date)),
        };
        Self::Proceed { range }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "they are ranges")]
    fn ranges() {
        use RangeRequest::*;
        for (value, wanted) in [
            ("bytes=0-0", Partial(0..1)),
            ("bytes=2-", Partial(2..10)),
            ("bytes=-3", Partial(7..10)),
            ("bytes=-30", Partial(0..10)),
            ("bytes=5-99999999999999999999999", Partial(5..10)),
            ("Bytes = 1-2", Partial(1..3)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=10-12", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=3-2", Full),
            ("bytes=0-1,3-4", Full),
            ("bytes=a-b", Full),
            ("bytes=11-b", Full),
            ("bytes=-", Full),
            ("lines=1-2", Full),
        ] {
            assert_eq!(RangeRequest::parse(Some(value), 10), wanted, "{value}");
        }
        assert_eq!(RangeRequest::parse(Some("bytes=-1"), 0), Unsatisfiable);
        assert_eq!(RangeRequest::parse(None, 10), Full);
    }

    #[test]
    fn conditions() {
        let at = UNIX_EPOCH + Duration::from_millis(1_000_000_500);
        let same = httpdate::fmt_http_date(at);
        let before = httpdate::fmt_http_date(at - Duration::from_secs(10));
        let check = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            Precondition::evaluate(&headers, "\"e\"", at)
        };
        let proceed = Precondition::Proceed { range: true };
        let full = Precondition::Proceed { range: false };
        assert_eq!(
            check("if-none-match", "\"x\", W/\"e\""),
            Precondition::NotModified
        );
        assert_eq!(check("if-none-match", "\"x\""), proceed);
        assert_eq!(check("if-match", "W/\"e\""), Precondition::Failed);
        assert_eq!(check("if-match", "*"), proceed);
        assert_eq!(check("if-modified-since", &same), Precondition::NotModified);
        assert_eq!(check("if-modified-since", &before), proceed);
        assert_eq!(check("if-unmodified-since", &before), Precondition::Failed);
        assert_eq!(check("if-range", "\"e\""), proceed);
        assert_eq!(check("if-range", "\"x\""), full);
        assert_eq!(check("if-range", "W/\"e\""), full);
        assert_eq!(check("if-range", &same), proceed);
        assert_eq!(check("if-range", &before), full);
        for seconds in [1, 10, 86_400] {
            let later = httpdate::fmt_http_date(at + Duration::from_secs(seconds));
            assert_eq!(check("if-range", &later), full, "{later}");
        }
    }
}
