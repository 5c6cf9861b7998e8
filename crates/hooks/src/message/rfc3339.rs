//! Serializes times as RFC 3339 text, for `#[serde(with = "…")]`. Fails with the serializer, or if a text is
//! no time.

use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize as _, Deserializer, Serializer, de};

/// Serializes a time. Times beyond the year 9999 are clamped: an event must not be lost for its
/// time.
pub fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let time = Timestamp::try_from(*time).unwrap_or(Timestamp::MAX);
    serializer.collect_str(&time)
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
