//! Forwarding of request headers as gRPC metadata.

use crate::RequestData;
use http::HeaderName;
use tonic::metadata::{
    AsciiMetadataKey, AsciiMetadataValue, BinaryMetadataKey, BinaryMetadataValue, MetadataMap,
};

const RESERVED_KEYS: [&str; 11] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

#[derive(Debug)]
pub(super) struct ForwardedHeaders(Vec<Key>);

#[derive(Debug)]
enum Key {
    Text(AsciiMetadataKey),
    /// The name ends in `-bin`: gRPC sends the value as base64.
    Bytes(BinaryMetadataKey),
}

impl ForwardedHeaders {
    /// Names that are not valid metadata keys are ignored with a warning.
    pub(super) fn new(names: &[String]) -> Self {
        let keys = names.iter().filter_map(|name| {
            let key = key(name);
            if key.is_none() {
                tracing::warn!(
                    header = name,
                    "not a valid gRPC metadata key, header is not forwarded"
                );
            }
            key
        });
        Self(keys.collect())
    }

    pub(super) fn apply(&self, request: &RequestData, metadata: &mut MetadataMap) {
        for key in &self.0 {
            match key {
                Key::Text(key) => {
                    let Some(value) = request.header(key.as_str()) else {
                        continue;
                    };
                    let printable = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
                    match AsciiMetadataValue::try_from(value) {
                        Ok(value) if printable => drop(metadata.insert(key.clone(), value)),
                        _ => {
                            tracing::debug!(header = %key, "header value is not valid gRPC metadata")
                        }
                    }
                }
                Key::Bytes(key) => {
                    if let Some(value) = request.header(key.as_str()) {
                        let value = BinaryMetadataValue::from_bytes(value.as_bytes());
                        metadata.insert_bin(key.clone(), value);
                    }
                }
            }
        }
    }
}

fn key(name: &str) -> Option<Key> {
    let name = name.trim().to_ascii_lowercase();
    // gRPC allows fewer characters than HTTP does.
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if HeaderName::from_bytes(name.as_bytes()).is_err()
        || !name.bytes().all(allowed)
        || name.starts_with("grpc-")
        || RESERVED_KEYS.contains(&name.as_str())
    {
        return None;
    }
    let name = name.as_bytes();
    match name.ends_with(b"-bin") {
        true => BinaryMetadataKey::from_bytes(name).ok().map(Key::Bytes),
        false => AsciiMetadataKey::from_bytes(name).ok().map(Key::Text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(names: &[&str], headers: &[(&str, &str)]) -> MetadataMap {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut request = RequestData::default();
        for (name, value) in headers {
            let values = request.headers.entry((*name).to_owned()).or_default();
            values.push((*value).to_owned());
        }
        let mut metadata = MetadataMap::new();
        ForwardedHeaders::new(&names).apply(&request, &mut metadata);
        metadata
    }

    #[test]
    fn the_first_value_is_forwarded_under_a_lowercase_key() {
        let metadata = applied(
            &["AUTHORIZATION", " X-Request-Id", "x-absent"],
            &[
                ("Authorization", "Bearer a"),
                ("Authorization", "b"),
                ("X-Request-Id", "7"),
            ],
        );
        assert_eq!(metadata.len(), 2);
        assert_eq!(metadata.get("authorization").unwrap(), "Bearer a");
        assert_eq!(metadata.get("x-request-id").unwrap(), "7");
    }

    #[test]
    fn invalid_metadata_is_not_forwarded() {
        let metadata = applied(
            &[
                "Host",
                "Content-Length",
                "Grpc-Timeout",
                "a b",
                "",
                "X-Name",
                "X-Ok",
            ],
            &[
                ("Host", "h"),
                ("Content-Length", "1"),
                ("Grpc-Timeout", "1S"),
                ("X-Name", "Zo\u{eb}"),
                ("X-Ok", "ok"),
            ],
        );
        assert_eq!(metadata.len(), 1);
        assert_eq!(metadata.get("x-ok").unwrap(), "ok");
    }

    #[test]
    fn binary_keys_accept_any_bytes() {
        let metadata = applied(&["X-Name-Bin"], &[("X-Name-Bin", "Zo\u{eb}")]);
        let value = metadata.get_bin("x-name-bin").unwrap();
        assert_eq!(value.to_bytes().unwrap(), "Zo\u{eb}".as_bytes());
    }
}
