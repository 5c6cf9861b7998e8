//! The stores that fail do fail, and only as they should.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use landfall::{
    Lifetimes,
    lease::Fence,
    removal::Removable,
    store::{
        Append, ByteStream, Capabilities, Cursor, DueFilter, Enumerate, MemoryStore, Orphan, Page,
        Read, Store, StoreError, SweepClaim,
    },
    upload::{Completion, Snapshot, Upload, UploadId},
};
use landfall_testkit::fault::{Failure, Fault, FaultStore, Faults, StoreCall};

use crate::power_loss::PowerLossStore;

fn upload() -> Upload {
    Upload::new(UploadId::random(), Some(100))
}

#[tokio::test]
async fn a_short_write_keeps_the_bytes_that_fit() {
    let faults = Faults::none();
    let store = FaultStore::new(MemoryStore::new(), faults.clone());
    let (upload, mut append) = store.create_append(upload(), Fence(1)).await.unwrap();
    faults.plan(StoreCall::Write, Fault::Short(7, Failure::Full));
    let mut chunks = vec![Bytes::from_static(b"hello "), Bytes::from_static(b"world")];
    assert!(matches!(
        append.write(&mut chunks).await,
        Err(StoreError::Full(_))
    ));
    assert!(chunks.is_empty());
    assert_eq!(append.offset(), 7);
    append
        .write(&mut vec![Bytes::from_static(b"orld")])
        .await
        .unwrap();
    assert_eq!(append.commit().await.unwrap(), 11);
    assert_eq!(store.load(&upload.id).await.unwrap().offset, 11);
    assert_eq!(faults.happened(), 1);
}

#[tokio::test]
async fn a_lost_answer_means_it_was_done() {
    let faults = Faults::none();
    let store = FaultStore::new(MemoryStore::new(), faults.clone());
    let mut upload = Upload::clone(&*store.create(upload()).await.unwrap());
    upload.completion = Completion::Done(None);
    faults.plan(StoreCall::Save, Fault::After(Failure::Unavailable));
    let saved = store.save(&upload, Fence(1)).await;
    assert!(matches!(saved, Err(StoreError::Unavailable { .. })));
    assert!(
        store
            .load(&upload.id)
            .await
            .unwrap()
            .upload
            .completion
            .is_done()
    );

    // But an upload whose creation failed isn't there.
    let another = Upload::new(UploadId::random(), None);
    faults.plan(StoreCall::Create, Fault::After(Failure::Io));
    assert!(matches!(
        store.create(another.clone()).await,
        Err(StoreError::Other { .. })
    ));
    assert!(matches!(
        store.load(&another.id).await,
        Err(StoreError::NotFound(_))
    ));
}

#[tokio::test]
async fn bytes_never_count_after_a_failed_confirmation() {
    let faults = Faults::none();
    let store = FaultStore::new(MemoryStore::new(), faults.clone());
    let (upload, mut append) = store.create_append(upload(), Fence(1)).await.unwrap();
    append.begin_unverified().await.unwrap();
    append
        .write(&mut vec![Bytes::from_static(b"unsure")])
        .await
        .unwrap();
    faults.plan(StoreCall::AcceptUnverified, Fault::After(Failure::Io));
    append.accept_unverified().await.unwrap_err();
    append.accept_unverified().await.unwrap_err();
    append.commit().await.unwrap_err();
    drop(append);
    assert_eq!(store.load(&upload.id).await.unwrap().offset, 0);
}

