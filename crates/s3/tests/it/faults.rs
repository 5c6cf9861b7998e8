//! S3 fails, is slow, closes connections, or executes calls twice.

use std::time::Duration;

use landfall::{
    lease::Fence,
    store::{Store as _, StoreError},
    upload::{Metadata, Upload},
};
use landfall_s3::{S3Options, S3Store, client::Client};
use landfall_test_services::{
    Access, Garage, Moto, Proxy,
    proxy::{Fault, Operation, Rule},
};
use tokio::time::timeout;

use crate::support::{
    append, assert_same, create, finish, options, pattern, pieces, read, settings,
};

const KIB: usize = 1024;

fn tiny_parts(stem: &str) -> S3Options {
    let mut options = options(&Garage::shared().bucket(stem));
    options.min_part = 64 << 10;
    options.part_size = 64 << 10;
    options
}

/// A client with the usual number of attempts and short delays.
fn quick(access: &Access, attempts: u32) -> Client {
    let mut settings = settings(access);
    settings.calls.limits.backoff = Duration::from_millis(5);
    settings.calls.limits.max_backoff = Duration::from_millis(50);
    settings.calls.limits.attempts = attempts;
    Client::new(settings).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_faults_are_hidden() {
    let access = Garage::shared().access();
    let bytes = pattern(1, 500 * KIB);
    for seed in 0..12 {
        let proxy = Proxy::start(&access);
        let options = tiny_parts("passing");
        let store = S3Store::new(quick(&access.through_proxy(&proxy), 12), options).unwrap();
        proxy.inject_at_random(
            seed,
            &[
                (Fault::INTERNAL_ERROR, 0.05),
                (Fault::SLOW_DOWN, 0.05),
                (Fault::CutBefore, 0.05),
                (Fault::CutAfter, 0.05),
                (Fault::Duplicate, 0.05),
                (Fault::INTERNAL_ERROR_AFTER, 0.05),
            ],
        );
        let upload = create(&store, bytes.len() as u64).await;
        for (fence, start) in (1..).zip((0..bytes.len()).step_by(90 * KIB)) {
            let end = bytes.len().min(start + 90 * KIB);
            append(&store, &upload.id, fence, &bytes.slice(start..end)).await;
        }
        finish(&store, &upload, 9).await;
        assert_same(&read(&store, &upload).await, &bytes);
        proxy.revive();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn permanent_faults_are_reported_with_the_right_offset() {
    let access = Garage::shared().access();
    let bytes = pattern(2, 400 * KIB);
    for (operation, fault) in [
        (Operation::UploadPart, Fault::SLOW_DOWN),
        (Operation::UploadPart, Fault::CutAfter),
        (Operation::PutObject, Fault::INTERNAL_ERROR),
        (Operation::PutObject, Fault::INTERNAL_ERROR_AFTER),
        (Operation::CompleteMultipartUpload, Fault::SLOW_DOWN),
        (Operation::CompleteMultipartUpload, Fault::ERROR_IN_200),
    ] {
        let proxy = Proxy::start(&access);
        let store = S3Store::new(
            quick(&access.through_proxy(&proxy), 3),
            tiny_parts("lasting"),
        )
        .unwrap();
        let upload = create(&store, bytes.len() as u64).await;
        append(&store, &upload.id, 1, &bytes.slice(..100 * KIB)).await;
        proxy.inject(Rule::on(operation), fault);
        let failed = async {
            let (_, mut append) = store.resume(&upload.id, Fence(2)).await?;
            append
                .write(&mut pieces(&bytes.slice(100 * KIB..390 * KIB)))
                .await?;
            append.commit().await?;
            append.write(&mut pieces(&bytes.slice(390 * KIB..))).await?;
            append.commit().await?;
            drop(append);
            store
                .capabilities()
                .finisher
                .unwrap()
                .finish(&upload, Fence(2))
                .await
        }
        .await;
        let story = format!("{operation:?}: {failed:?}: {}", proxy.transcript());
        assert!(
            matches!(failed, Err(StoreError::Unavailable { .. })),
            "{story}"
        );
        proxy.revive();
        let offset = store.load(&upload.id).await.unwrap().offset;
        assert!(offset >= 100 * KIB as u64, "{offset}: {story}");
        append(
            &store,
            &upload.id,
            3,
            &bytes.slice(usize::try_from(offset).unwrap()..),
        )
        .await;
        finish(&store, &upload, 3).await;
        assert_same(&read(&store, &upload).await, &bytes);
    }
}

/// @tus/s3-store continues after a failed part and stores the wrong bytes.
#[tokio::test(flavor = "multi_thread")]
async fn later_bytes_never_replace_a_failed_part() {
    let access = Garage::shared().access();
    let bytes = pattern(3, 640 * KIB);
    for part in 1..=10 {
        let proxy = Proxy::start(&access);
        let store = S3Store::new(
            quick(&access.through_proxy(&proxy), 2),
            tiny_parts("objects"),
        )
        .unwrap();
        let upload = create(&store, bytes.len() as u64).await;
        let rule = Rule::on(Operation::UploadPart).part(part).times(2);
        proxy.inject(rule, Fault::INTERNAL_ERROR);
        let (_, mut first) = store.resume(&upload.id, Fence(1)).await.unwrap();
        let mut all = pieces(&bytes);
        let written = first.write(&mut all).await;
        assert!(
            written.is_err() || first.commit().await.is_err(),
            "{}",
            proxy.transcript()
        );
        drop(first);
        let offset = store.load(&upload.id).await.unwrap().offset;
        assert_eq!(
            offset,
            u64::from(part - 1) * 64 * 1024,
            "{}",
            proxy.transcript()
        );
        append(
            &store,
            &upload.id,
            2,
            &bytes.slice(usize::try_from(offset).unwrap()..),
        )
        .await;
        assert_same(&read(&store, &upload).await, &bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_download_is_an_error() {
    let access = Garage::shared().access();
    let proxy = Proxy::start(&access);
    let store = S3Store::new(quick(&access.through_proxy(&proxy), 2), tiny_parts("cut")).unwrap();
    let bytes = pattern(4, 300 * KIB);
    let upload = create(&store, bytes.len() as u64).await;
    append(&store, &upload.id, 1, &bytes).await;
    finish(&store, &upload, 1).await;
    proxy.inject(Rule::on(Operation::GetObject), Fault::CutAnswer);
    let reader = store.capabilities().reader.unwrap();
    let mut stream = reader.read(&upload, 0..bytes.len() as u64).await.unwrap();
    let mut got = 0;
    let ended = loop {
        match std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
            Some(Ok(piece)) => got += piece.len(),
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    assert!(ended.is_some() && got < bytes.len(), "{got}: {ended:?}");
}

/// A conditional write whose response was lost finds its own object.
#[tokio::test(flavor = "multi_thread")]
async fn transient_faults_are_hidden_with_conditional_writes() {
    let moto = Moto::shared();
    let bytes = pattern(5, 200 * KIB);
    for seed in 0..8 {
        let proxy = Proxy::start(&moto.access());
        let mut options = options(&moto.bucket("conditions"));
        options.conditional_writes = true;
        options.shared = seed % 2 == 0;
        let store = S3Store::new(quick(&moto.access().through_proxy(&proxy), 12), options).unwrap();
        let upload = create(&store, bytes.len() as u64).await;
        proxy.inject_at_random(
            seed,
            &[
                (Fault::INTERNAL_ERROR, 0.05),
                (Fault::CutBefore, 0.05),
                (Fault::CutAfter, 0.1),
                (Fault::INTERNAL_ERROR_AFTER, 0.1),
            ],
        );
        for (fence, start) in (1..).zip((0..bytes.len()).step_by(20 * KIB)) {
            let end = bytes.len().min(start + 20 * KIB);
            append(&store, &upload.id, fence, &bytes.slice(start..end)).await;
        }
        finish(&store, &upload, 11).await;
        assert_same(&read(&store, &upload).await, &bytes);
        proxy.revive();
    }
}

/// A request that has been sent may take effect after its caller is gone.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_writes_end_before_the_next_lease_begins() {
    let (garage, moto) = (Garage::shared(), Moto::shared());
    for (access, bucket, conditional) in [
        (garage.access(), garage.bucket("dropped"), false),
        (moto.access(), moto.bucket("dropped"), true),
    ] {
        let mut options = options(&bucket);
        options.conditional_writes = conditional;
        let proxy = Proxy::start(&access);
        let store =
            || S3Store::new(quick(&access.through_proxy(&proxy), 5), options.clone()).unwrap();
        let node = store();
        let bytes = pattern(6, 200 * KIB);
        let upload = create(&node, bytes.len() as u64).await;
        let late = |key| {
            let rule = Rule::on(Operation::PutObject).key_ends(key).times(1);
            proxy.inject(rule, Fault::Delay(Duration::from_millis(500)));
        };
        let abandon_after = Duration::from_millis(100);

        late(".part");
        let first = bytes.slice(..50 * KIB);
        let first = append(&node, &upload.id, 1, &first);
        timeout(abandon_after, first).await.unwrap_err();
        let (snapshot, mut next) = node.resume(&upload.id, Fence(2)).await.unwrap();
        let start = usize::try_from(snapshot.offset).unwrap();
        next.write(&mut pieces(&bytes.slice(start..150 * KIB)))
            .await
            .unwrap();
        assert_eq!(next.commit().await.unwrap(), 150 * KIB as u64);
        drop(next);

        late(".info");
        let mut changed = Upload::clone(&upload);
        changed.metadata = Metadata::from_pairs([("key", "value")]);
        let save = node.save(&changed, Fence(3));
        timeout(abandon_after, save).await.unwrap_err();
        let (found, _) = node.resume(&upload.id, Fence(4)).await.unwrap();

        tokio::time::sleep(Duration::from_secs(1)).await;
        let restarted = store();
        let later = restarted.load(&upload.id).await.unwrap();
        assert_eq!(later.upload, found.upload, "{}", proxy.transcript());
        assert_eq!(later.offset, 150 * KIB as u64, "{}", proxy.transcript());
        append(&restarted, &upload.id, 5, &bytes.slice(150 * KIB..)).await;
        assert_same(&read(&restarted, &upload).await, &bytes);
    }
}
