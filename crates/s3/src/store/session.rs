//! Cached state of uploads.
//!
//! The state outlives a request, so that the next one need not read it from S3. It is reused only
//! if no other process can have written: because none writes to this bucket, or because the fence
//! of the new lease follows that of the old one.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use landfall::{
    lease::Fence,
    store::{Result, StoreError},
    upload::{Snapshot, UploadId},
};
use parking_lot::Mutex;
use tokio::{sync::MutexGuard, task::JoinSet};
use tokio_util::task::TaskTracker;

use super::{part_buffer::PartBuffer, remote_state::RemoteState};
use crate::client;

const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_SESSIONS: usize = 20_000;

const MAX_BYTES: usize = 64 << 20;
const EVICTION_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct UploadSession {
    pub(super) id: UploadId,
    status: Mutex<SessionStatus>,
    total: Arc<AtomicUsize>,
    in_doubt: Arc<AtomicBool>,
    /// The writes of `.info` and `.part`, which end although their call is dropped.
    pub(super) writes: TaskTracker,
    pub(super) cached: tokio::sync::Mutex<CachedState>,
}

/// The part of a session that is read while a call has locked its cached state.
#[derive(Debug)]
pub(super) struct SessionStatus {
    max_fence: u64,
    /// The lease under which the description was seen to name this process.
    pub(super) owned_fence: u64,
    /// The writer that the description named when it was last read without a lease.
    pub(super) last_writer: Option<Option<String>>,
    /// The lease of a request in progress; 0 for none.
    writing: u64,
    pub(super) buffered: usize,
    touched: Instant,
    memory: usize,
    pub(super) published: Option<Snapshot>,
}

impl SessionStatus {
    pub(super) fn is_being_written(&self) -> bool {
        self.writing > 0 && self.writing == self.max_fence
    }
}

#[derive(Debug, Default)]
pub(super) enum CachedState {
    #[default]
    Unknown,
    Deleted,
    Known(Box<UploadState>),
}

impl CachedState {
    /// Discards the state after an error: S3 may have another one.
    pub(super) fn discard_if_failed<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            *self = Self::Unknown;
        }
        result
    }

    pub(super) fn memory_size(&self) -> usize {
        match self {
            Self::Unknown | Self::Deleted => 0,
            Self::Known(state) => state.memory_size(),
        }
    }
}

#[derive(Debug)]
pub(super) struct UploadState {
    pub(super) remote: RemoteState,
    pub(super) fence: Fence,
    pub(super) boundary: u64,
    pub(super) offloaded: u64,
    pub(super) buffer: PartBuffer,
    pub(super) in_flight: JoinSet<PartUploadResult>,
    pub(super) uploaded: Vec<(u32, String)>,
    pub(super) committed: u64,
    pub(super) unverified: Option<Checkpoint>,
    pub(super) lease_start: Checkpoint,
    pub(super) plan_dirty: bool,
    pub(super) writer_recorded: bool,
    pub(super) parts_since_check: u32,
    pub(super) has_failed: bool,
    pub(super) writes: TaskTracker,
    in_doubt: Arc<AtomicBool>,
}

pub(super) type PartUploadResult = (u32, client::Result<String>);

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
            unverified: None,
            lease_start: Checkpoint::default(),
            plan_dirty: false,
            writer_recorded: false,
            parts_since_check: 0,
            has_failed: false,
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
        self.offloaded + self.buffer.len()
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
        Snapshot {
            upload: Arc::clone(&self.remote.info.upload),
            offset: self.committed,
            modified: self.remote.modified,
        }
    }
}

impl Drop for UploadState {
    fn drop(&mut self) {
        if self.has_failed || self.remote.is_in_doubt || !self.in_flight.is_empty() {
            self.in_doubt.store(true, Ordering::Release);
        }
    }
}

impl UploadSession {
    pub(super) fn for_reader(id: UploadId) -> Self {
        Self::new(id, Arc::default())
    }