#[tokio::test]
async fn chance_is_the_same_for_the_same_seed() {
    let mut runs = Vec::new();
    for seed in [1, 1, 2] {
        let faults = Faults::none();
        faults.by_chance(seed, 300);
        let store = FaultStore::new(MemoryStore::new(), faults.clone());
        let mut results = Vec::new();
        for _ in 0..200 {
            results.push(store.create(upload()).await.is_ok());
        }
        assert!(faults.happened() > 20, "{} faults", faults.happened());
        faults.stop();
        store.create(upload()).await.unwrap();
        runs.push(results);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

/// A store that does each of its calls in a way of its own, so that a default in place of one shows.
#[derive(Debug)]
struct OwnStore(MemoryStore);

#[async_trait]
impl Store for OwnStore {
    async fn create(&self, upload: Upload) -> Result<Arc<Upload>, StoreError> {
        self.0.create(upload).await
    }

    async fn assign_id(&self, upload: &mut Upload) -> Result<(), StoreError> {
        upload.id = UploadId::new("assigned").unwrap();
        Ok(())
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot, StoreError> {
        self.0.load(id).await
    }

    async fn resume(
        &self,
        id: &UploadId,
        fence: Fence,
    ) -> Result<(Snapshot, Box<dyn Append>), StoreError> {
        let (snapshot, append) = self.0.resume(id, fence).await?;
        Ok((snapshot, Box::new(OwnAppend(append))))
    }

    async fn save(&self, upload: &Upload, fence: Fence) -> Result<(), StoreError> {
        self.0.save(upload, fence).await
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities {
            reader: Some(self),
            enumerator: Some(self),
            ..Capabilities::default()
        }
    }
}

#[derive(Debug)]
struct OwnAppend(Box<dyn Append>);

#[async_trait]
impl Append for OwnAppend {
    fn offset(&self) -> u64 {
        self.0.offset()
    }

    fn write_size(&self) -> usize {
        7
    }

    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<(), StoreError> {
        self.0.write(chunks).await
    }

    async fn commit(&mut self) -> Result<u64, StoreError> {
        self.0.commit().await
    }

    async fn begin_unverified(&mut self) -> Result<(), StoreError> {
        self.0.begin_unverified().await
    }

    async fn accept_unverified(&mut self) -> Result<(), StoreError> {
        self.0.accept_unverified().await
    }

    async fn discard_unverified(&mut self) -> Result<(), StoreError> {
        self.0.discard_unverified().await
    }
}

#[async_trait]
impl Read for OwnStore {
    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let reader = self.0.capabilities().reader.unwrap();
        reader.read(upload, range).await
    }

    async fn link(&self, _: &Upload, _: &str, _: &str) -> Result<Option<String>, StoreError> {
        Ok(Some("https://own.example/".to_owned()))
    }
}

#[async_trait]
impl Enumerate for OwnStore {
    async fn page(&self, _: Option<Cursor>, _: usize) -> Result<Page, StoreError> {
        Ok(Page::default())
    }

    async fn page_due(
        &self,
        _: Option<Cursor>,
        _: usize,
        _: &DueFilter<'_>,
    ) -> Result<Page, StoreError> {
        let next_due = Some(SystemTime::UNIX_EPOCH);
        Ok(Page {
            next_due,
            ..Page::default()
        })
    }

    async fn claim_sweep(&self, _: Duration) -> Result<SweepClaim, StoreError> {
        Ok(SweepClaim::Later(Duration::MAX))
    }

    async fn remove_orphan(&self, _: &Orphan, _: Removable) -> Result<bool, StoreError> {
        Ok(false)
    }
}

#[tokio::test]
async fn faults_replace_no_call_by_its_default() {
    let faults = Faults::none();
    let store = FaultStore::new(OwnStore(MemoryStore::new()), faults.clone());
    let mut upload = upload();
    store.assign_id(&mut upload).await.unwrap();
    assert_eq!(upload.id.as_str(), "assigned");
    let upload = store.create(upload).await.unwrap();
    let (_, append) = store.resume(&upload.id, Fence(1)).await.unwrap();
    assert_eq!(append.write_size(), 7);
    let reader = store.capabilities().reader.unwrap();
    let link = reader.link(&upload, "", "").await.unwrap();
    assert_eq!(link.as_deref(), Some("https://own.example/"));
    let enumerator = store.capabilities().enumerator.unwrap();
    let all = DueFilter {
        all: true,
        dry_run: false,
        lifetimes: Lifetimes::default(),
        due: &|_| None,
    };
    let page = enumerator.page_due(None, 1, &all).await.unwrap();
    assert_eq!(page.next_due, Some(SystemTime::UNIX_EPOCH));
    let claim = enumerator.claim_sweep(Duration::ZERO).await.unwrap();
    assert_eq!(claim, SweepClaim::Later(Duration::MAX));
    faults.plan(StoreCall::Page, Fault::Before(Failure::Io));
    enumerator.page_due(None, 1, &all).await.unwrap_err();
    faults.plan(StoreCall::Read, Fault::Short(3, Failure::Io));
    reader.link(&upload, "", "").await.unwrap_err();
}

#[tokio::test]
async fn a_crash_loses_uncommitted_bytes() {
    let store = PowerLossStore::new(MemoryStore::new());
    let (upload, mut append) = store.create_append(upload(), Fence(1)).await.unwrap();
    append
        .write(&mut vec![Bytes::from_static(b"kept")])
        .await
        .unwrap();
    append.commit().await.unwrap();
    append
        .write(&mut vec![Bytes::from_static(b" and lost")])
        .await
        .unwrap();
    assert_eq!(append.offset(), 13);

    let after = store.crash();
    append
        .write(&mut vec![Bytes::from_static(b"!")])
        .await
        .unwrap_err();
    append.commit().await.unwrap_err();
    store.load(&upload.id).await.unwrap_err();
    store.save(&upload, Fence(2)).await.unwrap_err();
    assert_eq!(after.load(&upload.id).await.unwrap().offset, 4);

    // A published offset survives, too.
    let mut append = after.resume(&upload.id, Fence(2)).await.unwrap().1;
    assert_eq!(append.offset(), 4);
    append
        .write(&mut vec![Bytes::from_static(b" now")])
        .await
        .unwrap();
    assert_eq!(after.load(&upload.id).await.unwrap().offset, 8);
    let again = after.crash();
    assert_eq!(again.load(&upload.id).await.unwrap().offset, 8);
}

#[tokio::test]
async fn nothing_follows_bytes_that_could_not_be_kept() {
    let store = PowerLossStore::new(MemoryStore::with_capacity(6));
    let (upload, mut append) = store.create_append(upload(), Fence(1)).await.unwrap();
    append
        .write(&mut vec![Bytes::from_static(b"too much")])
        .await
        .unwrap();
    assert!(matches!(append.commit().await, Err(StoreError::Full(_))));
    assert_eq!(append.offset(), 6);
    append
        .write(&mut vec![Bytes::from_static(b"more")])
        .await
        .unwrap_err();
    drop(append);
    assert_eq!(store.load(&upload.id).await.unwrap().offset, 6);
}
