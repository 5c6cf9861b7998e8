//! Limits of a principal, their intersection, and rates as text and JSON.
//!
//! An intersection only restricts: lists of types without a common type allow none, not all. Checks no request itself:
//! `policy` and `grant` do.

use std::{fmt, str::FromStr, time::Duration};

use jiff::{Span, SpanRelativeTo};
use landfall::hook::MediaType;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Limits of a principal; `None` and empty lists set no limit.
///
/// In JSON (of API keys, JWTs and forward auth): `{"max_size": 1048576, "allowed_types":
/// ["image/*"], "max_active": 3, "rate_limit": "10/1m", "quota": 1073741824, "require_size":
/// true}`. Unknown fields are errors, so that a misspelled limit is not ignored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrantLimits {
    /// Maximum size of an upload in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// Accepted media types, such as `image/png`, `image/*` or `*/*`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "patterns")]
    pub allowed_types: Vec<String>,
    /// Maximum number of granted and running uploads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_active: Option<u32>,
    /// Maximum rate of grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Bytes of running and completed uploads in a quota period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// True if the size must be declared.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub require_size: bool,
}

impl GrantLimits {
    /// Returns the limits that satisfy both.
    pub fn intersect(&self, other: &Self) -> Self {
        let allowed_types = match (&*self.allowed_types, &*other.allowed_types) {
            ([], theirs) => theirs.to_vec(),
            (mine, []) => mine.to_vec(),
            (mine, theirs) => both(mine, theirs),
        };
        Self {
            max_size: min(self.max_size, other.max_size),
            allowed_types,
            max_active: min(self.max_active, other.max_active),
            rate_limit: match (self.rate_limit, other.rate_limit) {
                (Some(mine), Some(theirs)) => Some(mine.stricter(theirs)),
                (mine, theirs) => mine.or(theirs),
            },
            quota: min(self.quota, other.quota),
            require_size: self.require_size || other.require_size,
        }
    }
}

fn min<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

/// Disjoint lists give `none/none`, which matches nothing: an empty list would allow all types.
fn both(mine: &[String], theirs: &[String]) -> Vec<String> {
    let narrower = |pattern: &String, list: &[String]| {
        list.iter().any(|one| {
            one == "*/*" || one.eq_ignore_ascii_case(pattern) || MediaType::is_match(pattern, one)
        })
    };
    let mut all: Vec<String> = mine
        .iter()
        .filter(|pattern| narrower(pattern, theirs))
        .chain(theirs.iter().filter(|pattern| narrower(pattern, mine)))
        .cloned()
        .collect();
    all.sort_unstable();
    all.dedup();
    if all.is_empty() {
        all.push("none/none".into());
    }
    all
}

/// Returns whether a string is valid in [`GrantLimits::allowed_types`].
pub fn is_type_pattern(text: &str) -> bool {
    let one = match text.strip_suffix("/*") {
        Some("*") => return true,
        Some(family) => format!("{family}/x"),
        None => text.to_owned(),
    };
    !one.contains([';', ' ', '\t']) && MediaType::parse(&one).is_some()
}

fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let list = Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default();
    match list.iter().find(|text| !is_type_pattern(text)) {
        None => Ok(list),
        Some(wrong) => Err(D::Error::custom(format_args!("invalid type {wrong:?}"))),
    }
}

/// A rate limit: a count per period, both positive.
///
/// Written as `10/1m`, `100/h` or `1/1h30m`; in JSON also as `{"count": 10, "per": "1m"}`, where a
/// number means seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct RateLimit {
    pub count: u32,
    pub per: Duration,
}

impl RateLimit {
    /// The lower rate; of equal rates, the one with the smaller burst.
    fn stricter(self, other: Self) -> Self {
        // Cross-multiplied, to avoid division.
        let mine = u128::from(self.count).saturating_mul(other.per.as_nanos());
        let theirs = u128::from(other.count).saturating_mul(self.per.as_nanos());
        if (mine, self.count) <= (theirs, other.count) {
            self
        } else {
            other
        }
    }

    fn new(count: u32, per: Duration) -> Result<Self, InvalidRate> {
        if count == 0 || per.is_zero() {
            return Err(InvalidRate);
        }
        Ok(Self { count, per })
    }
}

/// An invalid rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid rate; expected a positive count and period, such as 10/1m")]
pub struct InvalidRate;

impl FromStr for RateLimit {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let (count, per) = text.split_once('/').ok_or(InvalidRate)?;
        Self::new(count.trim().parse().map_err(|_| InvalidRate)?, time(per)?)
    }
}

/// `1m`, `1h30m` or `2d`; a unit alone counts as one.
fn time(text: &str) -> Result<Duration, InvalidRate> {
    let text = text.trim();
    let is_unit = text.starts_with(|first: char| first.is_ascii_alphabetic());
    let span: Span = match is_unit {
        true => format!("1{text}").parse(),
        false => text.parse(),
    }
    .map_err(|_| InvalidRate)?;
    let time = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| InvalidRate)?;
    Duration::try_from(time).map_err(|_| InvalidRate)
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u128, &str); 6] = [
            (86_400_000_000_000, "d"),
            (3_600_000_000_000, "h"),
            (60_000_000_000, "m"),
            (1_000_000_000, "s"),
            (1_000_000, "ms"),
            (1, "ns"),
        ];
        let time = self.per.as_nanos();
        let whole = UNITS.iter().find(|(nanos, _)| time.is_multiple_of(*nanos));
        let (nanos, unit) = whole.copied().unwrap_or((1, "ns"));
        write!(f, "{}/{}{unit}", self.count, time / nanos)
    }
}

