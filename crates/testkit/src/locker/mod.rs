//! The conformance suites of [`Locker`]: within one process, between several, and with a service that
//! stores the leases.

mod across_nodes;
mod cluster;
mod single_node;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use landfall::{
    lease::{Fence, Lease, LeaseError, Locker, YieldReason},
    upload::UploadId,
};
use tokio::task::JoinHandle;

pub use self::cluster::{Cluster, FaultyNode, LockerLoad};
use crate::check::{Check, Report, checks, run_all};

const LONG: Duration = Duration::from_secs(30);

async fn acquire(locker: &Arc<dyn Locker>, id: &UploadId) -> Lease {
    locker.acquire(id, LONG).await.expect("acquire")
}

fn spawn_acquire(locker: &Arc<dyn Locker>, id: &UploadId) -> JoinHandle<Result<Lease, LeaseError>> {
    let (locker, id) = (locker.clone(), id.clone());
    tokio::spawn(async move { locker.acquire(&id, LONG).await })
}

/// By the median, since a machine may be busy.
async fn assert_takeovers(
    holder: &Arc<dyn Locker>,
    others: [&Arc<dyn Locker>; 5],
    limit: Duration,
) {
    let id = UploadId::random();
    let mut holder = acquire(holder, &id).await;
    let mut took = Vec::new();
    for newcomer in others {
        assert_eq!(holder.signal().reason(), None, "requested without a waiter");
        let writing = tokio::spawn(async move {
            let asked = holder.signal().wait().await;
            assert_eq!(asked, YieldReason::Requested);
        });
        let begun = Instant::now();
        holder = acquire(newcomer, &id).await;
        took.push(begun.elapsed());
        writing.await.expect("the first holder");
    }
    took.sort();
    assert!(took[2] < limit, "takeovers took {took:?}");
}

async fn acquire_free(locker: &Arc<dyn Locker>, id: &UploadId) -> Lease {
    locker.try_acquire(id).await.expect("a free lease")
}

async fn assert_alone(holders: &AtomicU32) {
    let others = holders.fetch_add(1, Ordering::SeqCst);
    assert_eq!(others, 0, "two have the lease");
    tokio::task::yield_now().await;
    holders.fetch_sub(1, Ordering::SeqCst);
}

fn assert_held(what: &str, result: Result<Lease, LeaseError>) {
    match result {
        Err(LeaseError::Locked) => {}
        other => panic!("{what} must give Locked, not: {other:?}"),
    }
}

/// The subject of the checks within one process.
pub type Subject = Arc<dyn Locker>;

/// Two lockers that share leases as two processes do.
#[derive(Debug)]
pub struct Pair {
    /// The locker of one process.
    pub one: Arc<dyn Locker>,
    /// The locker of the other.
    pub other: Arc<dyn Locker>,
    /// Maximum time for a takeover between them, and for detecting that the other released a lease.
    pub takeover: Duration,
}

/// Runs all checks of a locker within one process, each on a locker created by `make`.
///
/// Also creates two lockers one after the other, as before and after a restart, and compares their
/// fences: a store may keep the newest fence forever. Needs a tokio runtime with a timer; one with
/// several threads finds more. The checks measure time, so they may fail on an overloaded machine: a
/// takeover must take at most 100 ms.
///
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// use landfall::lease::MemoryLocker;
///
/// landfall_testkit::locker::conformance(async || MemoryLocker::new()).await;
/// # });
/// ```
///
/// # Panics
/// If checks fail: at the end, with the list of failures and reasons.
pub async fn conformance<L: Locker>(make: impl AsyncFn() -> L) {
    let report = run_all("locker", &all(), async || Arc::new(make().await) as Subject).await;
    report.assert_complete();
    let checks = checks! { |_: &Restarted| true => fences_grow_over_a_restart; };
    let make = async || restart(&make).await;
    let report = run_all("locker over a restart", &checks, make).await;
    report.assert_complete();
}

type Restarted = (UploadId, Fence, Subject);

