use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use landfall::{
    lease::{YieldReason, YieldSignal},
    upload::UploadId,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::records::LeaseRequest;

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

#[derive(Debug)]
pub(super) struct HeldLease {
    pub(super) owner: String,
    pub(super) written: CachedRecord,
    pub(super) signal: YieldSignal,
    pub(super) yield_to_remote: bool,
}

#[derive(Debug, Clone)]
pub(super) struct PendingRelease {
    pub(super) owner: String,
    pub(super) written: Option<CachedRecord>,
    since: Instant,
    yield_to_remote: bool,
    reserved_until: Option<Instant>,
    in_progress: bool,
}

impl PendingRelease {
    fn new(owner: String) -> Self {
        Self {
            owner,
            written: None,
            since: Instant::now(),
            yield_to_remote: false,
            reserved_until: None,
            in_progress: false,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        !self.in_progress && self.reserved_until.is_none_or(|until| until <= now)
    }

    fn mark_in_doubt(&mut self) {
        if std::mem::take(&mut self.in_progress)
            && let Some(record) = &mut self.written
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
struct LeaseTableState {
    held: HashMap<UploadId, HeldLease>,
    attempts: HashSet<UploadId>,
    releases: HashMap<UploadId, PendingRelease>,
    cached: HashMap<UploadId, CachedRecord>,
    lost: u64,
}

#[derive(Debug)]
pub(super) struct LeaseTable {
    ttl: Duration,
    state: Mutex<LeaseTableState>,
    pub(super) release_queued: Notify,
    pub(super) release_done: Notify,
}

impl LeaseTable {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            state: Mutex::default(),
            release_queued: Notify::new(),
            release_done: Notify::new(),
        }
    }

    pub(super) fn start_attempt(&self, id: &UploadId) -> AcquireStep {
        let mut state = self.state.lock();
        let record = match state.releases.get(id) {
            Some(release) if release.in_progress || release.yield_to_remote => {
                let yield_to_remote = release.yield_to_remote;
                return AcquireStep::Wait { yield_to_remote };
            }
            // The lease is not released after all.
            Some(_) => state.releases.remove(id).and_then(|given| given.written),
            None => state.cached.remove(id),
        };
        state.attempts.insert(id.clone());
        AcquireStep::Proceed(record)
    }

    pub(super) fn attempt_failed(&self, id: &UploadId, in_doubt: Option<&str>) {
        let mut state = self.state.lock();
        state.attempts.remove(id);
        if let Some(owner) = in_doubt {
            self.queue_release(&mut state, id, PendingRelease::new(owner.to_owned()));
        }
    }

    pub(super) fn record_held(&self, id: &UploadId, lease: HeldLease) {
        let mut state = self.state.lock();
        state.attempts.remove(id);
        state.held.insert(id.clone(), lease);
    }

    pub(super) fn release(&self, id: &UploadId) {
        let mut state = self.state.lock();
        if let Some(lease) = state.held.remove(id) {
            let yield_to_remote = lease.yield_to_remote;
            // A request of this node is waiting, and no other node.
            let waited = !yield_to_remote && lease.signal.reason() == Some(YieldReason::Requested);
            let release = PendingRelease {
                written: Some(lease.written),
                yield_to_remote,
                reserved_until: waited.then(|| Instant::now() + HANDOFF_WINDOW),
                ..PendingRelease::new(lease.owner)
            };
            self.queue_release(&mut state, id, release);
        }
    }

    pub(super) fn remove(&self, id: &UploadId) {
        self.state.lock().held.remove(id);
    }

    fn queue_release(&self, state: &mut LeaseTableState, id: &UploadId, release: PendingRelease) {
        if state.releases.len() < MAX_PENDING_RELEASES {
            state.releases.insert(id.clone(), release);
            self.release_queued.notify_one();
        }
    }

    /// Handles a request of another node.
    ///
    /// A lease that is not held here may stem from a call with an unknown outcome; it is released.
    pub(super) fn on_request(&self, id: &UploadId, request: &LeaseRequest, owner: &str) {
        let mut state = self.state.lock();
        if let Some(held) = state.held.get_mut(id) {
            if held.written.reserved == request.fence {
                held.yield_to_remote = true;
                held.signal.request(request.offset);
            }
        } else if !state.attempts.contains(id) && !state.releases.contains_key(id) {
            let release = PendingRelease {
                yield_to_remote: true,
                ..PendingRelease::new(owner.to_owned())
            };
            self.queue_release(&mut state, id, release);
        }
    }

    pub(super) fn next_reservation_end(&self) -> Option<Instant> {
        let state = self.state.lock();
        let reserved_until =
            |release: &PendingRelease| release.reserved_until.filter(|_| !release.in_progress);
        state.releases.values().filter_map(reserved_until).min()
    }

    pub(super) fn next_release(&self, now: Instant) -> Option<(UploadId, PendingRelease)> {
        let mut state = self.state.lock();
        let LeaseTableState {
            releases, attempts, ..
        } = &mut *state;
        releases.retain(|_, release| release.in_progress || release.since.elapsed() < self.ttl);
        let (id, release) = releases
            .iter_mut()
            .find(|(id, release)| release.is_due(now) && !attempts.contains(*id))?;
        release.in_progress = true;
        Some((id.clone(), release.clone()))
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

    pub(super) fn all_released(&self) -> bool {
        self.state.lock().releases.is_empty()
    }

    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.held.is_empty() && state.attempts.is_empty() && state.releases.is_empty()
    }

    pub(super) fn mark_lost(&self, owner: &str) -> u64 {
        let mut state = self.state.lock();
        let mut lost = 0;
        for held in state.held.values() {
            if held.owner == owner && held.signal.reason() != Some(YieldReason::LeaseLost) {
                held.signal.set(YieldReason::LeaseLost);
                lost += 1;
            }
        }
        state.lost += lost;
        lost
    }

    pub(super) fn count(&self) -> (usize, u64) {
        let state = self.state.lock();
        (state.held.len(), state.lost)
    }
}