impl Serialize for RateLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum RateJson {
            Text(String),
            Parts { count: u32, per: Time },
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Time {
            Seconds(u64),
            Text(String),
        }
        let json =
            RateJson::deserialize(deserializer).map_err(|_| D::Error::custom(InvalidRate))?;
        match json {
            RateJson::Text(text) => text.parse(),
            RateJson::Parts { count, per } => match per {
                Time::Seconds(seconds) => Self::new(count, Duration::from_secs(seconds)),
                Time::Text(text) => time(&text).and_then(|per| Self::new(count, per)),
            },
        }
        .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rate(count: u32, seconds: u64) -> RateLimit {
        RateLimit {
            count,
            per: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn intersection_satisfies_both_limits() {
        let types = |list: &[&str]| GrantLimits {
            allowed_types: list.iter().map(ToString::to_string).collect(),
            ..GrantLimits::default()
        };
        let one = GrantLimits {
            max_size: Some(10),
            rate_limit: Some(rate(1, 1)),
            ..types(&["image/*", "text/plain"])
        };
        let other = GrantLimits {
            max_size: Some(5),
            max_active: Some(2),
            rate_limit: Some(rate(10, 60)),
            require_size: true,
            ..types(&["image/png", "text/*"])
        };
        let both = one.intersect(&other);
        assert_eq!(both, other.intersect(&one));
        assert_eq!((both.max_size, both.max_active), (Some(5), Some(2)));
        assert_eq!(both.rate_limit, other.rate_limit);
        assert!(both.require_size);
        assert_eq!(both.allowed_types, ["image/png", "text/plain"]);
        let none = types(&["a/b"]).intersect(&types(&["c/d"]));
        assert_eq!(none.allowed_types, ["none/none"]);
        assert_eq!(one.intersect(&GrantLimits::default()), one);
        // Of equal rates, the smaller burst is stricter, in either order.
        assert_eq!(rate(10, 10).stricter(rate(60, 60)), rate(10, 10));
        assert_eq!(rate(60, 60).stricter(rate(10, 10)), rate(10, 10));
    }

    #[test]
    fn rates_are_parsed_and_formatted() {
        for (text, count, seconds, written) in [
            ("10/1m", 10, 60, "10/1m"),
            ("100/h", 100, 3600, "100/1h"),
            ("5/s", 5, 1, "5/1s"),
            ("1 / 1h30m", 1, 5400, "1/90m"),
            ("3/2d", 3, 172_800, "3/2d"),
            ("7/90s", 7, 90, "7/90s"),
        ] {
            let read: RateLimit = text.parse().unwrap();
            assert_eq!(read, rate(count, seconds), "{text}");
            assert_eq!(read.to_string(), written);
            assert_eq!(written.parse(), Ok(read));
        }
        let quick: RateLimit = "1/1500ms".parse().unwrap();
        assert_eq!(quick.to_string(), "1/1500ms");
        for wrong in [
            "",
            "10",
            "/1m",
            "10/",
            "0/1m",
            "10/0s",
            "-1/1m",
            "10/-1m",
            "10/1x",
            "1.5/1m",
            "99999999999/1m",
            "10/1m/1m",
            "10/60",
        ] {
            assert_eq!(wrong.parse::<RateLimit>(), Err(InvalidRate), "{wrong:?}");
        }
    }

    #[test]
    fn limits_are_parsed_from_json() {
        let spoken = json!({
            "max_size": 1, "allowed_types": ["image/*", "text/plain"], "max_active": 2,
            "rate_limit": "10/1m", "quota": 3, "require_size": true,
        });
        let limits: GrantLimits = serde_json::from_value(spoken.clone()).unwrap();
        assert_eq!(limits.rate_limit, Some(rate(10, 60)));
        assert_eq!(serde_json::to_value(&limits).unwrap(), spoken);
        assert_eq!(
            serde_json::to_value(GrantLimits::default()).unwrap(),
            json!({})
        );
        let empty = json!({"max_size": null, "allowed_types": null, "rate_limit": null});
        let empty: GrantLimits = serde_json::from_value(empty).unwrap();
        assert_eq!(empty, GrantLimits::default());
        for per in [json!("1m"), json!(60)] {
            let spoken = json!({"rate_limit": {"count": 10, "per": per}});
            let limits: GrantLimits = serde_json::from_value(spoken).unwrap();
            assert_eq!(limits.rate_limit, Some(rate(10, 60)));
        }
        for wrong in [
            json!({"max_size": -1}),
            json!({"max_size": "1"}),
            json!({"max_size": 1.5}),
            json!({"allowed_types": "image/png"}),
            json!({"allowed_types": ["image"]}),
            json!({"allowed_types": ["*"]}),
            json!({"allowed_types": ["image/png, text/plain"]}),
            json!({"max_active": 4_294_967_296_u64}),
            json!({"rate_limit": "often"}),
            json!({"rate_limit": {"count": 0, "per": 1}}),
            json!({"rate_limit": {"count": 1, "per": 0}}),
            json!({"rate_limit": {"count": 1}}),
            json!({"rate_limit": 10}),
            json!({"quota": true}),
            json!({"require_size": "yes"}),
            json!({"maxsize": 1}),
        ] {
            assert!(
                serde_json::from_value::<GrantLimits>(wrong.clone()).is_err(),
                "{wrong}"
            );
        }
    }
}
