//! All values in one document of a service, with the fence of the last writer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use landfall::BoxError;
use landfall::lease::{Lease, LeaseError, Locker, YieldReason};
use landfall::upload::UploadId;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{CertificateStore, OrderLease, StoreError, Stored, Value};

/// The maximum size of a document.
pub const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Only a process that lost its lease writes at the same time.
const MAX_ATTEMPTS: u32 = 5;

/// A document as it was read. It contains private keys.
#[derive(Clone)]
pub struct Document {
    /// The bytes.
    pub bytes: Bytes,
    /// The service's name for this version; empty if it compares the bytes.
    pub version: String,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").finish_non_exhaustive()
    }
}

/// A document in a service that nodes share, which replaces it atomically.
///
/// [`SharedStore::document`](crate::SharedStore::document) stores certificates in it.
#[async_trait]
pub trait SharedDocument: fmt::Debug + Send + Sync + 'static {
    /// Returns the document; `None` if it does not exist.
    ///
    /// # Errors
    /// The service failed. A document of more than [`MAX_DOCUMENT_BYTES`] must not be read completely.
    async fn get(&self) -> Result<Option<Document>, BoxError>;

    /// Replaces the document that was read, or creates it; false if there is another one now.
    ///
    /// # Errors
    /// The service failed. The document may have been replaced nevertheless.
    async fn replace(&self, old: Option<&Document>, new: Bytes) -> Result<bool, BoxError>;
}

#[derive(Default, Deserialize, Serialize)]
struct Content {
    /// Of the last writer.
    fence: u64,
    #[serde(flatten)]
    stored: Stored,
}

#[derive(Clone, Debug)]
pub(super) struct DocumentStore {
    locker: Arc<dyn Locker>,
    document: Arc<dyn SharedDocument>,
}

impl DocumentStore {
    pub(super) fn new(locker: impl Locker, document: impl SharedDocument) -> Self {
        Self {
            locker: Arc::new(locker),
            document: Arc::new(document),
        }
    }

    async fn read(&self) -> Result<(Option<Document>, Content), StoreError> {
        let found = in_time(self.document.get()).await?;
        let Some(document) = &found else {
            return Ok((found, Content::default()));
        };
        check_size(&document.bytes)?;
        // The cause might quote a key.
        let content = serde_json::from_slice(&document.bytes).map_err(|_| StoreError::Damaged)?;
        Ok((found, content))
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, BoxError>>) -> Result<T, StoreError> {
    let result = timeout(TIMEOUT, call).await;
    let result = result.unwrap_or_else(|_| Err(format!("no response within {TIMEOUT:?}").into()));
    result.map_err(StoreError::Service)
}

fn check_size(bytes: &Bytes) -> Result<(), StoreError> {
    match bytes.len() {
        0..=MAX_DOCUMENT_BYTES => Ok(()),
        _ => Err(StoreError::TooLarge),
    }
}

#[async_trait]
impl CertificateStore for DocumentStore {
    async fn acquire(&self) -> Result<Option<Box<dyn OrderLease>>, StoreError> {
        let id = UploadId::new("orders").expect("letters are valid in an id");
        match self.locker.try_acquire(&id).await {
            Ok(lease) => Ok(Some(Box::new(DocumentLease {
                store: self.clone(),
                lease,
            }))),
            Err(LeaseError::Locked) => Ok(None),
            Err(error) => Err(StoreError::Service(error.into())),
        }
    }

    async fn get(&self) -> Result<Stored, StoreError> {
        Ok(self.read().await?.1.stored)
    }
}

#[derive(Debug)]
struct DocumentLease {
    store: DocumentStore,
    lease: Lease,
}

#[async_trait]
impl OrderLease for DocumentLease {
    fn is_held(&self) -> bool {
        self.lease.signal().reason() != Some(YieldReason::LeaseLost)
    }

