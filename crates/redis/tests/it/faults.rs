//! Faults of the network between a node and Redis.

use landfall::{
    lease::{Asked, Locker},
    upload::UploadId,
};
use landfall_redis::RedisLocker;
use landfall_test_services::{Fault, FaultProxy, Redis};
use tokio::time::timeout;

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

#[tokio::test(flavor = "multi_thread")]
async fn under_each_fault_a_lease_is_given_up_before_another_node_has_it() {
    let redis = Redis::start();
    let (proxy, url) = FaultProxy::to_server_of(&redis.url());
    let (faulty, other) = (locker(&url), locker(&redis.url()));
    let id = UploadId::random();
    let mut newest = None;
    for fault in Fault::ALL {
        let lease = timeout(LONG, async {
            loop {
                if let Ok(lease) = faulty.acquire(&id, LONG).await {
                    return lease;
                }
            }
        });
        let lease = lease.await.expect("no lease");
        assert!(Some(lease.fence()) > newest, "{fault:?}");
        proxy.set(fault);
        let signal = lease.signal().clone();
        let hold = async {
            if fault.is_delay() {
                assert_eq!(signal.wait().await, Asked::Yield, "{fault:?}");
            } else {
                signal.lost().await;
            }
            drop(lease);
        };
        let take_over = async {
            let next = other.acquire(&id, LONG).await;
            let expected = if fault.is_delay() {
                Asked::Yield
            } else {
                Asked::Lost
            };
            assert_eq!(signal.asked(), Some(expected), "{fault:?}");
            next
        };
        let ((), next) = tokio::join!(hold, take_over);
        newest = Some(next.unwrap().fence());
        proxy.set(Fault::None);
    }
}
