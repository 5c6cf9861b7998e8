//! The JSON of the API: objects, listings, errors. It sends nothing.

use std::{collections::BTreeMap, time::SystemTime};

use jiff::Timestamp;
use landfall_objects::{ObjectHead, ObjectHeaders, Payload};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value, json};

use crate::checksum::{self, Checksum};

/// The fields of a [`Resource`], which are all that a response has to contain.
pub(crate) const FIELDS: &str =
    "name,generation,size,crc32c,contentType,timeCreated,updated,metadata";

/// An object as the service describes it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Resource {
    pub(crate) name: String,
    #[serde(deserialize_with = "number")]
    pub(crate) generation: u64,
    #[serde(deserialize_with = "number")]
    pub(crate) size: u64,
    pub(crate) crc32c: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) time_created: Option<String>,
    pub(crate) updated: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Resource {
    /// Returns size and checksum; `None` if the service sent none that can be read.
    pub(crate) fn checksum(&self) -> Option<Checksum> {
        let crc32c = checksum::decode(self.crc32c.as_deref()?)?;
        let size = self.size;
        Some(Checksum { size, crc32c })
    }

    /// Returns the time at which this generation was written.
    pub(crate) fn modified(&self) -> Option<SystemTime> {
        let text = self.time_created.as_ref().or(self.updated.as_ref())?;
        Some(text.parse::<Timestamp>().ok()?.into())
    }

    pub(crate) fn into_head(self) -> ObjectHead {
        ObjectHead {
            size: self.size,
            etag: version(self.generation),
            modified: self.modified(),
            metadata: self
                .metadata
                .into_iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value))
                .collect(),
            content_type: self.content_type,
        }
    }
}

/// Returns a generation as callers know it: an entity tag.
pub(crate) fn version(generation: u64) -> String {
    format!("\"{generation}\"")
}

/// Reads the generation in an entity tag.
pub(crate) fn generation(version: &str) -> Option<u64> {
    version.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

/// A page of a listing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Listing {
    pub(crate) items: Vec<Resource>,
    pub(crate) next_page_token: Option<String>,
}

/// A step of a rewrite, which may need several.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rewrite {
    #[serde(deserialize_with = "number")]
    pub(crate) object_size: u64,
    pub(crate) done: bool,
    pub(crate) rewrite_token: Option<String>,
    pub(crate) resource: Option<Resource>,
}

/// Returns the metadata of an object to write.
pub(crate) fn attributes(headers: &ObjectHeaders) -> Map<String, Value> {
    let texts = [
        ("contentType", &headers.content_type),
        ("contentDisposition", &headers.content_disposition),
        ("cacheControl", &headers.cache_control),
        ("contentEncoding", &headers.content_encoding),
        ("storageClass", &headers.storage_class),
    ];
    let texts = texts.into_iter();
    let texts = texts.filter_map(|(name, text)| Some((name.to_owned(), text.as_deref()?.into())));
    let mut attributes: Map<String, Value> = texts.collect();
    if !headers.metadata.is_empty() {
        attributes.insert("metadata".to_owned(), json!(headers.metadata));
    }
    attributes
}

/// Returns the content type and the payload of an insert: metadata, and the bytes, which are not copied.
///
/// `boundary` must not occur in the bytes.
pub(crate) fn multipart_related(
    attributes: Map<String, Value>,
    payload: Payload,
    boundary: u128,
) -> (String, Payload) {
    let media = attributes.get("contentType").and_then(Value::as_str);
    let media = media.unwrap_or("application/octet-stream");
    // A content type is the operator's or the client's, and was checked to be one; a line break would end the head.
    let media = media.replace(char::is_control, "");
    let json = Value::from(attributes);
    let head = format!(
        "--{boundary:032x}\r\ncontent-type: application/json; charset=utf-8\r\n\r\n{json}\r\n\
         --{boundary:032x}\r\ncontent-type: {media}\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary:032x}--\r\n");
    let content_type = format!("multipart/related; boundary={boundary:032x}");
    (content_type, payload.between(head.into(), tail.into()))
}

/// An error response, as far as the client uses it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
}

impl Problem {
    /// Reads JSON, or else a plain message, as downloads have it.
    pub(crate) fn parse(body: &[u8]) -> Self {
        if let Ok(json) = serde_json::from_slice::<Value>(body)
            && let Some(error) = json.get("error").filter(|error| error.is_object())
        {
            let text = |pointer| Some(error.pointer(pointer)?.as_str()?.to_owned());
            return Self {
                reason: text("/errors/0/reason").or_else(|| text("/status")),
                message: text("/message"),
            };
        }
        let text = String::from_utf8_lossy(body).trim().to_owned();
        // A page of a proxy is of no use.
        let is_plain = !text.is_empty() && !text.starts_with(['<', '{']);
        Self {
            reason: None,
            message: is_plain.then_some(text),
        }
    }
}

