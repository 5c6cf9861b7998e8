//! The lease records that this node has written and not yet released, so that the next lease of an upload
//! costs few calls. It stops no holder: that is up to [`LeaseTable`].

use std::{collections::HashMap, sync::Arc, time::Duration};

use landfall::upload::UploadId;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::records::LeaseRequest;
use crate::table::{LeaseTable, QueuedRelease};

const CACHE_CAPACITY: usize = 10_000;
/// Further records of unknown outcome are released when another node requests the lease.
const MAX_UNKNOWN: usize = 1 << 16;

/// A record as this node has written it.
#[derive(Debug, Clone)]
pub(super) struct CachedRecord {
    pub(super) fence: u64,
    /// The fence in the record: those up to it can be used without another write.
    pub(super) reserved: u64,
    pub(super) version: String,
    /// `None` if it is released, or may be.
    pub(super) owner: Option<Arc<str>>,
}

impl CachedRecord {
    pub(super) fn has_reserved(&self, owner: &Arc<str>) -> bool {
        self.owner.as_ref() == Some(owner) && self.fence < self.reserved
    }
}

/// A record that names this node as owner, or may do so.
#[derive(Debug, Clone)]
pub(super) struct OwnedRecord {
    /// The number of the lease in the table of leases; 0 if there is none.
    number: u64,
    pub(super) owner: Arc<str>,
    /// `None` after a call with an unknown outcome.
    pub(super) written: Option<CachedRecord>,
    /// Another node has requested the lease.
    is_wanted: bool,
    since: Instant,
}

impl OwnedRecord {
    pub(super) fn new(number: u64, owner: Arc<str>, written: Option<CachedRecord>) -> Self {
        Self {
            number,
            owner,
            written,
            is_wanted: false,
            since: Instant::now(),
        }
    }
}

#[derive(Debug)]
enum Entry {
    /// The record is being written, for an attempt.
    Acquiring,
    /// The lease is held or to be released.
    Owned(OwnedRecord),
    /// The release is being written.
    Releasing(OwnedRecord),
}

#[derive(Debug)]
pub(super) enum AcquireStep {
    Proceed(Option<CachedRecord>),
    /// Wait until it is released; another node may want it.
    Wait {
        is_wanted: bool,
    },
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<UploadId, Entry>,
    released: HashMap<UploadId, CachedRecord>,
}

impl State {
    fn owned(&self, id: &UploadId, number: u64) -> Option<&OwnedRecord> {
        match self.entries.get(id) {
            Some(Entry::Owned(record)) if record.number == number => Some(record),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct WrittenLeases {
    state: Mutex<State>,
    pub(super) release_ended: Notify,
}

impl WrittenLeases {
    /// Starts an attempt. The lease within this node is held: one in the bucket is no longer.
    pub(super) fn start_attempt(&self, id: &UploadId) -> AcquireStep {
        let mut state = self.state.lock();
        let is_wanted = match state.entries.get(id) {
            Some(Entry::Releasing(record)) => Some(record.is_wanted),
            Some(Entry::Owned(record)) => record.is_wanted.then_some(true),
            _ => None,
        };
        if let Some(is_wanted) = is_wanted {
            return AcquireStep::Wait { is_wanted };
        }
        // The lease is not released after all.
        AcquireStep::Proceed(match state.entries.insert(id.clone(), Entry::Acquiring) {
            Some(Entry::Owned(record)) => record.written,
            _ => state.released.remove(id),
        })
    }

    /// Ends an attempt, with its record, if that names or may name this node as the owner.
    pub(super) fn end_attempt(&self, id: &UploadId, owned: Option<OwnedRecord>) {
        let entries = &mut self.state.lock().entries;
        match owned {
            Some(owned) if owned.written.is_some() || entries.len() < MAX_UNKNOWN => {
                entries.insert(id.clone(), Entry::Owned(owned));
            }
            _ => _ = entries.remove(id),
        }
    }

    /// Forgets a record that is deleted.
    pub(super) fn remove(&self, id: &UploadId) {
        self.end_attempt(id, None);
    }

    /// Returns the name that this node has in the record of a lease.
    pub(super) fn owner(&self, id: &UploadId, number: u64) -> Option<Arc<str>> {
        let state = self.state.lock();
        state.owned(id, number).map(|record| record.owner.clone())
    }

    /// Returns whether another node has requested a lease.
    pub(super) fn is_wanted(&self, id: &UploadId, number: u64) -> bool {
        let state = self.state.lock();
        state
            .owned(id, number)
            .is_some_and(|record| record.is_wanted)
    }

    /// Handles a request of another node.
    pub(super) fn request(
        &self,
        id: &UploadId,
        request: &LeaseRequest,
        owner: &Arc<str>,
        ttl: Duration,
        table: &LeaseTable,
    ) {
        let mut state = self.state.lock();
        let number = match state.entries.get_mut(id) {
            Some(Entry::Acquiring | Entry::Releasing(_)) => return,
            Some(Entry::Owned(record)) => {
                let is_asked = |record: &CachedRecord| record.reserved == request.fence;
                if !record.written.as_ref().is_none_or(is_asked) {
                    return;
                }
                if table.request_yield(id, record.number, request.offset) {
                    record.is_wanted = true;
                    return;
                }
                // Its release waits, or it is only being granted.
                if record.since.elapsed() < ttl {
                    return;
                }
                record.number
            }
            // It stems from a call with an unknown outcome.
            None => {
                let mut record = OwnedRecord::new(0, Arc::clone(owner), None);
                record.is_wanted = true;
                state.entries.insert(id.clone(), Entry::Owned(record));
                0
            }
        };
        table.queue_release(QueuedRelease::new(id.clone(), number, false));
    }

    /// Starts to write a release, also again after an interruption. `None` if the lease was acquired
    /// again or is released.
    pub(super) fn start_release(&self, id: &UploadId, number: u64) -> Option<OwnedRecord> {
        let mut state = self.state.lock();
        let entry = state.entries.get_mut(id)?;
        let (Entry::Owned(record) | Entry::Releasing(record)) = entry else {
            return None;
        };
        if record.number != number {
            return None;
        }
        // Whatever comes of it, the next lease has to be written.
        if let Some(written) = &mut record.written {
            written.owner = None;
        }
        let record = record.clone();
        *entry = Entry::Releasing(record.clone());
        Some(record)
    }

    /// Ends a release, with the record if this node has written it; `None` if it is to be repeated.
    pub(super) fn end_release(&self, id: &UploadId, released: Option<Option<CachedRecord>>) {
        let State {
            entries,
            released: cache,
        } = &mut *self.state.lock();
        match (entries.remove(id), released) {
            (Some(Entry::Releasing(mut record)), None) => {
                // A request of this node need not wait for the next try.
                record.is_wanted = false;
                entries.insert(id.clone(), Entry::Owned(record));
            }
            (_, Some(Some(record))) => {
                if cache.len() >= CACHE_CAPACITY {
                    cache.clear();
                }
                cache.insert(id.clone(), record);
            }
            _ => {}
        }
        self.release_ended.notify_waiters();
    }

    /// Returns whether this node has no leases, also none to release.
    pub(super) fn is_idle(&self) -> bool {
        self.state.lock().entries.is_empty()
    }
}
