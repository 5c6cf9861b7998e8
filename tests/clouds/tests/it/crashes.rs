//! A process that dies between any two calls loses no acknowledged bytes and leaves nothing permanently.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::Store,
    upload::{Upload, UploadId},
};
use landfall_objects::{Cloud as _, StoreOptions};
use landfall_test_clouds::{
    KIB, Service, assert_same, client, finish, on_each_cloud, options, pattern, pieces, read,
    store, store_without_retries,
};
use landfall_test_services::Proxy;

/// The state that a process has acknowledged.
#[derive(Default)]
struct Acknowledged {
    id: Mutex<Option<UploadId>>,
    offset: AtomicU64,
}

/// Creates an upload, sends chunks in separate requests, and finishes it.
async fn upload(store: &impl Store, bytes: &Bytes, cuts: &[usize], acknowledged: &Acknowledged) {
    let upload = Upload::new(UploadId::random(), Some(bytes.len() as u64));
    let Ok(upload) = store.create(upload).await else {
        return;
    };
    *acknowledged.id.lock().unwrap() = Some(upload.id.clone());
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
        acknowledged.offset.fetch_max(offset, Ordering::SeqCst);
        start = end;
    }
    let finisher = store.capabilities().finisher.unwrap();
    let _ = finisher.finish(&upload, Fence(cuts.len() as u64 + 1)).await;
}

/// Resumes the upload at the reported offset, in two requests, and finishes it.
async fn resume_and_finish(
    store: &impl Store,
    bytes: &Bytes,
    acknowledged: &Acknowledged,
    story: &str,
) {
    let Some(id) = acknowledged.id.lock().unwrap().clone() else {
        return;
    };
    let acknowledged = acknowledged.offset.load(Ordering::SeqCst);
    let snapshot = store.load(&id).await;
    let snapshot = snapshot.unwrap_or_else(|error| panic!("{error:?}: {story}"));
    assert!(
        snapshot.offset >= acknowledged,
        "{acknowledged} bytes were acknowledged, {} are left: {story}",
        snapshot.offset
    );
    // It may have more, which no writer had committed.
    let (resumed, mut append) = store.resume(&id, Fence(100)).await.unwrap();
    assert!(resumed.offset >= snapshot.offset, "{story}");
    let at = usize::try_from(resumed.offset).unwrap();
    let middle = bytes.len().min(at + 10 * KIB);
    append
        .write(&mut pieces(&bytes.slice(at..middle)))
        .await
        .unwrap();
    append.commit().await.unwrap();
    drop(append);
    let (_, mut append) = store.resume(&id, Fence(101)).await.unwrap();
    append
        .write(&mut pieces(&bytes.slice(middle..)))
        .await
        .unwrap();
    assert_eq!(append.commit().await.unwrap(), bytes.len() as u64);
    drop(append);
    finish(store, &snapshot.upload, 101).await;
    let all = 0..bytes.len() as u64;
    assert_same(&read(store, &snapshot.upload, all).await, bytes);
}

async fn crash_at_every_call<S: Service>(service: &S, adjust: impl Fn(&mut StoreOptions)) {
    let access = service.access();
    let proxy = Proxy::start(&access);
    let bucket = service.bucket("kill");
    let mut options = options(&bucket);
    adjust(&mut options);
    let bytes = pattern(7, 300 * KIB + 11);
    let cuts = [20 * KIB, 50 * KIB, 130 * KIB, 192 * KIB, 250 * KIB];
    for after_effect in [false, true] {
        let mut calls = 0;
        loop {
            calls += 1;
            match after_effect {
                true => proxy.kill_during(calls),
                false => proxy.kill_after(calls - 1),
            }
            let acknowledged = Acknowledged::default();
            let (_, killed) = proxy.run(async |access| {
                let victim = store_without_retries(service, &access.endpoint, options.clone());
                upload(&victim, &bytes, &cuts, &acknowledged).await;
            });
            landfall_test_services::count_kills(usize::from(killed));
            let story = format!("killed at call {calls}, {}", proxy.transcript());
            let next = store(service, options.clone());
            resume_and_finish(&next, &bytes, &acknowledged, &story).await;
            let id = acknowledged.id.lock().unwrap().clone();
            if let Some(id) = &id {
                let upload = Upload::new(id.clone(), None);
                let terminator = next.capabilities().terminator.unwrap();
                terminator.terminate(&upload, Fence(200)).await.unwrap();
            }
            let left = client(service)
                .list_objects(&bucket, "", None, 100)
                .await
                .unwrap();
            // The sweeper removes an upload whose creation was never acknowledged.
            assert!(
                left.objects.is_empty() || id.is_none(),
                "{left:?} are left: {story}"
            );
            for object in left.objects {
                let object = landfall_objects::ObjectRef::new(&bucket, object.key);
                client(service).delete_object(&object).await.unwrap();
            }
            if !killed {
                assert!(id.is_some() && calls > 10, "{calls} calls: {story}");
                break;
            }
        }
    }
}

async fn no_loss_after_a_crash_at_any_call(service: &impl Service) {
    crash_at_every_call(service, |_| {}).await;
}

async fn no_loss_after_a_crash_among_other_nodes(service: &impl Service) {
    crash_at_every_call(service, |options| options.shared = true).await;
}

on_each_cloud!(
    no_loss_after_a_crash_at_any_call,
    no_loss_after_a_crash_among_other_nodes,
);
