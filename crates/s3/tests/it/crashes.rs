//! A process that dies between any two calls loses no acknowledged bytes and leaves nothing
//! permanently.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::Store as _,
    upload::{Upload, UploadId, UploadKind},
};
use landfall_objects::Cloud as _;
use landfall_s3::{S3Options, S3Store, UploadIds, client::ObjectRef};
use landfall_test_services::{Access, Garage, Proxy};

use crate::support::{
    append, assert_same, client, client_without_retries, finish, options, pattern, pieces, read,
};

const KIB: usize = 1024;

/// Garage accepts parts of any size, so little data makes many parts.
fn tiny_parts(bucket: &str) -> S3Options {
    let mut options = options(bucket);
    options.min_part = 64 << 10;
    options.part_size = 64 << 10;
    options
}

/// The state that a process has acknowledged.
#[derive(Default)]
struct Acknowledged {
    id: Mutex<Option<UploadId>>,
    offset: AtomicU64,
}

impl Acknowledged {
    fn created(&self, id: &UploadId) {
        *self.id.lock().unwrap() = Some(id.clone());
    }

    fn offset(&self, offset: u64) {
        self.offset.fetch_max(offset, Ordering::SeqCst);
    }
}

/// Creates an upload, sends chunks in separate requests, and finishes it.
async fn upload(store: &S3Store, bytes: &Bytes, cuts: &[usize], acknowledged: &Acknowledged) {
    let mut upload = Upload::new(UploadId::random(), Some(bytes.len() as u64));
    if store.assign_id(&mut upload).await.is_err() {
        return;
    }
    let Ok(upload) = store.create(upload).await else {
        return;
    };
    acknowledged.created(&upload.id);
    let mut start = 0;
    for (n, &end) in cuts.iter().chain([&bytes.len()]).enumerate() {
        let Ok((snapshot, mut append)) = store.resume(&upload.id, Fence(n as u64 + 1)).await else {
            return;
        };
        assert_eq!(snapshot.offset, start as u64);
        for piece in pieces(&bytes.slice(start..end)) {
            if append.write(&mut vec![piece]).await.is_err() {
                return;
            }
        }
        let Ok(offset) = append.commit().await else {
            return;
        };
        assert_eq!(offset, end as u64);
        acknowledged.offset(offset);
        start = end;
    }
    let fence = Fence(cuts.len() as u64 + 1);
    let _ = store
        .capabilities()
        .finisher
        .unwrap()
        .finish(&upload, fence)
        .await;
}

/// Resumes the upload at the reported offset and finishes it.
async fn resume_and_finish(
    store: &S3Store,
    bytes: &Bytes,
    acknowledged: &Acknowledged,
    story: &str,
) {
    let Some(id) = acknowledged.id.lock().unwrap().clone() else {
        return;
    };
    let acknowledged = acknowledged.offset.load(Ordering::SeqCst);
    let snapshot = store
        .load(&id)
        .await
        .unwrap_or_else(|e| panic!("{e:?}: {story}"));
    assert!(
        snapshot.offset >= acknowledged,
        "{acknowledged} bytes were acknowledged, {} are left: {story}",
        snapshot.offset
    );
    let (snapshot, mut append) = store.resume(&id, Fence(100)).await.unwrap();
    let rest = bytes.slice(usize::try_from(snapshot.offset).unwrap()..);
    append.write(&mut pieces(&rest)).await.unwrap();
    assert_eq!(append.commit().await.unwrap(), bytes.len() as u64);
    drop(append);
    finish(store, &snapshot.upload, 100).await;
    assert_same(&read(store, &snapshot.upload).await, bytes);
}

/// Removes the upload with all of its objects.
async fn remove(store: &S3Store, acknowledged: &Acknowledged) {
    let Some(id) = acknowledged.id.lock().unwrap().clone() else {
        return;
    };
    let upload = Upload::new(id, None);
    let terminator = store.capabilities().terminator.unwrap();
    terminator.terminate(&upload, Fence(200)).await.unwrap();
}