async fn restart<L: Locker>(make: impl AsyncFn() -> L) -> Restarted {
    let id = UploadId::random();
    let before = make().await;
    let mut newest = Fence(0);
    for _ in 0..10 {
        newest = before.acquire(&id, LONG).await.expect("acquire").fence();
    }
    drop(before);
    (id, newest, Arc::new(make().await))
}

async fn fences_grow_over_a_restart((id, newest, locker): &Restarted) {
    let fence = acquire(locker, id).await.fence();
    let effect = "a store that remembers fences would reject every write";
    assert!(fence > *newest, "{fence:?} after {newest:?}: {effect}");
}

/// Runs every check of two lockers that share leases, each on a pair made by `make`. A takeover
/// between them must take no more than `takeover`.
///
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// # use std::time::Duration;
/// use landfall::lease::FileLocker;
///
/// let dir = tempfile::tempdir().unwrap();
/// let make = async || (FileLocker::new(dir.path()), FileLocker::new(dir.path()));
/// landfall_testkit::locker::conformance_between(make, Duration::from_secs(1)).await;
/// # });
/// ```
///
/// # Panics
/// If a check fails: at the end, with the list of all that failed and why.
pub async fn conformance_between<L: Locker>(make: impl AsyncFn() -> (L, L), takeover: Duration) {
    let make = async || {
        let (one, other) = make().await;
        let (one, other) = (Arc::new(one) as Subject, Arc::new(other) as Subject);
        Pair {
            one,
            other,
            takeover,
        }
    };
    let report: Report = run_all("locker between processes", &all_between(), make).await;
    report.assert_complete();
}

/// Runs every check of lockers that store leases in a service, each on a cluster made by `make` with
/// the lifetime that it gets. Use it in addition to the other two suites.
///
/// # Panics
/// If a check fails: at the end, with the list of all that failed and why.
pub async fn conformance_in_cluster<C: Cluster>(make: impl AsyncFn(Duration) -> C) {
    let make =
        async |seconds| Arc::new(make(Duration::from_secs(seconds)).await) as Arc<dyn Cluster>;
    let all = [
        ("locker in a cluster", cluster::all(), 5),
        ("locker under faults", cluster::all_with_faults(), 2),
    ];
    for (suite, checks, ttl) in all {
        let report = run_all(suite, &checks, async || make(ttl).await).await;
        report.assert_complete();
    }
}

/// The checks within one process, to be run one by one.
pub fn all() -> Vec<Check<Subject>> {
    checks! {
        |_: &Subject| true =>
            single_node::a_lease_keeps_others_out,
            single_node::a_dropped_lease_is_free,
            single_node::leases_of_different_uploads_are_independent,
            single_node::a_newcomer_takes_over_at_once,
            single_node::the_holder_is_requested_to_yield_not_revoked,
            single_node::trying_does_not_request_the_lease,
            single_node::waiters_are_served_in_order,
            single_node::a_waiter_with_others_behind_it_is_requested_to_yield,
            single_node::a_dropped_waiter_leaves_the_queue,
            single_node::waiting_ends_at_the_timeout,
            single_node::a_timed_out_waiter_leaves_no_trace,
            single_node::fences_grow,
            single_node::a_lease_can_be_dropped_anywhere,
            single_node::one_upload_has_one_holder_under_pressure,
            single_node::a_thousand_uploads_at_once;
    }
}

/// The checks between two processes, to be run one by one.
pub fn all_between() -> Vec<Check<Pair>> {
    checks! {
        |_: &Pair| true =>
            across_nodes::a_lease_keeps_the_other_process_out,
            across_nodes::the_other_process_takes_over_soon,
            across_nodes::trying_from_the_other_process_does_not_request_the_lease,
            across_nodes::a_holder_that_does_not_yield_keeps_the_lease,
            across_nodes::fences_grow_from_one_process_to_the_other,
            across_nodes::an_answered_request_is_removed,
            across_nodes::a_dropped_request_is_removed,
            across_nodes::one_upload_has_one_holder_under_pressure;
    }
}
