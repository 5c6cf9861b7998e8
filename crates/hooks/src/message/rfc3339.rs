//! Serializes times as RFC 3339 text, for `#[serde(with = "…")]`. Fails with the serializer, or if a text is
//! no time.

use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize as _, Deserializer, Serializer, de};

/// Serializes a time. Times beyond the year 9999 are clamped: an event must not be lost for its
/// time. Whole milliseconds, as databases keep them, have three digits: such texts sort as their times.
pub fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let time = Timestamp::try_from(*time).unwrap_or(Timestamp::MAX);
    match time.subsec_nanosecond() % 1_000_000 {
        0 => serializer.collect_str(&format_args!("{time:.3}")),
        _ => serializer.collect_str(&time),
    }
}

/// Formats a time in whole milliseconds, with three digits, clamped in the same way.
#[must_use]
pub fn millis(time: SystemTime) -> String {
    format!("{:.3}", Timestamp::try_from(time).unwrap_or(Timestamp::MAX))
}

/// Deserializes a time.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time: Timestamp = text.parse().map_err(de::Error::custom)?;
    Ok(time.into())
}

/// The same for optional times.
pub mod option {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Rfc3339(#[serde(with = "super")] SystemTime);

    /// Serializes a time, or none.
    pub fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(Rfc3339).serialize(serializer)
    }

    /// Deserializes a time, or none.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let time = Option::<Rfc3339>::deserialize(deserializer)?;
        Ok(time.map(|Rfc3339(time)| time))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Time(#[serde(with = "super")] SystemTime);

    #[test]
    fn texts_of_milliseconds_sort_as_their_times() {
        let texts = [0, 1, 9, 10, 100, 101, 120, 121, 999, 1000].map(|millis| {
            let time = UNIX_EPOCH + Duration::from_millis(millis);
            serde_json::to_string(&Time(time)).unwrap()
        });
        assert!(texts.is_sorted(), "{texts:?}");
        assert_eq!(texts[5], r#""1970-01-01T00:00:00.101Z""#);
        let at = UNIX_EPOCH + Duration::from_millis(1_795_197_600_250);
        assert_eq!(millis(at), "2026-11-20T18:00:00.250Z");
    }

    #[test]
    fn nothing_is_rounded() {
        let time = UNIX_EPOCH + Duration::new(1, 101_000_001);
        let text = serde_json::to_string(&Time(time)).unwrap();
        assert_eq!(text, r#""1970-01-01T00:00:01.101000001Z""#);
        let Time(again) = serde_json::from_str(&text).unwrap();
        assert_eq!(again, time);
    }
}
