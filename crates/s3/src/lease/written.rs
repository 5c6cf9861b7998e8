//! The lease records that this node has written and not yet released, so that the next lease of an upload
//! costs few calls. It stops no holder: that is up to [`LeaseTable`].

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use landfall::{
    lease::{YieldReason, YieldSignal, remote::LeaseTable},
    upload::UploadId,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::records::LeaseRequest;

/// Further leases expire instead.
const MAX_PENDING_RELEASES: usize = 1 << 16;
const CACHE_CAPACITY: usize = 10_000;

const HANDOFF_WINDOW: Duration = Duration::from_millis(100);

#[derive(Debug, Clone)]
pub(super) struct CachedRecord {
    pub(super) fence: u64,
    pub(super) reserved: u64,
    pub(super) etag: String,
    pub(super) owner: Option<String>,
}

/// A record that names this node as owner, or may do so.
#[derive(Debug, Clone)]
pub(super) struct OwnedRecord {
    /// That of the lease in the table of leases.
    pub(super) number: u64,
    pub(super) owner: String,
    /// `None` after a call with an unknown outcome.
    pub(super) written: Option<CachedRecord>,
    pub(super) signal: YieldSignal,
    pub(super) yield_to_remote: bool,
}

#[derive(Debug)]
struct PendingRelease {
    record: OwnedRecord,
    since: Instant,
    reserved_until: Option<Instant>,
    in_progress: bool,
}

impl PendingRelease {
    fn new(record: OwnedRecord) -> Self {
        let since = Instant::now();
        // A request of this node is waiting, and no other node.
        let waited =
            !record.yield_to_remote && record.signal.reason() == Some(YieldReason::Requested);
        Self {
            record,
            since,
            reserved_until: waited.then(|| since + HANDOFF_WINDOW),
            in_progress: false,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        !self.in_progress && self.reserved_until.is_none_or(|until| until <= now)
    }

    fn mark_in_doubt(&mut self) {
        if std::mem::take(&mut self.in_progress)
            && let Some(record) = &mut self.record.written
        {
            record.owner = None;
        }
    }
}

#[derive(Debug)]
pub(super) enum AcquireStep {
    Proceed(Option<CachedRecord>),
    /// Wait: a release is being written, with or without another node waiting.
    Wait {
        yield_to_remote: bool,
    },
}

#[derive(Debug, Default)]
struct State {
    /// The lease is held, or queued for release in the table of leases.
    owned: HashMap<UploadId, OwnedRecord>,
    releases: HashMap<UploadId, PendingRelease>,
    attempts: HashSet<UploadId>,
    cached: HashMap<UploadId, CachedRecord>,
}

#[derive(Debug, Default)]
pub(super) struct WrittenLeases {
    state: Mutex<State>,
    /// Besides those that the table of leases notifies.
    pub(super) release_queued: Notify,
    pub(super) release_done: Notify,
}

impl WrittenLeases {
    /// Starts an attempt. The lease within this node is held: one in the bucket is no longer.
    pub(super) fn start_attempt(&self, id: &UploadId) -> AcquireStep {
        let mut state = self.state.lock();
        let in_progress = (state.releases.get(id)).is_some_and(|release| release.in_progress);
        let pending = state.releases.get(id).map(|release| &release.record);
        let owned = pending.or_else(|| state.owned.get(id));
        let yield_to_remote = owned.is_some_and(|owned| owned.yield_to_remote);
        if in_progress || yield_to_remote {
            return AcquireStep::Wait { yield_to_remote };
        }
        // The lease is not released after all.
        let pending = state.releases.remove(id).map(|release| release.record);
        let record = match state.owned.remove(id).or(pending) {
            Some(owned) => owned.written,
            None => state.cached.remove(id),
        };
        state.attempts.insert(id.clone());
        AcquireStep::Proceed(record)
    }

    /// Ends an attempt, with its record, if that names or may name this node as the owner.
    pub(super) fn end_attempt(&self, id: &UploadId, owned: Option<OwnedRecord>) {
        let mut state = self.state.lock();
        state.attempts.remove(id);
        if let Some(owned) = owned {
            state.owned.insert(id.clone(), owned);
        }
    }

    pub(super) fn remove(&self, id: &UploadId) {
        self.state.lock().owned.remove(id);
    }

    /// Handles a request of another node.
    ///
    /// A lease that is not held here may stem from a call with an unknown outcome; it is released.
    pub(super) fn on_request(&self, id: &UploadId, request: &LeaseRequest, owner: &str) {
        let mut state = self.state.lock();
        if let Some(owned) = state.owned.get_mut(id) {
            let is_asked = |record: &CachedRecord| record.reserved == request.fence;
            if owned.written.as_ref().is_some_and(is_asked) {
                owned.yield_to_remote = true;
                owned.signal.request(request.offset);
            }
        } else if !state.attempts.contains(id) && !state.releases.contains_key(id) {
            let record = OwnedRecord {
                number: 0,
                owner: owner.to_owned(),
                written: None,
                signal: YieldSignal::new(),
                yield_to_remote: true,
            };
            queue(&mut state.releases, id.clone(), record);
            self.release_queued.notify_one();
        }
    }

    pub(super) fn next_reservation_end(&self) -> Option<Instant> {
        let state = self.state.lock();
        let waiting = state
            .releases
            .values()
            .filter(|release| !release.in_progress);
        waiting.filter_map(|release| release.reserved_until).min()
    }

    /// Returns a release to write, after those that are queued in the table of leases are pending.
    pub(super) fn next_release(
        &self,
        table: &LeaseTable,
        ttl: Duration,
        now: Instant,
    ) -> Option<(UploadId, OwnedRecord)> {
        let mut state = self.state.lock();
        let State {
            owned,
            releases,
            attempts,
            ..
        } = &mut *state;
        for (id, number) in table.take_releases() {
            // It may have been acquired again.
            if owned.get(&id).is_some_and(|owned| owned.number == number)
                && let Some(record) = owned.remove(&id)
            {
                queue(releases, id, record);
            }
        }
        releases.retain(|_, release| release.in_progress || release.since.elapsed() < ttl);
        let (id, release) = releases
            .iter_mut()
            .find(|(id, release)| release.is_due(now) && !attempts.contains(*id))?;
        release.in_progress = true;
        Some((id.clone(), release.record.clone()))
    }

    pub(super) fn release_written(&self, id: &UploadId, record: Option<CachedRecord>) {
        let mut state = self.state.lock();
        state.releases.remove(id);
        if let Some(record) = record {
            if state.cached.len() >= CACHE_CAPACITY {
                state.cached.clear();
            }
            state.cached.insert(id.clone(), record);
        }
        self.release_done.notify_waiters();
    }

    pub(super) fn release_failed(&self, id: &UploadId) {
        if let Some(release) = self.state.lock().releases.get_mut(id) {
            release.mark_in_doubt();
        }
        self.release_done.notify_waiters();
    }

    pub(super) fn interrupt_releases(&self) {
        for release in self.state.lock().releases.values_mut() {
            release.mark_in_doubt();
        }
    }

    /// Waits until no release is left of those that are no longer queued in the table of leases.
    pub(super) async fn all_released(&self) {
        loop {
            let done = self.release_done.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            if self.state.lock().releases.is_empty() {
                return;
            }
            done.await;
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.owned.is_empty() && state.attempts.is_empty() && state.releases.is_empty()
    }

    /// Stops the holders of the leases of an owner, and returns how many there were.
    pub(super) fn lose(&self, owner: &str, table: &LeaseTable) -> usize {
        let state = self.state.lock();
        let owned = state.owned.iter().filter(|(_, owned)| owned.owner == owner);
        owned
            .filter(|(id, owned)| table.lose(id, owned.number))
            .count()
    }
}

fn queue(releases: &mut HashMap<UploadId, PendingRelease>, id: UploadId, record: OwnedRecord) {
    if releases.len() < MAX_PENDING_RELEASES {
        releases.insert(id, PendingRelease::new(record));
    }
}
