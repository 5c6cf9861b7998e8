use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, UNIX_EPOCH},
};

use landfall::{
    lease::{Fence, Lease, LeaseError, LeaseGuard},
    upload::UploadId,
};
use tokio::{task::JoinSet, time::sleep};

use super::{
    LockerInner, LockerThread,
    heartbeat::Incarnation,
    records::{LeaseRecord, LeaseRequest, RecordError},
    table::{AcquireStep, CachedRecord, HeldLease, PendingRelease},
    within,
};
use crate::client::Condition;

const RESERVED_FENCES: u64 = 16;
const MAX_CONCURRENT_RELEASES: usize = 32;
const MAX_ATTEMPTS: u32 = 32;
const MAX_RETRY_DELAY_MS: u64 = 20;
const RELEASE_RETRY_DELAY: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy)]
pub(super) struct YieldRequest {
    pub(super) offset: Option<u64>,
}

#[derive(Debug)]
pub(super) enum AcquireError {
    Busy(Lease),
    Failed(LeaseError),
}

impl AcquireError {
    pub(super) fn shut_down() -> Self {
        let why = "the lease locker has shut down";
        Self::Failed(LeaseError::Unavailable(why.into()))
    }
}

enum TryOutcome {
    Granted(CachedRecord, Arc<Incarnation>),
    Busy { owner: String, fence: u64 },
}

impl LockerInner {
    pub(super) async fn attempt(
        self: Arc<Self>,
        local_lease: Lease,
        id: UploadId,
        request: Option<YieldRequest>,
        locker: Arc<LockerThread>,
    ) -> Result<Lease, AcquireError> {
        let (written, incarnation) = loop {
            let outcome = self.try_once(&id).await;
            match outcome.map_err(|error| self.failed(&error))? {
                TryOutcome::Granted(written, incarnation) => break (written, incarnation),
                TryOutcome::Busy { owner, fence } => {
                    let id = id.as_str().to_owned();
                    let request =
                        request.map(|YieldRequest { offset }| LeaseRequest { id, fence, offset });
                    let probe = self.peers.probe(&self.records, &owner, request);
                    let probed = self.in_time(probe).await;
                    probed.map_err(|error| self.failed(&error))?;
                    if !self.peers.is_dead(&owner) {
                        return Err(AcquireError::Busy(local_lease));
                    }
                }
            }
        };
        let (fence, signal) = (Fence(written.fence), local_lease.signal().clone());
        let held_lease = HeldLease {
            owner: incarnation.owner.clone(),
            written,
            signal: signal.clone(),
            yield_to_remote: false,
        };
        self.table.record_held(&id, held_lease);
        let held = HeldBucketLease {
            locker,
            id,
            _local_lease: local_lease,
        };
        // Checked after `record_held`, so that either `end` marks this lease lost or we see the end
        // here.
        if !incarnation.is_alive() {
            drop(held);
            return Err(self.failed(&RecordError::Expired));
        }
        self.granted.fetch_add(1, Ordering::Relaxed);
        Ok(Lease::new(fence, signal, Box::new(held)))
    }

