//! Uploads that are being written in this process. Other requests read their offset here, without a
//! call to the store, and take over from their writers.

pub(super) mod completing;
mod ended;
mod eviction;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

use self::{
    completing::Completions,
    ended::Ended,
    eviction::{Sample, Scan},
};
use super::{HookReply, RequestContext};
use crate::{
    hook::ClientResponse,
    upload::{Sharded, Snapshot, Upload, UploadId, UploadMap},
};

/// A writer that received nothing for this long is idle: all data that its client sent has arrived.
/// TCP may pause for 200 ms in between (delayed acknowledgement, retransmission).
const IDLE_AFTER: Duration = Duration::from_millis(250);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const STABLE_TIMEOUT: Duration = Duration::from_secs(1);
/// A request may first write the description, which takes a second on a store that limits writes of an object.
const START_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
struct Shard {
    writers: UploadMap<Arc<LiveUpload>>,
    /// Uploads of requests that are about to become writers.
    starting: Vec<UploadId>,
    ended: Ended,
    completing: Completions,
}

impl Shard {
    fn remove_starting(&mut self, id: &UploadId) -> bool {
        let at = self.starting.iter().position(|starting| starting == id);
        at.map(|at| self.starting.swap_remove(at)).is_some()
    }
}

#[derive(Debug)]
pub(super) struct LiveUploads {
    emits: bool,
    uploads: Sharded<Shard>,
    started: Notify,
    last_scan: Mutex<Scan>,
}

impl LiveUploads {
    pub(super) fn new(emits: bool) -> Self {
        Self {
            emits,
            uploads: Sharded::default(),
            started: Notify::new(),
            last_scan: Mutex::default(),
        }
    }

    /// The request is about to write the upload: [`wait_until_stable`](Self::wait_until_stable) waits until it
    /// [enters](Self::enter) or drops the guard. Also returns whether another one writes.
    pub(super) fn start<'a>(&'a self, id: &'a UploadId) -> (StartingGuard<'a>, bool) {
        let mut shard = self.uploads.shard(id);
        shard.starting.push(id.clone());
        let is_live = shard.writers.contains_key(id);
        drop(shard);
        let set = Some(self);
        (StartingGuard { set, id }, is_live)
    }

    pub(super) fn is_being_written(&self, id: &UploadId) -> bool {
        let shard = self.uploads.shard(id);
        shard.writers.contains_key(id) || shard.starting.contains(id)
    }

    /// Waits for the request that writes the upload, or is about to: see [`LiveUpload::wait_until_stable`].
    pub(super) async fn wait_until_stable(&self, id: &UploadId) {
        let mut since = None;
        loop {
            // Created before the check, so that no notification is missed.
            let started = self.started.notified();
            let (live, is_starting) = {
                let shard = self.uploads.shard(id);
                (shard.writers.get(id).cloned(), shard.starting.contains(id))
            };
            if live.is_none() && !is_starting {
                return;
            }
            if let Some(live) = live {
                // Boxed, as below, because it is rare: the largest branch sets the size of every request's future.
                return Box::pin(live.wait_until_stable(Instant::now())).await;
            }
            let since = *since.get_or_insert_with(Instant::now);
            let started = Box::pin(timeout_at(since + START_TIMEOUT, started));
            if started.await.is_err() {
                return;
            }
        }
    }

    /// Adds an upload until the guard is dropped. The request has its lease, so there is no other entry.
    pub(super) fn enter(
        &self,
        upload: Arc<Upload>,
        offset: u64,
        visibility: Visibility,
        context: &RequestContext,
    ) -> LiveUploadGuard<'_> {
        let mut shard = self.uploads.shard(&upload.id);
        let was_starting = shard.remove_starting(&upload.id);
        let ended = shard.ended.remove(&upload.id);
        let emitted = ended.map_or(offset, |ended| ended.emitted.load(Ordering::Relaxed));
        let live = Arc::new(LiveUpload {
            upload,
            context: context.clone(),
            visibility,
            offset: AtomicU64::new(offset),
            received: AtomicU64::new(offset),
            emitted: AtomicU64::new(emitted),
            told: AtomicU64::new(offset),
            is_waiting: AtomicBool::new(false),
            must_end: AtomicBool::new(false),
            writer: Mutex::new(WriterState::new(offset)),
            requested: Notify::new(),
            changed: Notify::new(),
        });
        shard.writers.insert(live.upload.id.clone(), live.clone());
        drop(shard);
        if was_starting {
            self.started.notify_waiters();
        }
        LiveUploadGuard { set: self, live }
    }

    pub(super) fn get(&self, id: &UploadId) -> Option<Arc<LiveUpload>> {
        self.uploads.shard(id).writers.get(id).cloned()
    }

    pub(super) fn len(&self) -> usize {
        let shards = self.uploads.shards();
        shards.map(|shard| shard.writers.len()).sum()
    }

    /// Returns whether an upload has progress to emit, or may have.
    pub(super) fn has_recent(&self) -> bool {
        let mut shards = self.uploads.shards();
        shards.any(|shard| !shard.writers.is_empty() || !shard.ended.is_empty())
    }

    pub(super) fn shut_down(&self) {
        for shard in self.uploads.shards() {
            shard.writers.values().for_each(|live| live.shut_down());
        }
    }

    /// Returns those of every `steps`-th shard, from the shard `step` on.
    pub(super) fn recent(&self, step: usize, steps: usize) -> Vec<Arc<LiveUpload>> {
        let mut recent = Vec::new();
        for mut shard in self.uploads.shards().skip(step).step_by(steps) {
            recent.extend(shard.ended.take());
            recent.extend(shard.writers.values().cloned());
        }
        recent
    }
}

