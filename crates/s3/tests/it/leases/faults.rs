//! Disconnected nodes, lost responses, dropped calls.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use landfall::{
    lease::{Fence, Lease, LeaseError, Locker, YieldReason, YieldSignal},
    upload::UploadId,
};
use landfall_s3::lease::BucketLocker;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{task::JoinSet, time::sleep};

use super::{LONG, acquire, bucket::NodeTransport, on, quick, with};

fn assert_unavailable(result: Result<Lease, LeaseError>) {
    assert!(
        matches!(result, Err(LeaseError::Unavailable(_))),
        "{result:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_node_loses_all_leases_at_once() {
    let gone = NodeTransport::new();
    let (dead, other) = (on(&gone), on(&gone.another()));
    let ids: Vec<_> = (0..20).map(|_| UploadId::random()).collect();
    let mut leases = Vec::new();
    for id in &ids {
        leases.push(acquire(&dead, id).await);
    }
    gone.disconnect();
    let started = Instant::now();
    let mut newer = vec![acquire(&other, &ids[0]).await];
    let took = started.elapsed();
    assert!(took > quick().ttl / 2, "taken after {took:?}");
    assert!(took < quick().ttl * 2, "taken after {took:?}");
    for id in &ids[1..] {
        let lease = other.try_acquire(id).await;
        newer.push(lease.expect("the node is known to be gone"));
    }
    for (older, newer) in leases.iter().zip(&newer) {
        assert_eq!(
            older.signal().reason(),
            Some(YieldReason::LeaseLost),
            "two hold it"
        );
        assert!(
            newer.fence().0 > older.fence().0 + 1,
            "the count was interrupted"
        );
    }
    assert_eq!(dead.stats().lost, 20);
    // It reconnects, does no harm, and starts a new incarnation.
    drop(leases);
    gone.reconnect();
    sleep(quick().ttl).await;
    for (id, lease) in ids.iter().zip(&newer) {
        let held = dead.try_acquire(id).await;
        assert!(matches!(held, Err(LeaseError::Locked)), "{held:?}");
        assert_eq!(lease.signal().reason(), None);
    }
    drop(newer);
    drop(acquire(&dead, &ids[0]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnected_holder_loses_leases_in_time() {
    let transport = NodeTransport::new();
    let locker = on(&transport);
    let lease = acquire(&locker, &UploadId::random()).await;
    sleep(quick().ttl / 2).await;
    transport.disconnect();
    let started = Instant::now();
    assert_unavailable(locker.acquire(&UploadId::random(), LONG).await);
    assert!(
        started.elapsed() < 2 * quick().timeout,
        "{:?}",
        started.elapsed()
    );
    assert_eq!(lease.signal().wait().await, YieldReason::LeaseLost);
    assert!(started.elapsed() < quick().ttl, "{:?}", started.elapsed());
    assert_unavailable(locker.try_acquire(&UploadId::random()).await);
    transport.reconnect();
    drop(acquire(&locker, &UploadId::random()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn short_disconnection_loses_no_lease() {
    let transport = NodeTransport::new();
    let locker = on(&transport);
    let id = UploadId::random();
    let lease = acquire(&locker, &id).await;
    transport.disconnect();
    sleep(quick().ttl / 3).await;
    transport.reconnect();
    sleep(quick().ttl).await;
    assert_eq!(lease.signal().reason(), None);
    let held = on(&transport.another()).try_acquire(&id).await;
    assert!(matches!(held, Err(LeaseError::Locked)), "{held:?}");
}

/// The lease was acquired, and the response was lost.
#[tokio::test(flavor = "multi_thread")]
async fn lease_with_lost_response_is_released() {
    let transport = NodeTransport::new();
    let (one, other) = (on(&transport), on(&transport.another()));
    drop(acquire(&one, &UploadId::random()).await);
    let id = UploadId::random();
    transport.drop_responses();
    let call = tokio::spawn({
        let (one, id) = (one.clone(), id.clone());
        async move { one.acquire(&id, LONG).await }
    });
    // The read and the heartbeat get no response.
    sleep(quick().timeout / 4).await;
    transport.reconnect();
    drop(call.await.unwrap().unwrap());
    one.close().await;
    for _ in 0..5 {
        let known = UploadId::random();
        drop(acquire(&one, &known).await);
        one.close().await;
        transport.drop_responses();
        // This time the lease is written without a read.
        let lost = one.acquire(&known, LONG).await;
        assert_unavailable(lost);
        transport.reconnect();
        let started = Instant::now();
        drop(acquire(&other, &known).await);
        let took = started.elapsed();
        assert!(took < quick().ttl + quick().heartbeat * 3, "took {took:?}");
        sleep(quick().heartbeat * 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_leaves_no_lease() {
    let transport = NodeTransport::new();
    let (one, other) = (on(&transport), on(&transport.another()));
    for n in 0..100_u64 {
        let id = UploadId::random();
        let call = tokio::spawn({
            let (one, id) = (one.clone(), id.clone());
            async move { one.acquire(&id, LONG).await }
        });
        let started = Instant::now();
        while started.elapsed() < Duration::from_micros(n * 20) {
            tokio::task::yield_now().await;
        }
        call.abort();
        drop(call.await);
        let started = Instant::now();
        drop(acquire(&other, &id).await);
        let took = started.elapsed();
        assert!(took < quick().ttl / 2, "dropped after {n}: took {took:?}");
    }
}

/// Checks that at most one node believes that it holds an upload.
#[derive(Default)]
struct LeaseChecker {
    live: Mutex<HashMap<UploadId, (Fence, YieldSignal)>>,
    newest: Mutex<HashMap<UploadId, Fence>>,
    granted: Mutex<u64>,
    lost: Mutex<u64>,
}

impl LeaseChecker {
    fn granted(&self, id: &UploadId, fence: Fence, signal: &YieldSignal) {
        let before = (self.live.lock().unwrap()).insert(id.clone(), (fence, signal.clone()));
        if let Some((older, signal)) = before {
            assert_eq!(
                signal.reason(),
                Some(YieldReason::LeaseLost),
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

/// Acquires leases and releases them on request, when lost, or after a while; sometimes late.
async fn work(
    locker: BucketLocker,
    ids: Arc<[UploadId]>,
    checker: Arc<LeaseChecker>,
    has_ended: Arc<AtomicBool>,
    seed: u64,
) {
    let mut random = StdRng::seed_from_u64(seed);
    while !has_ended.load(Ordering::Relaxed) {
        let id = &ids[random.random_range(0..ids.len())];
        let wait = Duration::from_millis(random.random_range(0..8000));
        match locker.acquire(id, wait).await {
            Ok(lease) => {
                checker.granted(id, lease.fence(), lease.signal());
                let most = Duration::from_millis(match random.random_range(0..4) {
                    0 => 4000,
                    _ => random.random_range(0..50),
                });
                drop(tokio::time::timeout(most, lease.signal().wait()).await);
                sleep(Duration::from_millis(match random.random_range(0..6) {
                    0 => 8000,
                    _ => random.random_range(0..20),
                }))
                .await;
                checker.dropped(id, lease.fence());
            }
            Err(LeaseError::Locked) => {}
            Err(LeaseError::Unavailable(_)) => sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Repeatedly disconnects nodes and drops responses.
///
/// No two nodes ever hold an upload at the same time, and fences never decrease.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_most_one_holder_under_faults() {
    let first = NodeTransport::new();
    let transports = [first.another(), first.another(), first];
    // Long enough for a loaded machine to notify holders in time.
    let mut settings = quick();
    settings.ttl = Duration::from_secs(5);
    let node = |transport: &NodeTransport| with(transport, settings.clone());
    let nodes: Vec<_> = transports.iter().map(node).collect();
    let ids: Arc<[UploadId]> = (0..20).map(|_| UploadId::random()).collect();
    let checker = Arc::new(LeaseChecker::default());
    let (started, has_ended) = (Instant::now(), Arc::<AtomicBool>::default());
    let mut tasks = JoinSet::new();
    for n in 0..45 {
        let locker = nodes[n % 3].clone();
        let (ids, checker, has_ended) = (ids.clone(), checker.clone(), has_ended.clone());
        tasks.spawn(work(locker, ids, checker, has_ended, n as u64));
    }
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    // Chance decides in which round a node is away for long enough to lose a lease.
    let goes_on = || match started.elapsed().as_secs() {
        0..40 => true,
        40..240 => *checker.lost.lock().unwrap() == 0,
        _ => false,
    };
    while goes_on() {
        let transport = &transports[random.random_range(0..3)];
        if random.random() {
            transport.disconnect();
        } else {
            transport.drop_responses();
        }
        sleep(Duration::from_millis(random.random_range(10..9000))).await;
        transport.reconnect();
        sleep(Duration::from_millis(random.random_range(0..1000))).await;
    }
    has_ended.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    let (granted, lost) = (
        *checker.granted.lock().unwrap(),
        *checker.lost.lock().unwrap(),
    );
    println!("{granted} leases, {lost} taken from notified holders");
    assert!(granted > 50, "only {granted} leases were granted");
    assert!(lost > 0, "no lease was lost");
}
