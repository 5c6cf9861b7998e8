//! The XML of the service: parsing of responses and encoding of block lists.
//!
//! Responses are untrusted: a missing or malformed value is an error or a `None`, never a panic.

use std::{fmt::Write, time::SystemTime};

use landfall::BoxError;
use landfall_objects::{ListedObject, ObjectsPage};
use percent_encoding::percent_decode_str;
use quick_xml::{de::from_str, escape::escape};
use serde::{Deserialize, de::DeserializeOwned};

type Result<T> = std::result::Result<T, BoxError>;

/// Reads a document.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    let text = std::str::from_utf8(body)?;
    Ok(from_str(text.trim_start_matches('\u{feff}').trim())?)
}

/// The body of an error, besides its code, which is also a header.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Problem {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    /// For errors of authentication.
    pub(crate) authentication_error_detail: Option<String>,
}

/// A block of a list.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListedBlock {
    #[serde(rename = "Name")]
    pub(crate) id: String,
    pub(crate) size: u64,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Blocks {
    #[serde(rename = "Block", default)]
    pub(crate) blocks: Vec<ListedBlock>,
}

/// The blocks of a blob.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct BlockList {
    #[serde(rename = "CommittedBlocks")]
    pub(crate) committed: Blocks,
    #[serde(rename = "UncommittedBlocks")]
    pub(crate) uncommitted: Blocks,
}

