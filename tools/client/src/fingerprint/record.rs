//! The record of one upload as text, and its checks. It knows no store.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::{
    Error,
    source::{FileState, hex},
};

pub(super) const FORMAT: u32 = 1;
/// The first line of a record: a digest of the rest, in hexadecimal.
const DIGEST_CHARS: usize = 64;

/// An upload, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(super) format: u32,
    /// `tus`, `draft` or `multipart`.
    pub(crate) protocol: String,
    /// The path of the file and the endpoint, for lists.
    pub(super) source: PathBuf,
    pub(super) endpoint: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    pub(crate) file: FileState,
    pub(super) sample: String,
    /// One part for each partial upload; one in all for others.
    pub(crate) parts: Vec<PartRecord>,
    /// The key of the object, of a multipart upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// True if all bytes are stored: the file is not sent again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) finished: bool,
}

/// A range of the file and the upload that receives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartRecord {
    pub(crate) start: u64,
    pub(crate) length: u64,
    /// The URL of the upload; the id of a multipart upload.
    pub(crate) url: Option<String>,
}

impl Record {
    pub(super) fn encode(&self) -> Result<Vec<u8>, Error> {
        let json = serde_json::to_vec(self).map_err(|error| Error::Fingerprints(error.into()))?;
        let mut text = hex(&Sha256::digest(&json)).into_bytes();
        text.push(b'\n');
        text.extend(json);
        Ok(text)
    }

    /// Returns a record; `None` if it is torn, damaged or of another format.
    pub(super) fn decode(text: &[u8]) -> Option<Self> {
        let (digest, rest) = text.split_at_checked(DIGEST_CHARS)?;
        let json = rest.strip_prefix(b"\n")?;
        if hex(&Sha256::digest(json)).as_bytes() != digest {
            return None;
        }
        let record: Self = serde_json::from_slice(json).ok()?;
        let mut end = 0;
        for part in &record.parts {
            if part.start != end {
                return None;
            }
            end = end.checked_add(part.length)?;
        }
        (record.format == FORMAT && end == record.file.length).then_some(record)
    }
}

/// An unfinished upload of a file, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredUpload {
    /// The name of the record, for [`FingerprintStore::remove`](crate::FingerprintStore::remove).
    pub name: String,
    /// The path of the file.
    pub source: PathBuf,
    /// The URL where the upload was created.
    pub endpoint: String,
    /// The URL of the upload; `None` if it has parts or is a multipart upload.
    pub url: Option<Url>,
    /// The URLs of the partial uploads of a parallel upload.
    pub parts: Vec<Url>,
    /// The length in bytes.
    pub length: u64,
    /// The time of the creation.
    pub created: SystemTime,
}

impl StoredUpload {
    /// Reads a record; `None` if it is damaged, or of a finished upload.
    pub(super) fn decode(name: String, text: &[u8]) -> Option<Self> {
        let record = Record::decode(text).filter(|record| !record.finished)?;
        let mut parts: Vec<Url> = record
            .parts
            .iter()
            .filter_map(PartRecord::parsed_url)
            .collect();
        let url = match record.parts.len() {
            1 => parts.pop(),
            _ => None,
        };
        Some(Self {
            name,
            source: record.source,
            endpoint: record.endpoint,
            url,
            parts,
            length: record.file.length,
            created: UNIX_EPOCH + Duration::from_secs(record.created),
        })
    }
}

impl PartRecord {
    /// Returns the URL, if it is valid.
    pub(crate) fn parsed_url(&self) -> Option<Url> {
        self.url.as_deref()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let part = |start, length| PartRecord {
            start,
            length,
            url: Some("http://localhost/files/a".into()),
        };
        Record {
            format: FORMAT,
            protocol: "tus".into(),
            source: "/tmp/ü".into(),
            endpoint: "http://localhost/files/".into(),
            created: 1,
            file: FileState {
                length: 10,
                modified: 7,
            },
            sample: "00".into(),
            parts: vec![part(0, 4), part(4, 6)],
            key: None,
            finished: false,
        }
    }

    #[test]
    fn records_are_read_back() {
        assert_eq!(Record::decode(&record().encode().unwrap()), Some(record()));
    }

    #[test]
    fn torn_and_damaged_records_are_ignored() {
        let text = record().encode().unwrap();
        for length in 0..text.len() {
            assert_eq!(Record::decode(&text[..length]), None, "{length}");
            let mut damaged = text.clone();
            damaged[length] ^= 1;
            assert_eq!(Record::decode(&damaged), None, "{length}");
        }
    }

    #[test]
    fn parts_must_be_the_whole_file() {
        let mut gap = record();
        gap.parts[1].start = 5;
        assert_eq!(Record::decode(&gap.encode().unwrap()), None);
        let mut short = record();
        short.parts.pop();
        assert_eq!(Record::decode(&short.encode().unwrap()), None);
    }
}
