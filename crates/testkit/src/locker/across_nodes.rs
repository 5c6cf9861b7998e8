//! Checks of two lockers that share their leases as two processes do.
//!
//! A process may notice a release or a request of the other one late: by at most `Pair::takeover`.

use std::{
    sync::{Arc, atomic::AtomicU32},
    time::{Duration, Instant},
};

use landfall::{
    lease::{Lease, LeaseError, Locker, YieldReason},
    upload::UploadId,
};
use tokio::{task::JoinSet, time::sleep};

use super::{Pair, acquire, assert_alone, assert_held, assert_takeovers, spawn_acquire};

const SHORT: Duration = Duration::from_millis(250);

async fn free(locker: &Arc<dyn Locker>, id: &UploadId, within: Duration) -> Lease {
    let begun = Instant::now();
    loop {
        match locker.try_acquire(id).await {
            Err(LeaseError::Locked) if begun.elapsed() < within => {
                sleep(Duration::from_millis(1)).await;
            }
            result => return result.expect("a free lease"),
        }
    }
}

pub(super) async fn a_lease_keeps_the_other_process_out(pair: &Pair) {
    let (id, another) = (UploadId::random(), UploadId::random());
    for (holder, newcomer) in [(&pair.one, &pair.other), (&pair.other, &pair.one)] {
        let lease = acquire(holder, &id).await;
        assert_held("try_acquire", newcomer.try_acquire(&id).await);
        drop(free(newcomer, &another, pair.takeover).await);
        drop(lease);
        drop(free(newcomer, &id, pair.takeover).await);
    }
}

pub(super) async fn the_other_process_takes_over_soon(pair: &Pair) {
    let Pair { one, other, .. } = pair;
    assert_takeovers(one, [other, one, other, one, other], pair.takeover).await;
}

pub(super) async fn trying_from_the_other_process_does_not_request_the_lease(pair: &Pair) {
    let id = UploadId::random();
    let lease = acquire(&pair.one, &id).await;
    for _ in 0..3 {
        assert_held("try_acquire", pair.other.try_acquire(&id).await);
        sleep(SHORT).await;
    }
    assert_eq!(lease.signal().reason(), None);
}

pub(super) async fn a_holder_that_does_not_yield_keeps_the_lease(pair: &Pair) {
    let id = UploadId::random();
    let lease = acquire(&pair.one, &id).await;
    for wait in [Duration::ZERO, SHORT, 2 * SHORT] {
        let begun = Instant::now();
        assert_held("acquire", pair.other.acquire(&id, wait).await);
        let waited = begun.elapsed();
        let is_possible = (wait..wait + pair.takeover + SHORT).contains(&waited);
        assert!(is_possible, "waited {waited:?} instead of {wait:?}");
    }
    assert_eq!(lease.signal().reason(), Some(YieldReason::Requested));
    drop(lease);
    drop(free(&pair.other, &id, pair.takeover).await);
}

pub(super) async fn fences_grow_from_one_process_to_the_other(pair: &Pair) {
    let id = UploadId::random();
    let mut newest = None;
    for locker in [&pair.one, &pair.other, &pair.one, &pair.one, &pair.other] {
        let fence = acquire(locker, &id).await.fence();
        assert!(Some(fence) > newest, "{fence:?} after {newest:?}");
        newest = Some(fence);
    }
}

async fn assert_not_requested(locker: &Arc<dyn Locker>, id: &UploadId) {
    let lease = acquire(locker, id).await;
    sleep(2 * SHORT).await;
    assert_eq!(lease.signal().reason(), None, "requested without a waiter");
}

pub(super) async fn an_answered_request_is_removed(pair: &Pair) {
    let id = UploadId::random();
    let lease = acquire(&pair.one, &id).await;
    let holder = tokio::spawn(async move { lease.signal().wait().await });
    let taken = acquire(&pair.other, &id).await;
    holder.await.expect("the first holder");
    sleep(2 * SHORT).await;
    assert_eq!(taken.signal().reason(), None, "asked to yield to itself");
    drop(taken);
    assert_not_requested(&pair.one, &id).await;
    assert_not_requested(&pair.other, &id).await;
}

pub(super) async fn a_dropped_request_is_removed(pair: &Pair) {
    let id = UploadId::random();
    let lease = acquire(&pair.one, &id).await;
    let waiter = spawn_acquire(&pair.other, &id);
    assert_eq!(lease.signal().wait().await, YieldReason::Requested);
    waiter.abort();
    assert!(waiter.await.is_err_and(|error| error.is_cancelled()));
    drop(lease);
    assert_not_requested(&pair.one, &id).await;
}

pub(super) async fn one_upload_has_one_holder_under_pressure(pair: &Pair) {
    let id = UploadId::random();
    let holders = Arc::new(AtomicU32::new(0));
    let mut tasks = JoinSet::new();
    for n in 0..6 {
        let locker = [&pair.one, &pair.other][n % 2].clone();
        let (id, holders) = (id.clone(), holders.clone());
        tasks.spawn(async move {
            for _ in 0..20 {
                let lease = acquire(&locker, &id).await;
                assert_alone(&holders).await;
                drop(lease);
                sleep(Duration::from_millis(1)).await;
            }
        });
    }
    tasks.join_all().await;
}
