//! The suites that every locker has to pass.

use std::time::Duration;

use landfall_redis::RedisSettings;

use crate::server::{Server, quick};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn within_one_node() {
    let settings = RedisSettings::default();
    let server = Server::settled(&settings).await;
    landfall_testkit::locker::conformance(async || server.locker(&settings)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn between_two_nodes() {
    let settings = quick();
    let server = Server::settled(&settings).await;
    let make = async || (server.locker(&settings), server.locker(&settings));
    landfall_testkit::locker::conformance_between(make, Duration::from_millis(200)).await;
}
