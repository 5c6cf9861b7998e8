//! What somebody may ask for.

use std::{fmt, str::FromStr, time::Duration};

use jiff::{Span, SpanRelativeTo};
use landfall::hook::matches_content_type;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// What somebody may ask for; `None` and empty lists set no limit.
///
/// In JSON (of keys, JWTs and the application's answers) names are as here, but `types` for the types:
/// `{"max_size": 1048576, "types": ["image/*"], "active": 3, "rate": "10/1m", "quota": 1073741824,
/// "size_required": true}`. What isn't known there is an error, so that no limit is overlooked because
/// of its spelling.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The most bytes of one upload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// The types that are welcome, as `image/png`, `image/*` or `*/*`.
    #[serde(
        rename = "types",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "patterns"
    )]
    pub content_types: Vec<String>,
    /// The most uploads that are asked for or under way at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<u32>,
    /// The most uploads that may be asked for in a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The most bytes: of what is under way and of what is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// Whether the size must be known beforehand.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub size_required: bool,
}

impl Limits {
    /// What both allow.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let content_types = match (&*self.content_types, &*other.content_types) {
            ([], theirs) => theirs.to_vec(),
            (mine, []) => mine.to_vec(),
            (mine, theirs) => both(mine, theirs),
        };
        Self {
            max_size: least(self.max_size, other.max_size),
            content_types,
            active: least(self.active, other.active),
            rate: match (self.rate, other.rate) {
                (Some(mine), Some(theirs)) => Some(mine.slower(theirs)),
                (mine, theirs) => mine.or(theirs),
            },
            quota: least(self.quota, other.quota),
            size_required: self.size_required || other.size_required,
        }
    }
}

fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Types that are in both lists; one that nothing is welcome in (`none/none`) if there are none, since
/// an empty list would welcome all.
fn both(mine: &[String], theirs: &[String]) -> Vec<String> {
    let narrower = |pattern: &String, list: &[String]| {
        list.iter().any(|one| {
            one == "*/*" || one.eq_ignore_ascii_case(pattern) || matches_content_type(pattern, one)
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

/// Whether a text can stand in [`Limits::content_types`].
#[must_use]
pub fn is_type_pattern(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    match text.split_once('/') {
        Some(("*", "*")) => true,
        Some((family, "*")) => is_name(family),
        Some((family, kind)) => is_name(family) && is_name(kind),
        None => false,
    }
}

fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let list = Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default();
    match list.iter().find(|text| !is_type_pattern(text)) {
        None => Ok(list),
        Some(wrong) => Err(D::Error::custom(format_args!("{wrong:?} is not a type"))),
    }
}

/// So many in a time; neither is zero.
///
/// Written `10/1m`, `100/h` or `1/1h30m`; in JSON also `{"count": 10, "per": "1m"}`, where a number is
/// one of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words say it")]
pub struct Rate {
    pub count: u32,
    pub per: Duration,
}

impl Rate {
    /// The one that allows fewer in the long run; of equals, the one with the smaller bursts.
    fn slower(self, other: Self) -> Self {
        // Counts over the product of both times: exact.
        let mine = u128::from(self.count).saturating_mul(other.per.as_nanos());
        let theirs = u128::from(other.count).saturating_mul(self.per.as_nanos());
        if (mine, self.count) <= (theirs, other.count) {
            self
        } else {
            other
        }
    }

    fn new(count: u32, per: Duration) -> Result<Self, BadRate> {
        if count == 0 || per.is_zero() {
            return Err(BadRate);
        }
        Ok(Self { count, per })
    }
}

/// A text that isn't a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rate is written as a number and a time, neither of them 0, such as 10/1m")]
pub struct BadRate;

impl FromStr for Rate {
    type Err = BadRate;

    fn from_str(text: &str) -> Result<Self, BadRate> {
        let (count, per) = text.split_once('/').ok_or(BadRate)?;
        Self::new(count.trim().parse().map_err(|_| BadRate)?, time(per)?)
    }
}

/// `1m`, `1h30m`, `2d`; a unit alone is one of it.
fn time(text: &str) -> Result<Duration, BadRate> {
    let text = text.trim();
    let is_unit = text.starts_with(|first: char| first.is_ascii_alphabetic());
    let span: Span = match is_unit {
        true => format!("1{text}").parse(),
        false => text.parse(),
    }
    .map_err(|_| BadRate)?;
    let time = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| BadRate)?;
    Duration::try_from(time).map_err(|_| BadRate)
}

impl fmt::Display for Rate {
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

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Spelling {
            Text(String),
            Parts { count: u32, per: Time },
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Time {
            Seconds(u64),
            Text(String),
        }
        let spelling =
            Spelling::deserialize(deserializer).map_err(|_| D::Error::custom(BadRate))?;
        match spelling {
            Spelling::Text(text) => text.parse(),
            Spelling::Parts { count, per } => match per {
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

    fn rate(count: u32, seconds: u64) -> Rate {
        Rate {
            count,
            per: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn what_both_allow() {
        let types = |list: &[&str]| Limits {
            content_types: list.iter().map(ToString::to_string).collect(),
            ..Limits::default()
        };
        let one = Limits {
            max_size: Some(10),
            rate: Some(rate(1, 1)),
            ..types(&["image/*", "text/plain"])
        };
        let other = Limits {
            max_size: Some(5),
            active: Some(2),
            rate: Some(rate(10, 60)),
            size_required: true,
            ..types(&["image/png", "text/*"])
        };
        let both = one.and(&other);
        assert_eq!(both, other.and(&one));
        assert_eq!((both.max_size, both.active), (Some(5), Some(2)));
        assert_eq!(both.rate, other.rate);
        assert!(both.size_required);
        assert_eq!(both.content_types, ["image/png", "text/plain"]);
        let none = types(&["a/b"]).and(&types(&["c/d"]));
        assert_eq!(none.content_types, ["none/none"]);
        assert_eq!(one.and(&Limits::default()), one);
        // Of two that are as fast, the one that lets fewer through at once, whichever comes first.
        assert_eq!(rate(10, 10).slower(rate(60, 60)), rate(10, 10));
        assert_eq!(rate(60, 60).slower(rate(10, 10)), rate(10, 10));
    }

    #[test]
    fn rates_are_read_and_written() {
        for (text, count, seconds, written) in [
            ("10/1m", 10, 60, "10/1m"),
            ("100/h", 100, 3600, "100/1h"),
            ("5/s", 5, 1, "5/1s"),
            ("1 / 1h30m", 1, 5400, "1/90m"),
            ("3/2d", 3, 172_800, "3/2d"),
            ("7/90s", 7, 90, "7/90s"),
        ] {
            let read: Rate = text.parse().unwrap();
            assert_eq!(read, rate(count, seconds), "{text}");
            assert_eq!(read.to_string(), written);
            assert_eq!(written.parse(), Ok(read));
        }
        let quick: Rate = "1/1500ms".parse().unwrap();
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
            assert_eq!(wrong.parse::<Rate>(), Err(BadRate), "{wrong:?}");
        }
    }

    #[test]
    fn limits_in_json() {
        let spoken = json!({
            "max_size": 1, "types": ["image/*", "text/plain"], "active": 2,
            "rate": "10/1m", "quota": 3, "size_required": true,
        });
        let limits: Limits = serde_json::from_value(spoken.clone()).unwrap();
        assert_eq!(limits.rate, Some(rate(10, 60)));
        assert_eq!(serde_json::to_value(&limits).unwrap(), spoken);
        assert_eq!(serde_json::to_value(Limits::default()).unwrap(), json!({}));
        let empty = json!({"max_size": null, "types": null, "rate": null});
        let empty: Limits = serde_json::from_value(empty).unwrap();
        assert_eq!(empty, Limits::default());
        for per in [json!("1m"), json!(60)] {
            let spoken = json!({"rate": {"count": 10, "per": per}});
            let limits: Limits = serde_json::from_value(spoken).unwrap();
            assert_eq!(limits.rate, Some(rate(10, 60)));
        }
        for wrong in [
            json!({"max_size": -1}),
            json!({"max_size": "1"}),
            json!({"max_size": 1.5}),
            json!({"types": "image/png"}),
            json!({"types": ["image"]}),
            json!({"types": ["*"]}),
            json!({"types": ["image/png, text/plain"]}),
            json!({"active": 4_294_967_296_u64}),
            json!({"rate": "often"}),
            json!({"rate": {"count": 0, "per": 1}}),
            json!({"rate": {"count": 1, "per": 0}}),
            json!({"rate": {"count": 1}}),
            json!({"rate": 10}),
            json!({"quota": true}),
            json!({"size_required": "yes"}),
            json!({"maxsize": 1}),
        ] {
            assert!(
                serde_json::from_value::<Limits>(wrong.clone()).is_err(),
                "{wrong}"
            );
        }
    }
}
