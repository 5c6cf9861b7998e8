//! The conformance suite of the store, with and without other nodes.

use std::sync::atomic::{AtomicU32, Ordering};

use landfall_test_clouds::{Service, on_each_cloud, options, store};
use landfall_testkit::store::conformance;

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

on_each_cloud!(alone, with_other_nodes);
