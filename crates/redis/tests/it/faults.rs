//! Faults of the network between a node and Redis.

use landfall::{lease::Locker, upload::UploadId};
use landfall_redis::RedisLocker;
use landfall_test_services::{FaultProxy, Redis};

use crate::server::{LONG, quick};

fn locker(url: &str) -> RedisLocker {
    RedisLocker::new(url, quick()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_reported_within_the_time_of_a_lease() {
    let redis = Redis::start();
    let (proxy, url) = FaultProxy::to_server_of(&redis.url());
    let locker = locker(&url);
    // No lease of a run before is held any more.
    drop(locker.acquire(&UploadId::random(), LONG).await.unwrap());
    let acquire = async || locker.acquire(&UploadId::random(), LONG).await.map(drop);
    proxy.under_each(quick().ttl, acquire).await;
}