    async fn try_once(&self, id: &UploadId) -> Result<TryOutcome, RecordError> {
        let start = async { Ok(self.start_attempt(id).await) };
        let cached = self.in_time(start).await?;
        let result = self.in_time(self.write_record(id, cached)).await;
        match &result {
            Ok(TryOutcome::Granted(..)) => {}
            Ok(TryOutcome::Busy { .. }) => self.table.attempt_failed(id, None),
            // The record may have been written.
            Err(_) => {
                let incarnation = self.current();
                let owner = incarnation.as_deref().map(|current| current.owner.as_str());
                self.table.attempt_failed(id, owner);
            }
        }
        result
    }

    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, RecordError>>,
    ) -> Result<T, RecordError> {
        within(self.settings.timeout, call).await
    }

    pub(super) fn failed(&self, error: &RecordError) -> AcquireError {
        self.unavailable.fetch_add(1, Ordering::Relaxed);
        AcquireError::Failed(LeaseError::Unavailable(error.to_string().into()))
    }

    async fn start_attempt(&self, id: &UploadId) -> Option<CachedRecord> {
        let mut wait = false;
        loop {
            let written = self.table.release_done.notified();
            tokio::pin!(written);
            written.as_mut().enable();
            match self.table.start_attempt(id) {
                AcquireStep::Proceed(cached) => return cached,
                AcquireStep::Wait { yield_to_remote } => wait |= yield_to_remote,
            }
            written.await;
            if std::mem::take(&mut wait) {
                // Another node waits for the lease and polls at this interval.
                sleep(self.settings.poll * 3 / 2).await;
            }
        }
    }

    async fn write_record(
        &self,
        id: &UploadId,
        mut cached: Option<CachedRecord>,
    ) -> Result<TryOutcome, RecordError> {
        let object_ref = self.records.lease(id);
        for round in 0..MAX_ATTEMPTS {
            if round > 0 {
                let delay = rand::random_range(1..=MAX_RETRY_DELAY_MS);
                sleep(Duration::from_millis(delay)).await;
            }
            let incarnation = self.get_or_start().await?;
            let (last, condition) = match cached.take() {
                Some(cached)
                    if cached.owner.as_deref() == Some(incarnation.owner.as_str())
                        && cached.fence < cached.reserved =>
                {
                    let fence = cached.fence + 1;
                    let cached = CachedRecord { fence, ..cached };
                    return Ok(TryOutcome::Granted(cached, incarnation));
                }
                Some(cached) => (cached.fence, Condition::IfMatch(cached.etag)),
                None => match self.records.read::<LeaseRecord>(&object_ref).await? {
                    None => (self.clock(), Condition::IfAbsent),
                    Some((lease, etag)) if self.is_free(&lease, &incarnation) => {
                        (lease.fence, Condition::IfMatch(etag))
                    }
                    Some((LeaseRecord { owner, fence, .. }, _)) => {
                        return Ok(TryOutcome::Busy { owner, fence });
                    }
                },
            };
            let (fence, reserved) = (last + 1, last + RESERVED_FENCES);
            let lease = LeaseRecord::new(id, reserved, &incarnation.owner, false);
            let written = self.records.write(&object_ref, &lease, condition).await?;
            if let Some(etag) = written {
                self.max_fence.fetch_max(reserved, Ordering::Relaxed);
                let cached = CachedRecord {
                    fence,
                    reserved,
                    etag,
                    owner: Some(incarnation.owner.clone()),
                };
                return Ok(TryOutcome::Granted(cached, incarnation));
            }
        }
        Err(RecordError::Contention)
    }

    /// A lease with this incarnation as owner was released, because we have the local lease.
    fn is_free(&self, lease: &LeaseRecord, incarnation: &Incarnation) -> bool {
        lease.released || lease.owner == incarnation.owner || self.peers.is_dead(&lease.owner)
    }

    fn clock(&self) -> u64 {
        let now = UNIX_EPOCH.elapsed().unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or_default();
        now.max(self.max_fence.load(Ordering::Relaxed))
    }

    pub(super) async fn release(self: &Arc<Self>) {
        loop {
            let reservation_end = async {
                match self.table.next_reservation_end() {
                    Some(reserved_until) => tokio::time::sleep_until(reserved_until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.table.release_queued.notified() => {}
                () = reservation_end => {}
            }
            while !self.release_all(Instant::now()).await {
                sleep(RELEASE_RETRY_DELAY).await;
            }
        }
    }

    pub(super) async fn release_all(self: &Arc<Self>, now: Instant) -> bool {
        let (mut calls, mut all) = (JoinSet::new(), true);
        loop {
            while calls.len() < MAX_CONCURRENT_RELEASES
                && all
                && let Some((id, release)) = self.table.next_release(now)
            {
                let node = Arc::clone(self);
                calls.spawn(async move { node.release_one(&id, &release).await });
            }
            match calls.join_next().await {
                Some(done) => all &= done.unwrap_or(false),
                None => return all,
            }
        }
    }

    async fn release_one(&self, id: &UploadId, release: &PendingRelease) -> bool {
        let error = match self.in_time(self.write_release(id, release)).await {
            Ok(cached) => {
                self.table.release_written(id, cached);
                return true;
            }
            Err(error) => error,
        };
        tracing::warn!(upload = %id, %error, "failed to release lease in the bucket, will be retried");
        self.table.release_failed(id);
        false
    }

    async fn write_release(
        &self,
        id: &UploadId,
        release: &PendingRelease,
    ) -> Result<Option<CachedRecord>, RecordError> {
        let object_ref = self.records.lease(id);
        let (fence, etag) = match &release.written {
            Some(cached) => (cached.fence, cached.etag.clone()),
            None => match self.records.read::<LeaseRecord>(&object_ref).await? {
                Some((lease, etag)) if lease.owner == release.owner && !lease.released => {
                    (lease.fence, etag)
                }
                _ => return Ok(None),
            },
        };
        let lease = LeaseRecord::new(id, fence, &release.owner, true);
        let condition = Condition::IfMatch(etag);
        let written = self.records.write(&object_ref, &lease, condition).await?;
        Ok(written.map(|etag| CachedRecord {
            fence,
            reserved: fence,
            etag,
            owner: None,
        }))
    }
}

/// A lease in the bucket. The local lease is dropped last, so that its next holder sees the
/// release.
struct HeldBucketLease {
    locker: Arc<LockerThread>,
    id: UploadId,
    _local_lease: Lease,
}

impl LeaseGuard for HeldBucketLease {}

impl fmt::Debug for HeldBucketLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HeldBucketLease").field(&self.id).finish()
    }
}

impl Drop for HeldBucketLease {
    fn drop(&mut self) {
        self.locker.node.table.release(&self.id);
    }
}