/// Numbers of 64 bits are text in the service's JSON, and numbers in that of some emulators.
pub(crate) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let number = match Value::deserialize(from)? {
        Value::String(text) => text.parse().ok(),
        number => number.as_u64(),
    };
    number.ok_or_else(|| D::Error::custom("a number of the response cannot be read"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn object_of_the_service() {
        let json = r#"{"kind":"storage#object","name":"a/b","generation":"1700000000000001","size":"9",
            "crc32c":"4waSgw==","timeCreated":"2026-11-27T10:00:00.000Z","updated":"2026-11-27T11:00:00Z",
            "contentType":"text/plain","metadata":{"File-Name":"é"}}"#;
        let resource: Resource = serde_json::from_str(json).expect("an object");
        let checksum = resource.checksum().expect("a checksum");
        assert_eq!((checksum.size, checksum.crc32c), (9, 0xE306_9283));
        let head = resource.into_head();
        assert_eq!(head.etag, "\"1700000000000001\"");
        assert_eq!(generation(&head.etag), Some(1_700_000_000_000_001));
        assert_eq!(head.metadata["file-name"], "é");
        let written = "2026-11-27T10:00:00Z".parse::<Timestamp>().expect("a time");
        assert_eq!(head.modified, Some(written.into()));
        for json in [r#"{"size":"-1"}"#, r#"{"generation":"x"}"#, "{"] {
            serde_json::from_str::<Resource>(json).expect_err(json);
        }
        assert_eq!(generation("123"), None);
        assert_eq!(generation("\"x\""), None);
    }

    #[test]
    fn bytes_of_an_insert_are_not_copied() {
        let chunk = Bytes::from_static(b"hello");
        let payload = Payload::new(vec![chunk.clone(), chunk.clone()], None);
        let headers = ObjectHeaders {
            content_type: Some("text/plain\r\nx: y".to_owned()),
            content_disposition: Some("attachment".to_owned()),
            metadata: [("a\"b".to_owned(), "ü".to_owned())].into(),
            ..ObjectHeaders::default()
        };
        let mut attributes = attributes(&headers);
        attributes.insert("crc32c".to_owned(), "AAAAAA==".into());
        attributes.insert("name".to_owned(), "k/1".into());
        let (content_type, related) = multipart_related(attributes, payload, 5);
        assert_eq!(
            content_type,
            format!("multipart/related; boundary={}5", "0".repeat(31))
        );
        let chunks: Vec<_> = related.chunks().collect();
        assert_eq!(chunks.len(), 4);
        assert_eq!(chunks[1].as_ptr(), chunk.as_ptr());
        let all: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.to_vec()).collect();
        assert_eq!(related.len(), all.len() as u64);
        let boundary = &content_type["multipart/related; boundary=".len()..];
        let text = String::from_utf8(all).expect("text");
        let head = format!("--{boundary}\r\ncontent-type: application/json; charset=utf-8\r\n\r\n");
        let (json, rest) = text
            .strip_prefix(&head)
            .and_then(|text| text.split_once("\r\n"))
            .expect("a head");
        let wanted = json!({
            "name": "k/1", "crc32c": "AAAAAA==", "contentType": "text/plain\r\nx: y",
            "contentDisposition": "attachment", "metadata": {"a\"b": "ü"},
        });
        assert_eq!(serde_json::from_str::<Value>(json).expect("JSON"), wanted);
        let wanted = format!(
            "--{boundary}\r\ncontent-type: text/plainx: y\r\n\r\nhellohello\r\n--{boundary}--\r\n"
        );
        assert_eq!(rest, wanted);
    }

    #[test]
    fn errors_of_the_service() {
        let json = r#"{"error":{"code":404,"message":"m","errors":[{"message":"m","domain":"global","reason":"notFound"}]}}"#;
        let problem = Problem::parse(json.as_bytes());
        assert_eq!(problem.reason.as_deref(), Some("notFound"));
        assert_eq!(problem.message.as_deref(), Some("m"));
        let problem =
            Problem::parse(br#"{"error":{"code":403,"message":"m","status":"PERMISSION_DENIED"}}"#);
        assert_eq!(problem.reason.as_deref(), Some("PERMISSION_DENIED"));
        let plain = Problem::parse(b"No such object: b/k\n");
        assert_eq!(plain.message.as_deref(), Some("No such object: b/k"));
        for body in ["", "<html>x</html>", "{\"error\":\"invalid\"}"] {
            assert_eq!(
                Problem::parse(body.as_bytes()),
                Problem::default(),
                "{body}"
            );
        }
    }
}
