//! The suites that every locker has to pass.

use std::time::Duration;

use landfall_postgres::PostgresSettings;

use crate::{database, node, quick};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn within_one_node() {
    let settings = PostgresSettings::default();
    landfall_testkit::locker::conformance(async || node(&database(), &settings).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn between_two_nodes() {
    let settings = quick();
    let make = async || {
        let url = database();
        (node(&url, &settings).await, node(&url, &settings).await)
    };
    landfall_testkit::locker::conformance_between(make, Duration::from_millis(200)).await;
}
