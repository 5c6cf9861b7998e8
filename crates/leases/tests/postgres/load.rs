//! Many leases, and random faults.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use landfall::{lease::Locker, upload::UploadId};
use landfall_leases::LeaseSettings;
use landfall_test_services::{Fault, FaultProxy, Postgres};
use landfall_testkit::locker::LockerLoad;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::sleep};

use crate::{LONG, database, node, quick};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_leases_are_renewed_in_time() {
    const LEASES: usize = 1000;
    let (url, settings) = (database(), LeaseSettings::postgres());
    let locker = node(&url, &settings).await;
    let mut tasks = JoinSet::new();
    for _ in 0..LEASES {
        let locker = locker.clone();
        tasks.spawn(async move { locker.acquire(&UploadId::random(), LONG).await.unwrap() });
    }
    let leases = tasks.join_all().await;
    let updates = "SELECT sum(n_tup_upd) FROM pg_stat_user_tables WHERE relname = 'leases'";
    sleep(2 * settings.ttl).await;
    assert!(leases.iter().all(|lease| lease.signal().reason().is_none()));
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

/// Nodes are disconnected repeatedly; no two hold an upload at once, and no fence repeats.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_faults_never_give_an_upload_two_holders() {
    let url = database();
    let mut settings = quick();
    // Long enough for a busy machine to stop holders in time.
    settings.ttl = Duration::from_secs(4);
    let proxies = [(); 2].map(|()| FaultProxy::to_server_of(&url));
    let mut nodes: Vec<Arc<dyn Locker>> = Vec::new();
    for (_, through) in &proxies {
        nodes.push(Arc::new(node(through, &settings).await));
    }
    let duration = Duration::from_secs(30);
    let work = LockerLoad::start(&nodes, duration, true);
    let until = Instant::now() + duration;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    while Instant::now() < until {
        let (proxy, _) = &proxies[random.random_range(0..2)];
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
    let (granted, lost) = work.finish().await;
    println!("{granted} leases, {lost} acquired from holders that had lost them");
    assert!(lost > 0, "no lease was lost");
    assert!(granted > 50, "only {granted} leases were granted");
}
