//! Redis is killed, cut off, started again; nodes are cut off.

use std::time::{Duration, Instant};

use landfall::{
    lease::{Lease, LeaseError, Locker, YieldReason},
    upload::UploadId,
};
use landfall_redis::{LinkError, RedisLocker, RedisSettings};
use tokio::time::{sleep, timeout};

use crate::{
    cables::Cable,
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
    assert!(matches!(result, Err(LeaseError::Held)), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_does_not_notice_a_restart() {
    let settings = RedisSettings::default();
    let mut server = Server::settled(&settings).await;
    let (one, other) = (server.locker(&settings), server.locker(&settings));
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    server.kill();
    sleep(Duration::from_millis(500)).await;
    server.start_again();
    // On a busy machine it takes a moment to start, and a node that has missed it for longer says so
    // at once.
    let begun = Instant::now();
    let refused = loop {
        // Longer than nobody is let in after a restart.
        let wait = settings.ttl + Duration::from_secs(2);
        match other.acquire(&id, wait).await {
            Err(LeaseError::Unavailable(_)) if begun.elapsed() < Duration::from_secs(3) => {
                sleep(Duration::from_millis(20)).await;
            }
            refused => break refused,
        }
    };
    assert_held(refused);
    assert_eq!(
        lease.signal().reason(),
        Some(YieldReason::Requested),
        "not lost"
    );
    let before = lease.fence();
    drop(lease);
    let after = acquire(&other, &id).await.fence();
    assert_eq!(after.0, before.0 + 1, "the holder put its fence back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_does_not_notice_that_the_state_is_gone() {
    let settings = quick();
    let server = Server::settled(&settings).await;
    let (one, other) = (server.locker(&settings), server.locker(&settings));
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    server.run::<()>(&["FLUSHALL"]);
    sleep(settings.ttl).await;
    assert_held(other.try_acquire(&id).await);
    assert_eq!(lease.signal().reason(), None);
}

/// Nobody who was let in meanwhile is pushed out again.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_lease_vanished_and_was_taken_is_told() {
    let settings = quick();
    let server = Server::settled(&settings).await;
    let (one, other) = (server.locker(&settings), server.locker(&settings));
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    server.run::<()>(&["FLUSHALL"]);
    let newer = acquire(&other, &id).await;
    assert!(newer.fence() > lease.fence());
    let lost = async { while lease.signal().wait().await != YieldReason::LeaseLost {} };
    timeout(settings.ttl, lost).await.expect("told in time");
    assert_eq!(one.stats().lost, 1);
    sleep(settings.ttl).await;
    assert_ne!(newer.signal().reason(), Some(YieldReason::LeaseLost));
    // And the same if it was taken and given up again.
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    server.run::<()>(&["FLUSHALL"]);
    drop(acquire(&other, &id).await);
    other.close().await;
    assert_eq!(lease.signal().wait().await, YieldReason::LeaseLost);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_stops_before_the_lease_lapses() {
    let settings = quick();
    let server = Server::settled(&settings).await;
    let locker = server.locker(&settings);
    let id = UploadId::random();
    let lease = acquire(&locker, &id).await;
    // The lease may have been renewed up to the moment in which the server stops.
    sleep(settings.ttl / 2).await;
    server.stop();
    let begun = Instant::now();
    assert_eq!(lease.signal().reason(), None);
    assert_eq!(lease.signal().wait().await, YieldReason::LeaseLost);
    let noticed = begun.elapsed();
    assert!(noticed < settings.ttl, "noticed after {noticed:?}");
    assert!(noticed > settings.ttl / 4, "given up after {noticed:?}");

    for _ in 0..3 {
        let begun = Instant::now();
        assert_unavailable(locker.acquire(&UploadId::random(), LONG).await);
        let took = begun.elapsed();
        assert!(took < settings.patience * 3 / 2, "took {took:?}");
    }
    assert_unavailable(locker.try_acquire(&UploadId::random()).await);
    drop(lease);
    server.go_on();
    let back = Instant::now();
    while !locker.stats().connected {
        assert!(back.elapsed() < LONG, "not connected again");
        sleep(Duration::from_millis(5)).await;
    }
    drop(acquire(&locker, &id).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_stall_goes_unnoticed() {
    let settings = RedisSettings::default();
    let server = Server::settled(&settings).await;
    let locker = server.locker(&settings);
    let lease = acquire(&locker, &UploadId::random()).await;
    let waiter = tokio::spawn({
        let locker = locker.clone();
        async move { locker.acquire(&UploadId::random(), LONG).await }
    });
    server.stop();
    sleep(settings.ttl / 3).await;
    server.go_on();
    drop(waiter.await.unwrap());
    sleep(settings.ttl).await;
    assert_eq!(lease.signal().reason(), None);
    assert_eq!(locker.stats().lost, 0);
}

/// A response that is missing for half of the patience ends the connection, and not the call.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_repeated_until_the_patience_is_over() {
    let mut settings = RedisSettings::default();
    settings.patience = Duration::from_secs(4);
    let server = Server::settled(&settings).await;
    let locker = server.locker(&settings);
    drop(acquire(&locker, &UploadId::random()).await);
    locker.close().await;
    server.stop();
    let waiting = tokio::spawn({
        let locker = locker.clone();
        async move { locker.acquire(&UploadId::random(), LONG).await }
    });
    sleep(settings.patience * 5 / 8).await;
    server.go_on();
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_dies_for_longer_than_a_lease() {
    let settings = quick();
    let mut server = Server::settled(&settings).await;
    let (one, other) = (server.locker(&settings), server.locker(&settings));
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    server.kill();
    assert_unavailable(other.acquire(&id, LONG).await);
    let begun = Instant::now();
    assert_unavailable(other.acquire(&id, LONG).await);
    let took = begun.elapsed();
    assert!(took < settings.patience, "took {took:?} once it was known");
    assert_eq!(lease.signal().wait().await, YieldReason::LeaseLost);
    server.start_again();
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
async fn lost_messages_only_cost_time() {
    let settings = quick();
    let server = Server::settled(&settings).await;
    let cable = Cable::to(&server);
    let (deaf, other) = (cable.locker(&settings), server.locker(&settings));
    cable.lose_messages();
    let id = UploadId::random();
    // A holder that isn't reached is told when it renews.
    let lease = acquire(&deaf, &id).await;
    let holder = tokio::spawn(async move {
        assert_eq!(lease.signal().wait().await, YieldReason::Requested);
    });
    let begun = Instant::now();
    let lease = acquire(&other, &id).await;
    let took = begun.elapsed();
    assert!(took < settings.ttl * 2 / 3, "took {took:?}");
    holder.await.unwrap();
    // A waiter that isn't reached looks.
    let holder = tokio::spawn(async move {
        assert_eq!(lease.signal().wait().await, YieldReason::Requested);
    });
    let begun = Instant::now();
    drop(acquire(&deaf, &id).await);
    let took = begun.elapsed();
    assert!(took < 2 * settings.poll, "took {took:?}");
    holder.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_without_redis_is_told() {
    let settings = quick();
    let locker = RedisLocker::new("redis://127.0.0.1:1/", settings.clone()).unwrap();
    let begun = Instant::now();
    let error = locker.check().await.unwrap_err();
    assert!(matches!(error, LinkError::Down { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.starts_with("no connection to Redis at 127.0.0.1:1: "),
        "{text}"
    );
    assert!(begun.elapsed() < 2 * settings.patience);
    assert_unavailable(locker.try_acquire(&UploadId::random()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_and_a_database_are_used() {
    let settings = quick();
    let server = Server::settled(&settings).await;
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "100mb"]);
    server.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
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
    assert_eq!(found.evicts.as_deref(), Some("allkeys-lru"));
    let lease = acquire(&locker, &UploadId::random()).await;
    assert!(!format!("{locker:?}").contains("s3cret"));
    drop(lease);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_locker_has_released_all_its_leases() {
    let settings = quick();
    let server = Server::settled(&settings).await;
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
