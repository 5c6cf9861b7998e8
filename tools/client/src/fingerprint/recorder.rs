//! The record of a running upload, which is stored as the upload grows.

use std::{sync::Arc, time::UNIX_EPOCH};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{
    record::{FORMAT, PartRecord, Record},
    store::FingerprintStore,
};
use crate::{
    Error,
    source::{FileContent, blocking, hex},
};

/// Keeps the record of a running upload.
#[derive(Debug)]
pub(crate) struct Recorder {
    store: Arc<dyn FingerprintStore>,
    name: String,
    record: Mutex<Record>,
    /// Parts are recorded at once: an older text must not replace a newer one.
    writes: tokio::sync::Mutex<()>,
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
