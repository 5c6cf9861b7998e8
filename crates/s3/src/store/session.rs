//! Uploads of which this process knows where they stand.
//!
//! What is known outlives a request, so that the next one need not ask S3. It is used again only if
//! nobody else can have written: because no other process writes at all, or because the fence of the
//! new lease follows that of the old one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use landfall::{
    lease::Fence,
    upload::{Snapshot, UploadId},
};
use tokio::task::JoinSet;

use super::{gather::Gather, look::Standing};
use crate::client;

/// What nobody has asked for this long is forgotten.
const IDLE: Duration = Duration::from_secs(60);
/// The most uploads that are remembered; those being written are always.
const MOST: usize = 20_000;

/// The most memory that what is known of them takes, in bytes: clients choose the size of metadata.
const MAX_BYTES: usize = 64 << 20;
/// The shortest time between two evictions for the sake of [`MAX_BYTES`].
const EVICTION_INTERVAL: Duration = Duration::from_millis(100);

/// What this process knows of one upload.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: UploadId,
    /// The newest fence seen.
    newest: AtomicU64,
    /// The fence of the lease under which the description was made to name this process; 0 if none.
    claimed: AtomicU64,
    /// The writer that the description named when the upload was loaded last.
    seen: Mutex<Option<Option<String>>>,
    /// The fence of the [`Append`](landfall::store::Append) that is open; 0 if none is.
    writing: AtomicU64,
    /// Bytes in memory that no part has taken yet.
    gathered: AtomicUsize,
    touched: Mutex<Instant>,
    /// The memory of what is known, in bytes, as far as `total` has it.
    bytes: AtomicUsize,
    /// That of all sessions of a store.
    total: Arc<AtomicUsize>,
    /// A part of this process was cut off or failed: S3 may still work on it.
    in_doubt: Arc<AtomicBool>,
    /// What may be told while somebody writes.
    published: Mutex<Option<Snapshot>>,
    pub(super) known: tokio::sync::Mutex<Known>,
}

/// How much is known.
#[derive(Debug, Default)]
pub(super) enum Known {
    /// Nothing: S3 must be asked.
    #[default]
    Nothing,
    /// It was removed.
    Gone,
    /// Where it stands.
    State(Box<State>),
}

impl Known {
    /// Estimates the memory it takes, in bytes.
    pub(super) fn memory_size(&self) -> usize {
        match self {
            Self::Nothing | Self::Gone => 0,
            Self::State(state) => state.memory_size(),
        }
    }
}

/// Where an upload stands, including what isn't in S3 yet.
#[derive(Debug)]
pub(super) struct State {
    /// What is in S3; `counted` has the parts that have landed.
    pub(super) at: Standing,
    /// Under which lease this was found out, or changed last.
    pub(super) fence: Fence,
    /// Where the bytes begin that no part has taken: parts up to here have landed or are on their way.
    pub(super) boundary: u64,
    /// Bytes from the boundary on that are in `.part` and not in memory.
    pub(super) skipped: u64,
    /// The bytes after those.
    pub(super) gather: Gather,
    /// Parts on their way.
    pub(super) flights: JoinSet<Landing>,
    /// Parts that have landed since the last time that all had.
    pub(super) landed: Vec<(u32, String)>,
    /// The offset that may be told.
    pub(super) committed: u64,
    /// Where bytes on probation begin, if some are.
    pub(super) held: Option<Floor>,
    /// Where this lease began.
    pub(super) opened: Floor,
    /// The plan was changed and isn't written down yet.
    pub(super) plan_unsaid: bool,
    /// The description names this writer, and no `.part` states that its parts have settled.
    pub(super) is_signed: bool,
    /// Parts sent since this process last made sure that it is the writer.
    pub(super) unverified_parts: u32,
    /// A part failed: S3 may still work on it.
    pub(super) has_failed: bool,
    in_doubt: Arc<AtomicBool>,
}

/// How the sending of a part ended.
pub(super) type Landing = (u32, client::Result<String>);

/// A state to go back to. At its making `.part` has the bytes that no part had taken, and it isn't
/// written again for as long as one may have to go back.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Floor {
    pub(super) boundary: u64,
    pub(super) parts: usize,
    pub(super) next: u32,
    pub(super) rest: u64,
}

impl Floor {
    pub(super) fn offset(&self) -> u64 {
        self.boundary + self.rest
    }
}

