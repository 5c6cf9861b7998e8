//! PostgreSQL is stopped, cut off, delayed; notifications are lost.

use std::time::{Duration, Instant};

use landfall::{
    lease::{Asked, Lease, LeaseError, Locker as _},
    upload::UploadId,
};
use landfall_postgres::{PostgresLocker, PostgresSettings};
use landfall_test_services::{Fault, FaultProxy, PgBouncer, Postgres};
use tokio::time::{sleep, timeout};

use crate::{LONG, acquire, database, node, quick};

/// Time in which a locker has to work again.
const RECOVERY: Duration = Duration::from_secs(5);

fn assert_unavailable(result: Result<Lease, LeaseError>) {
    assert!(
        matches!(result, Err(LeaseError::Unavailable(_))),
        "{result:?}"
    );
}

fn assert_held(result: Result<Lease, LeaseError>) {
    assert!(matches!(result, Err(LeaseError::Held)), "{result:?}");
}

fn authority(url: &str) -> &str {
    let (_, rest) = url.split_once('@').unwrap();
    rest.split_once('/').unwrap().0
}

/// A proxy to the server of a database, and the URL of the database through it.
fn proxy(url: &str) -> (FaultProxy, String) {
    let proxy = FaultProxy::start(authority(url));
    let through = proxy.url(url, authority(url));
    (proxy, through)
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

/// Under each fault holders stop in time and requests fail soon; afterwards all works again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn holders_stop_in_time_and_leases_work_again() {
    for fault in [Fault::BlackHole, Fault::Cut, Fault::HalfClose] {
        let (url, settings) = (database(), quick());
        let (proxy, through) = proxy(&url);
        let (cut, other) = (node(&through, &settings).await, node(&url, &settings).await);
        let id = UploadId::random();
        let lease = acquire(&cut, &id).await;
        // It may have been renewed until now.
        sleep(settings.ttl / 2).await;
        proxy.set(fault);
        let started = Instant::now();
        let newer = acquire(&other, &id).await;
        let took = started.elapsed();
        assert_eq!(lease.signal().asked(), Some(Asked::Lost), "two hold it");
        assert!(newer.fence() > lease.fence());
        assert!(took > settings.ttl / 4, "{fault:?}: taken after {took:?}");
        assert!(took < settings.ttl * 3, "{fault:?}: taken after {took:?}");

        for _ in 0..3 {
            let started = Instant::now();
            assert_unavailable(cut.acquire(&UploadId::random(), LONG).await);
            let took = started.elapsed();
            assert!(took < settings.timeout * 2, "{fault:?}: took {took:?}");
        }
        assert_unavailable(cut.try_acquire(&UploadId::random()).await);
        drop(lease);

        proxy.set(Fault::None);
        let took = recovery(&cut).await;
        println!("{fault:?}: works again after {took:?}");
        assert!(took < RECOVERY, "{fault:?}: works again after {took:?}");
        assert_held(cut.try_acquire(&id).await);
        assert_ne!(newer.signal().asked(), Some(Asked::Lost));
        // Notifications arrive again, too.
        let started = Instant::now();
        while !cut.stats().connected {
            assert!(
                started.elapsed() < 2 * RECOVERY,
                "{fault:?}: no notifications"
            );
            sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_network_costs_time_and_no_lease() {
    let (url, settings) = (database(), PostgresSettings::default());
    let (proxy, through) = proxy(&url);
    let (slow, other) = (node(&through, &settings).await, node(&url, &settings).await);
    let id = UploadId::random();
    proxy.set(Fault::Delay(Duration::from_millis(50)));
    let lease = acquire(&slow, &id).await;
    sleep(settings.ttl).await;
    assert_eq!(lease.signal().asked(), None);
    let waiting = tokio::spawn(async move { acquire(&other, &id).await });
    assert_eq!(lease.signal().wait().await, Asked::Yield);
    drop(lease);
    waiting.await.unwrap();
    assert_eq!(slow.stats().lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restart_loses_no_lease() {
    let mut postgres = tokio::task::spawn_blocking(|| Postgres::start(false))
        .await
        .unwrap();
    let mut settings = PostgresSettings::default();
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
    assert_eq!(lease.signal().wait().await, Asked::Yield, "not lost");
    drop(lease);
    assert_eq!(waiting.await.unwrap().fence().0, before.0 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_outage_of_more_than_a_lifetime_stops_holders() {
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
    assert!(took < settings.timeout / 2, "it is known: took {took:?}");
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
    let newer = acquire(&other, &id).await;
    assert!(newer.fence() > lease.fence());
    lost(&lease).await;
    assert_eq!(one.stats().lost, 1);
    assert_eq!(newer.signal().asked(), None);
}

/// Neither the holder nor the waiter receives a notification.
#[tokio::test(flavor = "multi_thread")]
async fn lost_notifications_only_cost_time() {
    let (url, settings) = (database(), quick());
    let (one, other) = (node(&url, &settings).await, node(&url, &settings).await);
    let id = UploadId::random();
    let mut holder = acquire(&one, &id).await;
    for locker in [&other, &one] {
        let writing = tokio::spawn(async move {
            assert_eq!(holder.signal().wait().await, Asked::Yield);
        });
        // Those that wait for notifications are idle in LISTEN or its test.
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

/// No node yields to one that waited and is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_waiter_that_is_gone_is_forgotten_with_the_lease() {
    let (url, settings) = (database(), quick());
    let (proxies, through): (Vec<_>, Vec<_>) = (0..2).map(|_| proxy(&url)).unzip();
    let holder = node(&through[0], &settings).await;
    let waiter = node(&through[1], &settings).await;
    let other = node(&url, &settings).await;
    let id = UploadId::random();
    let held = acquire(&holder, &id).await;
    proxies[0].set(Fault::BlackHole);
    let waiting = tokio::spawn({
        let id = id.clone();
        async move { waiter.acquire(&id, 2 * LONG).await }
    });
    sleep(settings.ttl / 2).await;
    proxies[1].set(Fault::BlackHole);
    waiting.abort();
    let lease = acquire(&other, &id).await;
    sleep(settings.ttl).await;
    assert_eq!(lease.signal().asked(), None);
    drop(held);
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

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_in_transaction_mode_is_refused() {
    let url = database();
    let bouncer = PgBouncer::start(&url);
    let locker = PostgresLocker::new(&bouncer.url(&url), PostgresSettings::default()).unwrap();
    let error = locker.check().await.unwrap_err().to_string();
    assert!(error.contains("pool_mode = session"), "{error}");
}
