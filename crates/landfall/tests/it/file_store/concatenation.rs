//! Concatenation, beyond the conformance tests.

use std::{fs, sync::Arc};

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::{Concatenate, Store, StoreError},
    upload::{Upload, UploadKind},
};
use landfall_testkit::test_data;

use super::{id, make, open, read};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_parts_than_are_kept_open_are_concatenated() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (mut parts, mut expected) = (Vec::new(), Vec::new());
    for n in 0..300_u64 {
        let bytes = test_data::bytes(n, 1000 + usize::try_from(n).unwrap());
        expected.extend_from_slice(&bytes);
        parts.push(
            make(&store, &format!("parts/{n}"), bytes.len(), &bytes)
                .await
                .upload,
        );
    }
    let target = store.create(Upload::new(id("joined"), None)).await.unwrap();
    let sum = store.concatenate(&target, &parts, Fence(1)).await.unwrap();
    assert_eq!(sum, expected.len() as u64);
    assert_eq!(fs::read(dir.path().join("joined")).unwrap(), expected);
}

#[tokio::test]
async fn changed_part_fails_the_concatenation() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let part = make(&store, "part", 5, &Bytes::from_static(b"hello"))
        .await
        .upload;
    let mut held = store.resume(&part.id, Fence(1)).await.unwrap().1;
    // Unverified bytes after the offset.
    held.begin_unverified().await.unwrap();
    held.write(&mut vec![Bytes::from_static(b"?")])
        .await
        .unwrap();
    let target = store.create(Upload::new(id("joined"), None)).await.unwrap();
    let error = store
        .concatenate(&target, &[part], Fence(1))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(fs::metadata(dir.path().join("joined")).unwrap().len(), 0);
}

/// Other uploads continue while a large one is concatenated, and a cancelled concatenation leaves
/// no valid bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_concatenation_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = test_data::bytes(7, 3 * 1024 * 1024 + 1);
    let part = make(&store, "part", bytes.len(), &bytes).await.upload;
    let parts: Vec<Arc<Upload>> = vec![part; 40];
    let mut target = Upload::new(id("joined"), None);
    target.kind = UploadKind::Final {
        parts: parts.iter().map(|part| part.id.clone()).collect(),
        header: String::new(),
        concatenated: false,
    };
    let target = store.create(target).await.unwrap();
    for wait in [0, 1, 3, 10] {
        let joining = store.concatenate(&target, &parts, Fence(wait));
        let wait = std::time::Duration::from_millis(wait);
        let _ = tokio::time::timeout(wait, joining).await;
        assert!(!store.load(&target.id).await.unwrap().is_complete());
    }
    let sum = store
        .concatenate(&target, &parts[..2], Fence(20))
        .await
        .unwrap();
    assert_eq!(sum, 2 * bytes.len() as u64);
    let snapshot = store.load(&target.id).await.unwrap();
    assert_eq!(
        read(&store, &snapshot).await,
        [&bytes[..], &bytes[..]].concat()
    );
}