/// When the bytes of a body count and may be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    /// As soon as they are stored.
    Immediate,
    /// They count at once, but are published at the end: a trailer may revoke them until then.
    AtEnd,
    /// At the end, if they match their checksum.
    Verified,
}

#[derive(Debug)]
pub(crate) struct LiveUpload {
    pub(super) upload: Arc<Upload>,
    pub(super) context: RequestContext,
    pub(super) visibility: Visibility,
    offset: AtomicU64,
    /// The offset that the received bytes would reach, for progress.
    received: AtomicU64,
    emitted: AtomicU64,
    /// The largest offset that another request, or an interim response, has told.
    told: AtomicU64,
    is_waiting: AtomicBool,
    must_end: AtomicBool,
    writer: Mutex<WriterState>,
    requested: Notify,
    changed: Notify,
}

#[derive(Debug)]
struct WriterState {
    /// The offset that the upload would have if the writer stopped now.
    offset: u64,
    received_at: Instant,
    is_writing: bool,
    has_ended: bool,
    is_taken_over: bool,
    commit_requested: bool,
    is_shutting_down: bool,
    stop: HookReply,
    is_evicted: bool,
    sample: Option<Sample>,
}

impl WriterState {
    fn new(offset: u64) -> Self {
        Self {
            offset,
            received_at: Instant::now(),
            is_writing: false,
            has_ended: false,
            is_taken_over: false,
            commit_requested: false,
            is_shutting_down: false,
            stop: None,
            is_evicted: false,
            sample: None,
        }
    }
}

#[derive(Debug)]
pub(super) enum WriterRequest {
    Stop(Box<ClientResponse>),
    ShutDown,
    TakeOver,
    Evict,
    Commit,
    /// Of the locker: the signal of the lease has the reason.
    Lease,
}

/// The writer's side.
impl LiveUpload {
    pub(super) fn publish(&self, offset: u64) {
        self.offset.fetch_max(offset, Ordering::AcqRel);
    }

    pub(super) fn publish_commit(&self, offset: u64) {
        self.publish(offset);
        self.changed.notify_waiters();
    }

    pub(super) fn set_waiting(&self, is_waiting: bool) {
        self.is_waiting.store(is_waiting, Ordering::Relaxed);
    }

