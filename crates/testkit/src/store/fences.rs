//! Checks that the holder of an older lease can neither change an upload nor undo changes of a newer one.

use std::sync::Arc;

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::{Append, StoreError},
    upload::{Completion, Metadata, Upload, UploadId, UploadKind},
};

use super::{
    Subject,
    support::{
        assert_fenced, assert_not_found, commit, create, declare_length, described, expect, offset,
        remove, resume, terminate, uploaded, write, write_refused,
    },
};
use crate::test_data;

async fn overtaken(
    store: &Subject,
    bytes: &Bytes,
) -> (Arc<Upload>, Box<dyn Append>, Box<dyn Append>) {
    let upload = create(store, None).await;
    let mut older = resume(store, &upload, Fence(10)).await;
    write(&mut *older, bytes).await;
    assert_eq!(older.commit().await.expect("commit"), bytes.len() as u64);
    let newer = resume(store, &upload, Fence(11)).await;
    assert_eq!(newer.offset(), bytes.len() as u64);
    (upload, older, newer)
}

pub(super) async fn an_older_append_cannot_write(store: &Subject) {
    let bytes = test_data::bytes(1, 20_000);
    let (upload, mut older, mut newer) = overtaken(store, &bytes.slice(..5000)).await;
    let stale = Bytes::from(vec![b'!'; 3000]);
    let refused = write_refused(&mut *older, &stale).await;
    assert_fenced("a write", Err::<(), _>(refused));
    write(&mut *newer, &bytes.slice(5000..12_000)).await;
    let refused = write_refused(&mut *older, &stale).await;
    assert_fenced("a write", Err::<(), _>(refused));
    // Whatever this says, it must not take away what the newer lease wrote.
    drop(older.discard_unverified().await);
    write(&mut *newer, &bytes.slice(12_000..)).await;
    drop(older);
    commit(newer, store, &upload, &bytes).await;
}

pub(super) async fn an_older_append_cannot_begin_or_accept_unverified(store: &Subject) {
    let bytes = test_data::bytes(2, 6000);
    let upload = create(store, None).await;
    let mut older = resume(store, &upload, Fence(10)).await;
    older.begin_unverified().await.expect("begin");
    write(&mut *older, &Bytes::from(vec![b'!'; 4000])).await;
    let mut newer = resume(store, &upload, Fence(11)).await;
    let counted = newer.offset();
    assert_eq!(counted, 0, "unverified bytes count for the newer lease");
    let accepted = older.accept_unverified().await;
    assert!(accepted.is_err(), "an older lease confirmed its bytes");
    assert_eq!(offset(store, &upload).await, 0);
    write(&mut *newer, &bytes.slice(..3000)).await;
    // Whatever these say, they must not take away what the newer lease wrote.
    drop(older.begin_unverified().await);
    drop(older.discard_unverified().await);
    drop(older);
    write(&mut *newer, &bytes.slice(3000..)).await;
    commit(newer, store, &upload, &bytes).await;
}

pub(super) async fn an_older_lease_cannot_save(store: &Subject) {
    let bytes = test_data::bytes(3, 100);
    let (upload, _older, _newer) = overtaken(store, &bytes).await;
    let mut changed = Upload::clone(&upload);
    changed.metadata = Metadata::from_pairs([("stale", "1")]);
    changed.completion = Completion::Done(None);
    assert_fenced("save", store.save(&changed, Fence(10)).await);
    assert_eq!(described(store, &upload.id).await, upload);
    let saved = store.save(&changed, Fence(11)).await;
    saved.expect("save by the newer lease");
    assert_eq!(*described(store, &upload.id).await, changed);
}

pub(super) async fn an_older_lease_cannot_append(store: &Subject) {
    let (upload, _older, _newer) = overtaken(store, &Bytes::from_static(b"abc")).await;
    assert_fenced("append", store.resume(&upload.id, Fence(9)).await);
    assert_fenced("append", store.resume(&upload.id, Fence(10)).await);
    expect(store, &upload, b"abc").await;
}

pub(super) async fn the_same_lease_may_append_again(store: &Subject) {
    let upload = create(store, None).await;
    for (n, piece) in ["one ", "two ", "three"].iter().enumerate() {
        let mut append = resume(store, &upload, Fence(5)).await;
        write(&mut *append, &Bytes::from_static(piece.as_bytes())).await;
        let committed = append.commit().await;
        committed.unwrap_or_else(|e| panic!("commit {n}: {e}"));
    }
    expect(store, &upload, b"one two three").await;
}

pub(super) async fn an_older_lease_cannot_terminate(store: &Subject) {
    let bytes = test_data::bytes(4, 500);
    let (upload, _older, newer) = overtaken(store, &bytes).await;
    assert_fenced("terminate", terminate(store, &upload, Fence(10)).await);
    expect(store, &upload, &bytes).await;
    drop(newer);
    remove(store, &upload, Fence(12)).await;
    assert_not_found("load", store.load(&upload.id).await);
}

pub(super) async fn an_append_cannot_bring_back_a_terminated_upload(store: &Subject) {
    let upload = create(store, None).await;
    let mut older = resume(store, &upload, Fence(10)).await;
    write(&mut *older, &Bytes::from_static(b"before")).await;
    remove(store, &upload, Fence(11)).await;
    let refused = write_refused(&mut *older, &Bytes::from_static(b"after")).await;
    let is_gone = matches!(refused, StoreError::LeaseLost(_) | StoreError::NotFound(_));
    assert!(is_gone, "must give LeaseLost or NotFound, not: {refused:?}");
    drop(older.begin_unverified().await);
    drop(older);
    assert_not_found("load", store.load(&upload.id).await);
    if let Some(enumerator) = store.capabilities().enumerator {
        let page = enumerator.page(None, 1000).await.expect("page");
        let is_listed = page.uploads.iter().any(|s| s.upload.id == upload.id);
        assert!(!is_listed, "it is listed again");
    }
}

pub(super) async fn an_older_lease_cannot_declare_a_length(store: &Subject) {
    let (upload, _older, _newer) = overtaken(store, &Bytes::from_static(b"abc")).await;
    let declared = declare_length(store, &upload, 9, Fence(10)).await;
    assert_fenced("declare_length", declared);
    assert_eq!(described(store, &upload.id).await.length, None);
    let declared = declare_length(store, &upload, 8, Fence(11)).await;
    declared.expect("by the newer lease");
    assert_eq!(described(store, &upload.id).await.length, Some(8));
}

pub(super) async fn an_older_lease_cannot_concatenate(store: &Subject) {
    let part = uploaded(store, &test_data::bytes(5, 300)).await;
    let mut target = Upload::new(UploadId::random(), Some(300));
    target.kind = UploadKind::Final {
        parts: vec![part.id.clone()],
        header: format!("final;/files/{}", part.id),
        concatenated: false,
    };
    let target = store.create(target).await.expect("create");
    let _newer = resume(store, &target, Fence(11)).await;
    let concatenator = store.capabilities().concatenator.expect("a concatenator");
    let joined = concatenator.concatenate(&target, &[part], Fence(10)).await;
    assert_fenced("concatenate", joined);
    expect(store, &target, b"").await;
}
