//! Headers and metadata of blobs, in the form that the service takes. What does not fit is left out, so that an
//! upload never fails for its description.

use http::{HeaderMap, HeaderName, HeaderValue};
use landfall_objects::ObjectHeaders;

const PREFIX: &str = "x-ms-meta-";

/// Names of ours. They come back with hyphens, as they were given.
const OWN_PREFIX: &str = "landfall_";

/// The most bytes of all names and values that the service stores, with some left for its own counting.
const MAX_BYTES: usize = 8 * 1024 - 256;

/// Returns the headers of a request that writes a blob, which give it these headers and metadata.
pub fn blob_headers(headers: &ObjectHeaders) -> HeaderMap {
    let mut out = HeaderMap::new();
    for (name, value) in [
        ("x-ms-blob-content-type", &headers.content_type),
        (
            "x-ms-blob-content-disposition",
            &headers.content_disposition,
        ),
        ("x-ms-blob-cache-control", &headers.cache_control),
        ("x-ms-blob-content-encoding", &headers.content_encoding),
        ("x-ms-tags", &headers.tagging),
    ] {
        let value = value.as_deref().filter(|value| !value.is_empty());
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&ascii(value)).ok()) {
            out.insert(name, value);
        }
    }
    // Ours first: an upload is recognized by them.
    let (ours, others): (Vec<_>, Vec<_>) = headers
        .metadata
        .iter()
        .filter_map(|(name, value)| Some((identifier(name)?, name, value)))
        .partition(|(identifier, ..)| identifier.starts_with(OWN_PREFIX));
    let mut left = MAX_BYTES;
    for (identifier, name, value) in ours.into_iter().chain(others) {
        let value = ascii(value);
        let size = identifier.len() + value.len();
        // `a-b` gives way to `a_b`.
        let is_taken = *name != identifier && headers.metadata.contains_key(&identifier);
        if value.is_empty() || size > left || is_taken {
            continue;
        }
        let header = HeaderName::from_bytes(format!("{PREFIX}{identifier}").as_bytes());
        if let (Ok(header), Ok(value)) = (header, HeaderValue::from_str(&value)) {
            left -= size;
            out.insert(header, value);
        }
    }
    out
}

/// Names are identifiers of C#; only those of ASCII letters, digits and `_` are used here. A hyphen becomes `_`; a name
/// with any other character is left out.
fn identifier(name: &str) -> Option<String> {
    let name = name.replace('-', "_");
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (begins && name.bytes().all(fits)).then_some(name)
}

/// Values are printable ASCII; tusd, too, writes a question mark for anything else, where it has metadata.
fn ascii(value: &str) -> String {
    let fits = |one: char| one.is_ascii_graphic() || one == ' ';
    let value: String = value
        .chars()
        .map(|one| if fits(one) { one } else { '?' })
        .collect();
    value.trim().to_owned()
}

/// Returns the name of user metadata that a header contains.
pub(crate) fn metadata_name(header: &str) -> Option<String> {
    let name = header.strip_prefix(PREFIX)?;
    Some(match name.starts_with(OWN_PREFIX) {
        true => name.replace('_', "-"),
        false => name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use landfall_objects::Service as _;

    use super::*;
    use crate::client::Inner;

    #[test]
    fn names_and_values_that_fit() {
        let metadata = [
            ("filename", "grün.txt"),
            ("landfall-upload", "id"),
            ("a-b", "lost"),
            ("a_b", "kept"),
            ("1st", "no"),
            ("with space", "no"),
            ("ключ", "no"),
            ("empty", ""),
            ("lines", "a\r\nb"),
        ];
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let headers = ObjectHeaders {
            content_type: Some("text/plain".to_owned()),
            content_disposition: Some("attachment; filename=\"ü\"".to_owned()),
            tagging: Some("a=1&b=2".to_owned()),
            metadata: metadata.map(pair).into(),
            ..ObjectHeaders::default()
        };
        let out = blob_headers(&headers);
        let mut pairs: Vec<_> = out
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        pairs.sort_unstable();
        assert_eq!(
            pairs,
            [
                (
                    "x-ms-blob-content-disposition",
                    "attachment; filename=\"?\""
                ),
                ("x-ms-blob-content-type", "text/plain"),
                ("x-ms-meta-a_b", "kept"),
                ("x-ms-meta-filename", "gr?n.txt"),
                ("x-ms-meta-landfall_upload", "id"),
                ("x-ms-meta-lines", "a??b"),
                ("x-ms-tags", "a=1&b=2"),
            ]
        );
    }

    #[test]
    fn ours_are_stored_before_others() {
        let mut headers = ObjectHeaders::default();
        for name in ["aaa", "landfall-upload", "zzz"] {
            headers.metadata.insert(name.to_owned(), "x".repeat(6_000));
        }
        let out = blob_headers(&headers);
        let names: Vec<_> = out.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-ms-meta-landfall_upload"]);
    }

    #[test]
    fn ours_come_back_as_they_were() {
        let builder = http::Response::builder()
            .header("etag", "\"0x1\"")
            .header("x-ms-meta-landfall_upload", "id");
        let (head, ()) = builder
            .header("x-ms-meta-a_b", "c")
            .body(())
            .unwrap()
            .into_parts();
        let head = Inner::object_head(&head, 7);
        let pairs: Vec<_> = head
            .metadata
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        assert_eq!(pairs, [("a_b", "c"), ("landfall-upload", "id")]);
        assert_eq!((head.size, &*head.etag), (7, "\"0x1\""));
    }
}
