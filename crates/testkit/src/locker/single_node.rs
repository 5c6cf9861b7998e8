//! Checks of a locker within one process: exclusion, order of waiters, requests to yield, dropped waiters.
//!
//! A waiter counts as queued after 20 ms, so the checks need a machine that is not overloaded.

use std::{
    sync::{Arc, atomic::AtomicU32},
    time::{Duration, Instant},
};

use landfall::{
    lease::{Lease, LeaseError, YieldReason},
    upload::UploadId,
};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{
    LONG, Subject, acquire, acquire_free, assert_alone, assert_held, assert_takeovers,
    spawn_acquire,
};

const SHORT: Duration = Duration::from_millis(60);
const PROMPT: Duration = Duration::from_secs(2);
const TAKEOVER: Duration = Duration::from_millis(100);

async fn wait_for(locker: &Subject, id: &UploadId) -> JoinHandle<Result<Lease, LeaseError>> {
    let (locker, id) = (locker.clone(), id.clone());
    queue_up(async move { locker.acquire(&id, LONG).await }).await
}

async fn queue_up<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let mut future = Box::pin(future);
    tokio::select! {
        biased;
        result = &mut future => tokio::spawn(async { result }),
        () = sleep(Duration::from_millis(20)) => tokio::spawn(future),
    }
}

pub(super) async fn a_lease_keeps_others_out(locker: &Subject) {
    let id = UploadId::random();
    let lease = acquire(locker, &id).await;
    assert_held("try_acquire of a held lease", locker.try_acquire(&id).await);
    for wait in [SHORT, Duration::ZERO] {
        assert_held("acquire of a held lease", locker.acquire(&id, wait).await);
    }
    drop(lease);
}

pub(super) async fn a_dropped_lease_is_free(locker: &Subject) {
    let id = UploadId::random();
    for _ in 0..100 {
        drop(acquire(locker, &id).await);
        drop(acquire_free(locker, &id).await);
        let lease = locker.acquire(&id, Duration::ZERO).await;
        drop(lease.expect("acquire of a free lease"));
    }
}

pub(super) async fn leases_of_different_uploads_are_independent(locker: &Subject) {
    let name = UploadId::random();
    let mut leases = Vec::new();
    for (prefix, suffix) in [("", ""), ("", "/a"), ("", "/b"), ("x-", "")] {
        let id = UploadId::new(&format!("{prefix}{name}{suffix}")).expect("a good id");
        leases.push(acquire_free(locker, &id).await);
    }
    assert!(leases.iter().all(|lease| lease.signal().reason().is_none()));
}

pub(super) async fn a_newcomer_takes_over_at_once(locker: &Subject) {
    assert_takeovers(locker, [locker; 5], TAKEOVER).await;
}

pub(super) async fn the_holder_is_requested_to_yield_not_revoked(locker: &Subject) {
    let id = UploadId::random();
    let lease = acquire(locker, &id).await;
    let waiter = wait_for(locker, &id).await;
    let asked = timeout(PROMPT, lease.signal().wait()).await;
    assert_eq!(asked.expect("a request"), YieldReason::Requested);
    assert!(!waiter.is_finished(), "two have the lease");
    drop(lease);
    let lease = waiter.await.expect("the waiter").expect("acquire");
    assert_eq!(lease.signal().reason(), None, "requested without a waiter");
}

pub(super) async fn trying_does_not_request_the_lease(locker: &Subject) {
    let id = UploadId::random();
    let lease = acquire(locker, &id).await;
    for _ in 0..3 {
        assert_held("try_acquire of a held lease", locker.try_acquire(&id).await);
        sleep(SHORT).await;
    }
    assert_eq!(lease.signal().reason(), None);
}

pub(super) async fn waiters_are_served_in_order(locker: &Subject) {
    let id = UploadId::random();
    let first = acquire(locker, &id).await;
    let (tell, mut told) = mpsc::channel(10);
    for n in 0..5 {
        let (locker, id, tell) = (locker.clone(), id.clone(), tell.clone());
        queue_up(async move {
            let lease = acquire(&locker, &id).await;
            tell.send(n).await.expect("the check listens");
            drop(lease);
        })
        .await;
    }
    drop(tell);
    drop(first);
    let mut order = Vec::new();
    while let Some(n) = told.recv().await {
        order.push(n);
    }
    assert_eq!(order, [0, 1, 2, 3, 4]);
}

pub(super) async fn a_waiter_with_others_behind_it_is_requested_to_yield(locker: &Subject) {
    let id = UploadId::random();
    let first = acquire(locker, &id).await;
    let second = wait_for(locker, &id).await;
    let third = wait_for(locker, &id).await;
    drop(first);
    let second = second.await.expect("the waiter").expect("acquire");
    let asked = second.signal().reason();
    assert_eq!(asked, Some(YieldReason::Requested), "a waiter is behind it");
    assert!(!third.is_finished(), "two have the lease");
    drop(second);
    let third = third.await.expect("the waiter").expect("acquire");
    assert_eq!(third.signal().reason(), None, "no waiter is behind it");
}