    /// Starts a write that changes the offset; returns false if another request has taken over.
    #[must_use]
    pub(super) fn start_write(&self) -> bool {
        let mut writer = self.writer.lock();
        writer.is_writing = !writer.is_taken_over;
        writer.is_writing
    }

    /// Ends a write. If `counts`, the upload would keep this offset if the writer stopped now.
    pub(super) fn end_write(&self, offset: u64, counts: bool) {
        self.receive(offset);
        let mut writer = self.writer.lock();
        if counts {
            writer.offset = offset;
        }
        writer.is_writing = false;
        writer.received_at = Instant::now();
    }

    pub(super) fn receive(&self, offset: u64) {
        self.received.store(offset, Ordering::Relaxed);
    }

    pub(super) fn touch(&self) {
        self.writer.lock().received_at = Instant::now();
    }

    pub(super) async fn next_request(&self) -> WriterRequest {
        loop {
            let requested = self.requested.notified();
            tokio::pin!(requested);
            // Registers before checking, so that no request is missed.
            requested.as_mut().enable();
            if let Some(request) = self.take_request() {
                return request;
            }
            requested.await;
        }
    }

    pub(super) fn must_end(&self) -> bool {
        self.must_end.load(Ordering::Relaxed)
    }

    pub(super) fn silent_for(&self) -> Duration {
        self.writer.lock().received_at.elapsed()
    }

    pub(super) fn take_request(&self) -> Option<WriterRequest> {
        let mut writer = self.writer.lock();
        if let Some(reply) = writer.stop.take() {
            return Some(WriterRequest::Stop(reply));
        }
        if writer.is_shutting_down {
            return Some(WriterRequest::ShutDown);
        }
        if writer.is_taken_over {
            return Some(WriterRequest::TakeOver);
        }
        if writer.is_evicted {
            return Some(WriterRequest::Evict);
        }
        std::mem::take(&mut writer.commit_requested).then_some(WriterRequest::Commit)
    }
}

impl LiveUpload {
    pub(super) fn offset(&self) -> u64 {
        self.offset.load(Ordering::Acquire)
    }

