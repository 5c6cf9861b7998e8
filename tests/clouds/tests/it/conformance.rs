//! The conformance suites of the store and of the engine, with and without other nodes.

use std::sync::atomic::{AtomicU32, Ordering};

use landfall::{Composer, Config};
use landfall_test_clouds::{Azure, Service, on_each_cloud, options, store};
use landfall_testkit::{engine, store::conformance};

async fn conforms(service: &impl Service, shared: bool) {
    let bucket = service.bucket("conforms");
    let next = AtomicU32::new(0);
    let report = conformance(async || {
        let mut options = options(&bucket);
        // A separate prefix for each check.
        options.object_prefix = format!("c{}/", next.fetch_add(1, Ordering::Relaxed));
        options.shared = shared;
        store(service, options)
    })
    .await;
    assert_eq!(
        report.not_applicable,
        ["an_unfinished_upload_can_be_read_while_it_grows"]
    );
}

async fn alone(service: &impl Service) {
    conforms(service, false).await;
}

async fn with_other_nodes(service: &impl Service) {
    conforms(service, true).await;
}

async fn conforms_behind_a_handler(service: &impl Service, shared: bool) {
    let bucket = service.bucket("engine");
    let next = AtomicU32::new(0);
    let make = async || {
        let mut options = options(&bucket);
        options.object_prefix = format!("e{}/", next.fetch_add(1, Ordering::Relaxed));
        options.shared = shared;
        Config::new(Composer::join(store(service, options)))
    };
    engine::conformance(make).await.assert_complete();
}

on_each_cloud!(alone, with_other_nodes);

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_handler_in_azure() {
    conforms_behind_a_handler(Azure::shared(), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_handler_in_azure_with_other_nodes() {
    conforms_behind_a_handler(Azure::shared(), true).await;
}
