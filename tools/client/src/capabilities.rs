//! The protocols and extensions of a server, from the response to OPTIONS.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use landfall_protocol::{
    Algorithm, TUS_VERSION,
    headers::{self, UPLOAD_COMPLETE, UPLOAD_LIMIT},
    rufh::UploadLimits,
};
use sfv::{Dictionary, Item, ListEntry, Parser};

use crate::http::number;

/// The features of a server, by its response to OPTIONS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// True if the server has tus 1.0.0 (`Tus-Version`).
    pub tus: bool,
    /// The extensions of tus (`Tus-Extension`), such as `creation-with-upload`.
    pub extensions: Vec<String>,
    /// The checksum algorithms that the server verifies and this crate computes (`Tus-Checksum-Algorithm`).
    pub checksum_algorithms: Vec<Algorithm>,
    /// The maximum length of an upload in bytes (`Tus-Max-Size` or `max-size`).
    pub max_size: Option<u64>,
    /// The limits of the IETF draft (`Upload-Limit`), if the server has it.
    pub draft: Option<UploadLimits>,
}

impl Capabilities {
    /// Returns whether tus has this extension on the server.
    #[must_use]
    pub fn has(&self, extension: &str) -> bool {
        self.extensions.iter().any(|one| one == extension)
    }

    /// Returns those of a server that does not respond to OPTIONS: tus with creation.
    pub(crate) fn assumed() -> Self {
        Self {
            tus: true,
            extensions: vec!["creation".into()],
            ..Self::default()
        }
    }

    pub(crate) fn parse(fields: &HeaderMap) -> Self {
        let versions = list(fields, headers::TUS_VERSION);
        let draft = upload_limits(fields);
        let algorithms = list(fields, headers::TUS_CHECKSUM_ALGORITHM);
        Self {
            tus: versions
                .chain(list(fields, headers::TUS_RESUMABLE))
                .any(|version| version == TUS_VERSION),
            extensions: list(fields, headers::TUS_EXTENSION)
                .map(str::to_owned)
                .collect(),
            checksum_algorithms: algorithms.filter_map(Algorithm::by_name).collect(),
            max_size: number(fields, &headers::TUS_MAX_SIZE)
                .or(draft.and_then(|limits| limits.max_size)),
            draft,
        }
    }
}

/// Returns the elements of a comma-separated list.
fn list(fields: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = fields.get_all(name).into_iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|element| !element.is_empty())
}

/// Returns `Upload-Limit`. A field with a member of another type is ignored (IETF draft, section 4.1.4).
pub(crate) fn upload_limits(fields: &HeaderMap) -> Option<UploadLimits> {
    let dictionary: Dictionary = Parser::new(&structured(fields, &UPLOAD_LIMIT)?)
        .parse()
        .ok()?;
    let member = |key: &str| match dictionary.get(key) {
        None => Some(None),
        Some(ListEntry::Item(item)) => {
            let number = i64::from(item.bare_item.as_integer()?);
            u64::try_from(number).ok().map(Some)
        }
        Some(ListEntry::InnerList(_)) => None,
    };
    Some(UploadLimits {
        max_size: member("max-size")?,
        max_append_size: member("max-append-size")?,
        min_append_size: member("min-append-size")?,
        max_age: member("max-age")?
            .or(member("expires")?)
            .map(Duration::from_secs),
    })
}

/// Returns `Upload-Complete`, if it is valid.
pub(crate) fn upload_complete(fields: &HeaderMap) -> Option<bool> {
    let item: Item = Parser::new(&structured(fields, &UPLOAD_COMPLETE)?)
        .parse()
        .ok()?;
    item.bare_item.as_boolean()
}

fn structured(fields: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let lines: Vec<_> = fields
        .get_all(name)
        .iter()
        .map(|line| line.as_bytes())
        .collect();
    (!lines.is_empty()).then(|| lines.join(&b", "[..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn options_of_both_protocols_are_read() {
        let parsed = Capabilities::parse(&fields(&[
            ("tus-version", "1.0.0,0.2.2"),
            ("tus-extension", "creation, checksum"),
            ("tus-checksum-algorithm", "sha1,unknown"),
            ("upload-limit", "min-size=0, max-size=10, max-age=60"),
        ]));
        assert!(parsed.tus && parsed.has("checksum") && !parsed.has("termination"));
        assert_eq!(parsed.checksum_algorithms, [Algorithm::SHA1]);
        assert_eq!(parsed.max_size, Some(10));
        let limits = parsed.draft.unwrap();
        assert_eq!(
            (limits.max_size, limits.max_age),
            (Some(10), Some(Duration::from_secs(60)))
        );
    }

    #[test]
    fn malformed_fields_are_ignored() {
        for value in [
            "max-size=?1",
            "107374182400",
            "max-size=(1 2)",
            "max-size=-1",
        ] {
            let value = HeaderMap::from_iter([(UPLOAD_LIMIT, value.parse().unwrap())]);
            assert_eq!(upload_limits(&value), None);
        }
        assert_eq!(upload_complete(&fields(&[("upload-complete", "1")])), None);
        assert_eq!(
            upload_complete(&fields(&[("upload-complete", "?1;a")])),
            Some(true)
        );
    }
}
