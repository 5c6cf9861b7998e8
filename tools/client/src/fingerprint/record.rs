//! The record of one upload, and its checks.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::{
    Error, FingerprintStore,
    source::{FileContent, FileState, blocking, hex},
};

const FORMAT: u32 = 1;
/// The first line of a record: a digest of the rest, in hexadecimal.
const DIGEST_CHARS: usize = 64;

/// An upload, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    /// `tus`, `draft` or `multipart`.
    pub(crate) protocol: String,
    /// The path of the file and the endpoint, for lists.
    source: PathBuf,
    endpoint: String,
    /// Seconds since 1970.
    created: u64,
    pub(crate) file: FileState,
    sample: String,
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
    fn encode(&self) -> Result<Vec<u8>, Error> {
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
    /// The name of the record, for [`FingerprintStore::remove`].
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

/// Keeps the record of a running upload.
#[derive(Debug)]
pub(crate) struct Recorder {
    store: Arc<dyn FingerprintStore>,
    name: String,
    record: Mutex<Record>,
    /// Parts are recorded at once: an older text must not replace a newer one.
    writes: tokio::sync::Mutex<()>,
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

/// The record that a store had of an upload.
pub(crate) enum StoredRecord {
    Nothing,
    /// The file is another one now.
    Changed,
    /// The first bytes, the last and some between are those of the recorded upload.
    Record(Box<Record>),
}

impl Recorder {
    /// Creates the recorder of an upload of `file`. `identity` is what distinguishes it from other uploads of the file.
    ///
    /// # Errors
    /// [`Error::Fingerprints`], [`Error::Source`].
    pub(crate) async fn open(
        store: Arc<dyn FingerprintStore>,
        file: &FileContent,
        endpoint: &Url,
        identity: &[&[u8]],
        resume: bool,
    ) -> Result<(Self, StoredRecord), Error> {
        let mut hasher = Sha256::new();
        let path = file.path().as_os_str().as_encoded_bytes();
        for part in [path, endpoint.as_str().as_bytes()].iter().chain(identity) {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let name = hex(hasher.finalize().get(..16).unwrap_or_default());
        let stored = match resume {
            true => {
                let (store, name) = (store.clone(), name.clone());
                let read = blocking(move || store.get(&name)).await;
                read.map_err(Error::Fingerprints)?
            }
            false => None,
        };
        let found = match stored.as_deref().and_then(Record::decode) {
            None => StoredRecord::Nothing,
            Some(record) if record.file != file.state() => StoredRecord::Changed,
            Some(record) => match file.sample().await.map_err(Error::Source)? == record.sample {
                true => StoredRecord::Record(Box::new(record)),
                false => StoredRecord::Changed,
            },
        };
        let record = match &found {
            StoredRecord::Record(record) => (**record).clone(),
            StoredRecord::Nothing | StoredRecord::Changed => Record {
                format: FORMAT,
                protocol: String::new(),
                source: file.path().to_owned(),
                endpoint: endpoint.to_string(),
                created: UNIX_EPOCH.elapsed().unwrap_or_default().as_secs(),
                file: file.state(),
                sample: String::new(),
                parts: Vec::new(),
                key: None,
                finished: false,
            },
        };
        let recorder = Self {
            store,
            name,
            record: Mutex::new(record),
            writes: tokio::sync::Mutex::default(),
        };
        Ok((recorder, found))
    }

    /// Starts a new record, which [`Self::set_url`] stores.
    pub(crate) fn start(&self, protocol: &str, parts: Vec<PartRecord>) {
        let mut record = self.record.lock();
        protocol.clone_into(&mut record.protocol);
        record.parts = parts;
    }

    /// Stores the URL of the finished upload, so that another run sends nothing.
    ///
    /// # Errors
    /// [`Error::Fingerprints`], [`Error::Source`].
    pub(crate) async fn finish(&self, url: &Url, file: &FileContent) -> Result<(), Error> {
        {
            let mut record = self.record.lock();
            let length = record.file.length;
            record.parts = vec![PartRecord {
                start: 0,
                length,
                url: None,
            }];
        }
        self.store(0, Some(url.as_str()), file, true).await
    }

    /// Stores the URL of a part; `None` if it is gone. No byte is sent before.
    ///
    /// # Errors
    /// [`Error::Fingerprints`], [`Error::Source`].
    pub(crate) async fn set_url(
        &self,
        part: usize,
        url: Option<&str>,
        file: &FileContent,
    ) -> Result<(), Error> {
        self.store(part, url, file, false).await
    }

    async fn store(
        &self,
        part: usize,
        url: Option<&str>,
        file: &FileContent,
        finished: bool,
    ) -> Result<(), Error> {
        if self.record.lock().sample.is_empty() {
            let sample = file.sample().await.map_err(Error::Source)?;
            self.record.lock().sample = sample;
        }
        let _write = self.writes.lock().await;
        let text = {
            let mut record = self.record.lock();
            record.finished = finished;
            if let Some(part) = record.parts.get_mut(part) {
                part.url = url.map(str::to_owned);
            }
            record.encode()?
        };
        let (store, name) = (self.store.clone(), self.name.clone());
        blocking(move || store.set(&name, &text))
            .await
            .map_err(Error::Fingerprints)
    }

    /// Sets the key of a multipart upload, which [`Self::set_url`] stores.
    pub(crate) fn set_key(&self, key: &str) {
        self.record.lock().key = Some(key.to_owned());
    }

    /// Removes the record of an upload that is complete or gone. One that was never stored costs nothing.
    ///
    /// # Errors
    /// [`Error::Fingerprints`].
    pub(crate) async fn remove(&self) -> Result<(), Error> {
        if std::mem::take(&mut self.record.lock().sample).is_empty() {
            return Ok(());
        }
        let _write = self.writes.lock().await;
        let (store, name) = (self.store.clone(), self.name.clone());
        blocking(move || store.remove(&name))
            .await
            .map_err(Error::Fingerprints)
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
