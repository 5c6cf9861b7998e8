//! Cached state of uploads. It does not look into a state.
//!
//! The state outlives a request, so that the next one need not read it from the service. It is reused only
//! if no other process can have written: because none writes to this bucket, or because the fence
//! of the new lease follows that of the old one.

use std::{
    collections::HashMap,
    pin::pin,
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
use tokio::sync::{MutexGuard, Notify};
use tokio_util::task::TaskTracker;

const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_SESSIONS: usize = 20_000;

const MAX_BYTES: usize = 64 << 20;
const EVICTION_INTERVAL: Duration = Duration::from_millis(100);

/// An upload from one request to the next.
#[derive(Debug)]
pub struct UploadSession<S> {
    /// The upload.
    pub id: UploadId,
    status: Mutex<SessionStatus>,
    total: Arc<AtomicUsize>,
    /// A state that was dropped had writes of unknown outcome.
    pub in_doubt: Arc<AtomicBool>,
    /// The writes outside of parts, which end although their call is dropped.
    pub writes: TaskTracker,
    /// Wakes readers that wait for the cached state when a request begins to write.
    begun: Notify,
    /// Lock it by [`lock`](Self::lock), or only if no call of the service follows.
    pub cached: tokio::sync::Mutex<CachedState<S>>,
}

/// The part of a session that is read while a call has locked its cached state.
#[derive(Debug)]
pub struct SessionStatus {
    max_fence: u64,
    /// The lease under which the description was seen to name this process.
    pub owned_fence: u64,
    /// The writer that the description named when it was last read without a lease.
    pub last_writer: Option<Option<String>>,
    /// The lease of a request in progress; 0 for none.
    writing: u64,
    /// The bytes in its buffer.
    pub buffered: usize,
    touched: Instant,
    memory: usize,
    /// The snapshot for readers while a request writes.
    pub published: Option<Snapshot>,
}

impl SessionStatus {
    /// Returns whether a request with the newest lease writes.
    pub fn is_being_written(&self) -> bool {
        self.writing > 0 && self.writing == self.max_fence
    }
}

/// The state of an upload, `S`, if it is known.
#[derive(Debug, Default)]
pub enum CachedState<S> {
    /// It has to be read.
    #[default]
    Unknown,
    /// There is no upload any more.
    Deleted,
    /// It is this one.
    Known(Box<S>),
}

impl<S> CachedState<S> {
    /// Discards the state after an error: the service may have another one.
    pub fn discard_if_failed<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            *self = Self::Unknown;
        }
        result
    }

    /// Returns the state.
    pub fn known(&self) -> Option<&S> {
        match self {
            Self::Unknown | Self::Deleted => None,
            Self::Known(state) => Some(state),
        }
    }
}

impl<S> UploadSession<S> {
    /// Creates a session that no other request shares.
    pub fn for_reader(id: UploadId) -> Self {
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
            begun: Notify::new(),
            cached: tokio::sync::Mutex::default(),
        }
    }

    /// Locks the cached state once the writes of dropped calls have ended.
    pub async fn lock(&self) -> MutexGuard<'_, CachedState<S>> {
        let cached = self.cached.lock().await;
        self.writes.wait().await;
        cached
    }

    /// Locks the cached state for a reader, or returns the snapshot of a request that writes, even of one that
    /// begins while the reader waits for the lock: it may keep it for long.
    pub async fn lock_unless_written(
        &self,
    ) -> std::result::Result<MutexGuard<'_, CachedState<S>>, Snapshot> {
        let mut begun = pin!(self.begun.notified());
        loop {
            // Before the check, so that no beginning is missed.
            begun.as_mut().enable();
            if let Some(snapshot) = self.written_snapshot() {
                return Err(snapshot);
            }
            tokio::select! {
                biased;
                () = &mut begun => begun.set(self.begun.notified()),
                cached = self.lock() => {
                    return match self.written_snapshot() {
                        Some(snapshot) => Err(snapshot),
                        None => Ok(cached),
                    };
                }
            }
        }
    }

    /// Locks the cached state for a change under a lease.
    pub async fn lock_for(&self, fence: Fence) -> Result<MutexGuard<'_, CachedState<S>>> {
        self.check_fence(fence)?;
        let cached = self.lock().await;
        self.check_fence(fence)?;
        Ok(cached)
    }

    /// Refuses a lease that is older than another one.
    pub fn check_fence(&self, fence: Fence) -> Result<()> {
        let mut status = self.status.lock();
        status.max_fence = status.max_fence.max(fence.0);
        match status.max_fence == fence.0 {
            true => Ok(()),
            false => Err(StoreError::LeaseLost(self.id.clone())),
        }
    }

    /// Not to be kept while anything else is locked.
    pub fn status(&self) -> parking_lot::MutexGuard<'_, SessionStatus> {
        self.status.lock()
    }

    /// Returns the last snapshot while a request writes, so that readers need not wait for it.
    pub fn written_snapshot(&self) -> Option<Snapshot> {
        let status = self.status.lock();
        let published = status.published.clone();
        published.filter(|_| status.is_being_written())
    }

    /// Publishes the progress of a request.
    pub fn publish(&self, snapshot: Snapshot) {
        self.status.lock().published = Some(snapshot);
    }

    /// Marks the upload as being written under a lease.
    pub fn writer(self: &Arc<Self>, fence: Fence) -> WriteGuard<S> {
        self.status.lock().writing = fence.0;
        self.begun.notify_waiters();
        WriteGuard(self.clone(), fence)
    }

    /// Records a use of the session, whose buffer has this many bytes.
    pub fn touch(&self, buffered: u64) {
        let mut status = self.status.lock();
        status.touched = Instant::now();
        status.buffered = usize::try_from(buffered).unwrap_or(usize::MAX);
    }

    /// Records the memory of the cached state.
    pub fn set_memory_size(&self, bytes: usize) {
        let mut status = self.status.lock();
        let before = std::mem::replace(&mut status.memory, bytes);
        self.total.fetch_add(bytes, Ordering::Relaxed);
        self.total.fetch_sub(before, Ordering::Relaxed);
    }
}

