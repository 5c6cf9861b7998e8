//! The structured fields of responses (RFC 9651).

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use landfall_protocol::Algorithm;
use sfv::{BareItem, Dictionary, FieldType, Item, ListEntry, Parser};

use crate::client::Response;
use crate::requirement::{CheckResult, Finding, ensure, fail};

/// Parses all lines of a field; `None` if it is absent.
fn parsed<T: FieldType>(response: &Response, name: &str) -> CheckResult<Option<T>> {
    if response.field(name).is_none() {
        return Ok(None);
    }
    let lines: Vec<_> = response.all(name).collect();
    let value = lines.join(", ");
    let malformed = |error| Finding::failed(format!("{name} is {value:?}: {error}"));
    Parser::new(&value).parse().map(Some).map_err(malformed)
}

/// Returns the value of an Integer that is not negative.
pub(crate) fn integer(response: &Response, name: &str) -> CheckResult<Option<u64>> {
    let Some(item) = parsed::<Item>(response, name)? else {
        return Ok(None);
    };
    let number = item.bare_item.as_integer();
    let number = number.and_then(|number| u64::try_from(i64::from(number)).ok());
    ensure!(
        number.is_some(),
        "{name} is not an Integer that is at least 0"
    )?;
    Ok(number)
}

/// Returns the value of a Boolean.
pub(crate) fn boolean(response: &Response, name: &str) -> CheckResult<Option<bool>> {
    let Some(item) = parsed::<Item>(response, name)? else {
        return Ok(None);
    };
    let value = item.bare_item.as_boolean();
    ensure!(value.is_some(), "{name} is not a Boolean")?;
    Ok(value)
}

/// The keys of `Upload-Limit` that the draft defines.
pub(crate) const LIMIT_KEYS: [&str; 6] = [
    "max-size",
    "min-size",
    "max-append-size",
    "min-append-size",
    "max-age",
    "expires",
];

/// The limits of `Upload-Limit`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits(BTreeMap<String, u64>);

impl Limits {
    /// Returns the limits that the draft defines; `None` if the field is absent.
    pub(crate) fn parse(response: &Response) -> CheckResult<Option<Self>> {
        let Some(members) = parsed::<Dictionary>(response, "Upload-Limit")? else {
            return Ok(None);
        };
        ensure!(!members.is_empty(), "Upload-Limit is empty")?;
        let mut limits = BTreeMap::new();
        for (key, member) in &members {
            if !LIMIT_KEYS.contains(&key.as_str()) {
                continue;
            }
            let item = match member {
                ListEntry::Item(item) => item.bare_item.as_integer(),
                ListEntry::InnerList(_) => None,
            };
            let number = item.and_then(|number| u64::try_from(i64::from(number)).ok());
            let number = number.ok_or_else(|| {
                Finding::failed(format!("{key} of Upload-Limit is not an Integer from 0 on"))
            })?;
            limits.insert(key.as_str().to_owned(), number);
        }
        Ok(Some(Self(limits)))
    }

    pub(crate) fn get(&self, key: &str) -> Option<u64> {
        self.0.get(key).copied()
    }

    /// Returns a limit, or skips the check.
    pub(crate) fn required(&self, key: &str) -> CheckResult<u64> {
        let missing = || Finding::skipped(format!("the server reports no {key}"));
        self.get(key).ok_or_else(missing)
    }

    /// Returns whether there is a limit apart from `min-size=0`, which states that there is none.
    pub(crate) fn limits_anything(&self) -> bool {
        self.0
            .iter()
            .any(|(key, number)| key != "min-size" || *number > 0)
    }

    /// Returns the remaining lifetime in seconds.
    pub(crate) fn lifetime(&self) -> Option<u64> {
        self.get("max-age").or_else(|| self.get("expires"))
    }
}

/// Returns the value of `Repr-Digest` or `Content-Digest` for these bytes (RFC 9530).
pub(crate) fn digest_field(data: &[u8]) -> CheckResult<String> {
    Ok(format!("sha-256=:{}:", STANDARD.encode(sha256(data)?)))
}

fn sha256(data: &[u8]) -> CheckResult<Vec<u8>> {
    let algorithm = Algorithm::by_name("sha256");
    let algorithm = algorithm.ok_or_else(|| Finding::Error("sha256 is not compiled in".into()))?;
    let mut hasher = algorithm.hasher();
    hasher.update(data);
    Ok(hasher.digest(32))
}

/// Fails if the response has a digest of the representation that differs. Returns whether it has one.
pub(crate) fn expect_digest(response: &Response, data: &[u8]) -> CheckResult<bool> {
    let Some(members) = parsed::<Dictionary>(response, "Repr-Digest")? else {
        return Ok(false);
    };
    let Some(ListEntry::Item(item)) = members.get("sha-256") else {
        return Ok(false);
    };
    let BareItem::ByteSequence(digest) = &item.bare_item else {
        return fail("sha-256 of Repr-Digest is not a Byte Sequence");
    };
    ensure!(
        *digest == sha256(data)?,
        "Repr-Digest is not that of the bytes that were sent"
    )?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_limit(value: &str) -> Response {
        Response {
            fields: vec![("upload-limit".to_owned(), value.to_owned())],
            ..Response::default()
        }
    }

    #[test]
    fn limits_are_a_dictionary_of_integers() {
        let limits = Limits::parse(&with_limit("max-size=10, other=?1, max-size=20"));
        assert_eq!(limits.unwrap().unwrap().get("max-size"), Some(20));
        for malformed in [
            "",
            "107374182400",
            "max-size=10,",
            "max-size=1.0",
            "max-age=-1",
        ] {
            let limits = Limits::parse(&with_limit(malformed));
            assert!(limits.is_err(), "{malformed}: {limits:?}");
        }
    }

    #[test]
    fn the_digest_of_no_bytes_is_that_of_rfc_9530() {
        assert_eq!(
            digest_field(b"").unwrap(),
            "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
        );
    }
}
