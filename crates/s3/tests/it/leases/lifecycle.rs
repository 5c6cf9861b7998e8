//! Cost, numbering and cleanup of leases.

use std::time::{Duration, Instant};

use landfall::{
    lease::{Fence, LeaseError, Locker, YieldReason},
    upload::UploadId,
};
use landfall_s3::lease::{
    BucketLocker, ConditionalWrites, LeaseSettings, S3Leases, SettingsError,
    probe_conditional_writes,
};
use landfall_test_services::{Ceph, Garage, Moto};
use tokio::{task::JoinSet, time::sleep};

use super::{LONG, acquire, bucket::NodeTransport, on, quick, with};
use crate::support::client;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(flavor = "multi_thread")]
async fn each_condition_of_writes_is_detected() {
    let transport = NodeTransport::new();
    let honored = probe_conditional_writes(&transport.client(), "b", "up/").await;
    assert!(honored.unwrap().all());
    assert!(transport.keys().is_empty(), "{:?}", transport.keys());
    let (ceph, moto, garage) = (Ceph::shared(), Moto::shared(), Garage::shared());
    for (access, bucket, wanted) in [
        (ceph.access(), ceph.bucket("conditional"), true),
        (moto.access(), moto.bucket("conditional"), true),
        (garage.access(), garage.bucket("conditional"), false),
    ] {
        let honored = probe_conditional_writes(&client(&access), &bucket, "").await;
        let wanted = ConditionalWrites {
            if_absent: wanted,
            if_match: wanted,
        };
        assert_eq!(honored.unwrap(), wanted, "{}", access.endpoint);
    }
    let client = client(&moto.access());
    let honored = probe_conditional_writes(&client, "no-such-bucket", "").await;
    assert!(honored.is_err());
}

