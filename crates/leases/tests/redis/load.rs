//! Many leases, and random faults.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use landfall::{lease::Locker, upload::UploadId};
use landfall_leases::LeaseSettings;
use landfall_testkit::locker::LockerLoad;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    network_faults::FaultySocket,
    server::{LONG, Server, quick},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_costs_two_calls() {
    let settings = LeaseSettings::redis();
    let server = Server::ready(&settings).await;
    let locker = server.locker(&settings);
    drop(locker.acquire(&UploadId::random(), LONG).await.unwrap());
    locker.close().await;
    let before = server.calls();
    let id = UploadId::random();
    for n in 0..100 {
        // Of one upload, and of different ones.
        let id = if n < 50 { &id } else { &UploadId::random() };
        drop(locker.acquire(id, LONG).await.unwrap());
    }
    locker.close().await;
    assert_eq!(server.calls() - before, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_leases_are_renewed_in_time() {
    const LEASES: u64 = 10_000;
    let settings = LeaseSettings::redis();
    let server = Server::ready(&settings).await;
    let locker = server.locker(&settings);
    let mut tasks = JoinSet::new();
    let mut leases = Vec::new();
    for n in 0..LEASES {
        let locker = locker.clone();
        tasks.spawn(async move { locker.acquire(&UploadId::random(), LONG).await.unwrap() });
        if n % 100 == 99 {
            while let Some(lease) = tasks.join_next().await {
                leases.push(lease.unwrap());
            }
        }
    }
    let before = server.calls();
    let started = Instant::now();
    sleep(2 * settings.ttl).await;
    let calls = server.calls() - before;
    let renewals = calls as f64 / started.elapsed().as_secs_f64();
    println!("{renewals:.0} renewals a second");
    let asked = leases
        .iter()
        .filter(|lease| lease.signal().reason().is_some());
    assert_eq!(asked.count(), 0);
    assert_eq!((locker.stats().held, locker.stats().lost), (10_000, 0));
    assert!(calls >= 2 * 3 * LEASES, "{calls} calls");
    assert!(calls <= 2 * 5 * LEASES, "{calls} calls");
}

/// Nodes are disconnected, Redis is killed and stopped; no two hold an upload, no fence decreases.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_faults_never_give_an_upload_two_holders() {
    // Long enough for a busy machine to stop holders in time.
    let mut settings = quick();
    settings.ttl = Duration::from_secs(4);
    let mut server = Server::ready(&settings).await;
    let sockets = [FaultySocket::to(&server), FaultySocket::to(&server)];
    let nodes = [&sockets[0], &sockets[1]].map(|socket| Arc::new(socket.locker(&settings)) as _);
    let duration = Duration::from_secs(40);
    let work = LockerLoad::start(&nodes, duration, true);
    let until = Instant::now() + duration;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    // At least one outage is longer than leases live.
    sleep(Duration::from_millis(500)).await;
    sockets[0].block();
    sleep(settings.ttl.mul_f64(1.5)).await;
    sockets[0].unblock();
    while Instant::now() < until {
        let pause = Duration::from_millis(random.random_range(10..6000));
        match random.random_range(0..4) {
            0 | 1 => {
                let socket = &sockets[random.random_range(0..2)];
                socket.block();
                sleep(pause).await;
                socket.unblock();
            }
            2 => {
                server.stop();
                sleep(pause).await;
                server.cont();
            }
            _ => {
                server.kill();
                sleep(pause / 4).await;
                server.restart();
            }
        }
        sleep(Duration::from_millis(random.random_range(0..1000))).await;
    }
    let (granted, lost) = work.finish().await;
    println!("{granted} leases, {lost} acquired from holders that had lost them");
    assert!(lost > 0, "no lease was lost");
    assert!(granted > 50, "only {granted} leases were granted");
}