impl State {
    /// A state as S3 has it. Parts of the session's earlier states may still be on their way.
    pub(super) fn new(at: Standing, fence: Fence, gather: Gather, session: &Session) -> Self {
        let mut state = Self {
            boundary: at.counted.offset,
            skipped: at.rest_counts,
            committed: at.offset(),
            gather,
            flights: JoinSet::new(),
            landed: Vec::new(),
            held: None,
            opened: Floor::default(),
            plan_unsaid: false,
            is_signed: false,
            unverified_parts: 0,
            has_failed: false,
            in_doubt: Arc::clone(&session.in_doubt),
            fence,
            at,
        };
        state.at.is_in_doubt |= session.in_doubt.swap(false, Ordering::AcqRel);
        state.opened = state.floor();
        state
    }

    /// Where the next byte goes.
    pub(super) fn offset(&self) -> u64 {
        self.boundary + self.rest()
    }

    /// How many bytes no part has taken.
    pub(super) fn rest(&self) -> u64 {
        self.skipped + self.gather.len()
    }

    /// Whether bytes would be lost with this process.
    pub(super) fn is_dirty(&self) -> bool {
        self.committed != self.offset()
    }

    /// The number of the part that is being gathered.
    pub(super) fn next_part(&self) -> u32 {
        self.at.counted.next.saturating_add(self.in_flight())
    }

