//! The stores that fail do fail, and only as they should.

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::{MemoryStore, Store, StoreError},
    upload::{Completion, Upload, UploadId},
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
    faults.plan(StoreCall::Confirm, Fault::After(Failure::Io));
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