impl<S> Drop for UploadSession<S> {
    fn drop(&mut self) {
        self.set_memory_size(0);
    }
}

/// A request that writes an upload, until dropped.
#[derive(Debug)]
pub struct WriteGuard<S>(Arc<UploadSession<S>>, Fence);

impl<S> std::ops::Deref for WriteGuard<S> {
    type Target = Arc<UploadSession<S>>;

    fn deref(&self) -> &Arc<UploadSession<S>> {
        &self.0
    }
}

impl<S> Drop for WriteGuard<S> {
    fn drop(&mut self) {
        let mut status = self.0.status.lock();
        // A newer writer stays.
        if status.writing == self.1.0 {
            status.writing = 0;
        }
    }
}

/// The sessions of all uploads, bounded in number and memory.
#[derive(Debug)]
pub struct UploadSessions<S> {
    by_id: Mutex<HashMap<UploadId, Arc<UploadSession<S>>>>,
    swept: Mutex<Instant>,
    bytes: Arc<AtomicUsize>,
}

impl<S> Default for UploadSessions<S> {
    fn default() -> Self {
        Self {
            by_id: Mutex::default(),
            swept: Mutex::new(Instant::now()),
            bytes: Arc::default(),
        }
    }
}

impl<S> UploadSessions<S> {
    /// Returns the session of an upload, if there is one.
    pub fn get(&self, id: &UploadId) -> Option<Arc<UploadSession<S>>> {
        self.by_id.lock().get(id).cloned()
    }

    /// Returns the session of an upload, and removes old ones.
    pub fn get_or_insert(&self, id: &UploadId) -> Arc<UploadSession<S>> {
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

    /// Removes a session that no other call uses.
    pub fn remove_if_unused(&self, session: Arc<UploadSession<S>>) {
        let mut by_id = self.by_id.lock();
        let is_it = |known: &Arc<UploadSession<S>>| Arc::ptr_eq(known, &session);
        // This reference and the map's.
        let is_unused = Arc::strong_count(&session) <= 2 && session.writes.is_empty();
        if is_unused && by_id.get(&session.id).is_some_and(is_it) {
            by_id.remove(&session.id);
        }
    }

    /// Returns the sessions with buffers that no request has used for this time, the largest first.
    pub fn idle_sessions(&self, rested: Duration) -> Vec<Arc<UploadSession<S>>> {
        let idle_buffer = |session: &Arc<UploadSession<S>>| {
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
        let sessions = UploadSessions::<()>::default();
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

    #[tokio::test]
    async fn a_reader_that_waits_is_told_when_a_request_begins_to_write() {
        let sessions = UploadSessions::<()>::default();
        let id = UploadId::new("a").unwrap();
        let session = sessions.get_or_insert(&id);
        let writer = session.lock_for(Fence(1)).await.unwrap();
        let mut reader = pin!(session.lock_unless_written());
        assert!(futures_util::poll!(reader.as_mut()).is_pending());
        session.publish(Snapshot::new(
            Arc::new(landfall::upload::Upload::new(id, None)),
            7,
            std::time::SystemTime::now(),
        ));
        assert!(futures_util::poll!(reader.as_mut()).is_pending());
        let writing = session.writer(Fence(1));
        let Err(snapshot) = reader.await else {
            panic!("the state is locked");
        };
        assert_eq!(snapshot.offset, 7);
        // Without a writer it waits for the lock.
        drop(writing);
        let mut reader = pin!(session.lock_unless_written());
        assert!(futures_util::poll!(reader.as_mut()).is_pending());
        drop(writer);
        assert!(reader.await.is_ok());
    }

    #[test]
    fn a_session_is_kept_while_a_write_of_a_dropped_call_runs() {
        let sessions = UploadSessions::<()>::default();
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