    fn new(id: UploadId, total: Arc<AtomicUsize>) -> Self {
        let writes = TaskTracker::new();
        // Closed, so that `wait` returns once no write runs.
        writes.close();
        Self {
            writes,
            id,
            status: Mutex::new(SessionStatus {
                max_fence: 0,
                owned_fence: 0,
                last_writer: None,
                writing: 0,
                buffered: 0,
                touched: Instant::now(),
                memory: 0,
                published: None,
            }),
            total,
            in_doubt: Arc::default(),
            cached: tokio::sync::Mutex::default(),
        }
    }

    /// Locks the cached state once the writes of dropped calls have ended.
    pub(super) async fn lock(&self) -> MutexGuard<'_, CachedState> {
        let cached = self.cached.lock().await;
        self.writes.wait().await;
        cached
    }

    /// Locks the cached state for a change under a lease.
    pub(super) async fn lock_for(&self, fence: Fence) -> Result<MutexGuard<'_, CachedState>> {
        self.check_fence(fence)?;
        let cached = self.lock().await;
        self.check_fence(fence)?;
        Ok(cached)
    }

    /// Refuses a lease that is older than another one.
    pub(super) fn check_fence(&self, fence: Fence) -> Result<()> {
        let mut status = self.status.lock();
        status.max_fence = status.max_fence.max(fence.0);
        match status.max_fence == fence.0 {
            true => Ok(()),
            false => Err(StoreError::LeaseLost(self.id.clone())),
        }
    }

    /// Not to be kept while anything else is locked.
    pub(super) fn status(&self) -> parking_lot::MutexGuard<'_, SessionStatus> {
        self.status.lock()
    }

    /// Returns the last snapshot while a request writes, so that readers need not wait for it.
    pub(super) fn written_snapshot(&self) -> Option<Snapshot> {
        let status = self.status.lock();
        let published = status.published.clone();
        published.filter(|_| status.is_being_written())
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        self.status.lock().published = Some(snapshot);
    }

    pub(super) fn writer(self: &Arc<Self>, fence: Fence) -> WriteGuard {
        self.status.lock().writing = fence.0;
        WriteGuard(self.clone(), fence)
    }

    pub(super) fn touch(&self, buffered: u64) {
        let mut status = self.status.lock();
        status.touched = Instant::now();
        status.buffered = usize::try_from(buffered).unwrap_or(usize::MAX);
    }

    pub(super) fn set_memory_size(&self, bytes: usize) {
        let mut status = self.status.lock();
        let before = std::mem::replace(&mut status.memory, bytes);
        self.total.fetch_add(bytes, Ordering::Relaxed);
        self.total.fetch_sub(before, Ordering::Relaxed);
    }
}

impl Drop for UploadSession {
    fn drop(&mut self) {
        self.set_memory_size(0);
    }
}

#[derive(Debug)]
pub(super) struct WriteGuard(Arc<UploadSession>, Fence);

impl std::ops::Deref for WriteGuard {
    type Target = Arc<UploadSession>;

    fn deref(&self) -> &Arc<UploadSession> {
        &self.0
    }
}

impl Drop for WriteGuard {
    fn drop(&mut self) {
        let mut status = self.0.status.lock();
        // A newer writer stays.
        if status.writing == self.1.0 {
            status.writing = 0;
        }
    }
}

#[derive(Debug)]
pub(super) struct UploadSessions {
    by_id: Mutex<HashMap<UploadId, Arc<UploadSession>>>,
    swept: Mutex<Instant>,
    bytes: Arc<AtomicUsize>,
}

impl UploadSessions {
    pub(super) fn new() -> Self {
        Self {
            by_id: Mutex::default(),
            swept: Mutex::new(Instant::now()),
            bytes: Arc::default(),
        }
    }

    pub(super) fn get(&self, id: &UploadId) -> Option<Arc<UploadSession>> {
        self.by_id.lock().get(id).cloned()
    }

