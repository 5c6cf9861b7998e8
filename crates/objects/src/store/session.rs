//! The cached state of an upload: its bytes in the cloud, and those on their way there.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use landfall::{lease::Fence, upload::Snapshot};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::remote_state::RemoteState;
use crate::call;
use crate::{Barrier, PartBuffer};

pub(super) type CachedState = crate::CachedState<UploadState>;
pub(super) type UploadSession = crate::UploadSession<UploadState>;
pub(super) type UploadSessions = crate::UploadSessions<UploadState>;
pub(super) type WriteGuard = crate::WriteGuard<UploadState>;

#[derive(Debug)]
pub(super) struct UploadState {
    pub(super) remote: RemoteState,
    pub(super) fence: Fence,
    pub(super) boundary: u64,
    pub(super) offloaded: u64,
    pub(super) buffer: PartBuffer,
    pub(super) in_flight: JoinSet<PartUploadResult>,
    pub(super) uploaded: Vec<(u32, String)>,
    /// This process has stored parts: the last one is its own.
    pub(super) has_sent_parts: bool,
    pub(super) committed: u64,
    pub(super) unverified: Option<Checkpoint>,
    pub(super) lease_start: Checkpoint,
    pub(super) plan_dirty: bool,
    pub(super) writer_recorded: bool,
    pub(super) parts_since_check: u32,
    pub(super) has_failed: bool,
    /// Opens when the last part that was sent is stored, where no part may be stored before another.
    pub(super) last_part: Option<Barrier>,
    pub(super) writes: TaskTracker,
    in_doubt: Arc<AtomicBool>,
}

pub(super) type PartUploadResult = (u32, call::Result<String>);

/// A state to return to.
///
/// When it was taken, `.part` contained all pending bytes; `.part` is not overwritten while the
/// checkpoint is needed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Checkpoint {
    pub(super) boundary: u64,
    pub(super) parts: usize,
    pub(super) next: u32,
    pub(super) pending: u64,
}

impl Checkpoint {
    pub(super) fn offset(&self) -> u64 {
        self.boundary + self.pending
    }
}

impl UploadState {
    pub(super) fn new(
        remote: RemoteState,
        fence: Fence,
        buffer: PartBuffer,
        session: &UploadSession,
    ) -> Self {
        let mut state = Self {
            boundary: remote.counted.offset,
            offloaded: remote.incomplete_part_bytes,
            committed: remote.offset(),
            buffer,
            in_flight: JoinSet::new(),
            uploaded: Vec::new(),
            has_sent_parts: false,
            unverified: None,
            lease_start: Checkpoint::default(),
            plan_dirty: false,
            writer_recorded: false,
            parts_since_check: 0,
            has_failed: false,
            last_part: None,
            writes: session.writes.clone(),
            in_doubt: Arc::clone(&session.in_doubt),
            fence,
            remote,
        };
        state.remote.is_in_doubt |= session.in_doubt.swap(false, Ordering::AcqRel);
        state.lease_start = state.checkpoint();
        state
    }

    pub(super) fn offset(&self) -> u64 {
        self.boundary + self.pending_len()
    }

    pub(super) fn pending_len(&self) -> u64 {
        self.offloaded + self.buffer.size()
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.committed != self.offset()
    }

    pub(super) fn next_part(&self) -> u32 {
        let next = self.remote.counted.next;
        next.saturating_add(self.uncounted_parts())
    }

    pub(super) fn uncounted_parts(&self) -> u32 {
        u32::try_from(self.in_flight.len() + self.uploaded.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn has_all_bytes(&self) -> bool {
        self.remote.info.upload.is_complete_at(self.offset())
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            boundary: self.boundary,
            parts: self.remote.counted.parts.len(),
            next: self.remote.counted.next,
            pending: self.pending_len(),
        }
    }

    pub(super) fn memory_size(&self) -> usize {
        const PART: usize = 96;
        let parts = self.remote.counted.parts.len() + self.uploaded.len();
        // Twice, because a snapshot may have another one.
        size_of::<Self>() + 2 * self.remote.info.upload.memory_size() + parts * PART
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let remote = &self.remote;
        let upload = Arc::clone(&remote.info.upload);
        let mut snapshot = Snapshot::new(upload, self.committed, remote.modified);
        snapshot.is_settled = remote.complete || !remote.is_interrupted;
        snapshot
    }
}

impl Drop for UploadState {
    fn drop(&mut self) {
        if self.has_failed || self.remote.is_in_doubt || !self.in_flight.is_empty() {
            self.in_doubt.store(true, Ordering::Release);
        }
    }
}
