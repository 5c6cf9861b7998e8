//! The invariants, and their violations. It changes nothing.
//!
//! - No acknowledged byte is lost: no response has a smaller offset than one before, and at the end the store has each
//!   upload in full.
//! - One writer: no two nodes hold the lease of an upload. A node that was stopped believes so until it runs again;
//!   then fences protect the store.
//! - Events arrive at least once, and that of the creation before that of the completion.
//! - A lease is free within its time: no request waits in vain for an upload that no node holds.
//! - No request starves: each is answered in time, and each upload completes.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use landfall::{
    lease::{Lease, LeaseError, Locker, YieldReason, YieldSignal},
    upload::UploadId,
};
use landfall_hooks::HookName;
use parking_lot::Mutex;

use crate::world::{ByUpload, Port, World};

/// The lifetime of leases, in milliseconds.
pub(crate) const TTL: u64 = 6000;
/// A lease of a dead node is free after its lifetime, by the clock of the waiter, and a few polls.
const MAX_FREE: u64 = TTL + 5000;
const MAX_VIOLATIONS: usize = 20;
/// Between the request, at the node, and its response: a client that sends nothing for 30 s, a lease, and calls.
pub(crate) const MAX_REQUEST: u64 = 120_000;

#[derive(Debug, Clone)]
struct Holder {
    node: usize,
    number: u64,
    signal: YieldSignal,
}

#[derive(Debug, Default)]
struct Leases {
    number: u64,
    holders: BTreeMap<UploadId, Vec<Holder>>,
    free_since: BTreeMap<UploadId, u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Checks {
    violations: Mutex<(usize, Vec<String>)>,
    delivered: Mutex<ByUpload<Vec<HookName>>>,
    leases: Mutex<Leases>,
}

impl Checks {
    pub(crate) fn violation(&self, now: u64, text: String) {
        let (count, texts) = &mut *self.violations.lock();
        *count += 1;
        if texts.len() < MAX_VIOLATIONS {
            texts.push(format!("at {now} ms: {text}"));
        }
    }

    pub(crate) fn violations(&self) -> (usize, Vec<String>) {
        self.violations.lock().clone()
    }

    /// Records a delivery; `is_late`: one that arrives after the next of its upload.
    pub(crate) fn delivered(&self, now: u64, id: &str, hook: HookName, is_late: bool) {
        let mut delivered = self.delivered.lock();
        let hooks = delivered.entry(id.to_owned()).or_default();
        if is_late && hook == HookName::PostCreate {
            hooks.insert(0, HookName::PostFinish);
        }
        if hook == HookName::PostFinish && hooks.first() != Some(&HookName::PostCreate) {
            let text = format!("order: upload {id} was completed before it was created");
            self.violation(now, text);
        }
        if !hooks.contains(&hook) {
            hooks.push(hook);
        }
    }

    /// Returns the number of events of these uploads that have arrived, and of those expected.
    pub(crate) fn count_events<'a>(
        &self,
        ids: impl Iterator<Item = &'a UploadId>,
    ) -> (usize, usize) {
        let delivered = self.delivered.lock();
        let counts = ids.map(|id| delivered.get(id.as_str()).map_or(0, Vec::len));
        counts.fold((0, 0), |(arrived, all), count| {
            (arrived + count.min(2), all + 2)
        })
    }

    /// Checks that the events of an upload have arrived.
    pub(crate) fn check_events(&self, now: u64, id: &UploadId) {
        let delivered = self.delivered.lock();
        let hooks = delivered.get(id.as_str()).map_or(&[][..], Vec::as_slice);
        for hook in [HookName::PostCreate, HookName::PostFinish] {
            if !hooks.contains(&hook) {
                self.violation(
                    now,
                    format!("at least once: {hook} of upload {id} did not arrive"),
                );
            }
        }
    }

    fn granted(&self, port: &Port, id: &UploadId, lease: &Lease) -> u64 {
        let world = &*port.world;
        let leases = &mut *self.leases.lock();
        leases.number += 1;
        leases.free_since.remove(id);
        let number = leases.number;
        let holders = leases.holders.entry(id.clone()).or_default();
        let state = world.state.lock();
        let (now, paused) = (state.now, &state.reach);
        let is_lost = |holder: &Holder| holder.signal.reason() == Some(YieldReason::LeaseLost);
        for other in holders
            .iter()
            .filter(|other| other.node != port.node && !is_lost(other))
        {
            // A stopped process cannot notice that its lease has expired.
            if now > paused[other.node].stopped_until {
                let nodes = (other.node, port.node);
                let text = format!("one writer: nodes {nodes:?} hold the lease of upload {id}");
                self.violation(now, text);
            }
        }
        let signal = lease.signal().clone();
        holders.push(Holder {
            node: port.node,
            number,
            signal,
        });
        number
    }

    fn released(&self, now: u64, id: &UploadId, number: u64) {
        let leases = &mut *self.leases.lock();
        if let Some(holders) = leases.holders.get_mut(id) {
            holders.retain(|holder| holder.number != number);
            if holders.is_empty() {
                leases.holders.remove(id);
                leases.free_since.insert(id.clone(), now);
            }
        }
    }

    fn waited_in_vain(&self, port: &Port, id: &UploadId, since: u64) {
        let now = port.global_now();
        let free_since = self.leases.lock().free_since.get(id).copied();
        let is_troubled = {
            let reach = &port.world.state.lock().reach[port.node];
            reach.stopped_until.max(reach.partitioned_until) >= since
        };
        if let Some(free) = free_since
            && free.max(since) + MAX_FREE < now
            && !is_troubled
        {
            let text = format!("free in time: no node holds upload {id} since {free} ms");
            self.violation(now, text);
        }
    }
}

/// Watches who holds which lease.
#[derive(Debug, Clone)]
pub(crate) struct WatchedLocker<L> {
    pub(crate) inner: L,
    pub(crate) port: Port,
}

struct Watched {
    port: Port,
    id: UploadId,
    number: u64,
    _lease: Lease,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let world: &World = &self.port.world;
        let now = world.now();
        world.checks.released(now, &self.id, self.number);
    }
}

impl<L: Locker> WatchedLocker<L> {
    fn watch(&self, id: &UploadId, lease: Lease) -> Lease {
        let number = self.port.world.checks.granted(&self.port, id, &lease);
        let (fence, signal) = (lease.fence(), lease.signal().clone());
        let guard = Watched {
            port: self.port.clone(),
            id: id.clone(),
            number,
            _lease: lease,
        };
        Lease::new(fence, signal, guard)
    }
}

#[async_trait]
impl<L: Locker> Locker for WatchedLocker<L> {
    async fn acquire_at(
        &self,
        id: &UploadId,
        offset: Option<u64>,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        let since = self.port.global_now();
        let acquired = self.inner.acquire_at(id, offset, wait).await;
        if let Err(LeaseError::Locked) = acquired {
            self.port.world.checks.waited_in_vain(&self.port, id, since);
        }
        acquired.map(|lease| self.watch(id, lease))
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        let acquired = self.inner.try_acquire(id).await;
        acquired.map(|lease| self.watch(id, lease))
    }
}