    /// Parts that were sent and are not among those that count.
    pub(super) fn in_flight(&self) -> u32 {
        u32::try_from(self.flights.len() + self.landed.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn is_all_there(&self) -> bool {
        self.at.info.upload.is_complete_at(self.offset())
    }

    /// All parts must have landed, and the rest be in `.part`.
    pub(super) fn floor(&self) -> Floor {
        Floor {
            boundary: self.boundary,
            parts: self.at.counted.parts.len(),
            next: self.at.counted.next,
            rest: self.rest(),
        }
    }

    /// Estimates the memory it takes, in bytes, but for bytes of the upload.
    pub(super) fn memory_size(&self) -> usize {
        /// An entry of a list of parts, with its entity tag.
        const PART: usize = 96;
        let parts = self.at.counted.parts.len() + self.landed.len();
        // The description twice: it may be published, too.
        size_of::<Self>() + 2 * self.at.info.upload.memory_size() + parts * PART
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            upload: Arc::new(self.at.info.upload.clone()),
            offset: self.committed,
            modified: self.at.modified,
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if self.has_failed || self.at.is_in_doubt || !self.flights.is_empty() {
            self.in_doubt.store(true, Ordering::Release);
        }
    }
}

impl Session {
    /// One that belongs to no store: for those who only read.
    pub(super) fn of_reader(id: UploadId) -> Self {
        Self::new(id, Arc::default())
    }

    fn new(id: UploadId, total: Arc<AtomicUsize>) -> Self {
        Self {
            id,
            newest: AtomicU64::new(0),
            claimed: AtomicU64::new(0),
            seen: Mutex::default(),
            writing: AtomicU64::new(0),
            gathered: AtomicUsize::new(0),
            touched: Mutex::new(Instant::now()),
            bytes: AtomicUsize::new(0),
            total,
            in_doubt: Arc::default(),
            published: Mutex::new(None),
            known: tokio::sync::Mutex::default(),
        }
    }

    /// Notes a fence; says whether it is at least as new as any seen.
    pub(super) fn admits(&self, fence: Fence) -> bool {
        self.newest.fetch_max(fence.0, Ordering::AcqRel) <= fence.0
    }

    pub(super) fn is_newest(&self, fence: Fence) -> bool {
        self.newest.load(Ordering::Acquire) <= fence.0
    }

    /// Records that the description names this process under a lease.
    pub(super) fn claim(&self, fence: Fence) {
        self.claimed.store(fence.0, Ordering::Release);
    }

    /// Whether the description has named this process under that lease.
    pub(super) fn has_claimed(&self, fence: Fence) -> bool {
        fence.0 > 0 && self.claimed.load(Ordering::Acquire) == fence.0
    }

    /// Records the writer that the description names.
    pub(super) fn see(&self, writer: Option<&str>) {
        *lock(&self.seen) = Some(writer.map(str::to_owned));
    }

    /// Takes the writer that was recorded.
    pub(super) fn take_seen(&self) -> Option<Option<String>> {
        lock(&self.seen).take()
    }

    /// Whether the newest lease has this open for appending.
    pub(super) fn is_written(&self) -> bool {
        let writing = self.writing.load(Ordering::Acquire);
        writing > 0 && writing == self.newest.load(Ordering::Acquire)
    }

    /// Notes a writer until the guard is dropped.
    pub(super) fn writer(self: &Arc<Self>, fence: Fence) -> Writing {
        self.writing.store(fence.0, Ordering::Release);
        Writing(self.clone(), fence)
    }

    pub(super) fn gathered(&self) -> usize {
        self.gathered.load(Ordering::Relaxed)
    }

    /// Notes that something happened, and how much is in memory after it.
    pub(super) fn touch(&self, gathered: u64) {
        *lock(&self.touched) = Instant::now();
        let gathered = usize::try_from(gathered).unwrap_or(usize::MAX);
        self.gathered.store(gathered, Ordering::Relaxed);
    }

    /// Counts the memory of what is known of the upload.
    pub(super) fn weigh(&self, bytes: usize) {
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        if bytes > before {
            self.total.fetch_add(bytes - before, Ordering::Relaxed);
        } else {
            self.total.fetch_sub(before - bytes, Ordering::Relaxed);
        }
    }

    /// How long ago something happened.
    pub(super) fn idle(&self) -> Duration {
        lock(&self.touched).elapsed()
    }

    pub(super) fn published(&self) -> Option<Snapshot> {
        lock(&self.published).clone()
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        *lock(&self.published) = Some(snapshot);
    }

    pub(super) fn unpublish(&self) {
        *lock(&self.published) = None;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.weigh(0);
    }
}

/// A session that is open for appending.
#[derive(Debug)]
pub(super) struct Writing(Arc<Session>, Fence);

impl std::ops::Deref for Writing {
    type Target = Arc<Session>;

    fn deref(&self) -> &Arc<Session> {
        &self.0
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // A newer one stays noted.
        let _ = self
            .0
            .writing
            .compare_exchange(self.1.0, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// All sessions of a store.
#[derive(Debug)]
pub(super) struct Sessions {
    by_id: Mutex<HashMap<UploadId, Arc<Session>>>,
    swept: Mutex<Instant>,
    bytes: Arc<AtomicUsize>,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self {
            by_id: Mutex::default(),
            swept: Mutex::new(Instant::now()),
            bytes: Arc::default(),
        }
    }

    pub(super) fn get(&self, id: &UploadId) -> Option<Arc<Session>> {
        lock(&self.by_id).get(id).cloned()
    }

    /// The session of an upload, made if there is none.
    pub(super) fn enter(&self, id: &UploadId) -> Arc<Session> {
        let mut by_id = lock(&self.by_id);
        let mut swept = lock(&self.swept);
        let is_full = by_id.len() >= MOST
            || (self.bytes.load(Ordering::Relaxed) > MAX_BYTES
                && swept.elapsed() >= EVICTION_INTERVAL);
        if is_full || swept.elapsed() > IDLE / 6 {
            *swept = Instant::now();
            by_id.retain(|_, session| {
                Arc::strong_count(session) > 1 || !is_full && session.idle() < IDLE
            });
        }
        let session = by_id.entry(id.clone());
        let session =
            session.or_insert_with(|| Arc::new(Session::new(id.clone(), self.bytes.clone())));
        session.clone()
    }

    /// Forgets an upload of which nothing is known.
    pub(super) fn leave(&self, session: Arc<Session>) {
        let mut by_id = lock(&self.by_id);
        let is_it = |known: &Arc<Session>| Arc::ptr_eq(known, &session);
        // This one and the map's.
        if by_id.get(&session.id).is_some_and(is_it) && Arc::strong_count(&session) <= 2 {
            by_id.remove(&session.id);
        }
    }

    /// Those with bytes in memory that aren't moving, the largest first.
    pub(super) fn resting(&self, rested: Duration) -> Vec<Arc<Session>> {
        let mut resting: Vec<_> = lock(&self.by_id)
            .values()
            .filter(|session| session.gathered() > 0)
            .filter(|session| !session.is_written() || session.idle() >= rested)
            .cloned()
            .collect();
        resting.sort_by_key(|session| std::cmp::Reverse(session.gathered()));
        resting
    }
}

/// A panic elsewhere leaves these as they were.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_takes_a_bounded_memory() {
        let sessions = Sessions::new();
        let id = |n: usize| UploadId::new(&format!("{n}")).unwrap();
        let used = sessions.enter(&id(0));
        used.weigh(1 << 20);
        for n in 1..200 {
            sessions.enter(&id(n)).weigh(1 << 20);
        }
        assert_eq!(sessions.bytes.load(Ordering::Relaxed), 200 << 20);
        std::thread::sleep(EVICTION_INTERVAL);
        drop(sessions.enter(&id(200)));
        assert_eq!(sessions.bytes.load(Ordering::Relaxed), 1 << 20);
        assert!(sessions.get(&id(0)).is_some(), "it is in use");
        used.weigh(10);
        assert_eq!(sessions.bytes.load(Ordering::Relaxed), 10);
        drop((used, sessions.enter(&id(1))));
        assert!(sessions.get(&id(1)).is_some());
    }
}