    /// Returns whether the store may have more than the published offset, which other nodes read there: a call
    /// has not returned, or bytes wait for a commit. A writer that waits for its client has neither, apart from those.
    pub(super) fn can_lag(&self) -> bool {
        self.visibility == Visibility::Immediate
            && (!self.is_waiting.load(Ordering::Relaxed)
                || self.received.load(Ordering::Relaxed) > self.offset())
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.upload.clone(), self.offset(), SystemTime::now())
    }

    pub(super) fn record_told(&self, offset: u64) {
        self.told.fetch_max(offset, Ordering::Relaxed);
    }

    pub(super) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    pub(super) fn take_unemitted(&self) -> Option<u64> {
        let received = self.received.load(Ordering::Relaxed);
        (self.emitted.fetch_max(received, Ordering::Relaxed) < received).then_some(received)
    }

    pub(super) fn stop(&self, reply: ClientResponse) {
        let reply = Box::new(reply);
        self.writer.lock().stop.get_or_insert(reply);
        self.end();
    }

    pub(super) fn shut_down(&self) {
        self.writer.lock().is_shutting_down = true;
        self.end();
    }

    fn end(&self) {
        self.must_end.store(true, Ordering::Relaxed);
        self.requested.notify_waiters();
    }

    pub(super) async fn wait_end(&self) {
        self.poll_writer(Instant::now(), |writer, is_late| {
            (writer.has_ended || is_late).then_some(())
        })
        .await;
    }

    /// Waits until [`offset`](Self::offset) is likely still valid at the client's next request.
    ///
    /// A client that aborts a request leaves bytes in flight, so the writer must have ended or be idle.
    /// A writer that keeps receiving is not disturbed; the wait ends [`STABLE_TIMEOUT`] after `since`.
    async fn wait_until_stable(&self, since: Instant) {
        self.poll_writer(since, |writer, is_late| {
            if writer.has_ended || is_late {
                return Some(());
            }
            if !self.is_idle(writer) {
                return None;
            }
            if self.visibility != Visibility::Immediate || self.offset() >= writer.offset {
                return Some(());
            }
            self.request_commit(writer);
            None
        })
        .await;
    }

    /// Takes over for a request that continues at `at`, if it can succeed: the writer has ended, or stops
    /// exactly there. A writer past that offset is not disturbed.
    ///
    /// # Errors
    /// The upload's published offset, if the request cannot continue.
    pub(super) async fn take_over(&self, at: u64) -> Result<(), u64> {
        self.poll_writer(Instant::now(), |writer, is_late| {
            if writer.has_ended {
                return Some(Ok(()));
            }
            let offset = self.offset();
            let is_idle = self.is_idle(writer);
            if at == writer.offset {
                // Unverified bytes are lost when their request stops, so an active writer may continue.
                let is_busy =
                    writer.is_writing || (self.visibility == Visibility::Verified && !is_idle);
                if is_busy && !is_late {
                    return None;
                }
                writer.is_taken_over = !writer.is_writing;
                self.requested.notify_waiters();
                return Some(Ok(()));
            }
            if at < offset || is_late || (at > writer.offset && is_idle) {
                return Some(Err(offset));
            }
            if at < writer.offset {
                match self.visibility {
                    Visibility::Immediate => self.request_commit(writer),
                    // The offset is known only after the writer has ended.
                    _ if is_idle => return Some(Ok(())),
                    _ => {}
                }
            }
            None
        })
        .await
    }

    fn is_idle(&self, writer: &WriterState) -> bool {
        self.is_waiting.load(Ordering::Relaxed) && writer.received_at.elapsed() >= IDLE_AFTER
    }

    fn request_commit(&self, writer: &mut WriterState) {
        writer.commit_requested = true;
        self.requested.notify_waiters();
    }

    /// The second argument of `check` is true [`STABLE_TIMEOUT`] after `since`.
    async fn poll_writer<T>(
        &self,
        since: Instant,
        check: impl Fn(&mut WriterState, bool) -> Option<T>,
    ) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let left = STABLE_TIMEOUT.saturating_sub(since.elapsed());
            if let Some(result) = check(&mut self.writer.lock(), left.is_zero()) {
                return result;
            }
            let _ = timeout(left.min(POLL_INTERVAL), changed).await;
        }
    }
}

#[derive(Debug)]
pub(super) struct StartingGuard<'a> {
    set: Option<&'a LiveUploads>,
    id: &'a UploadId,
}

impl StartingGuard<'_> {
    /// The request has [entered](LiveUploads::enter).
    pub(super) fn disarm(&mut self) {
        self.set = None;
    }
}

impl Drop for StartingGuard<'_> {
    fn drop(&mut self) {
        if let Some(set) = self.set
            && set.uploads.shard(self.id).remove_starting(self.id)
        {
            set.started.notify_waiters();
        }
    }
}

#[derive(Debug)]
pub(super) struct LiveUploadGuard<'a> {
    set: &'a LiveUploads,
    live: Arc<LiveUpload>,
}

impl std::ops::Deref for LiveUploadGuard<'_> {
    type Target = Arc<LiveUpload>;

    fn deref(&self) -> &Arc<LiveUpload> {
        &self.live
    }
}

impl Drop for LiveUploadGuard<'_> {
    fn drop(&mut self) {
        let (id, live) = (&self.live.upload.id, &self.live);
        let mut shard = self.set.uploads.shard(id);
        let current = shard.writers.get(id);
        if current.is_some_and(|current| Arc::ptr_eq(current, live)) {
            shard.writers.remove(id);
            let has_moved =
                live.received.load(Ordering::Relaxed) > live.emitted.load(Ordering::Relaxed);
            if self.set.emits && has_moved {
                shard.ended.insert(live.clone());
            }
        }
        drop(shard);
        self.live.writer.lock().has_ended = true;
        self.live.changed.notify_waiters();
    }
}
