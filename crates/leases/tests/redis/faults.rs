//! Network faults between a node and Redis.

use landfall::{lease::Locker, upload::UploadId};
use landfall_leases::RedisLocker;
use landfall_test_services::{FaultProxy, Redis};

use crate::server::{LONG, quick};

fn locker(url: &str) -> RedisLocker {
    RedisLocker::new(url, quick()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_network_fault_is_reported_within_the_ttl() {
    let redis = Redis::start();
    let (proxy, url) = FaultProxy::to_server_of(&redis.url());
    let locker = locker(&url);
    // Wait for the end of the grace period.
    drop(locker.acquire(&UploadId::random(), LONG).await.unwrap());
    let acquire = async || locker.acquire(&UploadId::random(), LONG).await.map(drop);
    proxy.under_each(quick().ttl, acquire).await;
}
