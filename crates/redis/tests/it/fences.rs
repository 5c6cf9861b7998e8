//! Fences count the leases of an upload, and never go back.

use landfall::{
    lease::{Fence, Lease, Locker},
    upload::UploadId,
};
use landfall_redis::{RedisLocker, RedisSettings};

use crate::server::{LONG, Server, quick};

async fn acquire(locker: &RedisLocker, id: &UploadId) -> Lease {
    locker.acquire(id, LONG).await.unwrap()
}

/// Takes the lease and gives it up again.
async fn pass(locker: &RedisLocker, id: &UploadId) -> Fence {
    acquire(locker, id).await.fence()
}

#[tokio::test(flavor = "multi_thread")]
async fn fences_jump_to_the_time_when_the_state_is_lost() {
    let settings = quick();
    let server = Server::settled(&settings).await;
    let (one, other) = (server.locker(&settings), server.locker(&settings));
    let id = UploadId::random();
    let Fence(mut last) = pass(&one, &id).await;
    for locker in [&one, &other, &one] {
        locker.close().await;
        server.run::<()>(&["FLUSHALL"]);
        let before = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let Fence(next) = pass(locker, &id).await;
        assert!(next > last + 1, "{next} after {last}");
        assert!(u128::from(next) > before.as_nanos(), "{next} is no time");
        last = next;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_never_gives_less_than_it_has_seen() {
    let settings = quick();
    let server = Server::settled(&settings).await;
    let locker = server.locker(&settings);
    let id = UploadId::random();
    pass(&locker, &id).await;
    locker.close().await;
    // As if the clock of Redis had been years ahead.
    let keys: Vec<String> = server.run(&["KEYS", "landfall:fence:*"]);
    let far = 4_000_000_000_000_000_000_u64;
    for key in keys {
        server.run::<()>(&["SET", &key, &far.to_string()]);
    }
    assert_eq!(pass(&locker, &id).await, Fence(far + 1));
    server.run::<()>(&["FLUSHALL"]);
    assert_eq!(pass(&locker, &id).await, Fence(far + 2));
}

/// A server that comes back with an old snapshot would count old numbers again.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_snapshot_counts_for_nothing() {
    let settings = quick();
    let mut server = Server::settled(&settings).await;
    let (one, other) = (server.locker(&settings), server.locker(&settings));
    let id = UploadId::random();
    let kept = acquire(&one, &id).await;
    server.run::<()>(&["SAVE"]);
    let Fence(snapshot) = kept.fence();
    drop(kept);
    let mut last = snapshot;
    for _ in 0..5 {
        Fence(last) = pass(&other, &id).await;
    }
    assert_eq!(last, snapshot + 5);
    server.kill();
    server.start_again();
    let keys: Vec<String> = server.run(&["KEYS", "*"]);
    assert!(!keys.is_empty(), "the snapshot was not loaded");
    let Fence(next) = pass(&one, &id).await;
    assert!(next > last + 1, "{next} after {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_outlives_its_lease_by_a_day_and_then_goes() {
    let settings = RedisSettings::default();
    let server = Server::settled(&settings).await;
    let locker = server.locker(&settings);
    let lease = acquire(&locker, &UploadId::new("a/b+c").unwrap()).await;
    let keys: Vec<String> = server.run(&["KEYS", "landfall:*:{a/b+c}:*"]);
    assert_eq!(keys.len(), 2, "{keys:?}");
    drop(lease);
    locker.close().await;
    let keys: Vec<String> = server.run(&["KEYS", "landfall:*:{a/b+c}:*"]);
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(keys[0].starts_with("landfall:fence:"), "{keys:?}");
    let left: i64 = server.run(&["TTL", &keys[0]]);
    assert!((86_390..=86_405).contains(&left), "{left} s");
}
