//! Checks of descriptions: each save replaces the whole at once, and leaves the bytes alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use landfall::{
    lease::Fence,
    upload::{Checksum, Completion, Metadata, Upload, UploadId, UploadKind},
};

use super::{
    Subject,
    support::{
        append, create, declare_length, described, drop_midway, expect, finish_if_able, offset,
        uploaded,
    },
};
use crate::test_data;

pub(super) async fn a_saved_description_replaces_the_old_one(store: &Subject) {
    let parts = vec![UploadId::random()];
    let kind = |joined| UploadKind::Final {
        parts: parts.clone(),
        header: "final;/x".into(),
        concatenated: joined,
    };
    let mut before = Upload::new(UploadId::random(), None);
    before.kind = kind(false);
    before.metadata = Metadata::from_pairs([("old", "value"), ("both", "1")]);
    let mut upload = Upload::clone(&*store.create(before).await.expect("create"));

    upload.length = Some(12);
    upload.kind = kind(true);
    upload.awaits_end = true;
    upload.repr_digest = Some(Box::new(
        Checksum::parse("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=").expect("digest"),
    ));
    upload.metadata = Metadata::from_pairs([("both", "2"), ("new", "ü")]);
    upload.expires = Some(UNIX_EPOCH + Duration::from_secs(3_000_000_000));
    upload.completion = Completion::Done(None);
    store.save(&upload, Fence(1)).await.expect("save");
    assert_eq!(*described(store, &upload.id).await, upload);

    upload.metadata = Metadata::default();
    upload.expires = None;
    upload.awaits_end = false;
    upload.repr_digest = None;
    store.save(&upload, Fence(1)).await.expect("save");
    assert_eq!(*described(store, &upload.id).await, upload);
}

pub(super) async fn saving_leaves_bytes_alone(store: &Subject) {
    let bytes = test_data::bytes(1, 5000);
    let upload = create(store, None).await;
    append(store, &upload, Fence(1), &bytes.slice(..3000)).await;
    let mut changed = Upload::clone(&upload);
    changed.length = Some(5000);
    changed.completion = Completion::Pending;
    store.save(&changed, Fence(2)).await.expect("save");
    expect(store, &upload, &bytes[..3000]).await;
    append(store, &upload, Fence(3), &bytes.slice(3000..)).await;
    expect(store, &changed, &bytes).await;
    assert_eq!(*described(store, &upload.id).await, changed);
}

pub(super) async fn an_upload_that_awaits_its_end_is_unfinished(store: &Subject) {
    let bytes = test_data::bytes(1, 5000);
    let mut upload = Upload::new(UploadId::random(), Some(5000));
    upload.awaits_end = true;
    let upload = store.create(upload).await.expect("create");
    append(store, &upload, Fence(1), &bytes).await;
    let loaded = store.load(&upload.id).await.expect("load");
    assert_eq!((loaded.offset, loaded.is_complete()), (5000, false));
    let (snapshot, mut tail) = store.resume(&upload.id, Fence(2)).await.expect("resume");
    assert!(!snapshot.is_complete());
    let mut ended = Upload::clone(&snapshot.upload);
    ended.awaits_end = false;
    store.save(&ended, Fence(2)).await.expect("save");
    assert_eq!(tail.commit().await.expect("commit"), 5000);
    finish_if_able(store, &ended, Fence(2)).await;
    assert!(store.load(&upload.id).await.expect("load").is_complete());
    expect(store, &ended, &bytes).await;
}

