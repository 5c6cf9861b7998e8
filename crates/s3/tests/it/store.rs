//! The store conformance suite on both services, with and without other nodes.

use std::sync::atomic::{AtomicU32, Ordering};

use landfall::{Composer, Config};
use landfall_s3::{S3Options, S3Store, lease::probe_conditional_writes};
use landfall_test_services::{Access, Ceph, Garage, Moto};
use landfall_testkit::{engine, store::conformance};

use crate::support::{client, options};

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