pub(super) async fn a_dropped_waiter_leaves_the_queue(locker: &Subject) {
    let id = UploadId::random();
    let first = acquire(locker, &id).await;
    let second = wait_for(locker, &id).await;
    let third = wait_for(locker, &id).await;
    second.abort();
    assert!(second.await.is_err_and(|error| error.is_cancelled()));
    drop(first);
    let third = timeout(PROMPT, third).await.expect("the queue is stuck");
    let third = third.expect("the waiter").expect("acquire");
    assert_eq!(third.signal().reason(), None, "no waiter is behind it");
    drop(third);
    for _ in 0..100 {
        let lease = acquire(locker, &id).await;
        let waiter = spawn_acquire(locker, &id);
        tokio::task::yield_now().await;
        drop(lease);
        waiter.abort();
        drop(waiter.await);
        let next = timeout(PROMPT, acquire(locker, &id)).await;
        drop(next.expect("a lease went with a dropped waiter"));
    }
}

pub(super) async fn waiting_ends_at_the_timeout(locker: &Subject) {
    let id = UploadId::random();
    let _lease = acquire(locker, &id).await;
    for wait in [Duration::ZERO, SHORT, 4 * SHORT] {
        let begun = Instant::now();
        assert_held("acquire of a held lease", locker.acquire(&id, wait).await);
        let waited = begun.elapsed();
        let is_possible = (wait..wait + PROMPT).contains(&waited);
        assert!(is_possible, "waited {waited:?} instead of {wait:?}");
    }
}

pub(super) async fn a_timed_out_waiter_leaves_no_trace(locker: &Subject) {
    let id = UploadId::random();
    let lease = acquire(locker, &id).await;
    for _ in 0..3 {
        let acquired = locker.acquire(&id, Duration::from_millis(5)).await;
        assert_held("acquire of a held lease", acquired);
    }
    drop(lease);
    let lease = acquire_free(locker, &id).await;
    assert_eq!(lease.signal().reason(), None, "requested without a waiter");
}

pub(super) async fn fences_grow(locker: &Subject) {
    let (a, b) = (UploadId::random(), UploadId::random());
    let mut newest = None;
    for n in 0..100 {
        let lease = match n % 2 {
            0 => acquire(locker, &a).await,
            _ => acquire_free(locker, &a).await,
        };
        let fence = Some(lease.fence());
        assert!(fence > newest, "{fence:?} after {newest:?}");
        newest = fence;
        drop(acquire(locker, &b).await);
    }
    let first = acquire(locker, &a).await;
    let waiter = wait_for(locker, &a).await;
    let before = first.fence();
    drop(first);
    let after = waiter.await.expect("the waiter").expect("acquire").fence();
    assert!(after > before, "{after:?} after {before:?}");
}

pub(super) async fn a_lease_can_be_dropped_anywhere(locker: &Subject) {
    let id = UploadId::random();
    let lease = acquire(locker, &id).await;
    let waiter = wait_for(locker, &id).await;
    let outside = std::thread::spawn(move || drop(lease));
    outside.join().expect("a thread outside the runtime");
    let lease = timeout(PROMPT, waiter).await.expect("handed over");
    drop(lease.expect("the waiter").expect("acquire"));
}

pub(super) async fn one_upload_has_one_holder_under_pressure(locker: &Subject) {
    let id = UploadId::random();
    let holders = Arc::new(AtomicU32::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let (locker, id, holders) = (locker.clone(), id.clone(), holders.clone());
        tasks.spawn(async move {
            for _ in 0..50 {
                let lease = acquire(&locker, &id).await;
                assert_alone(&holders).await;
                drop(lease);
            }
        });
    }
    tasks.join_all().await;
    drop(acquire_free(locker, &id).await);
}

pub(super) async fn a_thousand_uploads_at_once(locker: &Subject) {
    let mut tasks = JoinSet::new();
    let mut ids = Vec::new();
    for _ in 0..1000 {
        let (id, holders) = (UploadId::random(), Arc::new(AtomicU32::new(0)));
        for _ in 0..3 {
            let (locker, id, holders) = (locker.clone(), id.clone(), holders.clone());
            tasks.spawn(async move {
                let lease = acquire(&locker, &id).await;
                assert_alone(&holders).await;
                drop(lease);
            });
        }
        ids.push(id);
    }
    tasks.join_all().await;
    let mut leases = Vec::new();
    for id in &ids {
        leases.push(acquire_free(locker, id).await);
    }
}
