//! Checks of creation and termination: unique ids, descriptions stored unchanged, and dropped calls.
//!
//! Ids are random, so the checks may share a store.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::StoreError,
    upload::{Completion, Metadata, Upload, UploadId, UploadKind},
};

use super::{
    Subject,
    support::{
        append, assert_not_found, create, described, drop_midway, expect, offset, remove, resume,
        terminate, uploaded, write,
    },
};
use crate::test_data;

pub(super) async fn a_created_upload_is_empty(store: &Subject) {
    let id = UploadId::random();
    let created = store.create(Upload::new(id.clone(), Some(5))).await;
    let created = created.expect("create");
    assert_eq!(created.id, id);
    let loaded = store.load(&id).await.expect("load");
    assert_eq!(loaded.offset, 0);
    assert_eq!(loaded.upload, created, "load gives what create gave");
    assert!(!loaded.is_complete());
    let age = loaded.modified.elapsed().unwrap_or_default();
    let limit = Duration::from_secs(3600);
    assert!(age < limit, "modified {age:?} ago, but it is new");
    expect(store, &created, b"").await;
}

pub(super) async fn a_taken_id_is_rejected_and_the_upload_kept(store: &Subject) {
    let bytes = test_data::bytes(1, 100);
    let upload = uploaded(store, &bytes).await;
    let again = || Upload::new(upload.id.clone(), Some(7));
    for again in [
        store.create(again()).await,
        (store.create_append(again(), Fence(2)).await).map(|(upload, _)| upload),
    ] {
        let is_rejected = matches!(again, Err(StoreError::AlreadyExists(_)));
        assert!(is_rejected, "{again:?}");
    }
    assert_eq!(described(store, &upload.id).await, upload);
    expect(store, &upload, &bytes).await;
}

pub(super) async fn one_of_many_creations_of_an_id_wins(store: &Subject) {
    let id = UploadId::random();
    let mut tasks = tokio::task::JoinSet::new();
    for length in 0..20 {
        let (store, upload) = (store.clone(), Upload::new(id.clone(), Some(length)));
        tasks.spawn(async move { store.create(upload).await });
    }
    let mut won = Vec::new();
    for result in tasks.join_all().await {
        match result {
            Ok(upload) => won.push(upload),
            Err(StoreError::AlreadyExists(_)) => {}
            Err(other) => panic!("a creation that lost must give AlreadyExists, not: {other:?}"),
        }
    }
    assert_eq!(won.len(), 1, "creations that won");
    assert_eq!(described(store, &id).await, won[0]);
}

pub(super) async fn a_missing_upload_is_not_found(store: &Subject) {
    let id = UploadId::random();
    let upload = Upload::new(id.clone(), Some(5));
    assert_not_found("load", store.load(&id).await);
    assert_not_found("append", store.resume(&upload.id, Fence(1)).await);
    assert_not_found("save", store.save(&upload, Fence(1)).await);
    assert_not_found("load", store.load(&id).await);
}

fn full_description(kind: UploadKind) -> Upload {
    let mut upload = Upload::new(UploadId::random(), Some(1 << 40));
    upload.metadata = Metadata::from_pairs([("filename", "Zürich – 東京.pdf"), ("empty", "")]);
    upload.kind = kind;
    upload.expires = Some(UNIX_EPOCH + Duration::from_secs(4_000_000_000));
    upload.completion = Completion::Done(None);
    upload
}

pub(super) async fn a_description_comes_back_as_it_was(store: &Subject) {
    let parts = vec![UploadId::random(), UploadId::random()];
    let header = "final;/files/a  /files/b".to_owned();
    let [waiting, concatenated] = [false, true].map(|concatenated| UploadKind::Final {
        parts: parts.clone(),
        header: header.clone(),
        concatenated,
    });
    for kind in [
        UploadKind::Regular,
        UploadKind::Partial,
        waiting,
        concatenated,
    ] {
        let wanted = full_description(kind);
        let created = store.create(wanted.clone()).await.expect("create");
        for upload in [&created, &described(store, &wanted.id).await] {
            // The place is the store's to fill in.
            let mut got = Upload::clone(upload);
            got.storage.clone_from(&wanted.storage);
            assert_eq!(got, wanted);
        }
    }
    let deferred = create(store, None).await;
    assert_eq!(described(store, &deferred.id).await.length, None);
    let empty = create(store, 0).await;
    assert_eq!(described(store, &empty.id).await.length, Some(0));
}

pub(super) async fn metadata_comes_back_byte_for_byte(store: &Subject) {
    for header in [
        "",
        "filename d29ybGQucGRm,is_confidential",
        "b YQ==,a ,  c YQ==", // order, an empty value with its space, blanks
        "padded YQ",          // padding left out by the client
        "name w7xiZXItw6ljb2xlLeadseS6rA==,html PHNjcmlwdD4mIg==", // UTF-8, and < > & "
        "binary /wD+gA==",    // not UTF-8
    ] {
        let mut upload = Upload::new(UploadId::random(), Some(1));
        upload.metadata = Metadata::from_header(header).expect("a good header");
        let created = store.create(upload.clone()).await.expect("create");
        assert_eq!(created.metadata, upload.metadata, "{header:?} as created");
        let loaded = described(store, &upload.id).await;
        assert_eq!(loaded.metadata.header(), header, "the header as loaded");
        assert_eq!(loaded.metadata, upload.metadata, "{header:?} as loaded");
        store.save(&loaded, Fence(1)).await.expect("save");
        let saved = described(store, &upload.id).await;
        assert_eq!(saved.metadata, upload.metadata, "{header:?} as saved");
    }
}

