//! Acquiring and releasing leases, by conditional writes of their records.

use std::{
    any::Any,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, UNIX_EPOCH},
};

use landfall::{
    lease::{
        Fence, Lease, YieldSignal,
        remote::{Attempt, Rejection},
    },
    upload::UploadId,
};
use tokio::{task::JoinSet, time::sleep};

use super::{
    LockerInner,
    heartbeat::Incarnation,
    records::{LeaseRecord, LeaseRequest, RecordError},
    within,
    written::{AcquireStep, CachedRecord, OwnedRecord},
};
use crate::client::Condition;

const RESERVED_FENCES: u64 = 16;
const MAX_CONCURRENT_RELEASES: usize = 32;
const MAX_ATTEMPTS: u32 = 32;
const MAX_RETRY_DELAY_MS: u64 = 20;
const RELEASE_RETRY_DELAY: Duration = Duration::from_millis(300);

enum TryOutcome {
    Granted(CachedRecord, Arc<Incarnation>),
    Busy { owner: String, fence: u64 },
}

impl LockerInner {
    /// Makes an attempt, also on behalf of a request that waits and appends at an offset, if any.
    pub(super) async fn attempt(
        &self,
        local: Lease,
        id: UploadId,
        request: Option<Option<u64>>,
        locker: Arc<dyn Any + Send + Sync>,
    ) -> Result<Lease, Rejection> {
        let signal = local.signal().clone();
        let attempt = Attempt::new(&self.table, locker, &id, Some(local));
        let unavailable = |error: RecordError| self.table.unavailable(error.to_string());
        let (written, incarnation) = loop {
            let outcome = self.try_once(&id, attempt.number()).await;
            match outcome.map_err(unavailable)? {
                TryOutcome::Granted(written, incarnation) => break (written, incarnation),
                TryOutcome::Busy { owner, fence } => {
                    let id = id.as_str().to_owned();
                    let request = request.map(|offset| LeaseRequest { id, fence, offset });
                    let probe = self.peers.probe(&self.records, &owner, request);
                    self.in_time(probe).await.map_err(unavailable)?;
                    if !self.peers.is_dead(&owner) {
                        return Err(attempt.held(self.settings.poll, self.settings.ttl));
                    }
                }
            }
        };
        let fence = Fence(written.fence);
        let owned = OwnedRecord {
            number: attempt.number(),
            owner: incarnation.owner.clone(),
            written: Some(written),
            signal,
            yield_to_remote: false,
        };
        self.written.end_attempt(&id, Some(owned));
        let lease = attempt.granted(fence, incarnation.last_sent())?;
        // Checked after both, so that either `end` marks this lease lost or we see the end here.
        if !incarnation.is_alive() {
            return Err(unavailable(RecordError::Expired));
        }
        Ok(lease)
    }

    async fn try_once(&self, id: &UploadId, number: u64) -> Result<TryOutcome, RecordError> {
        let start = async { Ok(self.start_attempt(id).await) };
        let cached = self.in_time(start).await?;
        let result = self.in_time(self.write_record(id, cached)).await;
        match &result {
            Ok(TryOutcome::Granted(..)) => {}
            Ok(TryOutcome::Busy { .. }) => self.written.end_attempt(id, None),
            // The record may have been written.
            Err(_) => {
                let owned = self.current().map(|current| OwnedRecord {
                    number,
                    owner: current.owner.clone(),
                    written: None,
                    signal: YieldSignal::new(),
                    yield_to_remote: false,
                });
                self.written.end_attempt(id, owned);
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

    async fn start_attempt(&self, id: &UploadId) -> Option<CachedRecord> {
        let mut wait = false;
        loop {
            let written = self.written.release_done.notified();
            tokio::pin!(written);
            written.as_mut().enable();
            match self.written.start_attempt(id) {
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
                match self.written.next_reservation_end() {
                    Some(reserved_until) => tokio::time::sleep_until(reserved_until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.table.release_queued() => {}
                () = self.written.release_queued.notified() => {}
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
                && let Some((id, release)) =
                    self.written
                        .next_release(&self.table, self.settings.ttl, now)
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

    async fn release_one(&self, id: &UploadId, release: &OwnedRecord) -> bool {
        let error = match self.in_time(self.write_release(id, release)).await {
            Ok(cached) => {
                self.written.release_written(id, cached);
                return true;
            }
            Err(error) => error,
        };
        tracing::warn!(upload = %id, %error, "failed to release lease in the bucket, will be retried");
        self.written.release_failed(id);
        false
    }

    async fn write_release(
        &self,
        id: &UploadId,
        release: &OwnedRecord,
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
