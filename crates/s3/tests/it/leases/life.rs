//! What leases cost, how they are numbered, and what is left of them.

use std::time::{Duration, Instant};

use landfall::{
    lease::{Fence, Locker, YieldReason},
    upload::UploadId,
};
use landfall_s3::lease::{BucketLocker, BucketLockerError, BucketSettings, detect};
use landfall_test_services::{Garage, Moto};
use tokio::{task::JoinSet, time::sleep};

use super::{LONG, acquire, bucket::Way, on, quick};
use crate::support::client;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(flavor = "multi_thread")]
async fn conditions_on_writes_are_detected() {
    let way = Way::new();
    assert!(detect(&way.client(), "b", "up/").await.unwrap());
    assert!(way.keys().is_empty(), "{:?}", way.keys());
    let moto = Moto::shared();
    let bucket = moto.bucket("detect");
    assert!(detect(&client(&moto.access()), &bucket, "").await.unwrap());
    let garage = Garage::shared();
    let bucket = garage.bucket("detect");
    let honours = detect(&client(&garage.access()), &bucket, "").await;
    assert!(!honours.unwrap());
    let error = detect(&client(&moto.access()), "no-such-bucket", "").await;
    assert!(error.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_are_numbered_one_by_one_whoever_takes_them() {
    let way = Way::new();
    let (one, other) = (on(&way), on(&way.another()));
    let id = UploadId::random();
    let Fence(mut last) = acquire(&one, &id).await.fence();
    let mut before = &one;
    for locker in [&one, &one, &other, &one, &other, &other, &other] {
        before.close().await;
        let Fence(next) = acquire(locker, &id).await.fence();
        assert_eq!(next, last + 1);
        (last, before) = (next, locker);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_costs_two_writes_and_the_node_a_heartbeat() {
    let way = Way::new();
    let locker = on(&way);
    let count = |calls: &std::collections::BTreeMap<String, u64>, call| {
        calls.get(call).copied().unwrap_or_default()
    };
    let id = UploadId::random();
    for n in 0..10 {
        drop(acquire(&locker, &id).await);
        locker.close().await;
        let calls = way.calls();
        assert_eq!(count(&calls, "put lease"), 2, "{calls:?}");
        // Only a node that doesn't know the lease reads it.
        assert_eq!(count(&calls, "get lease"), u64::from(n == 0), "{calls:?}");
    }
    let mut leases = Vec::new();
    for _ in 0..1000 {
        leases.push(acquire(&locker, &UploadId::random()).await);
    }
    way.calls();
    sleep(2 * quick().ttl).await;
    let calls = way.calls();
    assert!(leases.iter().all(|lease| lease.signal().reason().is_none()));
    let beats = count(&calls, "put node");
    assert!((5..=21).contains(&beats), "{calls:?}");
    assert_eq!(calls.values().sum::<u64>(), beats, "{calls:?}");
    // Without leases, nothing; and nothing is left of the node.
    drop(leases);
    locker.close().await;
    let begun = Instant::now();
    while way.keys().iter().any(|key| key.contains("/nodes/")) {
        assert!(begun.elapsed() < LONG, "the node does not go to sleep");
        sleep(quick().renew).await;
    }
    way.calls();
    sleep(5 * quick().renew).await;
    assert_eq!(way.calls(), Default::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_node_pass_a_lease_on_without_writing() {
    let way = Way::new();
    let locker = on(&way);
    let id = UploadId::random();
    let first = acquire(&locker, &id).await;
    let mut tasks = JoinSet::new();
    for _ in 0..160 {
        let (locker, id) = (locker.clone(), id.clone());
        tasks.spawn(async move { acquire(&locker, &id).await.fence() });
    }
    sleep(Duration::from_millis(100)).await;
    way.calls();
    let Fence(first) = { first }.fence();
    let mut fences = tasks.join_all().await;
    fences.sort();
    let expected: Vec<_> = (1..=160).map(|n| Fence(first + n)).collect();
    assert_eq!(fences, expected);
    locker.close().await;
    let writes = way.calls()["put lease"];
    assert!(writes <= 40, "{writes} writes for 160 leases");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_and_nobodys_is_swept() {
    let way = Way::new();
    let (one, other) = (on(&way), on(&way.another()));
    let long = UploadId::new(&format!("{}/x", "long".repeat(50)).repeat(4)).unwrap();
    assert!(long.as_str().len() > 512);
    let mut fences = Vec::new();
    let ids = [UploadId::random(), UploadId::new("a/b").unwrap(), long];
    for id in &ids {
        fences.push(acquire(&one, id).await.fence());
    }
    let (held, elsewhere) = (UploadId::random(), UploadId::random());
    let kept = [
        acquire(&one, &held).await,
        acquire(&other, &elsewhere).await,
    ];
    one.close().await;
    assert_eq!(one.sweep(DAY).await.unwrap(), Default::default());
    way.age(2 * DAY);
    // By now both nodes have written a heartbeat again.
    sleep(3 * quick().renew).await;
    let swept = one.sweep(DAY).await.unwrap();
    assert_eq!((swept.leases, swept.nodes), (3, 0));
    let keys = way.keys();
    let left = keys.iter().filter(|key| key.contains("/leases/"));
    assert_eq!(left.count(), 2, "{keys:?}");
    assert!(kept.iter().all(|lease| lease.signal().reason().is_none()));
    for (id, fence) in ids.iter().zip(fences) {
        assert!(acquire(&other, id).await.fence() > fence);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leftovers_of_a_dead_node_are_swept() {
    let gone = Way::new();
    let way = gone.another();
    let (dead, other) = (on(&gone), on(&way));
    let lease = acquire(&dead, &UploadId::random()).await;
    gone.cut();
    assert_eq!(lease.signal().wait().await, YieldReason::LeaseLost);
    way.age(2 * DAY);
    // The first time somebody looks, it could still be alive.
    assert_eq!(other.sweep(DAY).await.unwrap(), Default::default());
    sleep(quick().ttl).await;
    let swept = other.sweep(DAY).await.unwrap();
    assert_eq!((swept.leases, swept.nodes), (1, 1), "{:?}", way.keys());
    // Only that of the node that swept.
    let keys = way.keys();
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(keys[0].contains("/nodes/"), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_waits_for_a_heartbeat() {
    let way = Way::new();
    let mut settings = BucketSettings::default();
    settings.poll = Duration::from_millis(100);
    let new = |way: &Way| BucketLocker::new(way.client(), "b", "", settings).unwrap();
    let nodes = [new(&way), new(&way.another())];
    let id = UploadId::random();
    let mut holder = acquire(&nodes[0], &id).await;
    let mut took = Vec::new();
    for n in 1..6 {
        let writing = tokio::spawn(async move {
            assert_eq!(holder.signal().wait().await, YieldReason::Requested);
        });
        let begun = Instant::now();
        holder = acquire(&nodes[n % 2], &id).await;
        took.push(begun.elapsed());
        writing.await.unwrap();
    }
    println!("takeovers took {took:?}");
    let most = settings.renew + Duration::from_secs(1);
    assert!(took.iter().all(|took| *took < most), "{took:?}");
}

#[test]
fn times_that_do_not_fit_are_refused() {
    for (renew, ttl) in [(6000, 15_000), (0, 15_000), (100, 300)] {
        let mut settings = BucketSettings::default();
        settings.renew = Duration::from_millis(renew);
        settings.ttl = Duration::from_millis(ttl);
        let refused = BucketLocker::new(Way::new().client(), "b", "", settings);
        assert!(matches!(refused, Err(BucketLockerError::Times { .. })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_locker_leaves_only_fences() {
    let way = Way::new();
    let locker = on(&way);
    let id = UploadId::random();
    let first = acquire(&locker, &id).await;
    // What is held stays held.
    locker.close().await;
    assert_eq!(way.keys().len(), 2, "{:?}", way.keys());
    let Fence(first) = { first }.fence();
    locker.close().await;
    let key = format!("up/.landfall/leases/{id}");
    assert_eq!(way.keys(), [key]);
    let Fence(second) = acquire(&locker, &id).await.fence();
    assert_eq!(second, first + 1);
}

/// Leases that were dropped don't keep others waiting when the locker goes.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_words_are_written() {
    let way = Way::new();
    let (one, other) = (on(&way), on(&way.another()));
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    drop(one);
    drop(lease);
    let begun = Instant::now();
    drop(other.acquire(&id, LONG).await.unwrap());
    assert!(begun.elapsed() < quick().ttl / 2, "{:?}", begun.elapsed());
}
