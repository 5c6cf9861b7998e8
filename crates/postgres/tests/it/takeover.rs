//! How leases move from one node to another.

use std::time::{Duration, Instant};

use landfall::{lease::Locker as _, upload::UploadId};
use landfall_postgres::PostgresSettings;
use landfall_test_services::Postgres;
use tokio::{task::JoinSet, time::sleep};

use crate::{LONG, acquire, database, node, quick};

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_takes_milliseconds() {
    let (url, settings) = (database(), PostgresSettings::default());
    let nodes = [node(&url, &settings).await, node(&url, &settings).await];
    let id = UploadId::random();
    let mut holder = acquire(&nodes[0], &id).await;
    let mut took = Vec::new();
    for n in 1..=200 {
        let writing = tokio::spawn(async move {
            holder.signal().wait().await;
        });
        let started = Instant::now();
        holder = acquire(&nodes[n % 2], &id).await;
        took.push(started.elapsed());
        writing.await.unwrap();
    }
    took.sort();
    let (median, p99) = (took[100], took[198]);
    println!(
        "takeover: median {median:?}, p99 {p99:?}, longest {:?}",
        took[199]
    );
    assert!(median < Duration::from_millis(100), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_node_do_not_keep_the_other_out() {
    let (url, settings) = (database(), quick());
    let (busy, other) = (node(&url, &settings).await, node(&url, &settings).await);
    let id = UploadId::random();
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let (busy, id) = (busy.clone(), id.clone());
        tasks.spawn(async move {
            loop {
                let lease = acquire(&busy, &id).await;
                sleep(Duration::from_millis(1)).await;
                drop(lease);
            }
        });
    }
    for _ in 0..5 {
        sleep(Duration::from_millis(20)).await;
        let started = Instant::now();
        drop(acquire(&other, &id).await);
        let took = started.elapsed();
        assert!(took < settings.ttl, "took {took:?}");
    }
    assert!(other.stats().waited >= 1, "there was no contention");
}

/// A lease that the database granted to a call that was dropped is released.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_leaves_no_lease() {
    let (url, settings) = (database(), PostgresSettings::default());
    let (one, other) = (node(&url, &settings).await, node(&url, &settings).await);
    for n in 0..200_u64 {
        let id = UploadId::random();
        let call = tokio::spawn({
            let (one, id) = (one.clone(), id.clone());
            async move { one.acquire(&id, LONG).await }
        });
        let started = Instant::now();
        while started.elapsed() < Duration::from_micros(n * 10) {
            tokio::task::yield_now().await;
        }
        call.abort();
        drop(call.await);
        let started = Instant::now();
        drop(acquire(&other, &id).await);
        let took = started.elapsed();
        assert!(took < settings.ttl / 2, "dropped after {n}: took {took:?}");
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_locker_releases_its_last_lease() {
    let (url, settings) = (database(), PostgresSettings::default());
    let (one, other) = (node(&url, &settings).await, node(&url, &settings).await);
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    drop(one);
    drop(lease);
    let started = Instant::now();
    drop(acquire(&other, &id).await);
    let took = started.elapsed();
    assert!(took < settings.ttl / 2, "took {took:?}");
}
