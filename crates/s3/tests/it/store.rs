//! The store conformance suite on both services, with and without other nodes.

use std::sync::atomic::{AtomicU32, Ordering};

use landfall::{Composer, Config, lease::Fence, store::Store as _, upload::Completion};
use landfall_objects::{Cloud as _, PartCondition};
use landfall_s3::{
    S3Options, S3Store,
    client::{Condition, ObjectHeaders, ObjectRef, Payload},
    lease::probe_conditional_writes,
};
use landfall_test_services::{
    Access, Ceph, Garage, Moto, Proxy,
    proxy::{Fault, Operation, Rule},
};
use landfall_testkit::{engine, store::conformance};

use crate::support::{
    MIB, append, assert_same, client, client_without_retries, create, finish, options, pattern,
    pieces, read,
};

async fn conforms(access: &Access, bucket: &str, adjust: impl Fn(&mut S3Options)) {
    let client = client(access);
    // Ceph compares entity tags without quotes.
    probe_conditional_writes(&client, bucket, "").await.unwrap();
    let next = AtomicU32::new(0);
    let report = conformance(async || {
        let mut options = options(bucket);
        // A separate prefix for each check.
        options.object_prefix = format!("c{}", next.fetch_add(1, Ordering::Relaxed));
        adjust(&mut options);
        S3Store::new(client.clone(), options).unwrap()
    })
    .await;
    assert_eq!(
        report.not_applicable,
        ["an_unfinished_upload_can_be_read_while_it_grows"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_garage() {
    let garage = Garage::shared();
    conforms(&garage.access(), &garage.bucket("conforms"), |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_garage_with_other_nodes() {
    let garage = Garage::shared();
    conforms(&garage.access(), &garage.bucket("shared"), |options| {
        options.shared = true;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_moto() {
    let moto = Moto::shared();
    conforms(&moto.access(), &moto.bucket("conforms"), |options| {
        options.conditional_writes = true;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_moto_with_other_nodes() {
    let moto = Moto::shared();
    conforms(&moto.access(), &moto.bucket("shared"), |options| {
        options.conditional_writes = true;
        options.shared = true;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_ceph() {
    let ceph = Ceph::shared();
    conforms(&ceph.access(), &ceph.bucket("conforms"), |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_ceph_with_other_nodes() {
    let ceph = Ceph::shared();
    conforms(&ceph.access(), &ceph.bucket("shared"), |options| {
        options.conditional_writes = true;
        options.shared = true;
    })
    .await;
}

/// The store behind a handler.
async fn conforms_behind_a_handler(access: &Access, bucket: &str, adjust: impl Fn(&mut S3Options)) {
    let client = client(access);
    let next = AtomicU32::new(0);
    let make = async || {
        let mut options = options(bucket);
        options.object_prefix = format!("e{}", next.fetch_add(1, Ordering::Relaxed));
        adjust(&mut options);
        Config::new(Composer::join(
            S3Store::new(client.clone(), options).unwrap(),
        ))
    };
    engine::conformance(make).await.assert_complete();
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_behind_a_handler_on_garage() {
    let garage = Garage::shared();
    conforms_behind_a_handler(&garage.access(), &garage.bucket("engine"), |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_behind_a_handler_on_moto() {
    let moto = Moto::shared();
    conforms_behind_a_handler(&moto.access(), &moto.bucket("engine"), |options| {
        options.conditional_writes = true;
        options.shared = true;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_behind_a_handler_on_ceph() {
    let ceph = Ceph::shared();
    conforms_behind_a_handler(&ceph.access(), &ceph.bucket("engine"), |_| {}).await;
}

/// Ceph completes a multipart upload only with all parts that it has: also those of a process that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn parts_that_do_not_count_hinder_no_completion_on_ceph() {
    let access = Ceph::shared().access();
    let proxy = Proxy::start(&access);
    let bucket = Ceph::shared().bucket("uncounted");
    let good = pattern(1, 36 * MIB);
    // A process is killed between the completion with all parts and the copy.
    let calls = [Operation::CreateMultipartUpload, Operation::UploadPartCopy];
    for killed_before in [None, Some(calls[0]), Some(calls[1])] {
        let start = || {
            let client = client_without_retries(&access.through_proxy(&proxy));
            let mut options = options(&bucket);
            // Later parts wait until earlier ones are stored.
            options.concurrent_parts = 1;
            S3Store::new(client, options).unwrap()
        };
        let last = start();
        let upload = create(&last, good.len() as u64).await;
        append(&last, &upload.id, 1, &good.slice(..6 * MIB)).await;
        let (_, mut held) = last.resume(&upload.id, Fence(2)).await.unwrap();
        held.begin_unverified().await.unwrap();
        held.write(&mut pieces(&pattern(2, 24 * MIB)))
            .await
            .unwrap();
        // The process ends before it knows that the checksum is wrong.
        drop((held, last));
        let mut last = start();
        append(&last, &upload.id, 3, &good.slice(6 * MIB..)).await;
        if let Some(call) = killed_before {
            proxy.inject(Rule::on(call).once(), Fault::Kill);
            let finisher = last.capabilities().finisher.unwrap();
            finisher.finish(&upload, Fence(4)).await.unwrap_err();
            proxy.revive();
            last = start();
            let offset = last.load(&upload.id).await.unwrap().offset;
            assert_eq!(offset, 36 << 20, "{}", proxy.transcript());
        }
        finish(&last, &upload, 5).await;
        for store in [last, start()] {
            assert_same(&read(&store, &upload).await, &good);
            assert_eq!(store.load(&upload.id).await.unwrap().offset, 36 << 20);
        }
    }
}

/// S3 completes no upload with a part below 5 MiB that is not the last one, and on Ceph that part cannot be left out: the
/// last part of a process that was killed may arrive when another one has begun to send.
#[tokio::test(flavor = "multi_thread")]
async fn small_parts_that_do_not_count_hinder_no_completion_on_ceph() {
    let access = Ceph::shared().access();
    let proxy = Proxy::start(&access);
    let bucket = Ceph::shared().bucket("small");
    let good = pattern(1, 12 * MIB);
    let calls = [
        Operation::UploadPart,
        Operation::CompleteMultipartUpload,
        Operation::CreateMultipartUpload,
        Operation::UploadPartCopy,
    ];
    for killed_before in std::iter::once(None).chain(calls.map(Some)) {
        let through_proxy = access.through_proxy(&proxy);
        let start = || S3Store::new(client(&through_proxy), options(&bucket)).unwrap();
        let mut last = start();
        let upload = create(&last, good.len() as u64).await;
        append(&last, &upload.id, 1, &good.slice(..6 * MIB)).await;
        let (_, multipart) = upload.id.as_str().split_once('+').unwrap();
        let stored = |name| upload.storage[name].clone();
        let object = ObjectRef::new(stored("Bucket"), stored("Key"));
        for (number, len) in [(3, MIB), (4, 5 * MIB), (5, 1)] {
            let late = Payload::from(pattern(2, len));
            let client = client(&access);
            client
                .upload_part(&object, multipart, number, late, PartCondition::default())
                .await
                .unwrap();
        }
        drop(last);
        last = start();
        append(&last, &upload.id, 2, &good.slice(6 * MIB..)).await;
        if let Some(call) = killed_before {
            proxy.inject(Rule::on(call).once(), Fault::Kill);
            let killed = client_without_retries(&through_proxy);
            let killed = S3Store::new(killed, options(&bucket)).unwrap();
            let finisher = killed.capabilities().finisher.unwrap();
            finisher.finish(&upload, Fence(3)).await.unwrap_err();
            proxy.revive();
            last = start();
            // No acknowledged byte is lost, and none is added.
            let offset = last.load(&upload.id).await.unwrap().offset;
            assert_eq!(offset, 12 << 20, "{}", proxy.transcript());
        }
        finish(&last, &upload, 4).await;
        for store in [last, start()] {
            assert_same(&read(&store, &upload).await, &good);
            assert_eq!(store.load(&upload.id).await.unwrap().offset, 12 << 20);
        }
        if killed_before.is_some() {
            continue;
        }
        // An application may write another object there, also one that is as long as that with all parts was.
        let mut done = (*upload).clone();
        done.completion = Completion::Done(None);
        start().save(&done, Fence(5)).await.unwrap();
        let (edited, client) = (pattern(3, 27 * MIB), client(&access));
        let (payload, none) = (Payload::from(edited.clone()), ObjectHeaders::default());
        let put = client.put_object(&object, payload, &none, Condition::None);
        put.await.unwrap();
        start().load(&upload.id).await.unwrap();
        let kept = client.get_object(&object, None).await.unwrap();
        assert_same(&kept.bytes(1 << 30).await.unwrap(), &edited);
    }
}
