//! The leases of this node.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use landfall::{
    lease::{YieldReason, YieldSignal},
    upload::UploadId,
};
use tokio::sync::Notify;

use super::records::Ask;

/// The most releases that wait to be written. Beyond it, others have to ask.
const MOST_RELEASES: usize = 1 << 16;
/// The most leases of the past whose entity tags are remembered, to save reading them.
const MOST_KNOWN: usize = 10_000;

/// How long a lease is kept for the request of this node that waits for it.
const HAND_OVER: Duration = Duration::from_millis(100);

/// A lease in the bucket as this node wrote it last.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// The number of the last lease.
    pub(super) fence: u64,
    /// The greatest number that this node may give without writing.
    pub(super) reserved: u64,
    pub(super) etag: String,
    /// The life of this node that has it, unless it is written down as free.
    pub(super) owner: Option<String>,
}

/// A lease that this node holds.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) owner: String,
    pub(super) written: Known,
    pub(super) signal: YieldSignal,
}

/// A lease to be given up.
#[derive(Debug, Clone)]
pub(super) struct Release {
    pub(super) owner: String,
    /// As it stands in the bucket; `None` if that is not known, and has to be looked up.
    pub(super) written: Option<Known>,
    since: Instant,
    /// Another node asked for it: no request of this node may get ahead.
    polite: bool,
    /// Until when a request of this node may take it as it is.
    kept: Option<Instant>,
    under_way: bool,
}

impl Release {
    fn is_due(&self, now: Instant) -> bool {
        !self.under_way && self.kept.is_none_or(|kept| kept <= now)
    }

    /// Ends an attempt to write it, of which nobody knows what it came to: the lease may be free.
    fn end_in_doubt(&mut self) {
        if std::mem::take(&mut self.under_way)
            && let Some(known) = &mut self.written
        {
            known.owner = None;
        }
    }
}

/// What an attempt to take a lease begins with.
#[derive(Debug)]
pub(super) enum Claim {
    /// What this node knows of it.
    Go(Option<Known>),
    /// It is being given up just now, with or without another node waiting for it.
    Wait { polite: bool },
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<UploadId, Held>,
    attempts: HashSet<UploadId>,
    releases: HashMap<UploadId, Release>,
    known: HashMap<UploadId, Known>,
    lost: u64,
}

#[derive(Debug)]
struct Held {
    grant: Grant,
    polite: bool,
}

/// Everything this node holds, tries to get, or gives up.
#[derive(Debug)]
pub(super) struct Table {
    ttl: Duration,
    state: Mutex<State>,
    /// Told when there is something to release.
    pub(super) released: Notify,
    /// Told when something was released.
    pub(super) written: Notify,
}

impl Table {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            state: Mutex::default(),
            released: Notify::new(),
            written: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock leaves the maps whole, so poisoning says nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an attempt, unless the lease is being given up. There is at most one for an upload:
    /// the node's own requests have queued up before.
    pub(super) fn claim(&self, id: &UploadId) -> Claim {
        let mut state = self.lock();
        let known = match state.releases.get(id) {
            Some(release) if release.under_way || release.polite => {
                let polite = release.polite;
                return Claim::Wait { polite };
            }
            // Not given up after all.
            Some(_) => state.releases.remove(id).and_then(|given| given.written),
            None => state.known.remove(id),
        };
        state.attempts.insert(id.clone());
        Claim::Go(known)
    }

    /// Ends an attempt that failed; with `doubt`, the lease may have been taken nevertheless.
    pub(super) fn fail(&self, id: &UploadId, doubt: Option<&str>) {
        let mut state = self.lock();
        state.attempts.remove(id);
        if let Some(owner) = doubt {
            self.give_up(&mut state, id, owner, None, false, None);
        }
    }

    /// Ends an attempt that succeeded.
    pub(super) fn hold(&self, id: &UploadId, grant: Grant) {
        let mut state = self.lock();
        state.attempts.remove(id);
        let polite = false;
        state.held.insert(id.clone(), Held { grant, polite });
    }

