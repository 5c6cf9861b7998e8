//! Many leases, and many faults.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use landfall::{
    lease::{Asked, Fence, LeaseError, Locker as _, YieldSignal},
    upload::UploadId,
};
use landfall_postgres::{PostgresLocker, PostgresSettings};
use landfall_test_services::{Fault, FaultProxy, Postgres};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::sleep};

use crate::{LONG, database, node, quick};

/// The leases that holders believe to have.
#[derive(Default)]
struct Checker {
    live: Mutex<HashMap<UploadId, (Fence, YieldSignal)>>,
    newest: Mutex<HashMap<UploadId, Fence>>,
    granted: Mutex<u64>,
    lost: Mutex<u64>,
}

impl Checker {
    fn granted(&self, id: &UploadId, fence: Fence, signal: &YieldSignal) {
        let before = (self.live.lock().unwrap()).insert(id.clone(), (fence, signal.clone()));
        if let Some((older, signal)) = before {
            assert_eq!(
                signal.asked(),
                Some(Asked::Lost),
                "{id}: {fence:?} was granted while {older:?} was held"
            );
            *self.lost.lock().unwrap() += 1;
        }
        let newest = self.newest.lock().unwrap().insert(id.clone(), fence);
        assert!(newest < Some(fence), "{id}: {fence:?} after {newest:?}");
        *self.granted.lock().unwrap() += 1;
    }

    fn dropped(&self, id: &UploadId, fence: Fence) {
        let mut live = self.live.lock().unwrap();
        if live.get(id).is_some_and(|(holder, _)| *holder == fence) {
            live.remove(id);
        }
    }
}

/// Acquires leases and releases them: on request, when lost, or after a while. Some of the stubborn
/// do so late, even when the lease is lost.
async fn work(
    locker: PostgresLocker,
    ids: Arc<[UploadId]>,
    checker: Arc<Checker>,
    until: Instant,
    seed: u64,
    stubborn: bool,
) {
    let mut random = StdRng::seed_from_u64(seed);
    while Instant::now() < until {
        let id = &ids[random.random_range(0..ids.len())];
        let wait = Duration::from_millis(random.random_range(0..6000));
        match locker.acquire(id, wait).await {
            Ok(lease) => {
                checker.granted(id, lease.fence(), lease.signal());
                let most = Duration::from_millis(match random.random_range(0..4) {
                    0 => 4000,
                    _ => random.random_range(0..50),
                });
                drop(tokio::time::timeout(most, lease.signal().wait()).await);
                let slow = match random.random_range(0..8) {
                    0 if stubborn => 8000,
                    _ => random.random_range(0..20),
                };
                sleep(Duration::from_millis(slow)).await;
                checker.dropped(id, lease.fence());
            }
            Err(LeaseError::Held) => {}
            Err(LeaseError::Unavailable(_)) => sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_leases_are_renewed_in_time() {
    const LEASES: usize = 1000;
    let (url, settings) = (database(), PostgresSettings::default());
    let locker = node(&url, &settings).await;
    let mut tasks = JoinSet::new();
    for _ in 0..LEASES {
        let locker = locker.clone();
        tasks.spawn(async move { locker.acquire(&UploadId::random(), LONG).await.unwrap() });
    }
    let leases = tasks.join_all().await;
    let updates = "SELECT sum(n_tup_upd) FROM pg_stat_user_tables WHERE relname = 'leases'";
    sleep(2 * settings.ttl).await;
    assert!(leases.iter().all(|lease| lease.signal().asked().is_none()));
    assert_eq!((locker.stats().held, locker.stats().lost), (LEASES, 0));
    drop(leases);
    locker.close().await;
    let open = "SELECT count(*) FROM leases WHERE owner <> ''";
    assert_eq!(Postgres::shared().query(&url, open), "0\n");
    // Each lease was renewed at a quarter to three eighths of its lifetime, and released.
    let updates: usize = Postgres::shared()
        .query(&url, updates)
        .trim()
        .parse()
        .unwrap();
    assert!(updates <= LEASES * 12, "{updates} rows were written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_uploads_on_two_nodes_have_one_holder_each() {
    let (url, settings) = (database(), quick());
    let nodes = [node(&url, &settings).await, node(&url, &settings).await];
    let ids: Arc<[UploadId]> = (0..20).map(|_| UploadId::random()).collect();
    let checker = Arc::new(Checker::default());
    let until = Instant::now() + Duration::from_secs(5);
    let mut tasks = JoinSet::new();
    for n in 0..40 {
        let (locker, ids) = (nodes[n % 2].clone(), ids.clone());
        let checker = checker.clone();
        tasks.spawn(work(locker, ids, checker, until, n as u64, false));
    }
    tasks.join_all().await;
    let granted = *checker.granted.lock().unwrap();
    println!("{granted} leases");
    assert!(granted > 200, "there was no contention");
    assert_eq!(*checker.lost.lock().unwrap(), 0);
}

/// Nodes are cut off over and over; no two ever hold an upload, and no fence repeats.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_two_hold_an_upload_whatever_breaks() {
    let url = database();
    let mut settings = quick();
    // Long enough for a busy machine to stop holders in time.
    settings.ttl = Duration::from_secs(4);
    let (_, rest) = url.split_once('@').unwrap();
    let authority = rest.split_once('/').unwrap().0;
    let proxies = [FaultProxy::start(authority), FaultProxy::start(authority)];
    let mut nodes = Vec::new();
    for proxy in &proxies {
        nodes.push(node(&proxy.url(&url, authority), &settings).await);
    }
    let ids: Arc<[UploadId]> = (0..20).map(|_| UploadId::random()).collect();
    let checker = Arc::new(Checker::default());
    let until = Instant::now() + Duration::from_secs(30);
    let mut tasks = JoinSet::new();
    for n in 0..40 {
        let (locker, ids) = (nodes[n % 2].clone(), ids.clone());
        let checker = checker.clone();
        tasks.spawn(work(locker, ids, checker, until, n as u64, true));
    }
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    while Instant::now() < until {
        let proxy = &proxies[random.random_range(0..2)];
        let delay = Duration::from_millis(random.random_range(1..200));
        let faults = [
            Fault::BlackHole,
            Fault::Cut,
            Fault::HalfClose,
            Fault::Delay(delay),
        ];
        proxy.set(faults[random.random_range(0..4)]);
        sleep(Duration::from_millis(random.random_range(10..6000))).await;
        proxy.set(Fault::None);
        sleep(Duration::from_millis(random.random_range(0..1000))).await;
    }
    tasks.join_all().await;
    let (granted, lost) = (
        *checker.granted.lock().unwrap(),
        *checker.lost.lock().unwrap(),
    );
    println!("{granted} leases, {lost} acquired from holders that had lost them");
    assert!(lost > 0, "no lease was lost");
    assert!(granted > 50, "only {granted} leases were granted");
}