    pub(super) fn get_or_insert(&self, id: &UploadId) -> Arc<UploadSession> {
        let mut by_id = self.by_id.lock();
        let mut swept = self.swept.lock();
        let is_full = by_id.len() >= MAX_SESSIONS
            || (self.bytes.load(Ordering::Relaxed) > MAX_BYTES
                && swept.elapsed() >= EVICTION_INTERVAL);
        if is_full || swept.elapsed() > IDLE_TIMEOUT / 6 {
            *swept = Instant::now();
            by_id.retain(|_, session| {
                Arc::strong_count(session) > 1
                    || !session.writes.is_empty()
                    || !is_full && session.status().touched.elapsed() < IDLE_TIMEOUT
            });
        }
        let session = by_id.entry(id.clone());
        let session =
            session.or_insert_with(|| Arc::new(UploadSession::new(id.clone(), self.bytes.clone())));
        session.clone()
    }

    pub(super) fn remove_if_unused(&self, session: Arc<UploadSession>) {
        let mut by_id = self.by_id.lock();
        let is_it = |known: &Arc<UploadSession>| Arc::ptr_eq(known, &session);
        // This reference and the map's.
        let is_unused = Arc::strong_count(&session) <= 2 && session.writes.is_empty();
        if is_unused && by_id.get(&session.id).is_some_and(is_it) {
            by_id.remove(&session.id);
        }
    }

    /// Returns the sessions with buffers that no request has used for this time, the largest first.
    pub(super) fn idle_sessions(&self, rested: Duration) -> Vec<Arc<UploadSession>> {
        let idle_buffer = |session: &Arc<UploadSession>| {
            let status = session.status();
            let is_used = status.is_being_written() && status.touched.elapsed() < rested;
            (status.buffered > 0 && !is_used).then(|| (status.buffered, session.clone()))
        };
        let by_id = self.by_id.lock();
        let mut idle: Vec<_> = by_id.values().filter_map(idle_buffer).collect();
        drop(by_id);
        idle.sort_by_key(|(buffered, _)| std::cmp::Reverse(*buffered));
        idle.into_iter().map(|(_, session)| session).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_states_use_bounded_memory() {
        let sessions = UploadSessions::new();
        let id = |n: usize| UploadId::new(&format!("{n}")).unwrap();
        let used = sessions.get_or_insert(&id(0));
        used.set_memory_size(1 << 20);
        for n in 1..200 {
            sessions.get_or_insert(&id(n)).set_memory_size(1 << 20);
        }
        assert_eq!(sessions.bytes.load(Ordering::Relaxed), 200 << 20);
        std::thread::sleep(EVICTION_INTERVAL);
        drop(sessions.get_or_insert(&id(200)));
        assert_eq!(sessions.bytes.load(Ordering::Relaxed), 1 << 20);
        assert!(sessions.get(&id(0)).is_some(), "it is in use");
        used.set_memory_size(10);
        assert_eq!(sessions.bytes.load(Ordering::Relaxed), 10);
        drop((used, sessions.get_or_insert(&id(1))));
        assert!(sessions.get(&id(1)).is_some());
    }

    #[test]
    fn a_session_is_kept_while_a_write_of_a_dropped_call_runs() {
        let sessions = UploadSessions::new();
        let id = UploadId::new("a").unwrap();
        let session = sessions.get_or_insert(&id);
        session.set_memory_size(MAX_BYTES + 1);
        let write = session.writes.token();
        sessions.remove_if_unused(session);
        std::thread::sleep(EVICTION_INTERVAL);
        drop(sessions.get_or_insert(&UploadId::new("b").unwrap()));
        let session = sessions
            .get(&id)
            .expect("the next call waits for the write");
        drop(write);
        sessions.remove_if_unused(session);
        assert!(sessions.get(&id).is_none());
    }
}
