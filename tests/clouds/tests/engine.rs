//! The conformance suite of the engine over each cloud. Its limits on answers are strict, so it runs in a program
//! of its own, not beside tests that keep the services busy.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU32, Ordering};

use landfall::{Composer, Config};
use landfall_test_clouds::{Service, on_each_cloud, options, store};
use landfall_testkit::engine::conformance;

async fn conforms(service: &impl Service, shared: bool) {
    let bucket = service.bucket("engine");
    let next = AtomicU32::new(0);
    let report = conformance(async || {
        let mut options = options(&bucket);
        // A separate prefix for each check.
        options.object_prefix = format!("e{}/", next.fetch_add(1, Ordering::Relaxed));
        options.shared = shared;
        Config::new(Composer::join(store(service, options)))
    });
    report.await.assert_complete();
}

async fn alone(service: &impl Service) {
    conforms(service, false).await;
}

async fn with_other_nodes(service: &impl Service) {
    conforms(service, true).await;
}

on_each_cloud!(alone, with_other_nodes);