    /// Gives up a lease that is held.
    pub(super) fn release(&self, id: &UploadId) {
        let mut state = self.lock();
        if let Some(Held { grant, polite }) = state.held.remove(id) {
            // Somebody waits, and no other node: a request of this one.
            let waited = !polite && grant.signal.reason() == Some(YieldReason::Requested);
            let kept = waited.then(|| Instant::now() + HAND_OVER);
            let written = Some(grant.written);
            self.give_up(&mut state, id, &grant.owner, written, polite, kept);
        }
    }

    /// Lets go of a lease whose record is gone.
    pub(super) fn forget(&self, id: &UploadId) {
        self.lock().held.remove(id);
    }

    fn give_up(
        &self,
        state: &mut State,
        id: &UploadId,
        owner: &str,
        written: Option<Known>,
        polite: bool,
        kept: Option<Instant>,
    ) {
        if state.releases.len() < MOST_RELEASES {
            let release = Release {
                owner: owner.to_owned(),
                written,
                since: Instant::now(),
                polite,
                kept,
                under_way: false,
            };
            state.releases.insert(id.clone(), release);
            self.released.notify_one();
        }
    }

    /// Another node asks for a lease. One that isn't held here may be left of a call whose end
    /// nobody saw, and is given up.
    pub(super) fn asked(&self, id: &UploadId, ask: &Ask, owner: &str) {
        let mut state = self.lock();
        if let Some(held) = state.held.get_mut(id) {
            if held.grant.written.reserved == ask.fence {
                held.polite = true;
                held.grant.signal.request(ask.offset);
            }
        } else if !state.attempts.contains(id) && !state.releases.contains_key(id) {
            self.give_up(&mut state, id, owner, None, true, None);
        }
    }

    /// When the next release is to be written, if there is one that may not be written yet.
    pub(super) fn next_kept(&self) -> Option<Instant> {
        let state = self.lock();
        let kept = |release: &Release| release.kept.filter(|_| !release.under_way);
        state.releases.values().filter_map(kept).min()
    }

    /// A release that is to be written by `now`, if there is one.
    pub(super) fn next_release(&self, now: Instant) -> Option<(UploadId, Release)> {
        let mut state = self.lock();
        let State {
            releases, attempts, ..
        } = &mut *state;
        releases.retain(|_, release| release.under_way || release.since.elapsed() < self.ttl);
        let (id, release) = releases
            .iter_mut()
            .find(|(id, release)| release.is_due(now) && !attempts.contains(*id))?;
        release.under_way = true;
        Some((id.clone(), release.clone()))
    }

    /// A release was written, or is not needed any more.
    pub(super) fn wrote_release(&self, id: &UploadId, known: Option<Known>) {
        let mut state = self.lock();
        state.releases.remove(id);
        if let Some(known) = known {
            if state.known.len() >= MOST_KNOWN {
                state.known.clear();
            }
            state.known.insert(id.clone(), known);
        }
        self.written.notify_waiters();
    }

    /// A release was perhaps not written.
    pub(super) fn return_release(&self, id: &UploadId) {
        if let Some(release) = self.lock().releases.get_mut(id) {
            release.end_in_doubt();
        }
        self.written.notify_waiters();
    }

    /// The writing of releases was cut short.
    pub(super) fn return_releases(&self) {
        for release in self.lock().releases.values_mut() {
            release.end_in_doubt();
        }
    }

    /// Whether everything that was given up is free in the bucket.
    pub(super) fn all_released(&self) -> bool {
        self.lock().releases.is_empty()
    }

    /// Whether nothing is held, tried or given up.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.held.is_empty() && state.attempts.is_empty() && state.releases.is_empty()
    }

    /// Tells all holders of leases of this life of the node that they have lost them.
    pub(super) fn lose(&self, owner: &str) -> u64 {
        let mut state = self.lock();
        let mut lost = 0;
        for held in state.held.values() {
            if held.grant.owner == owner
                && held.grant.signal.reason() != Some(YieldReason::LeaseLost)
            {
                held.grant.signal.set(YieldReason::LeaseLost);
                lost += 1;
            }
        }
        state.lost += lost;
        lost
    }

    /// How many leases are held, and how many were lost so far.
    pub(super) fn count(&self) -> (usize, u64) {
        let state = self.lock();
        (state.held.len(), state.lost)
    }
}