pub(super) async fn ids_may_hold_slashes_and_odd_characters(store: &Subject) {
    let unique = UploadId::random();
    let longest = "l".repeat(230 - unique.as_str().len() - 1);
    let mut uploads = Vec::new();
    for (n, id) in [
        "plain".into(),
        "two/levels".into(),
        "two/more".into(),
        "2026/11/20/four-levels.pdf".into(),
        "percent%2Fencoded%00%2e%2e".into(),
        "~tilde_and-dash.and.dots..".into(),
        "!$'()*+,;=:@".into(),
        "UPPER".into(),
        longest.clone(),
        // Not below `longest` itself: where ids are paths, a file is no directory.
        format!("{}/{longest}", &longest[1..]),
    ]
    .iter()
    .enumerate()
    {
        let id = UploadId::new(&format!("{unique}-{id}")).expect("a good id");
        let bytes = test_data::bytes(n as u64, 50 + n);
        let upload = Upload::new(id, Some(bytes.len() as u64));
        let upload = store.create(upload).await;
        let upload = upload.unwrap_or_else(|e| panic!("create {n}: {e}"));
        append(store, &upload, Fence(1), &bytes).await;
        uploads.push((upload, bytes));
    }
    for (upload, bytes) in &uploads {
        assert_eq!(described(store, &upload.id).await.id, upload.id);
        expect(store, upload, bytes).await;
    }
    if store.capabilities().terminator.is_some() {
        for (upload, _) in &uploads {
            remove(store, upload, Fence(2)).await;
            assert_not_found("load", store.load(&upload.id).await);
        }
    }
}

pub(super) async fn create_append_is_both_in_one(store: &Subject) {
    let bytes = test_data::bytes(3, 3000);
    let upload = Upload::new(UploadId::random(), Some(4000));
    let created = store.create_append(upload, Fence(5)).await;
    let (upload, mut first) = created.expect("create_append");
    assert_eq!(first.offset(), 0);
    assert_eq!(described(store, &upload.id).await, upload);
    write(&mut *first, &bytes).await;
    assert_eq!(first.commit().await.expect("commit"), 3000);
    drop(first);
    let second = resume(store, &upload, Fence(6)).await;
    assert_eq!(second.offset(), 3000);
    drop(second);
    expect(store, &upload, &bytes).await;
}

pub(super) async fn a_terminated_upload_is_gone(store: &Subject) {
    let upload = uploaded(store, &test_data::bytes(4, 1000)).await;
    let other = uploaded(store, &Bytes::from_static(b"stays")).await;
    remove(store, &upload, Fence(2)).await;
    assert_not_found("load", store.load(&upload.id).await);
    assert_not_found("append", store.resume(&upload.id, Fence(3)).await);
    assert_not_found("save", store.save(&upload, Fence(3)).await);
    if let Some(reader) = store.capabilities().reader {
        assert_not_found("read", reader.read(&upload, 0..1000).await.map(drop));
    }
    expect(store, &other, b"stays").await;
}

pub(super) async fn termination_can_be_repeated(store: &Subject) {
    let upload = uploaded(store, &test_data::bytes(4, 1000)).await;
    for there in [true, false, false] {
        let removed = remove(store, &upload, Fence(2)).await;
        assert_eq!(removed, there, "whether there was anything");
    }
    let never = Upload::new(UploadId::random(), Some(1));
    assert!(!remove(store, &never, Fence(1)).await);
}

pub(super) async fn a_terminated_id_can_be_used_again(store: &Subject) {
    let upload = uploaded(store, &test_data::bytes(4, 1000)).await;
    remove(store, &upload, Fence(2)).await;
    let again = store.create(Upload::new(upload.id.clone(), Some(3))).await;
    let again = again.expect("create again");
    let offset = offset(store, &again).await;
    assert_eq!(offset, 0, "bytes of the old upload showed up");
    append(store, &again, Fence(3), &Bytes::from_static(b"new")).await;
    expect(store, &again, b"new").await;
}

pub(super) async fn a_dropped_creation_leaves_nothing_or_an_empty_upload(store: &Subject) {
    for round in 0..6_usize {
        let mut upload = Upload::new(UploadId::random(), Some(5));
        upload.metadata = Metadata::from_pairs([("name", "x"), ("kind", "y")]);
        let id = upload.id.clone();
        drop_midway(round, store.create(upload.clone())).await;
        match store.load(&id).await {
            Ok(left) => {
                assert_eq!(left.offset, 0);
                assert_eq!(left.upload.metadata, upload.metadata);
                assert_eq!(left.upload.length, Some(5));
            }
            Err(StoreError::NotFound(_)) => {}
            Err(error) => panic!("a dropped creation left something broken: {error:?}"),
        }
    }
}

pub(super) async fn a_dropped_termination_can_be_repeated(store: &Subject) {
    for round in 0..6_usize {
        let bytes = test_data::bytes(round as u64, 50_000);
        let upload = uploaded(store, &bytes).await;
        let fence = Fence(round as u64 + 10);
        drop_midway(round, terminate(store, &upload, fence)).await;
        remove(store, &upload, Fence(fence.0 + 1)).await;
        assert_not_found("load", store.load(&upload.id).await);
        let resumed = store.resume(&upload.id, Fence(fence.0 + 2)).await;
        assert_not_found("resume", resumed);
    }
}
