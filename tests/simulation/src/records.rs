//! The bucket with the lease records. It decides nothing about leases.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use landfall::BoxError;
use landfall_leases::{LeaseRecords, ListedRecord, RecordPage};
use parking_lot::Mutex;

use crate::{
    settings::Mutant,
    world::{Port, Service},
};

/// A record and its version.
type Record = (Bytes, u64);

/// All records. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    records: Arc<Mutex<(BTreeMap<String, Record>, u64)>>,
    mutant: Option<Mutant>,
}

impl Records {
    pub(crate) fn new(mutant: Option<Mutant>) -> Self {
        let records = Arc::default();
        Self { records, mutant }
    }

    fn read(&self, key: &str) -> Option<(Bytes, String)> {
        let (records, _) = &mut *self.records.lock();
        let (json, version) = records.get(key)?;
        let mut json = json.clone();
        if self.mutant == Some(Mutant::TwoWriters)
            && let Ok(mut record) = serde_json::from_slice::<serde_json::Value>(&json)
            && record.get("released").is_some()
        {
            record["released"] = true.into();
            return Some((record.to_string().into(), version.to_string()));
        }
        if self.mutant == Some(Mutant::LeaseNeverFreed)
            && let Ok(mut record) = serde_json::from_slice::<serde_json::Value>(&json)
            && let Some(sequence) = record.get("sequence").and_then(serde_json::Value::as_u64)
        {
            record["sequence"] = (sequence + 1).into();
            json = record.to_string().into();
            records.insert(key.to_owned(), (json.clone(), *version));
            return self.entry(records, key);
        }
        Some((json, version.to_string()))
    }

    fn entry(&self, records: &BTreeMap<String, Record>, key: &str) -> Option<(Bytes, String)> {
        let (json, version) = records.get(key)?;
        Some((json.clone(), version.to_string()))
    }

    fn write(&self, key: &str, json: Vec<u8>, version: Option<String>) -> Option<String> {
        let (records, newest) = &mut *self.records.lock();
        let found = records.get(key).map(|(_, version)| version.to_string());
        if found != version {
            return None;
        }
        *newest += 1;
        records.insert(key.to_owned(), (json.into(), *newest));
        Some(newest.to_string())
    }

    fn list(&self, prefix: &str) -> RecordPage {
        let (records, _) = &*self.records.lock();
        let found = records.range(prefix.to_owned()..);
        let found = found.take_while(|(key, _)| key.starts_with(prefix));
        let found = found.map(|(key, _)| ListedRecord {
            key: key.clone(),
            age: None,
        });
        RecordPage {
            records: found.collect(),
            next: None,
        }
    }
}

/// The records as a node reaches them.
#[derive(Debug)]
pub(crate) struct RemoteRecords(pub(crate) Port);

impl RemoteRecords {
    async fn call<T: Send + 'static>(
        &self,
        effect: impl FnOnce(&Records) -> T + Send + 'static,
    ) -> Result<T, BoxError> {
        let records = self.0.world.records.clone();
        let result = self.0.call(Service::Leases, move || effect(&records));
        result
            .await
            .ok_or_else(|| "the bucket does not answer".into())
    }
}

impl LeaseRecords for RemoteRecords {
    async fn read(&self, key: &str) -> Result<Option<(Bytes, String)>, BoxError> {
        let key = key.to_owned();
        self.call(move |records| records.read(&key)).await
    }

    async fn write(
        &self,
        key: &str,
        json: Vec<u8>,
        version: Option<String>,
    ) -> Result<Option<String>, BoxError> {
        let key = key.to_owned();
        self.call(move |records| records.write(&key, json, version))
            .await
    }

    async fn delete(&self, key: &str) -> Result<(), BoxError> {
        let key = key.to_owned();
        self.call(move |records| drop(records.records.lock().0.remove(&key)))
            .await
    }

    async fn list(&self, prefix: &str, _: Option<String>) -> Result<RecordPage, BoxError> {
        let prefix = prefix.to_owned();
        self.call(move |records| records.list(&prefix)).await
    }
}