/// A service with `If-None-Match` alone, and one with `If-Match` alone.
#[tokio::test(flavor = "multi_thread")]
async fn one_condition_does_not_hide_the_other() {
    for header in ["if-none-match", "if-match"] {
        let transport = NodeTransport::new();
        transport.reject_header(header);
        let honored = probe_conditional_writes(&transport.client(), "b", "").await;
        let wanted = ConditionalWrites {
            if_absent: header != "if-none-match",
            if_match: header != "if-match",
        };
        assert_eq!(honored.unwrap(), wanted, "{header}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fences_are_consecutive_across_nodes() {
    let transport = NodeTransport::new();
    let (one, other) = (on(&transport), on(&transport.another()));
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
    let transport = NodeTransport::new();
    let locker = on(&transport);
    let count = |calls: &std::collections::BTreeMap<String, u64>, call| {
        calls.get(call).copied().unwrap_or_default()
    };
    let id = UploadId::random();
    for n in 0..10 {
        drop(acquire(&locker, &id).await);
        locker.close().await;
        let calls = transport.calls();
        assert_eq!(count(&calls, "put lease"), 2, "{calls:?}");
        // Only a node without a cached record reads it.
        assert_eq!(count(&calls, "get lease"), u64::from(n == 0), "{calls:?}");
    }
    let mut leases = Vec::new();
    for _ in 0..1000 {
        leases.push(acquire(&locker, &UploadId::random()).await);
    }
    transport.calls();
    sleep(2 * quick().ttl).await;
    let calls = transport.calls();
    assert!(leases.iter().all(|lease| lease.signal().reason().is_none()));
    let beats = count(&calls, "put node");
    assert!((5..=21).contains(&beats), "{calls:?}");
    assert_eq!(calls.values().sum::<u64>(), beats, "{calls:?}");
    // Without leases the node makes no calls and has no record.
    drop(leases);
    locker.close().await;
    let started = Instant::now();
    while transport.keys().iter().any(|key| key.contains("/nodes/")) {
        assert!(started.elapsed() < LONG, "the node does not go to sleep");
        sleep(quick().heartbeat).await;
    }
    transport.calls();
    sleep(5 * quick().heartbeat).await;
    assert_eq!(transport.calls(), Default::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn handoff_within_a_node_writes_nothing() {
    let transport = NodeTransport::new();
    let locker = on(&transport);
    let id = UploadId::random();
    let first = acquire(&locker, &id).await;
    let mut tasks = JoinSet::new();
    for _ in 0..160 {
        let (locker, id) = (locker.clone(), id.clone());
        tasks.spawn(async move { acquire(&locker, &id).await.fence() });
    }
    sleep(Duration::from_millis(100)).await;
    transport.calls();
    let Fence(first) = { first }.fence();
    let mut fences = tasks.join_all().await;
    fences.sort();
    let expected: Vec<_> = (1..=160).map(|n| Fence(first + n)).collect();
    assert_eq!(fences, expected);
    locker.close().await;
    let writes = transport.calls()["put lease"];
    assert!(writes <= 40, "{writes} writes for 160 leases");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_released_leases_are_swept() {
    let transport = NodeTransport::new();
    let (one, other) = (on(&transport), on(&transport.another()));
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
    transport.age(2 * DAY);
    // By now both nodes have written a heartbeat again.
    sleep(3 * quick().heartbeat).await;
    let swept = one.sweep(DAY).await.unwrap();
    assert_eq!((swept.leases, swept.nodes), (3, 0));
    let keys = transport.keys();
    let left = keys.iter().filter(|key| key.contains("/leases/"));
    assert_eq!(left.count(), 2, "{keys:?}");
    assert!(kept.iter().all(|lease| lease.signal().reason().is_none()));
    for (id, fence) in ids.iter().zip(fences) {
        assert!(acquire(&other, id).await.fence() > fence);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_dead_node_are_swept() {
    let gone = NodeTransport::new();
    let transport = gone.another();
    let (dead, other) = (on(&gone), on(&transport));
    let lease = acquire(&dead, &UploadId::random()).await;
    gone.disconnect();
    assert_eq!(lease.signal().wait().await, YieldReason::LeaseLost);
    transport.age(2 * DAY);
    // In the first sweep the node might still be alive.
    assert_eq!(other.sweep(DAY).await.unwrap(), Default::default());
    sleep(quick().ttl).await;
    let swept = other.sweep(DAY).await.unwrap();
    assert_eq!(
        (swept.leases, swept.nodes),
        (1, 1),
        "{:?}",
        transport.keys()
    );
    // Only that of the node that swept.
    let keys = transport.keys();
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(keys[0].contains("/nodes/"), "{keys:?}");
}

/// As a command does that ends soon.
#[tokio::test(flavor = "multi_thread")]
async fn leases_of_a_dead_node_are_free_after_a_look_at_the_nodes() {
    let gone = NodeTransport::new();
    let transport = gone.another();
    let (dead, other) = (on(&gone), on(&transport));
    let id = UploadId::random();
    let lease = acquire(&dead, &id).await;
    gone.disconnect();
    assert_eq!(lease.signal().wait().await, YieldReason::LeaseLost);
    let fence = lease.fence();
    transport.age(DAY);
    let locked = other.try_acquire(&id).await;
    assert!(matches!(locked, Err(LeaseError::Locked)), "{locked:?}");
    let another = on(&transport.another());
    another.find_dead_nodes().await.unwrap();
    let taken = another.try_acquire(&id).await.unwrap();
    assert!(taken.fence() > fence);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_waits_for_a_heartbeat() {
    let transport = NodeTransport::new();
    let mut settings = LeaseSettings::bucket();
    settings.poll_interval = Duration::from_millis(100);
    let nodes =
        [&transport, &transport.another()].map(|transport| with(transport, settings.clone()));
    let id = UploadId::random();
    let mut holder = acquire(&nodes[0], &id).await;
    let mut took = Vec::new();
    for n in 1..6 {
        let writing = tokio::spawn(async move {
            assert_eq!(holder.signal().wait().await, YieldReason::Requested);
        });
        let started = Instant::now();
        holder = acquire(&nodes[n % 2], &id).await;
        took.push(started.elapsed());
        writing.await.unwrap();
    }
    println!("takeovers took {took:?}");
    let most = settings.heartbeat + Duration::from_secs(1);
    assert!(took.iter().all(|took| *took < most), "{took:?}");
}

#[test]
fn invalid_times_are_rejected() {
    for (renew, ttl) in [(6000, 15_000), (0, 15_000), (100, 300)] {
        let mut settings = LeaseSettings::bucket();
        settings.heartbeat = Duration::from_millis(renew);
        settings.ttl = Duration::from_millis(ttl);
        let leases = S3Leases::new(NodeTransport::new().client(), "b", "");
        let refused = BucketLocker::new(leases, settings);
        let (heartbeat, ttl) = (Duration::from_millis(renew), Duration::from_millis(ttl));
        match refused {
            Err(SettingsError::Heartbeat(refused)) => assert_eq!(refused, heartbeat),
            Err(SettingsError::Ttl(refused)) => assert_eq!(refused, ttl),
            refused => panic!("{refused:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_locker_leaves_only_released_leases() {
    let transport = NodeTransport::new();
    let locker = on(&transport);
    let id = UploadId::random();
    let first = acquire(&locker, &id).await;
    // Held leases stay held.
    locker.close().await;
    assert_eq!(transport.keys().len(), 2, "{:?}", transport.keys());
    let Fence(first) = { first }.fence();
    locker.close().await;
    let key = format!("up/.landfall/leases/{id}");
    assert_eq!(transport.keys(), [key]);
    let Fence(second) = acquire(&locker, &id).await.fence();
    assert_eq!(second, first + 1);
}

/// Dropped leases are released when the locker ends, so that other nodes do not wait.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_leases_are_released_when_the_locker_is_dropped() {
    let transport = NodeTransport::new();
    let (one, other) = (on(&transport), on(&transport.another()));
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    drop(one);
    drop(lease);
    let started = Instant::now();
    drop(other.acquire(&id, LONG).await.unwrap());
    assert!(
        started.elapsed() < quick().ttl / 2,
        "{:?}",
        started.elapsed()
    );
}
