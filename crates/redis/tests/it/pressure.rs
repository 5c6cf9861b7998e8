//! Many leases, and everything at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use landfall::{
    lease::{Asked, Fence, LeaseError, Locker, YieldSignal},
    upload::UploadId,
};
use landfall_redis::{RedisLocker, RedisSettings};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    cables::Cable,
    server::{LONG, Server, quick},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_costs_two_calls() {
    let settings = RedisSettings::default();
    let server = Server::settled(&settings).await;
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
    let settings = RedisSettings::default();
    let server = Server::settled(&settings).await;
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
    let begun = Instant::now();
    sleep(2 * settings.ttl).await;
    let calls = server.calls() - before;
    let renewals = calls as f64 / begun.elapsed().as_secs_f64();
    println!("{renewals:.0} renewals a second");
    let asked = leases
        .iter()
        .filter(|lease| lease.signal().asked().is_some());
    assert_eq!(asked.count(), 0);
    assert_eq!((locker.stats().held, locker.stats().lost), (10_000, 0));
    assert!(calls >= 2 * 3 * LEASES, "{calls} calls");
    assert!(calls <= 2 * 5 * LEASES, "{calls} calls");
}

/// Who believes to hold what.
#[derive(Default)]
struct Judge {
    live: Mutex<HashMap<UploadId, (Fence, YieldSignal)>>,
    newest: Mutex<HashMap<UploadId, Fence>>,
    granted: Mutex<u64>,
    lost: Mutex<u64>,
}

impl Judge {
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

/// Takes leases and gives them up: when asked, when lost, or after a while. Some of the stubborn do
/// so late, even when the lease is lost.
async fn work(
    locker: RedisLocker,
    ids: Arc<[UploadId]>,
    judge: Arc<Judge>,
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
                judge.granted(id, lease.fence(), lease.signal());
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
                judge.dropped(id, lease.fence());
            }
            Err(LeaseError::Held) => {}
            Err(LeaseError::Unavailable(_)) => sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_uploads_on_two_nodes_have_one_holder_each() {
    let settings = quick();
    let server = Server::settled(&settings).await;
    let nodes = [server.locker(&settings), server.locker(&settings)];
    let ids: Arc<[UploadId]> = (0..20).map(|_| UploadId::random()).collect();
    let judge = Arc::new(Judge::default());
    let until = Instant::now() + Duration::from_secs(5);
    let mut tasks = JoinSet::new();
    for n in 0..40 {
        let locker = nodes[n % 2].clone();
        tasks.spawn(work(
            locker,
            ids.clone(),
            judge.clone(),
            until,
            n as u64,
            false,
        ));
    }
    tasks.join_all().await;
    assert!(*judge.granted.lock().unwrap() > 500, "it was too quiet");
    assert_eq!(*judge.lost.lock().unwrap(), 0);
}

/// Nodes are cut off and Redis is killed and stopped, over and over; no two ever believe at once
/// that they hold an upload, and no fence goes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_two_hold_an_upload_whatever_breaks() {
    // Long enough for a busy machine to tell holders in time.
    let mut settings = quick();
    settings.ttl = Duration::from_secs(4);
    let mut server = Server::settled(&settings).await;
    let cables = [Cable::to(&server), Cable::to(&server)];
    let nodes = [cables[0].locker(&settings), cables[1].locker(&settings)];
    let ids: Arc<[UploadId]> = (0..20).map(|_| UploadId::random()).collect();
    let judge = Arc::new(Judge::default());
    let until = Instant::now() + Duration::from_secs(40);
    let mut tasks = JoinSet::new();
    for n in 0..40 {
        let locker = nodes[n % 2].clone();
        tasks.spawn(work(
            locker,
            ids.clone(),
            judge.clone(),
            until,
            n as u64,
            true,
        ));
    }
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    while Instant::now() < until {
        let pause = Duration::from_millis(random.random_range(10..6000));
        match random.random_range(0..4) {
            0 | 1 => {
                let cable = &cables[random.random_range(0..2)];
                cable.die();
                sleep(pause).await;
                cable.live();
            }
            2 => {
                server.stop();
                sleep(pause).await;
                server.go_on();
            }
            _ => {
                server.kill();
                sleep(pause / 4).await;
                server.start_again();
            }
        }
        sleep(Duration::from_millis(random.random_range(0..1000))).await;
    }
    tasks.join_all().await;
    let (granted, lost) = (*judge.granted.lock().unwrap(), *judge.lost.lock().unwrap());
    println!("{granted} leases, {lost} taken from holders that were told");
    assert!(lost > 0, "no lease was taken from anybody");
    assert!(granted > 50, "only {granted} leases were granted");
}