pub(super) async fn a_description_is_never_a_mixture(store: &Subject) {
    let upload = create(store, 5).await;
    let done = Arc::new(AtomicBool::new(false));
    let loader = tokio::spawn({
        let (store, id, done) = (store.clone(), upload.id.clone(), done.clone());
        async move {
            while !done.load(Ordering::Relaxed) {
                let seen = described(&store, &id).await;
                let expires = seen.expires;
                let n = expires.map(|at| at.duration_since(UNIX_EPOCH).unwrap().as_secs());
                let in_metadata = seen.metadata.get_text("n");
                let in_metadata = in_metadata.map(|text| text.parse().unwrap());
                assert_eq!(n, in_metadata, "one save's expiry with another's metadata");
                tokio::task::yield_now().await;
            }
        }
    });
    for n in 0..200_u64 {
        let mut changed = Upload::clone(&upload);
        changed.expires = Some(UNIX_EPOCH + Duration::from_secs(n));
        let padding = "x".repeat((n as usize * 37) % 4000);
        changed.metadata =
            Metadata::from_pairs([("padding", padding.as_str()), ("n", n.to_string().as_str())]);
        store.save(&changed, Fence(n + 1)).await.expect("save");
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::Relaxed);
    loader.await.expect("the loader");
}

pub(super) async fn a_dropped_save_leaves_the_old_description_or_the_new(store: &Subject) {
    let upload = create(store, 5).await;
    let change_to = |n: u64| {
        let mut changed = Upload::clone(&upload);
        changed.expires = Some(UNIX_EPOCH + Duration::from_secs(n));
        changed.metadata = Metadata::from_pairs([("n", n.to_string().as_str())]);
        if n.is_multiple_of(2) {
            changed.completion = Completion::Done(None);
        }
        changed
    };
    let mut before = Upload::clone(&upload);
    for round in 0..12_usize {
        let (fence, wanted) = (Fence(round as u64 + 1), change_to(round as u64));
        drop_midway(round, store.save(&wanted, fence)).await;
        // The state that the next lease finds must stay.
        let resumed = store.resume(&upload.id, Fence(round as u64 + 2)).await;
        let (snapshot, _) = resumed.expect("resume after a dropped save");
        assert!(
            *snapshot.upload == before || *snapshot.upload == wanted,
            "a dropped save left a mixture: {:?}",
            snapshot.upload
        );
        tokio::time::sleep(Duration::from_millis(30)).await;
        let later = described(store, &upload.id).await;
        assert_eq!(*later, *snapshot.upload, "a dropped save came late");
        before = Upload::clone(&later);
    }
    expect(store, &upload, b"").await;
}

pub(super) async fn finishing_can_be_repeated(store: &Subject) {
    let bytes = test_data::bytes(2, 70_000);
    let upload = uploaded(store, &bytes).await;
    for fence in [1, 1, 2] {
        finish_if_able(store, &upload, Fence(fence)).await;
        expect(store, &upload, &bytes).await;
    }
    let mut recorded = Upload::clone(&upload);
    recorded.completion = Completion::Done(None);
    store.save(&recorded, Fence(2)).await.expect("save");
    finish_if_able(store, &recorded, Fence(3)).await;
    assert!(described(store, &upload.id).await.completion.is_done());
    expect(store, &upload, &bytes).await;
}

pub(super) async fn a_late_length_is_kept(store: &Subject) {
    let mut upload = Upload::new(UploadId::random(), None);
    upload.metadata = Metadata::from_pairs([("name", "x")]);
    let upload = store.create(upload).await.expect("create");
    let known = declare_length(store, &upload, 77, Fence(1)).await;
    let known = known.expect("declare_length");
    let mut wanted = Upload::clone(&upload);
    wanted.length = Some(77);
    assert_eq!(*known, wanted);
    let loaded = store.load(&upload.id).await.expect("load");
    assert_eq!(loaded.upload, known);
    assert_eq!(loaded.offset, 0);
}

pub(super) async fn a_late_length_comes_between_bytes(store: &Subject) {
    let bytes = test_data::bytes(3, 9000);
    let upload = create(store, None).await;
    append(store, &upload, Fence(1), &bytes.slice(..4000)).await;
    let known = declare_length(store, &upload, 9000, Fence(2)).await;
    let known = known.expect("declare_length");
    assert_eq!(offset(store, &upload).await, 4000);
    append(store, &known, Fence(2), &bytes.slice(4000..)).await;
    expect(store, &known, &bytes).await;
    assert!(store.load(&upload.id).await.expect("load").is_complete());
}