    async fn store(&self, value: Value<'_>) -> Result<(), StoreError> {
        let fence = self.lease.fence().0;
        for _ in 0..MAX_ATTEMPTS {
            let (found, mut content) = self.store.read().await?;
            if content.fence > fence || !self.is_held() {
                return Err(StoreError::LeaseLost);
            }
            content.fence = fence;
            let stored = &mut content.stored;
            match value {
                Value::Account(account) => stored.account = Some(account.to_owned()),
                Value::Certificate(pem) => stored.certificate = Some(pem.to_owned()),
                Value::Challenges(challenges) => stored.challenges = challenges.to_vec(),
            }
            let new = serde_json::to_vec(&content).map_err(|_| StoreError::Damaged)?;
            let new = Bytes::from(new);
            check_size(&new)?;
            // An attempt succeeded, and its response was lost.
            if found.as_ref().is_some_and(|found| found.bytes == new) {
                return Ok(());
            }
            let replace = self.store.document.replace(found.as_ref(), new);
            if in_time(replace).await? {
                return Ok(());
            }
        }
        Err(StoreError::Contention)
    }
}

#[cfg(test)]
mod tests {
    use landfall::lease::MemoryLocker;
    use parking_lot::Mutex;

    use super::super::conformance;
    use super::*;
    use crate::SharedStore;

    /// The fault of one call of `replace`.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    enum Fault {
        #[default]
        None,
        NoResponse,
        OtherWriter,
    }

    #[derive(Clone, Default)]
    struct MemoryDocument(Arc<Mutex<(Bytes, Fault)>>);

    impl fmt::Debug for MemoryDocument {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("MemoryDocument")
        }
    }

    #[async_trait]
    impl SharedDocument for MemoryDocument {
        async fn get(&self) -> Result<Option<Document>, BoxError> {
            let (bytes, version) = (self.0.lock().0.clone(), String::new());
            Ok((!bytes.is_empty()).then_some(Document { bytes, version }))
        }

        async fn replace(&self, old: Option<&Document>, new: Bytes) -> Result<bool, BoxError> {
            let mut stored = self.0.lock();
            let fault = std::mem::take(&mut stored.1);
            if fault == Fault::OtherWriter {
                stored.0 = r#"{"fence":1,"account":"other"}"#.into();
            }
            if stored.0 != old.map(|old| old.bytes.clone()).unwrap_or_default() {
                return Ok(false);
            }
            stored.0 = new;
            Ok(fault == Fault::None)
        }
    }

    #[tokio::test]
    async fn conformance() {
        let (locker, document) = (MemoryLocker::new(), MemoryDocument::default());
        let stores = [(); 2].map(|()| SharedStore::document(locker.clone(), document.clone()));
        conformance::check(stores.each_ref()).await;
        let document = MemoryDocument::default();
        let stores = [(); 2].map(|()| SharedStore::document(MemoryLocker::new(), document.clone()));
        conformance::check_fences(stores.each_ref(), async || ()).await;
    }

    #[tokio::test]
    async fn values_are_stored_despite_another_writer_and_a_lost_response() {
        for fault in [Fault::OtherWriter, Fault::NoResponse] {
            let document = MemoryDocument::default();
            let store = DocumentStore::new(MemoryLocker::new(), document.clone());
            let lease = store.acquire().await.unwrap().unwrap();
            document.0.lock().1 = fault;
            lease.store(Value::Certificate("pem")).await.unwrap();
            let stored = store.get().await.unwrap();
            assert_eq!(stored.certificate.as_deref(), Some("pem"));
            assert_eq!(stored.account.is_some(), fault == Fault::OtherWriter);
        }
    }

    #[tokio::test]
    async fn damaged_and_large_documents_are_rejected_without_their_content() {
        let document = MemoryDocument::default();
        let store = DocumentStore::new(MemoryLocker::new(), document.clone());
        let lease = store.acquire().await.unwrap().unwrap();
        for damaged in [r#"{"fence":"secret"}"#, "secret"] {
            document.0.lock().0 = damaged.into();
            let error = store.get().await.unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
        let large = "x".repeat(MAX_DOCUMENT_BYTES);
        document.0.lock().0 = Bytes::new();
        let error = lease.store(Value::Certificate(&large)).await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge), "{error}");
        document.0.lock().0 = format!(r#"{{"fence":0,"account":"{large}"}}"#).into();
        let error = store.get().await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge), "{error}");
    }
}
