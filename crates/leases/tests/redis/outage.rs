//! Failure scenarios: Redis is killed, stopped or restarted; nodes are disconnected.

use std::time::{Duration, Instant};

use landfall::{
    lease::{Lease, LeaseError, Locker, YieldReason},
    upload::UploadId,
};
use landfall_leases::{ConnectionError, LeaseSettings, RedisLocker};
use tokio::time::{sleep, timeout};

use crate::{
    network_faults::FaultySocket,
    server::{LONG, Server, quick},
};

async fn acquire(locker: &RedisLocker, id: &UploadId) -> Lease {
    locker.acquire(id, LONG).await.unwrap()
}

fn assert_unavailable(result: Result<Lease, LeaseError>) {
    assert!(
        matches!(result, Err(LeaseError::Unavailable(_))),
        "{result:?}"
    );
}

fn assert_held(result: Result<Lease, LeaseError>) {
    assert!(matches!(result, Err(LeaseError::Locked)), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loses_no_lease() {
    let settings = LeaseSettings::redis();
    let mut server = Server::ready(&settings).await;
    let (one, other) = (server.locker(&settings), server.locker(&settings));
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    server.kill();
    sleep(Duration::from_millis(500)).await;
    server.restart();
    // On a busy machine the start takes a moment, and a node that has waited longer fails at
    // once.
    let started = Instant::now();
    let result = loop {
        // Longer than the grace period after a restart.
        let wait = settings.ttl + Duration::from_secs(2);
        match other.acquire(&id, wait).await {
            Err(LeaseError::Unavailable(_)) if started.elapsed() < Duration::from_secs(3) => {
                sleep(Duration::from_millis(20)).await;
            }
            result => break result,
        }
    };
    assert_held(result);
    assert_eq!(
        lease.signal().reason(),
        Some(YieldReason::Requested),
        "not lost"
    );
    let before = lease.fence();
    drop(lease);
    let after = acquire(&other, &id).await.fence();
    assert_eq!(after.0, before.0 + 1, "the holder restored its fence");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_survives_the_loss_of_the_state() {
    let settings = quick();
    let server = Server::ready(&settings).await;
    let (one, other) = (server.locker(&settings), server.locker(&settings));
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    server.run::<()>(&["FLUSHALL"]);
    sleep(settings.ttl).await;
    assert_held(other.try_acquire(&id).await);
    assert_eq!(lease.signal().reason(), None);
}

/// A node that acquired the lease meanwhile keeps it.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_lease_was_lost_and_acquired_by_another_node_stops() {
    let settings = quick();
    let server = Server::ready(&settings).await;
    let (one, other) = (server.locker(&settings), server.locker(&settings));
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    server.forget(&id);
    let newer = acquire(&other, &id).await;
    assert!(newer.fence() > lease.fence());
    assert!(!newer.terms().unwrap().is_settled());
    let lost = async { while lease.signal().wait().await != YieldReason::LeaseLost {} };
    timeout(settings.ttl, lost).await.expect("lost in time");
    assert_eq!(one.stats().lost, 1);
    sleep(settings.ttl).await;
    assert_ne!(newer.signal().reason(), Some(YieldReason::LeaseLost));
    // The same if it was acquired and released again.
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    server.forget(&id);
    drop(acquire(&other, &id).await);
    other.close().await;
    assert_eq!(lease.signal().wait().await, YieldReason::LeaseLost);
}

/// A lease is not free because it is unknown.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_a_lease_for_a_lifetime_after_all_are_forgotten() {
    let settings = quick();
    let server = Server::ready(&settings).await;
    let (one, other) = (server.locker(&settings), server.locker(&settings));
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    for _ in 0..2 {
        server.run::<()>(&["FLUSHALL"]);
        let flushed = Instant::now();
        assert!(other.try_acquire(&id).await.is_err());
        // Nobody holds it, but nobody knows.
        let unknown = acquire(&other, &UploadId::random()).await;
        let took = flushed.elapsed();
        assert!(took >= settings.ttl * 9 / 10, "granted after {took:?}");
        assert!(!unknown.terms().unwrap().is_settled());
        assert!(other.try_acquire(&id).await.is_err());
        assert_eq!(lease.signal().reason(), None, "the holder has restored it");
        assert!(!lease.terms().unwrap().has_ended());
    }
    let waiting = acquire(&other, &id);
    let yielding = async {
        assert_eq!(lease.signal().wait().await, YieldReason::Requested);
        drop(lease);
    };
    let (newer, ()) = tokio::join!(waiting, yielding);
    assert_eq!(newer.signal().reason(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_settled_once_its_former_holder_has_released_it_so() {
    let settings = quick();
    let server = Server::ready(&settings).await;
    let (one, other) = (server.locker(&settings), server.locker(&settings));
    let id = UploadId::random();
    let is_settled = async |locker: &RedisLocker, settles: bool| {
        let lease = acquire(locker, &id).await;
        let terms = lease.terms().unwrap();
        let before = terms.is_settled();
        if settles {
            terms.settle();
        }
        drop(lease);
        locker.close().await;
        before
    };
    assert!(!is_settled(&one, false).await, "it is unknown");
    assert!(!is_settled(&one, false).await, "not settled here");
    assert!(!is_settled(&other, true).await, "not settled there");
    assert!(is_settled(&other, true).await);
    // Its own unsettled lease is the last that this node knows of.
    assert!(!is_settled(&one, true).await);
    assert!(is_settled(&other, true).await);
    assert!(is_settled(&one, true).await);
    let lease = acquire(&other, &id).await;
    assert!(lease.terms().unwrap().is_settled());
    // As if it had expired.
    server.forget(&id);
    assert!(
        !is_settled(&one, true).await,
        "its holder has not released it"
    );
    drop(lease);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnected_holder_stops_before_its_lease_expires() {
    let settings = quick();
    let server = Server::ready(&settings).await;
    let locker = server.locker(&settings);
    let id = UploadId::random();
    let lease = acquire(&locker, &id).await;
    // The lease may have been renewed right before the server stops.
    sleep(settings.ttl / 2).await;
    server.stop();
    let started = Instant::now();
    assert_eq!(lease.signal().reason(), None);
    assert_eq!(lease.signal().wait().await, YieldReason::LeaseLost);
    let noticed = started.elapsed();
    assert!(noticed < settings.ttl, "noticed after {noticed:?}");
    assert!(noticed > settings.ttl / 4, "lost after {noticed:?}");

    for _ in 0..3 {
        let started = Instant::now();
        assert_unavailable(locker.acquire(&UploadId::random(), LONG).await);
        let took = started.elapsed();
        assert!(took < settings.timeout * 3 / 2, "took {took:?}");
    }
    assert_unavailable(locker.try_acquire(&UploadId::random()).await);
    drop(lease);
    server.cont();
    let back = Instant::now();
    while !locker.stats().connected {
        assert!(back.elapsed() < LONG, "not connected again");
        sleep(Duration::from_millis(5)).await;
    }
    drop(acquire(&locker, &id).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_outage_loses_no_lease() {
    let settings = LeaseSettings::redis();
    let server = Server::ready(&settings).await;
    let locker = server.locker(&settings);
    let lease = acquire(&locker, &UploadId::random()).await;
    let waiter = tokio::spawn({
        let locker = locker.clone();
        async move { locker.acquire(&UploadId::random(), LONG).await }
    });
    server.stop();
    sleep(settings.ttl / 3).await;
    server.cont();
    drop(waiter.await.unwrap());
    sleep(settings.ttl).await;
    assert_eq!(lease.signal().reason(), None);
    assert_eq!(locker.stats().lost, 0);
}

/// A missing response closes the connection after half of the timeout, and the call is repeated.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_repeated_until_the_timeout() {
    let mut settings = LeaseSettings::redis();
    settings.timeout = Duration::from_secs(4);
    let server = Server::ready(&settings).await;
    let locker = server.locker(&settings);
    drop(acquire(&locker, &UploadId::random()).await);
    locker.close().await;
    server.stop();
    let waiting = tokio::spawn({
        let locker = locker.clone();
        async move { locker.acquire(&UploadId::random(), LONG).await }
    });
    sleep(settings.timeout * 5 / 8).await;
    server.cont();
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_longer_than_the_lifetime_stops_holders() {
    let settings = quick();
    let mut server = Server::ready(&settings).await;
    let (one, other) = (server.locker(&settings), server.locker(&settings));
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    server.kill();
    assert_unavailable(other.acquire(&id, LONG).await);
    let started = Instant::now();
    assert_unavailable(other.acquire(&id, LONG).await);
    let took = started.elapsed();
    assert!(
        took < settings.timeout,
        "took {took:?} although it was known"
    );
    assert_eq!(lease.signal().wait().await, YieldReason::LeaseLost);
    server.restart();
    let newer = loop {
        match other.acquire(&id, LONG).await {
            Ok(lease) => break lease,
            Err(error) => assert!(matches!(error, LeaseError::Unavailable(_)), "{error:?}"),
        }
        sleep(Duration::from_millis(10)).await;
    };
    assert!(newer.fence() > lease.fence());
    drop(lease);
    one.close().await;
    assert_held(one.try_acquire(&id).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_messages_only_delay_a_takeover() {
    let settings = quick();
    let server = Server::ready(&settings).await;
    let socket = FaultySocket::to(&server);
    let (deaf, other) = (socket.locker(&settings), server.locker(&settings));
    socket.lose_messages();
    let id = UploadId::random();
    // A holder that does not receive the message learns of the waiter from its renewal.
    let lease = acquire(&deaf, &id).await;
    let holder = tokio::spawn(async move {
        assert_eq!(lease.signal().wait().await, YieldReason::Requested);
    });
    let started = Instant::now();
    let lease = acquire(&other, &id).await;
    let took = started.elapsed();
    assert!(took < settings.ttl * 2 / 3, "took {took:?}");
    holder.await.unwrap();
    // A waiter that does not receive the message polls.
    let holder = tokio::spawn(async move {
        assert_eq!(lease.signal().wait().await, YieldReason::Requested);
    });
    let started = Instant::now();
    drop(acquire(&deaf, &id).await);
    let took = started.elapsed();
    assert!(took < 2 * settings.poll_interval, "took {took:?}");
    holder.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_without_redis_is_reported() {
    let settings = quick();
    let locker = RedisLocker::new("redis://127.0.0.1:1/", settings.clone()).unwrap();
    let started = Instant::now();
    let error = locker.check().await.unwrap_err();
    assert!(
        matches!(error, ConnectionError::NotConnected { .. }),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.starts_with("no connection to Redis at 127.0.0.1:1: "),
        "{text}"
    );
    assert!(started.elapsed() < 2 * settings.timeout);
    assert_unavailable(locker.try_acquire(&UploadId::random()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_and_a_database_are_used() {
    let settings = quick();
    let server = Server::ready(&settings).await;
    server.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    // Nothing is evicted without a limit.
    let info = server.locker(&settings).check().await.unwrap();
    assert_eq!(info.eviction_policy, None);
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "100mb"]);
    let named = "user=lander&pass=s3cret&db=3";
    let rights = ["~landfall:*", "&landfall:*", "+@all"];
    let user = ["ACL", "SETUSER", "lander", "on", ">s3cret"];
    server.run::<()>(&[&user[..], &rights[..]].concat());
    server.run::<()>(&["CONFIG", "SET", "requirepass", "other"]);

    let error = server.locker(&settings).check().await.unwrap_err();
    assert!(error.to_string().contains("NOAUTH"), "{error}");
    let wrong = format!("{}?user=lander&pass=wrong", server.address());
    let wrong = RedisLocker::new(&wrong, settings.clone()).unwrap();
    let error = wrong.check().await.unwrap_err();
    assert!(error.to_string().contains("WRONGPASS"), "{error}");

    let right = format!("{}?{named}", server.address());
    let locker = RedisLocker::new(&right, settings.clone()).unwrap();
    let found = locker.check().await.unwrap();
    assert!(found.version.split('.').count() == 3, "{found:?}");
    assert_eq!(found.eviction_policy.as_deref(), Some("allkeys-lru"));
    let lease = acquire(&locker, &UploadId::random()).await;
    assert!(!format!("{locker:?}").contains("s3cret"));
    drop(lease);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_locker_has_released_all_its_leases() {
    let settings = quick();
    let server = Server::ready(&settings).await;
    let locker = server.locker(&settings);
    let mut leases = Vec::new();
    for _ in 0..1000 {
        leases.push(acquire(&locker, &UploadId::random()).await);
    }
    let keys: Vec<String> = server.run(&["KEYS", "landfall:lease:*"]);
    assert_eq!(keys.len(), 1000);
    drop(leases);
    locker.close().await;
    let keys: Vec<String> = server.run(&["KEYS", "landfall:lease:*"]);
    assert!(keys.is_empty(), "{keys:?}");
    assert_eq!(locker.stats().held, 0);
}
