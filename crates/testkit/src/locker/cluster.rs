//! Checks of lockers on several nodes with one lease service, and a load that tests can run during failures.
//!
//! A holder must see that its lease is lost before another node gets it. Fences of an upload grow by one, on any node.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use landfall::{
    lease::{Fence, Lease, LeaseError, Locker, YieldReason, YieldSignal},
    upload::UploadId,
};
use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{LONG, acquire, spawn_acquire};
use crate::check::{Check, checks};

const MAX_RECOVERY: Duration = Duration::from_secs(8);

/// A service that stores leases, as nodes reach it.
#[async_trait]
pub trait Cluster: fmt::Debug + Send + Sync + 'static {
    /// Returns the lifetime of a lease.
    fn ttl(&self) -> Duration;

    /// Starts a node that is connected.
    async fn node(&self) -> Arc<dyn Locker>;

    /// Starts a node for each fault of the network; all of them are connected.
    async fn faulty_nodes(&self) -> Vec<FaultyNode>;
}

/// A node whose connection to the service can fail.
pub struct FaultyNode {
    /// Its locker.
    pub locker: Arc<dyn Locker>,
    /// The name of the fault.
    pub fault: String,
    /// Whether the fault only delays data.
    pub is_delay: bool,
    /// Starts and ends the fault.
    pub set: Box<dyn Fn(bool) + Send + Sync>,
}

impl fmt::Debug for FaultyNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultyNode").field(&self.fault).finish()
    }
}

pub(super) type Subject = Arc<dyn Cluster>;

pub(super) fn all() -> Vec<Check<Subject>> {
    checks! {
        |_: &Subject| true =>
            a_takeover_takes_milliseconds,
            requests_of_one_node_do_not_keep_the_other_out,
            a_dropped_call_leaves_no_lease,
            a_dropped_locker_releases_its_last_lease,
            leases_are_numbered_one_by_one_whichever_node_acquires_them,
            a_request_at_an_offset_interrupts_no_holder_with_more_bytes,
            many_uploads_on_two_nodes_have_one_holder_each;
    }
}

pub(super) fn all_with_faults() -> Vec<Check<Subject>> {
    checks! {
        |_: &Subject| true =>
            holders_stop_in_time_and_leases_work_again,
            a_waiter_that_is_gone_is_forgotten_with_the_lease;
    }
}

fn assert_unavailable(fault: &str, result: Result<Lease, LeaseError>) {
    let is_unavailable = matches!(result, Err(LeaseError::Unavailable(_)));
    assert!(is_unavailable, "{fault}: {result:?}");
}

async fn a_takeover_takes_milliseconds(cluster: &Subject) {
    const MAX_MEDIAN: Duration = Duration::from_millis(100);
    let nodes = [cluster.node().await, cluster.node().await];
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
        writing.await.expect("the holder");
    }
    took.sort();
    let (median, p99, longest) = (took[100], took[198], took[199]);
    println!("takeover: median {median:?}, p99 {p99:?}, longest {longest:?}");
    assert!(median < MAX_MEDIAN, "{took:?}");
}

async fn requests_of_one_node_do_not_keep_the_other_out(cluster: &Subject) {
    let (busy, other) = (cluster.node().await, cluster.node().await);
    let id = UploadId::random();
    let granted = Arc::new(AtomicU32::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let (busy, id, granted) = (busy.clone(), id.clone(), granted.clone());
        tasks.spawn(async move {
            loop {
                let lease = acquire(&busy, &id).await;
                granted.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(1)).await;
                drop(lease);
            }
        });
    }
    for _ in 0..5 {
        let before = granted.load(Ordering::Relaxed);
        while granted.load(Ordering::Relaxed) == before {
            sleep(Duration::from_millis(1)).await;
        }
        assert_soon(cluster, &other, &id).await;
    }
}

/// Long before the lease could expire.
async fn assert_soon(cluster: &Subject, locker: &Arc<dyn Locker>, id: &UploadId) {
    let started = Instant::now();
    drop(acquire(locker, id).await);
    let took = started.elapsed();
    assert!(took < cluster.ttl() / 2, "took {took:?}");
}

async fn a_dropped_call_leaves_no_lease(cluster: &Subject) {
    let (one, other) = (cluster.node().await, cluster.node().await);
    for n in 0..200_u64 {
        let id = UploadId::random();
        let call = spawn_acquire(&one, &id);
        let started = Instant::now();
        while started.elapsed() < Duration::from_micros(n * 10) {
            tokio::task::yield_now().await;
        }
        call.abort();
        drop(call.await);
        assert_soon(cluster, &other, &id).await;
    }
}

