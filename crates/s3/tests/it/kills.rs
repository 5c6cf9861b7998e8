//! A process that dies between any two calls loses nothing that was acknowledged, and leaves nothing
//! that stays for ever.

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
use landfall_s3::{S3Options, S3Store, UploadIds, client::Place};
use landfall_test_services::{Access, Garage, Proxy};

use crate::support::{
    append, assert_same, client, finish, impatient, options, pattern, pieces, read,
};

const KIB: usize = 1024;

/// Garage takes parts of any size, so that little data makes many.
fn tiny_parts(bucket: &str) -> S3Options {
    let mut options = options(bucket);
    options.min_part = 64 << 10;
    options.part_size = 64 << 10;
    options
}

/// What a life of the node has acknowledged.
#[derive(Default)]
struct Told {
    id: Mutex<Option<UploadId>>,
    offset: AtomicU64,
}

impl Told {
    fn created(&self, id: &UploadId) {
        *self.id.lock().unwrap() = Some(id.clone());
    }

    fn offset(&self, offset: u64) {
        self.offset.fetch_max(offset, Ordering::SeqCst);
    }
}

/// What a client does: it creates, sends pieces in requests of their own, and finishes.
async fn upload(store: &S3Store, bytes: &Bytes, cuts: &[usize], told: &Told) {
    let mut upload = Upload::new(UploadId::random(), Some(bytes.len() as u64));
    if store.assign_id(&mut upload).await.is_err() {
        return;
    }
    let Ok(upload) = store.create(upload).await else {
        return;
    };
    told.created(&upload.id);
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
        told.offset(offset);
        start = end;
    }
    let fence = Fence(cuts.len() as u64 + 1);
    let _ = store.finisher().unwrap().finish(&upload, fence).await;
}

/// What the next node finds, and does: the client goes on where it says, and all is there.
async fn go_on(store: &S3Store, bytes: &Bytes, told: &Told, story: &str) {
    let Some(id) = told.id.lock().unwrap().clone() else {
        return;
    };
    let told = told.offset.load(Ordering::SeqCst);
    let snapshot = store
        .load(&id)
        .await
        .unwrap_or_else(|e| panic!("{e:?}: {story}"));
    assert!(
        snapshot.offset >= told,
        "{told} bytes were acknowledged, {} are left: {story}",
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

/// Everything in the bucket goes with the upload.
async fn remove(store: &S3Store, told: &Told) {
    let Some(id) = told.id.lock().unwrap().clone() else {
        return;
    };
    let upload = Upload::new(id, None);
    let terminator = store.terminator().unwrap();
    terminator.terminate(&upload, Fence(200)).await.unwrap();
}

/// What is in the bucket, and is removed from it.
async fn left(store: &S3Store) -> Vec<String> {
    let (client, bucket) = (store.client(), &store.options().bucket);
    let mut left = Vec::new();
    let objects = client.list_objects(bucket, "", None, 100).await.unwrap();
    for object in objects.objects {
        let place = Place::new(bucket, &object.key);
        client.delete_object(&place).await.unwrap();
        left.push(object.key);
    }
    let multiparts = client.list_multiparts(bucket, "", None, 100).await.unwrap();
    for multipart in multiparts.uploads {
        let place = Place::new(bucket, &multipart.key);
        let aborted = client.abort_multipart(&place, &multipart.upload_id);
        aborted.await.unwrap();
        left.push(format!("{multipart:?}"));
    }
    left
}

async fn kill_everywhere(stem: &str, adjust: impl Fn(&mut S3Options)) {
    let garage = Garage::shared();
    let access = garage.access();
    let proxy = Proxy::start(&access);
    let bucket = garage.bucket(stem);
    let mut options = tiny_parts(&bucket);
    adjust(&mut options);
    let store = |access: &Access, patient: bool| {
        let client = if patient {
            client(access)
        } else {
            impatient(access)
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
                proxy.kill_in(calls);
            } else {
                proxy.kill_after(calls - 1);
            }
            let told = Told::default();
            {
                let victim = store(&access.via(&proxy), false);
                tokio::select! {
                    () = upload(&victim, &bytes, &cuts, &told) => {}
                    () = proxy.killed() => {}
                }
            }
            let killed = proxy.is_dead();
            proxy.revive();
            let story = format!("killed at call {calls}, {}", proxy.story());
            let next = store(&access, true);
            go_on(&next, &bytes, &told, &story).await;
            remove(&next, &told).await;
            let created = told.id.lock().unwrap().is_some();
            let left = left(&next).await;
            // One that nobody was told of is the sweeper's.
            assert!(left.is_empty() || !created, "{left:?} are left: {story}");
            if !killed {
                assert!(created && calls > 10, "{calls} calls: {story}");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_between_any_two_calls() {
    kill_everywhere("kill", |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_between_any_two_calls_with_plain_ids() {
    kill_everywhere("plain", |options| options.ids = UploadIds::Plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_between_any_two_calls_with_other_nodes() {
    kill_everywhere("nodes", |options| options.shared = true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_on_probation_never_count_after_a_kill() {
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

        proxy.kill_in(calls);
        let victim = S3Store::new(impatient(&access.via(&proxy)), options.clone()).unwrap();
        let work = async {
            let (_, mut append) = victim.resume(id, Fence(2)).await.ok()?;
            append.begin_unverified().await.ok()?;
            append.write(&mut pieces(&bad)).await.ok()?;
            append.discard_unverified().await.ok()?;
            append
                .write(&mut pieces(&good.slice(100 * KIB..150 * KIB)))
                .await
                .ok()?;
            append.commit().await.ok()
        };
        let committed = tokio::select! {
            committed = work => committed,
            () = proxy.killed() => None,
        };
        let killed = proxy.is_dead();
        proxy.revive();
        let story = format!("killed at call {calls}, {}", proxy.story());

        let next = S3Store::new(client(&access), options.clone()).unwrap();
        let offset = next.load(id).await.unwrap().offset;
        let least = committed.unwrap_or(100 * KIB as u64);
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
    panic!("it never came to its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_can_be_repeated_after_a_kill() {
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
            proxy.kill_in(calls);
            let victim = S3Store::new(impatient(&access.via(&proxy)), options.clone()).unwrap();
            tokio::select! {
                _ = victim.terminator().unwrap().terminate(&upload, Fence(2)) => {}
                () = proxy.killed() => {}
            }
            let killed = proxy.is_dead();
            proxy.revive();
            let next = S3Store::new(client(&access), options.clone()).unwrap();
            let terminator = next.terminator().unwrap();
            terminator.terminate(&upload, Fence(3)).await.unwrap();
            assert_eq!(left(&next).await, [""; 0], "{}", proxy.story());
            if !killed {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joining_can_be_repeated_after_a_kill() {
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
        proxy.kill_in(calls);
        let victim = S3Store::new(impatient(&access.via(&proxy)), options.clone()).unwrap();
        tokio::select! {
            _ = victim.concatenator().unwrap().concatenate(&target, &parts, Fence(1)) => {}
            () = proxy.killed() => {}
        }
        let killed = proxy.is_dead();
        proxy.revive();
        let next = S3Store::new(client(&access), options.clone()).unwrap();
        let concatenator = next.concatenator().unwrap();
        let sum = concatenator.concatenate(&target, &parts, Fence(2)).await;
        assert_eq!(sum.unwrap(), whole.len() as u64, "{}", proxy.story());
        assert_same(&read(&next, &target).await, &whole);
        next.terminator()
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
