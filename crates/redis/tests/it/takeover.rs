//! How leases go from one node to another.

use std::time::{Duration, Instant};

use landfall::{
    lease::{Lease, Locker},
    upload::UploadId,
};
use landfall_redis::{RedisLocker, RedisSettings};
use tokio::{task::JoinSet, time::sleep};

use crate::server::{LONG, Server, quick};

async fn acquire(locker: &RedisLocker, id: &UploadId) -> Lease {
    locker.acquire(id, LONG).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_takes_milliseconds() {
    let settings = RedisSettings::default();
    let server = Server::settled(&settings).await;
    let nodes = [server.locker(&settings), server.locker(&settings)];
    let id = UploadId::random();
    let mut holder = acquire(&nodes[0], &id).await;
    let mut took = Vec::new();
    for n in 1..100 {
        let writing = tokio::spawn(async move {
            holder.signal().wait().await;
        });
        let begun = Instant::now();
        holder = acquire(&nodes[n % 2], &id).await;
        took.push(begun.elapsed());
        writing.await.unwrap();
    }
    took.sort();
    let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
    println!("takeover: median {median:?}, most {most:?}");
    assert!(median < Duration::from_millis(20), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_node_do_not_keep_the_other_out() {
    let settings = quick();
    let server = Server::settled(&settings).await;
    let (busy, other) = (server.locker(&settings), server.locker(&settings));
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
        let begun = Instant::now();
        drop(acquire(&other, &id).await);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1), "took {took:?}");
    }
    assert!(other.stats().waited >= 1, "there was no contention");
}

/// Whatever Redis has done for a call that was dropped is undone.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_leaves_no_lease() {
    let settings = RedisSettings::default();
    let server = Server::settled(&settings).await;
    let (one, other) = (server.locker(&settings), server.locker(&settings));
    for n in 0..200_u64 {
        let id = UploadId::random();
        let call = tokio::spawn({
            let (one, id) = (one.clone(), id.clone());
            async move { one.acquire(&id, LONG).await }
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(n * 5) {
            tokio::task::yield_now().await;
        }
        call.abort();
        drop(call.await);
        let begun = Instant::now();
        drop(acquire(&other, &id).await);
        let took = begun.elapsed();
        assert!(took < settings.ttl / 2, "dropped after {n}: took {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_locker_has_given_up_all_its_leases() {
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

/// A locker that is dropped still does what it owes.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_words_are_sent() {
    let settings = RedisSettings::default();
    let server = Server::settled(&settings).await;
    let (one, other) = (server.locker(&settings), server.locker(&settings));
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    drop(one);
    drop(lease);
    let begun = Instant::now();
    drop(acquire(&other, &id).await);
    let took = begun.elapsed();
    assert!(took < settings.ttl / 2, "took {took:?}");
}
