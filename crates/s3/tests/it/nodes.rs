//! Two nodes on one bucket: the holder of an older lease does no harm.

use std::time::Duration;

use landfall::{
    lease::Fence,
    store::{Store as _, StoreError},
};
use landfall_s3::{S3Options, S3Store};
use landfall_test_services::{
    Access, Garage, Moto, Proxy,
    proxy::{Fault, Operation, Rule},
};

use crate::support::{
    MIB, append, assert_same, client, create, finish, options, pattern, pieces, read,
};

const KIB: usize = 1024;

fn shared(bucket: &str, conditional: bool) -> S3Options {
    let mut options = options(bucket);
    options.shared = true;
    options.conditional_writes = conditional;
    options
}

fn assert_fenced<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(
        matches!(result, Err(StoreError::LeaseLost(_))),
        "{result:?}"
    );
}

async fn overtaken_node_is_fenced(access: &Access, options: S3Options) {
    let node = || S3Store::new(client(access), options.clone()).unwrap();
    let (one, other) = (node(), node());
    let bytes = pattern(1, 300 * KIB);
    let upload = create(&one, bytes.len() as u64).await;
    let (_, mut older) = one.resume(&upload.id, Fence(10)).await.unwrap();
    older
        .write(&mut pieces(&bytes.slice(..100 * KIB)))
        .await
        .unwrap();
    assert_eq!(older.commit().await.unwrap(), 100 * 1024);
    older
        .write(&mut pieces(&pattern(9, 50 * KIB)))
        .await
        .unwrap();
    // The other node takes over without the first one noticing.
    let (snapshot, mut newer) = other.resume(&upload.id, Fence(11)).await.unwrap();
    assert_eq!(snapshot.offset, 100 * 1024);
    newer
        .write(&mut pieces(&bytes.slice(100 * KIB..200 * KIB)))
        .await
        .unwrap();
    assert_eq!(newer.commit().await.unwrap(), 200 * 1024);
    assert_fenced(older.commit().await);
    drop(older);
    assert_eq!(other.load(&upload.id).await.unwrap().offset, 200 * 1024);
    // The cached state of a node is invalid after another writer.
    assert_fenced(one.save(&upload, Fence(10)).await);
    assert_fenced(
        one.capabilities()
            .terminator
            .unwrap()
            .terminate(&upload, Fence(10))
            .await,
    );
    drop(newer);
    assert_eq!(one.load(&upload.id).await.unwrap().offset, 200 * 1024);
    append(&one, &upload.id, 12, &bytes.slice(200 * KIB..250 * KIB)).await;
    append(&one, &upload.id, 13, &bytes.slice(250 * KIB..)).await;
    finish(&one, &upload, 13).await;
    assert_same(&read(&other, &upload).await, &bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn overtaken_node_acknowledges_nothing() {
    let garage = Garage::shared();
    overtaken_node_is_fenced(&garage.access(), shared(&garage.bucket("over"), false)).await;
    let moto = Moto::shared();
    overtaken_node_is_fenced(&moto.access(), shared(&moto.bucket("over"), true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_write_of_an_older_node_changes_nothing_where_conditions_hold() {
    let moto = Moto::shared();
    let proxy = Proxy::start(&moto.access());
    let options = shared(&moto.bucket("late"), true);
    let late = S3Store::new(
        client(&moto.access().through_proxy(&proxy)),
        options.clone(),
    )
    .unwrap();
    let now = S3Store::new(client(&moto.access()), options).unwrap();
    let bytes = pattern(2, 300 * KIB);
    let upload = create(&now, bytes.len() as u64).await;
    append(&now, &upload.id, 1, &bytes.slice(..10 * KIB)).await;

    let (_, mut older) = late.resume(&upload.id, Fence(2)).await.unwrap();
    older
        .write(&mut pieces(&bytes.slice(10 * KIB..20 * KIB)))
        .await
        .unwrap();
    let rule = Rule::on(Operation::PutObject).key_ends(".part").once();
    proxy.inject(rule, Fault::Delay(Duration::from_millis(600)));
    let stuck = tokio::spawn(async move { older.commit().await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    append(&now, &upload.id, 3, &bytes.slice(10 * KIB..100 * KIB)).await;
    assert_fenced(stuck.await.unwrap());
    assert_eq!(now.load(&upload.id).await.unwrap().offset, 100 * 1024);
    append(&now, &upload.id, 4, &bytes.slice(100 * KIB..)).await;
    assert_same(&read(&now, &upload).await, &bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_bytes_are_seen_while_another_node_completes_the_upload() {
    let moto = Moto::shared();
    let proxy = Proxy::start(&moto.access());
    let options = shared(&moto.bucket("completes"), true);
    let reader = S3Store::new(
        client(&moto.access().through_proxy(&proxy)),
        options.clone(),
    )
    .unwrap();
    let writer = S3Store::new(client(&moto.access()), options).unwrap();
    let bytes = pattern(4, 300 * KIB);
    let upload = create(&writer, bytes.len() as u64).await;
    append(&writer, &upload.id, 1, &bytes.slice(..200 * KIB)).await;
    // `.part` is deleted in the meantime.
    let rule = Rule::on(Operation::HeadObject).key_ends(".part").once();
    proxy.inject(rule, Fault::Delay(Duration::from_millis(800)));
    let completing = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        append(&writer, &upload.id, 2, &bytes.slice(200 * KIB..)).await;
        finish(&writer, &upload, 2).await;
    };
    let (snapshot, ()) = tokio::join!(reader.load(&upload.id), completing);
    assert_eq!(snapshot.unwrap().offset, 300 * 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_may_go_to_any_node() {
    let garage = Garage::shared();
    let options = shared(&garage.bucket("any"), false);
    let nodes: Vec<_> = (0..3)
        .map(|_| S3Store::new(client(&garage.access()), options.clone()).unwrap())
        .collect();
    let bytes = pattern(3, 12_000_000);
    let upload = create(&nodes[0], bytes.len() as u64).await;
    for (fence, start) in (1..).zip((0..bytes.len()).step_by(700_000)) {
        let node = &nodes[(fence as usize * 7 / 3) % 3];
        let end = bytes.len().min(start + 700_000);
        assert_eq!(
            append(node, &upload.id, fence, &bytes.slice(start..end)).await,
            end as u64
        );
        for node in &nodes {
            assert_eq!(node.load(&upload.id).await.unwrap().offset, end as u64);
        }
    }
    for node in &nodes {
        assert_same(&read(node, &upload).await, &bytes);
    }
}

/// A takeover writes the description, which must not make an old upload look new.
#[tokio::test(flavor = "multi_thread")]
async fn takeover_keeps_modification_time() {
    let garage = Garage::shared();
    let options = shared(&garage.bucket("age"), false);
    let node = || S3Store::new(client(&garage.access()), options.clone()).unwrap();
    let bytes = pattern(4, 20 * KIB);
    let upload = create(&node(), bytes.len() as u64).await;
    append(&node(), &upload.id, 1001, &bytes.slice(..10 * KIB)).await;
    let before = node().load(&upload.id).await.unwrap().modified;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    for fence in [1005, 1010] {
        let (snapshot, opened) = node().resume(&upload.id, Fence(fence)).await.unwrap();
        drop(opened);
        for modified in [
            snapshot.modified,
            node().load(&upload.id).await.unwrap().modified,
        ] {
            let later = modified.duration_since(before).unwrap_or_default();
            assert!(later < Duration::from_millis(1100), "{later:?}");
        }
    }
    append(&node(), &upload.id, 1020, &bytes.slice(10 * KIB..15 * KIB)).await;
    let after = node().load(&upload.id).await.unwrap().modified;
    assert!(after.duration_since(before).unwrap() > Duration::from_millis(900));
}

/// Fences come from clocks: one that was ahead must not lock the upload.
#[tokio::test(flavor = "multi_thread")]
async fn lease_with_smaller_fence_writes_and_removes() {
    let garage = Garage::shared();
    let moto = Moto::shared();
    for (access, options) in [
        (garage.access(), shared(&garage.bucket("ahead"), false)),
        (moto.access(), shared(&moto.bucket("ahead"), true)),
    ] {
        let node = || S3Store::new(client(&access), options.clone()).unwrap();
        let bytes = pattern(5, 30 * KIB);
        let upload = create(&node(), bytes.len() as u64).await;
        let far = 4_000_000_000_000_000_000;
        append(&node(), &upload.id, far, &bytes.slice(..10 * KIB)).await;
        let next = node();
        append(&next, &upload.id, 7, &bytes.slice(10 * KIB..20 * KIB)).await;
        let sweeper = node();
        assert_eq!(sweeper.load(&upload.id).await.unwrap().offset, 20 * 1024);
        let terminator = sweeper.capabilities().terminator.unwrap();
        assert!(terminator.terminate(&upload, Fence(8)).await.unwrap());
    }
}

/// A sweeper that pauses between its decision and the removal.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_removal_spares_an_upload_that_another_node_resumed() {
    let garage = Garage::shared();
    let options = shared(&garage.bucket("late-removal"), false);
    let node = || S3Store::new(client(&garage.access()), options.clone()).unwrap();
    let (sweeper, writer) = (node(), node());
    let bytes = pattern(6, 30 * KIB);
    let upload = create(&writer, bytes.len() as u64).await;
    append(&writer, &upload.id, 1, &bytes.slice(..10 * KIB)).await;
    for fence in [10, 20] {
        sweeper.load(&upload.id).await.unwrap();
        let end = usize::try_from(fence).unwrap() * KIB;
        append(
            &writer,
            &upload.id,
            fence + 1,
            &bytes.slice(end..end + 5 * KIB),
        )
        .await;
        let terminator = sweeper.capabilities().terminator.unwrap();
        assert_fenced(terminator.terminate(&upload, Fence(fence)).await);
        let offset = writer.load(&upload.id).await.unwrap().offset;
        assert_eq!(offset, (end + 5 * KIB) as u64);
        append(
            &writer,
            &upload.id,
            fence + 2,
            &bytes.slice(end + 5 * KIB..end + 10 * KIB),
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_deletion_never_takes_acknowledged_bytes() {
    let moto = Moto::shared();
    let proxy = Proxy::start(&moto.access());
    let options = shared(&moto.bucket("late-deletion"), true);
    let late = S3Store::new(
        client(&moto.access().through_proxy(&proxy)),
        options.clone(),
    )
    .unwrap();
    let node = || S3Store::new(client(&moto.access()), options.clone()).unwrap();
    let bytes = pattern(7, 10 * MIB + 300 * KIB);
    let part = usize::try_from(options.part_size).unwrap();
    let upload = create(&late, bytes.len() as u64).await;
    append(&late, &upload.id, 1, &bytes.slice(..10 * KIB)).await;

    // The older node ends a request at the end of a part, so it deletes `.part`.
    proxy.forget();
    let is_write = |operation| matches!(operation, Operation::PutObject | Operation::DeleteObject);
    let rule = Rule::any().key_ends(".part").once();
    let rule = rule.matching(move |call| is_write(call.operation));
    proxy.inject(rule, Fault::Delay(Duration::from_millis(1500)));
    let (_, mut older) = late.resume(&upload.id, Fence(2)).await.unwrap();
    let rest = bytes.slice(10 * KIB..part);
    let stuck = tokio::spawn(async move {
        older.write(&mut pieces(&rest)).await?;
        older.commit().await
    });
    let is_delayed = || {
        let mut calls = proxy.calls().into_iter();
        calls.any(|call| call.fault != Fault::Pass)
    };
    while !is_delayed() && !stuck.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let now = node();
    let offset = now.load(&upload.id).await.unwrap().offset;
    let start = usize::try_from(offset).unwrap();
    let end = start + 100 * KIB;
    let acknowledged = append(&now, &upload.id, 3, &bytes.slice(start..end)).await;
    drop(stuck.await.unwrap());
    assert_eq!(node().load(&upload.id).await.unwrap().offset, acknowledged);
    append(&node(), &upload.id, 4, &bytes.slice(end..)).await;
    finish(&now, &upload, 4).await;
    assert_same(&read(&now, &upload).await, &bytes);
}
