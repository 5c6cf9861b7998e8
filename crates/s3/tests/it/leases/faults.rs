//! Nodes are cut off, answers get lost, calls are dropped.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use landfall::{
    lease::{Fence, Lease, LeaseError, Locker, YieldReason, YieldSignal},
    upload::UploadId,
};
use landfall_s3::lease::BucketLocker;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{task::JoinSet, time::sleep};

use super::{LONG, acquire, bucket::Way, on, quick};

fn assert_unavailable(result: Result<Lease, LeaseError>) {
    assert!(
        matches!(result, Err(LeaseError::Unavailable(_))),
        "{result:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_gone_loses_all_its_leases_at_once() {
    let gone = Way::new();
    let (dead, other) = (on(&gone), on(&gone.another()));
    let ids: Vec<_> = (0..20).map(|_| UploadId::random()).collect();
    let mut leases = Vec::new();
    for id in &ids {
        leases.push(acquire(&dead, id).await);
    }
    gone.cut();
    let begun = Instant::now();
    let mut newer = vec![acquire(&other, &ids[0]).await];
    let took = begun.elapsed();
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
    // It comes back, and does no harm; and has a new life.
    drop(leases);
    gone.mend();
    sleep(quick().ttl).await;
    for (id, lease) in ids.iter().zip(&newer) {
        let held = dead.try_acquire(id).await;
        assert!(matches!(held, Err(LeaseError::Held)), "{held:?}");
        assert_eq!(lease.signal().reason(), None);
    }
    drop(newer);
    drop(acquire(&dead, &ids[0]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_stops_in_time_and_is_told_why() {
    let way = Way::new();
    let locker = on(&way);
    let lease = acquire(&locker, &UploadId::random()).await;
    sleep(quick().ttl / 2).await;
    way.cut();
    let begun = Instant::now();
    assert_unavailable(locker.acquire(&UploadId::random(), LONG).await);
    assert!(
        begun.elapsed() < 2 * quick().patience,
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(lease.signal().wait().await, YieldReason::LeaseLost);
    assert!(begun.elapsed() < quick().ttl, "{:?}", begun.elapsed());
    assert_unavailable(locker.try_acquire(&UploadId::random()).await);
    way.mend();
    drop(acquire(&locker, &UploadId::random()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_cut_goes_unnoticed() {
    let way = Way::new();
    let locker = on(&way);
    let id = UploadId::random();
    let lease = acquire(&locker, &id).await;
    way.cut();
    sleep(quick().ttl / 3).await;
    way.mend();
    sleep(quick().ttl).await;
    assert_eq!(lease.signal().reason(), None);
    let held = on(&way.another()).try_acquire(&id).await;
    assert!(matches!(held, Err(LeaseError::Held)), "{held:?}");
}

/// Taking a lease has succeeded, and nobody knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_answer_was_lost_is_given_up() {
    let mute = Way::new();
    let (one, other) = (on(&mute), on(&mute.another()));
    drop(acquire(&one, &UploadId::random()).await);
    let id = UploadId::random();
    mute.mute();
    let call = tokio::spawn({
        let (one, id) = (one.clone(), id.clone());
        async move { one.acquire(&id, LONG).await }
    });
    // The read is not answered, nor is the heartbeat.
    sleep(quick().patience / 4).await;
    mute.mend();
    drop(call.await.unwrap().unwrap());
    one.close().await;
    for _ in 0..5 {
        let known = UploadId::random();
        drop(acquire(&one, &known).await);
        one.close().await;
        mute.mute();
        // This time the lease is written without being read before.
        let lost = one.acquire(&known, LONG).await;
        assert_unavailable(lost);
        mute.mend();
        let begun = Instant::now();
        drop(acquire(&other, &known).await);
        let took = begun.elapsed();
        assert!(took < quick().ttl + quick().renew * 3, "took {took:?}");
        sleep(quick().renew * 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_leaves_no_lease() {
    let way = Way::new();
    let (one, other) = (on(&way), on(&way.another()));
    for n in 0..100_u64 {
        let id = UploadId::random();
        let call = tokio::spawn({
            let (one, id) = (one.clone(), id.clone());
            async move { one.acquire(&id, LONG).await }
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(n * 20) {
            tokio::task::yield_now().await;
        }
        call.abort();
        drop(call.await);
        let begun = Instant::now();
        drop(acquire(&other, &id).await);
        let took = begun.elapsed();
        assert!(took < quick().ttl / 2, "dropped after {n}: took {took:?}");
    }
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

/// Takes leases and gives them up: when asked, when lost, or after a while; some do so late.
async fn work(
    locker: BucketLocker,
    ids: Arc<[UploadId]>,
    judge: Arc<Judge>,
    until: Instant,
    seed: u64,
) {
    let mut random = StdRng::seed_from_u64(seed);
    while Instant::now() < until {
        let id = &ids[random.random_range(0..ids.len())];
        let wait = Duration::from_millis(random.random_range(0..8000));
        match locker.acquire(id, wait).await {
            Ok(lease) => {
                judge.granted(id, lease.fence(), lease.signal());
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
                judge.dropped(id, lease.fence());
            }
            Err(LeaseError::Held) => {}
            Err(LeaseError::Unavailable(_)) => sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Nodes are cut off and answers get lost, over and over; no two ever believe at once that they
/// hold an upload, and no fence goes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_two_hold_an_upload_whatever_breaks() {
    let first = Way::new();
    let ways = [first.another(), first.another(), first];
    // Long enough for a busy machine to tell holders in time.
    let mut settings = quick();
    settings.ttl = Duration::from_secs(5);
    let node = |way: &Way| BucketLocker::new(way.client(), "b", "up/", settings).unwrap();
    let nodes: Vec<_> = ways.iter().map(node).collect();
    let ids: Arc<[UploadId]> = (0..20).map(|_| UploadId::random()).collect();
    let judge = Arc::new(Judge::default());
    let until = Instant::now() + Duration::from_secs(40);
    let mut tasks = JoinSet::new();
    for n in 0..45 {
        let locker = nodes[n % 3].clone();
        tasks.spawn(work(locker, ids.clone(), judge.clone(), until, n as u64));
    }
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    while Instant::now() < until {
        let way = &ways[random.random_range(0..3)];
        if random.random() {
            way.cut();
        } else {
            way.mute();
        }
        sleep(Duration::from_millis(random.random_range(10..9000))).await;
        way.mend();
        sleep(Duration::from_millis(random.random_range(0..1000))).await;
    }
    tasks.join_all().await;
    let (granted, lost) = (*judge.granted.lock().unwrap(), *judge.lost.lock().unwrap());
    println!("{granted} leases, {lost} taken from holders that were told");
    assert!(granted > 50, "only {granted} leases were granted");
    assert!(lost > 0, "no lease was taken from anybody");
}
