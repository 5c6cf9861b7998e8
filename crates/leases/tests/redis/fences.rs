//! Fences increase, even if the state of Redis is lost.

use landfall::{
    lease::{Fence, Lease, Locker},
    upload::UploadId,
};
use landfall_leases::{LeaseSettings, RedisLocker};

use crate::server::{LONG, Server, quick};

async fn acquire(locker: &RedisLocker, id: &UploadId) -> Lease {
    locker.acquire(id, LONG).await.unwrap()
}

/// Acquires and releases the lease.
async fn next_fence(locker: &RedisLocker, id: &UploadId) -> Fence {
    acquire(locker, id).await.fence()
}

#[tokio::test(flavor = "multi_thread")]
async fn fences_continue_from_the_clock_when_the_state_is_lost() {
    let settings = quick();
    let server = Server::ready(&settings).await;
    let (one, other) = (server.locker(&settings), server.locker(&settings));
    let id = UploadId::random();
    let Fence(mut last) = next_fence(&one, &id).await;
    for locker in [&one, &other, &one] {
        locker.close().await;
        server.run::<()>(&["FLUSHALL"]);
        let before = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let Fence(next) = next_fence(locker, &id).await;
        assert!(next > last + 1, "{next} after {last}");
        assert!(
            u128::from(next) > before.as_nanos(),
            "{next} is in the past"
        );
        last = next;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_exceeds_those_the_node_has_seen() {
    let settings = quick();
    let server = Server::ready(&settings).await;
    let locker = server.locker(&settings);
    let id = UploadId::random();
    next_fence(&locker, &id).await;
    locker.close().await;
    // As if the clock of Redis had been years ahead.
    let keys: Vec<String> = server.run(&["KEYS", "landfall:fence:*"]);
    let far = 4_000_000_000_000_000_000_u64;
    for key in keys {
        server.run::<()>(&["SET", &key, &far.to_string()]);
    }
    assert_eq!(next_fence(&locker, &id).await, Fence(far + 1));
    server.run::<()>(&["FLUSHALL"]);
    assert_eq!(next_fence(&locker, &id).await, Fence(far + 2));
}

/// A server that restores an old snapshot must not reuse its fences.
#[tokio::test(flavor = "multi_thread")]
async fn fences_of_an_old_snapshot_are_ignored() {
    let settings = quick();
    let mut server = Server::ready(&settings).await;
    let (one, other) = (server.locker(&settings), server.locker(&settings));
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    server.run::<()>(&["SAVE"]);
    let Fence(snapshot) = lease.fence();
    drop(lease);
    let mut last = snapshot;
    for _ in 0..5 {
        Fence(last) = next_fence(&other, &id).await;
    }
    assert_eq!(last, snapshot + 5);
    server.kill();
    server.restart();
    let keys: Vec<String> = server.run(&["KEYS", "*"]);
    assert!(!keys.is_empty(), "the snapshot was not loaded");
    let Fence(next) = next_fence(&one, &id).await;
    assert!(next > last + 1, "{next} after {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_is_retained_for_a_day_after_its_lease() {
    let settings = LeaseSettings::redis();
    let server = Server::ready(&settings).await;
    let locker = server.locker(&settings);
    let lease = acquire(&locker, &UploadId::new("a/b+c").unwrap()).await;
    let keys: Vec<String> = server.run(&["KEYS", "landfall:*:{a/b+c}:*"]);
    assert_eq!(keys.len(), 3, "{keys:?}");
    lease.terms().unwrap().settle();
    drop(lease);
    locker.close().await;
    let keys: Vec<String> = server.run(&["KEYS", "landfall:*:{a/b+c}:*"]);
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(keys[0].starts_with("landfall:fence:"), "{keys:?}");
    let left: i64 = server.run(&["TTL", &keys[0]]);
    assert!((86_390..=86_405).contains(&left), "{left} s");
}