/// Removes the orphans and returns what is left in the bucket.
async fn left(store: &S3Store) -> Vec<String> {
    let (client, bucket) = (store.client(), &store.options().bucket);
    let mut left = Vec::new();
    let objects = client.list_objects(bucket, "", None, 100).await.unwrap();
    for object in objects.objects {
        let object_ref = ObjectRef::new(bucket, &object.key);
        client.delete_object(&object_ref).await.unwrap();
        left.push(object.key);
    }
    let multiparts = client.list_multiparts(bucket, "", None, 100).await.unwrap();
    for multipart in multiparts.uploads {
        let object_ref = ObjectRef::new(bucket, &multipart.key);
        let aborted = client.abort_multipart(&object_ref, &multipart.upload_id);
        aborted.await.unwrap();
        left.push(format!("{multipart:?}"));
    }
    left
}

async fn crash_at_every_call(stem: &str, adjust: impl Fn(&mut S3Options)) {
    let garage = Garage::shared();
    let access = garage.access();
    let proxy = Proxy::start(&access);
    let bucket = garage.bucket(stem);
    let mut options = tiny_parts(&bucket);
    adjust(&mut options);
    let store = |access: &Access, slow_settings: bool| {
        let client = if slow_settings {
            client(access)
        } else {
            client_without_retries(access)
        };
        S3Store::new(client, options.clone()).unwrap()
    };
    let bytes = pattern(7, 300 * KIB + 11);
    let cuts = [20 * KIB, 50 * KIB, 130 * KIB, 192 * KIB, 250 * KIB];
    for after_effect in [false, true] {
        let mut calls = 0;
        loop {
            calls += 1;
            if after_effect {
                proxy.kill_during(calls);
            } else {
                proxy.kill_after(calls - 1);
            }
            let acknowledged = Acknowledged::default();
            let (_, killed) = proxy.run(async |access| {
                upload(&store(&access, false), &bytes, &cuts, &acknowledged).await;
            });
            let story = format!("killed at call {calls}, {}", proxy.transcript());
            let next = store(&access, true);
            resume_and_finish(&next, &bytes, &acknowledged, &story).await;
            remove(&next, &acknowledged).await;
            let created = acknowledged.id.lock().unwrap().is_some();
            let left = left(&next).await;
            // The sweeper removes an upload whose creation was never acknowledged.
            assert!(left.is_empty() || !created, "{left:?} are left: {story}");
            if !killed {
                assert!(created && calls > 10, "{calls} calls: {story}");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_loss_after_crash_between_any_two_calls() {
    crash_at_every_call("kill", |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_loss_after_crash_with_plain_ids() {
    crash_at_every_call("plain", |options| options.ids = UploadIds::Plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_loss_after_crash_with_other_nodes() {
    crash_at_every_call("nodes", |options| options.shared = true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unverified_bytes_never_count_after_crash() {
    let garage = Garage::shared();
    let access = garage.access();
    let proxy = Proxy::start(&access);
    let options = tiny_parts(&garage.bucket("held"));
    let good = pattern(1, 400 * KIB);
    let bad = pattern(2, 300 * KIB);
    for calls in 1..40 {
        let next = S3Store::new(client(&access), options.clone()).unwrap();
        let created = crate::support::create(&next, good.len() as u64).await;
        let id = &created.id;
        append(&next, id, 1, &good.slice(..100 * KIB)).await;

        proxy.kill_during(calls);
        let (committed, killed) = proxy.run(async |access| {
            let victim = S3Store::new(client_without_retries(&access), options.clone()).unwrap();
            let (_, mut append) = victim.resume(id, Fence(2)).await.ok()?;
            append.begin_unverified().await.ok()?;
            append.write(&mut pieces(&bad)).await.ok()?;
            append.discard_unverified().await.ok()?;
            append
                .write(&mut pieces(&good.slice(100 * KIB..150 * KIB)))
                .await
                .ok()?;
            append.commit().await.ok()
        });
        let story = format!("killed at call {calls}, {}", proxy.transcript());

        let next = S3Store::new(client(&access), options.clone()).unwrap();
        let offset = next.load(id).await.unwrap().offset;
        let least = committed.flatten().unwrap_or(100 * KIB as u64);
        assert!(
            (least..=150 * KIB as u64).contains(&offset),
            "{offset}: {story}"
        );
        append(
            &next,
            id,
            100,
            &good.slice(usize::try_from(offset).unwrap()..),
        )
        .await;
        assert_same(&read(&next, &created).await, &good);
        if !killed {
            assert!(calls > 5, "{story}");
            return;
        }
    }
    panic!("the upload never completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn removal_can_be_repeated_after_crash() {
    let garage = Garage::shared();
    let access = garage.access();
    let proxy = Proxy::start(&access);
    let options = tiny_parts(&garage.bucket("removal"));
    for finished in [false, true] {
        for calls in 1.. {
            let store = S3Store::new(client(&access), options.clone()).unwrap();
            let bytes = pattern(3, 150 * KIB);
            let upload = crate::support::create(&store, bytes.len() as u64).await;
            let sent = if finished { bytes.len() } else { 140 * KIB };
            append(&store, &upload.id, 1, &bytes.slice(..sent)).await;
            if finished {
                finish(&store, &upload, 1).await;
            }
            proxy.kill_during(calls);
            let (_, killed) = proxy.run(async |access| {
                let victim = S3Store::new(client_without_retries(&access), options.clone());
                let victim = victim.unwrap();
                let terminator = victim.capabilities().terminator.unwrap();
                terminator.terminate(&upload, Fence(2)).await
            });
            let next = S3Store::new(client(&access), options.clone()).unwrap();
            let terminator = next.capabilities().terminator.unwrap();
            terminator.terminate(&upload, Fence(3)).await.unwrap();
            assert_eq!(left(&next).await, [""; 0], "{}", proxy.transcript());
            if !killed {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concatenation_can_be_repeated_after_crash() {
    let garage = Garage::shared();
    let access = garage.access();
    let proxy = Proxy::start(&access);
    let options = options(&garage.bucket("joining"));
    let setup = S3Store::new(client(&access), options.clone()).unwrap();
    let pieces = [pattern(1, 3 << 20), pattern(2, 11 << 20), pattern(3, 100)];
    let mut parts = Vec::new();
    for piece in &pieces {
        let mut part = Upload::new(UploadId::random(), Some(piece.len() as u64));
        part.kind = UploadKind::Partial;
        setup.assign_id(&mut part).await.unwrap();
        let part = setup.create(part).await.unwrap();
        append(&setup, &part.id, 1, piece).await;
        finish(&setup, &part, 1).await;
        parts.push(part);
    }
    let whole = Bytes::from(pieces.concat());
    for calls in 1.. {
        let mut target = Upload::new(UploadId::random(), Some(whole.len() as u64));
        target.kind = UploadKind::Final {
            parts: parts.iter().map(|part| part.id.clone()).collect(),
            header: "final;a b c".into(),
            concatenated: false,
        };
        setup.assign_id(&mut target).await.unwrap();
        let target = setup.create(target).await.unwrap();
        proxy.kill_during(calls);
        let (_, killed) = proxy.run(async |access| {
            let victim = S3Store::new(client_without_retries(&access), options.clone()).unwrap();
            let concatenator = victim.capabilities().concatenator.unwrap();
            concatenator.concatenate(&target, &parts, Fence(1)).await
        });
        let next = S3Store::new(client(&access), options.clone()).unwrap();
        let concatenator = next.capabilities().concatenator.unwrap();
        let sum = concatenator.concatenate(&target, &parts, Fence(2)).await;
        assert_eq!(sum.unwrap(), whole.len() as u64, "{}", proxy.transcript());
        assert_same(&read(&next, &target).await, &whole);
        next.capabilities()
            .terminator
            .unwrap()
            .terminate(&target, Fence(3))
            .await
            .unwrap();
        if !killed {
            assert!(calls > 8);
            break;
        }
    }
}