async fn a_dropped_locker_releases_its_last_lease(cluster: &Subject) {
    let (one, other) = (cluster.node().await, cluster.node().await);
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    drop(one);
    drop(lease);
    assert_soon(cluster, &other, &id).await;
}

async fn leases_are_numbered_one_by_one_whichever_node_acquires_them(cluster: &Subject) {
    let (one, other) = (cluster.node().await, cluster.node().await);
    let id = UploadId::random();
    let Fence(mut last) = acquire(&one, &id).await.fence();
    for locker in [&one, &one, &other, &one, &other, &other, &other] {
        drop(acquire(&other, &UploadId::random()).await);
        let Fence(next) = acquire(locker, &id).await.fence();
        assert_eq!(next, last + 1);
        last = next;
    }
}

async fn a_request_at_an_offset_interrupts_no_holder_with_more_bytes(cluster: &Subject) {
    let (one, other) = (cluster.node().await, cluster.node().await);
    let id = UploadId::random();
    let lease = acquire(&one, &id).await;
    let wait = Duration::from_millis(50);
    for offset in [1, 5] {
        let at = other.acquire_at(&id, Some(offset), wait).await;
        assert!(matches!(at, Err(LeaseError::Locked)), "{at:?}");
        let asked = timeout(LONG, lease.signal().wait()).await;
        assert_eq!(asked.expect("a request"), YieldReason::Requested);
        sleep(cluster.ttl() / 2).await;
        assert_eq!(lease.signal().reason_at(6), None);
    }
    assert_eq!(lease.signal().reason_at(5), Some(YieldReason::Requested));
    let any = other.acquire(&id, wait).await;
    assert!(matches!(any, Err(LeaseError::Locked)), "{any:?}");
    let started = Instant::now();
    while lease.signal().reason_at(1 << 40).is_none() {
        assert!(started.elapsed() < LONG, "no request");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn many_uploads_on_two_nodes_have_one_holder_each(cluster: &Subject) {
    let nodes = [cluster.node().await, cluster.node().await];
    let work = LockerLoad::start(&nodes, Duration::from_secs(5), false);
    let (granted, lost) = work.finish().await;
    println!("{granted} leases");
    assert!(granted > 200, "there was no contention");
    assert_eq!(lost, 0);
}

async fn holders_stop_in_time_and_leases_work_again(cluster: &Subject) {
    let other = cluster.node().await;
    let ttl = cluster.ttl();
    let mut tasks = JoinSet::new();
    for node in cluster.faulty_nodes().await {
        tasks.spawn(holder_stops_in_time(node, other.clone(), ttl));
    }
    tasks.join_all().await;
}

async fn holder_stops_in_time(node: FaultyNode, other: Arc<dyn Locker>, ttl: Duration) {
    let FaultyNode { locker, fault, .. } = &node;
    let id = UploadId::random();
    let lease = acquire(locker, &id).await;
    sleep(ttl / 2).await;
    assert_eq!(lease.signal().reason(), None, "{fault}");
    (node.set)(true);
    let started = Instant::now();
    let waiting = tokio::spawn({
        let (id, signal) = (id.clone(), lease.signal().clone());
        async move { (acquire(&other, &id).await, signal.reason()) }
    });
    let fence = lease.fence();
    if node.is_delay {
        let asked = timeout(LONG, lease.signal().wait()).await;
        assert_eq!(asked.expect("a request"), YieldReason::Requested);
        drop(lease);
        assert!(waiting.await.expect("the waiter").0.fence() > fence);
        return;
    }
    let (newer, asked) = waiting.await.expect("the waiter");
    let took = started.elapsed();
    assert_eq!(asked, Some(YieldReason::LeaseLost), "{fault}: two hold it");
    assert!(newer.fence() > fence, "{fault}");
    let possible = ttl / 4..ttl * 3;
    assert!(possible.contains(&took), "{fault}: acquired after {took:?}");
    for _ in 0..2 {
        let started = Instant::now();
        assert_unavailable(fault, locker.acquire(&UploadId::random(), LONG).await);
        let took = started.elapsed();
        assert!(took < ttl, "{fault}: failed after {took:?}");
    }
    assert_unavailable(fault, locker.try_acquire(&UploadId::random()).await);
    drop(lease);

    (node.set)(false);
    let restored = Instant::now();
    while let Err(error) = locker.acquire(&UploadId::random(), LONG).await {
        assert_unavailable(fault, Err(error));
        let after = restored.elapsed();
        assert!(after < MAX_RECOVERY, "{fault}: fails after {after:?}");
        sleep(Duration::from_millis(10)).await;
    }
    println!("{fault}: works again after {:?}", restored.elapsed());
    let held = locker.try_acquire(&id).await;
    assert!(matches!(held, Err(LeaseError::Locked)), "{fault}: {held:?}");
    let reason = newer.signal().reason();
    assert_ne!(reason, Some(YieldReason::LeaseLost), "{fault}");
}

async fn a_waiter_that_is_gone_is_forgotten_with_the_lease(cluster: &Subject) {
    let (other, ttl) = (cluster.node().await, cluster.ttl());
    let mut nodes = cluster.faulty_nodes().await;
    nodes.retain(|node| !node.is_delay);
    let [holder, waiter, ..] = &nodes[..] else {
        panic!("two nodes that can be cut off are needed");
    };
    let id = UploadId::random();
    let held = acquire(&holder.locker, &id).await;
    (holder.set)(true);
    let waiting = tokio::spawn({
        let (waiter, id) = (waiter.locker.clone(), id.clone());
        async move { waiter.acquire(&id, 2 * LONG).await }
    });
    sleep(ttl * 3 / 4).await;
    (waiter.set)(true);
    waiting.abort();
    let lease = acquire(&other, &id).await;
    sleep(ttl).await;
    assert_eq!(lease.signal().reason(), None);
    drop(held);
}

#[derive(Debug, Default)]
struct Checker {
    live: Mutex<HashMap<UploadId, (Fence, YieldSignal)>>,
    newest: Mutex<HashMap<UploadId, Fence>>,
    granted: AtomicU32,
    lost: AtomicU32,
}

impl Checker {
    fn granted(&self, id: &UploadId, fence: Fence, signal: &YieldSignal) {
        let live = (fence, signal.clone());
        let before = self.live.lock().insert(id.clone(), live);
        if let Some((older, signal)) = before {
            let is_lost = signal.reason() == Some(YieldReason::LeaseLost);
            assert!(is_lost, "{id}: {fence:?} granted while {older:?} was held");
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        let newest = self.newest.lock().insert(id.clone(), fence);
        assert!(newest < Some(fence), "{id}: {fence:?} after {newest:?}");
        self.granted.fetch_add(1, Ordering::Relaxed);
    }

    fn dropped(&self, id: &UploadId, fence: Fence) {
        let mut live = self.live.lock();
        if live.get(id).is_some_and(|(holder, _)| *holder == fence) {
            live.remove(id);
        }
    }
}

/// Requests that acquire leases on several nodes, and release them: on request, when lost, or after a
/// while. At most one may hold an upload, and each fence must be greater than the last.
#[derive(Debug)]
pub struct LockerLoad {
    checker: Arc<Checker>,
    tasks: JoinSet<()>,
}

impl LockerLoad {
    /// Starts 40 requests for 20 uploads. Some of the stubborn release late, even when the lease is lost.
    #[must_use]
    pub fn start(nodes: &[Arc<dyn Locker>], duration: Duration, stubborn: bool) -> Self {
        let ids: Arc<[UploadId]> = (0..20).map(|_| UploadId::random()).collect();
        let checker = Arc::new(Checker::default());
        let until = Instant::now() + duration;
        let mut tasks = JoinSet::new();
        for (n, locker) in (0..40).zip(nodes.iter().cycle()) {
            let (locker, ids) = (locker.clone(), ids.clone());
            let random = StdRng::seed_from_u64(n);
            tasks.spawn(work(locker, ids, checker.clone(), until, random, stubborn));
        }
        Self { checker, tasks }
    }

    /// Waits for the end. Returns how many leases were granted, and how many of them after the holder
    /// before had lost its lease.
    ///
    /// # Panics
    /// If two requests held an upload at once, or a fence did not grow.
    pub async fn finish(self) -> (u32, u32) {
        self.tasks.join_all().await;
        let count = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
        (count(&self.checker.granted), count(&self.checker.lost))
    }
}

async fn work(
    locker: Arc<dyn Locker>,
    ids: Arc<[UploadId]>,
    checker: Arc<Checker>,
    until: Instant,
    mut random: StdRng,
    stubborn: bool,
) {
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
                drop(timeout(most, lease.signal().wait()).await);
                let slow = match random.random_range(0..8) {
                    0 if stubborn => 8000,
                    _ => random.random_range(0..20),
                };
                sleep(Duration::from_millis(slow)).await;
                checker.dropped(id, lease.fence());
            }
            Err(LeaseError::Locked) => {}
            Err(LeaseError::Unavailable(_)) => sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
}
