//! The JSON of the API: objects, listings, errors. It sends nothing.

use std::{collections::BTreeMap, time::SystemTime};

use jiff::Timestamp;
use landfall_objects::{ObjectHead, ObjectHeaders, Payload};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

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

/// The metadata of an object to write.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) crc32c: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_disposition: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache_control: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_encoding: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) storage_class: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<&'a str, &'a str>,
}

impl<'a> From<&'a ObjectHeaders> for Metadata<'a> {
    fn from(headers: &'a ObjectHeaders) -> Self {
        let pairs = headers.metadata.iter();
        Self {
            name: None,
            crc32c: None,
            content_type: headers.content_type.as_deref(),
            content_disposition: headers.content_disposition.as_deref(),
            cache_control: headers.cache_control.as_deref(),
            content_encoding: headers.content_encoding.as_deref(),
            storage_class: headers.storage_class.as_deref(),
            metadata: pairs.map(|(name, value)| (&**name, &**value)).collect(),
        }
    }
}

/// Objects to be made one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Compose<'a> {
    pub(crate) kind: &'static str,
    pub(crate) source_objects: Vec<ComposeSource<'a>>,
    pub(crate) destination: Metadata<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ComposeSource<'a> {
    pub(crate) name: &'a str,
    pub(crate) generation: String,
}

/// Returns the content type and the payload of an insert: metadata, and the bytes, which are not copied.
///
/// `boundary` must not occur in the bytes.
pub(crate) fn multipart_related(
    metadata: &Metadata<'_>,
    payload: Payload,
    boundary: u128,
) -> Result<(String, Payload), serde_json::Error> {
    let json = serde_json::to_string(metadata)?;
    let media = metadata.content_type.unwrap_or("application/octet-stream");
    // A content type is the operator's or the client's, and was checked to be one; a line break would end the head.
    let media = media.replace(char::is_control, "");
    let head = format!(
        "--{boundary:032x}\r\ncontent-type: application/json; charset=utf-8\r\n\r\n{json}\r\n\
         --{boundary:032x}\r\ncontent-type: {media}\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary:032x}--\r\n");
    let content_type = format!("multipart/related; boundary={boundary:032x}");
    Ok((content_type, payload.between(head.into(), tail.into())))
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
        #[derive(Deserialize)]
        struct Envelope {
            error: Details,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Details {
            message: Option<String>,
            status: Option<String>,
            errors: Vec<Reason>,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Reason {
            reason: Option<String>,
        }
        match serde_json::from_slice::<Envelope>(body) {
            Ok(Envelope { error }) => Self {
                reason: error
                    .errors
                    .into_iter()
                    .find_map(|one| one.reason)
                    .or(error.status),
                message: error.message,
            },
            Err(_) => {
                let text = String::from_utf8_lossy(body).trim().to_owned();
                // A page of a proxy is of no use.
                let is_plain = !text.is_empty() && !text.starts_with(['<', '{']);
                Self {
                    reason: None,
                    message: is_plain.then_some(text),
                }
            }
        }
    }
}

/// Numbers of 64 bits are text in the service's JSON, and numbers in that of some emulators.
pub(crate) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Number(u64),
        Text(String),
    }
    match Number::deserialize(from)? {
        Number::Number(number) => Ok(number),
        Number::Text(text) => text
            .parse()
            .map_err(|_| D::Error::custom("a number of the response cannot be read")),
    }
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
        let metadata = Metadata {
            name: Some("k/1"),
            crc32c: Some("AAAAAA==".to_owned()),
            ..Metadata::from(&headers)
        };
        let (content_type, related) = multipart_related(&metadata, payload, 5).expect("a payload");
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
        let wanted = format!(
            "--{boundary}\r\ncontent-type: application/json; charset=utf-8\r\n\r\n\
             {{\"name\":\"k/1\",\"crc32c\":\"AAAAAA==\",\"contentType\":\"text/plain\\r\\nx: y\",\
             \"contentDisposition\":\"attachment\",\"metadata\":{{\"a\\\"b\":\"ü\"}}}}\r\n\
             --{boundary}\r\ncontent-type: text/plainx: y\r\n\r\nhellohello\r\n--{boundary}--\r\n"
        );
        assert_eq!(String::from_utf8(all).expect("text"), wanted);
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