/// The body of a commit of these uncommitted blocks.
pub(crate) fn commit(ids: impl Iterator<Item = String>) -> String {
    let mut out = r#"<?xml version="1.0" encoding="utf-8"?><BlockList>"#.to_owned();
    for id in ids {
        let id = escape(id.as_str());
        write!(out, "<Uncommitted>{id}</Uncommitted>").expect("writing to a string");
    }
    out.push_str("</BlockList>");
    out
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PageXml {
    #[serde(default)]
    blobs: BlobsXml,
    next_marker: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct BlobsXml {
    #[serde(rename = "Blob", default)]
    blobs: Vec<BlobXml>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BlobXml {
    name: NameXml,
    properties: PropertiesXml,
}

#[derive(Debug, Deserialize)]
struct NameXml {
    /// The name has characters that XML cannot have, and is percent-encoded.
    #[serde(rename = "@Encoded", default)]
    encoded: Option<String>,
    #[serde(rename = "$text", default)]
    text: String,
}

#[derive(Debug, Deserialize)]
struct PropertiesXml {
    #[serde(rename = "Content-Length", default)]
    size: u64,
    #[serde(rename = "Last-Modified", default)]
    modified: Option<String>,
    #[serde(rename = "Etag", default)]
    etag: Option<String>,
}

pub(crate) fn objects(body: &[u8]) -> Result<ObjectsPage> {
    let page: PageXml = parse(body)?;
    let objects = page.blobs.blobs.into_iter().map(|blob| {
        let etag = blob.properties.etag.unwrap_or_default();
        let key = match blob.name.encoded.as_deref() {
            Some("true") => {
                let name = percent_decode_str(&blob.name.text).decode_utf8();
                name?.into_owned()
            }
            _ => blob.name.text,
        };
        Ok::<_, BoxError>(ListedObject {
            key,
            size: blob.properties.size,
            modified: blob.properties.modified.as_deref().and_then(time),
            // Headers have it in quotes.
            etag: format!("\"{}\"", etag.trim_matches('"')),
        })
    });
    Ok(ObjectsPage {
        objects: objects.collect::<Result<_>>()?,
        next: page.next_marker.filter(|marker| !marker.is_empty()),
        time: None,
    })
}

pub(crate) fn time(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ServiceXml {
    delete_retention_policy: Option<RetentionXml>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RetentionXml {
    enabled: bool,
    days: Option<u32>,
}

/// The days for which deleted blobs stay; 0: none.
pub(crate) fn soft_delete_days(body: &[u8]) -> Result<u32> {
    let service: ServiceXml = parse(body)?;
    let policy = service
        .delete_retention_policy
        .filter(|policy| policy.enabled);
    Ok(policy.map_or(0, |policy| policy.days.unwrap_or(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_lists() {
        let list = parse::<BlockList>(
            b"\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList><CommittedBlocks />\
              <UncommittedBlocks><Block><Name>AQAAAA==</Name><Size>4194304</Size></Block>\
              <Block><Name>////fw==</Name><Size>1</Size></Block></UncommittedBlocks></BlockList>",
        );
        let list = list.unwrap();
        assert_eq!(list.committed.blocks, []);
        let ids: Vec<_> = list
            .uncommitted
            .blocks
            .iter()
            .map(|block| &*block.id)
            .collect();
        assert_eq!(ids, ["AQAAAA==", "////fw=="]);
        assert_eq!(list.uncommitted.blocks[0].size, 4_194_304);
        assert_eq!(
            parse::<BlockList>(b"<BlockList/>").unwrap(),
            BlockList::default()
        );
        for body in [
            &b"\xff"[..],
            b"",
            b"<BlockList><UncommittedBlocks><Block/></UncommittedBlocks></BlockList>",
        ] {
            assert!(parse::<BlockList>(body).is_err());
        }
    }

    #[test]
    fn commits() {
        let body = commit(["AAAAAA==", "AQAAAA=="].map(ToOwned::to_owned).into_iter());
        assert!(body.ends_with(
            "<BlockList><Uncommitted>AAAAAA==</Uncommitted><Uncommitted>AQAAAA==</Uncommitted></BlockList>"
        ));
        assert!(commit(std::iter::empty()).ends_with("<BlockList></BlockList>"));
    }

    #[test]
    fn pages() {
        let page = objects(
            br#"<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="https://a/" ContainerName="c">
              <Prefix>in/</Prefix><MaxResults>2</MaxResults><Blobs>
              <Blob><Name>in/a&amp;b c</Name><Properties><Last-Modified>Wed, 21 Oct 2026 07:28:00 GMT</Last-Modified>
                <Etag>0x8D1</Etag><Content-Length>7</Content-Length><BlobType>BlockBlob</BlobType></Properties></Blob>
              <Blob><Name Encoded="true">in/%EF%BF%BE</Name><Properties><Etag>"0x2"</Etag></Properties></Blob>
              </Blobs><NextMarker>2!8!x</NextMarker></EnumerationResults>"#,
        );
        let page = page.unwrap();
        assert_eq!(page.next.as_deref(), Some("2!8!x"));
        let one = &page.objects[0];
        assert_eq!(
            (&*one.key, one.size, &*one.etag),
            ("in/a&b c", 7, "\"0x8D1\"")
        );
        assert!(one.modified.is_some());
        let two = &page.objects[1];
        assert_eq!(
            (&*two.key, two.size, &*two.etag),
            ("in/\u{fffe}", 0, "\"0x2\"")
        );
        let empty =
            objects(b"<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>").unwrap();
        assert_eq!((empty.objects.len(), empty.next), (0, None));
        assert!(objects(b"<html>").is_err());
    }

    #[test]
    fn services() {
        let of = |policy: &str| {
            let body = format!("<StorageServiceProperties>{policy}</StorageServiceProperties>");
            soft_delete_days(body.as_bytes()).unwrap()
        };
        let policy =
            "<DeleteRetentionPolicy><Enabled>true</Enabled><Days>7</Days></DeleteRetentionPolicy>";
        assert_eq!(of(policy), 7);
        assert_eq!(
            of("<DeleteRetentionPolicy><Enabled>false</Enabled></DeleteRetentionPolicy>"),
            0
        );
        assert_eq!(of(""), 0);
    }

    #[test]
    fn problems() {
        let found: Problem = parse(b"\xef\xbb\xbf<?xml version=\"1.0\"?><Error><Code>BlobNotFound</Code><Message>m\nRequestId:1</Message></Error>").unwrap();
        assert_eq!(found.code.as_deref(), Some("BlobNotFound"));
        assert_eq!(found.message.as_deref(), Some("m\nRequestId:1"));
        assert!(parse::<Problem>(b"no XML").is_err());
    }
}
