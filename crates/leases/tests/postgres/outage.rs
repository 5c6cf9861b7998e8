//! Failure scenarios: PostgreSQL is stopped, disconnected or slow; notifications are lost.

use std::time::{Duration, Instant};

use landfall::{
    lease::{Lease, LeaseError, Locker as _, YieldReason},
    upload::UploadId,
};
use landfall_leases::{LeaseSettings, PostgresLocker};
use landfall_test_services::{PgBouncer, Postgres};
use tokio::time::{sleep, timeout};

use crate::{LONG, acquire, database, node, quick};

/// Time in which a locker has to recover.
const RECOVERY: Duration = Duration::from_secs(5);

fn assert_unavailable(result: Result<Lease, LeaseError>) {
    assert!(
        matches!(result, Err(LeaseError::Unavailable(_))),
        "{result:?}"
    );
}

fn assert_held(result: Result<Lease, LeaseError>) {
    assert!(matches!(result, Err(LeaseError::Locked)), "{result:?}");
}

async fn lost(lease: &Lease) {
    timeout(LONG, lease.signal().lost())
        .await
        .expect("it is lost");
}

/// Returns how long it takes until leases can be acquired.
async fn recovery(locker: &PostgresLocker) -> Duration {
    let started = Instant::now();
    loop {
        match locker.acquire(&UploadId::random(), LONG).await {
            Ok(_) => return started.elapsed(),
            Err(error) => assert!(matches!(error, LeaseError::Unavailable(_)), "{error:?}"),
        }
        assert!(started.elapsed() < LONG, "not available again");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restart_loses_no_lease() {
    let mut postgres = tokio::task::spawn_blocking(|| Postgres::start(false))
        .await
        .unwrap();
    let mut settings = LeaseSettings::postgres();
    // Longer than a restart takes on a busy machine.
    settings.ttl = Duration::from_secs(20);
    let url = postgres.url();
    let (one, other) = (node(&url, &settings).await, node(&url, &settings).await);
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    let postgres = tokio::task::spawn_blocking(move || {
        postgres.restart();
        postgres
    });
    let _postgres = postgres.await.unwrap();
    assert!(recovery(&other).await < RECOVERY);
    assert_held(other.try_acquire(&id).await);
    let before = lease.fence();
    let waiting = tokio::spawn({
        let (other, id) = (other.clone(), id.clone());
        async move { acquire(&other, &id).await }
    });
    assert_eq!(
        lease.signal().wait().await,
        YieldReason::Requested,
        "not lost"
    );
    drop(lease);
    assert_eq!(waiting.await.unwrap().fence().0, before.0 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_outage_longer_than_the_lifetime_stops_holders() {
    let mut postgres = tokio::task::spawn_blocking(|| Postgres::start(false))
        .await
        .unwrap();
    let (url, settings) = (postgres.url(), quick());
    let locker = node(&url, &settings).await;
    let id = UploadId::random();
    let lease = acquire(&locker, &id).await;
    sleep(settings.ttl / 2).await;
    let stopped = tokio::task::spawn_blocking(move || {
        postgres.stop();
        postgres
    });
    let mut postgres = stopped.await.unwrap();
    let started = Instant::now();
    lost(&lease).await;
    let took = started.elapsed();
    assert!(took < settings.ttl, "stopped after {took:?}");
    drop(lease);
    assert_unavailable(locker.acquire(&id, LONG).await);
    sleep(settings.timeout).await;
    let started = Instant::now();
    assert_unavailable(locker.acquire(&UploadId::random(), LONG).await);
    let took = started.elapsed();
    assert!(took < settings.timeout / 2, "fails at once: took {took:?}");
    let restarted = tokio::task::spawn_blocking(move || {
        postgres.restart();
        postgres
    });
    let _postgres = restarted.await.unwrap();
    let took = recovery(&locker).await;
    assert!(took < RECOVERY, "works again after {took:?}");
    drop(acquire(&locker, &id).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_row_vanished_and_was_acquired_stops() {
    let (url, settings) = (database(), quick());
    let (one, other) = (node(&url, &settings).await, node(&url, &settings).await);
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    Postgres::shared().query(&url, "DELETE FROM leases");
    let emptied = Instant::now();
    let newer = acquire(&other, &id).await;
    let took = emptied.elapsed();
    assert!(took >= settings.ttl * 9 / 10, "granted after {took:?}");
    assert_eq!(lease.signal().reason(), Some(YieldReason::LeaseLost));
    assert!(lease.terms().unwrap().has_ended());
    assert!(newer.fence() > lease.fence());
    assert!(!newer.terms().unwrap().is_settled());
    lost(&lease).await;
    assert_eq!(one.stats().lost, 1);
    assert_eq!(newer.signal().reason(), None);
}

/// Neither the holder nor the waiter receives a notification.
#[tokio::test(flavor = "multi_thread")]
async fn lost_notifications_only_delay_a_takeover() {
    let (url, settings) = (database(), quick());
    let (one, other) = (node(&url, &settings).await, node(&url, &settings).await);
    let id = UploadId::random();
    let mut holder = acquire(&one, &id).await;
    for locker in [&other, &one] {
        let writing = tokio::spawn(async move {
            assert_eq!(holder.signal().wait().await, YieldReason::Requested);
        });
        // Connections that wait for notifications are idle in LISTEN or its test.
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                    WHERE datname = current_database() \
                    AND (query LIKE 'LISTEN%' OR query LIKE 'UNLISTEN%' OR query = 'SELECT 1')";
        assert_ne!(Postgres::shared().query(&url, kill), "0\n");
        let started = Instant::now();
        holder = acquire(locker, &id).await;
        let took = started.elapsed();
        assert!(took < RECOVERY, "took {took:?}");
        writing.await.unwrap();
    }
    assert_eq!((one.stats().lost, other.stats().lost), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_without_postgres_is_reported() {
    let settings = quick();
    let locker =
        PostgresLocker::new("postgres://u:s3cret@127.0.0.1:1/x", settings.clone()).unwrap();
    let error = locker.check().await.unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
    assert!(!format!("{locker:?}").contains("s3cret"));
    assert_unavailable(locker.try_acquire(&UploadId::random()).await);
}

/// Two nodes, and requests that wait for each other; PgBouncer has two connections to the server.
#[tokio::test(flavor = "multi_thread")]
async fn leases_pass_pgbouncer_in_transaction_mode() {
    let url = database();
    let bouncer = PgBouncer::start(&url);
    let settings = LeaseSettings::postgres();
    let one = node(&bouncer.url(&url), &settings).await;
    let two = node(&bouncer.url(&url), &settings).await;
    let id = UploadId::random();
    for (holder, waiter) in [(&one, &two), (&two, &one)] {
        let lease = acquire(holder, &id).await;
        let yielded = async {
            lease.signal().wait().await;
            drop(lease);
        };
        let started = Instant::now();
        let (_, taken) = tokio::join!(yielded, acquire(waiter, &id));
        // A renewal tells the holder, and the waiter repeats its request.
        let took = started.elapsed();
        assert!(took < settings.ttl / 2 + settings.poll_interval, "{took:?}");
        assert!(taken.signal().reason().is_none());
    }
    let mut leases = Vec::new();
    for _ in 0..50 {
        leases.push(acquire(&one, &UploadId::random()).await);
    }
    tokio::time::sleep(settings.ttl * 3 / 2).await;
    assert!(leases.iter().all(|lease| lease.signal().reason().is_none()));
    assert_eq!((one.stats().held, one.stats().lost), (50, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_locker_has_released_all_its_leases() {
    let (url, settings) = (database(), quick());
    let locker = node(&url, &settings).await;
    let mut leases = Vec::new();
    for _ in 0..200 {
        leases.push(acquire(&locker, &UploadId::random()).await);
    }
    let owned = "SELECT count(*) FROM leases WHERE owner <> ''";
    assert_eq!(Postgres::shared().query(&url, owned), "200\n");
    drop(leases);
    locker.close().await;
    assert_eq!(Postgres::shared().query(&url, owned), "0\n");
    assert_eq!(locker.stats().held, 0);
}
