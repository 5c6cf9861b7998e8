//! Completions that run: what other requests are told meanwhile, and how they get the result.
//!
//! All bytes are received, but a sync, the request that makes one object of the parts, a hook or a sink may take minutes.
//! A proxy cuts the request by then, and its client asks for the offset. Clients decide by the answer:
//!
//! - the length: the upload is complete, which is not true yet;
//! - 423: tus-js-client, Uppy, tuspy and tus-java-client wait and ask again, a few times within some 10 s, and then
//!   report a failure; any other error on HEAD makes tus-js-client send the file as another upload;
//! - an offset below the length: all send the rest, and that request can wait for the completion as long as the proxy
//!   lets it. tus-js-client begins to count its attempts anew if the offset has grown.
//!
//! So the last bytes count only with the completion: HEAD tells an offset below the length, which grows by one with
//! each response. A request that sends the rest from there, or repeats the one that began the completion, joins it. Where no
//! byte is left to send, a client of the draft learns that the upload is not complete, and one of tus gets 423. The same
//! holds if an earlier request received all bytes: its process, which may have died, may have told any offset, even the
//! length if it was declared later, and offsets never fall.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    super::{Engine, Error, HookReply, Inspected},
    LiveUploads,
};
use crate::{
    hook::ClientResponse,
    upload::{Snapshot, Upload, UploadId, UploadMap},
};

/// Of the last bytes of an upload, so many do not count before its completion: one for each response to HEAD.
const MAX_WITHHELD: u64 = 256;
/// How long the result of a HEAD that took too long waits for the next one.
const LATE_LIFETIME: Duration = Duration::from_secs(3);
/// How long the end of an upload may be repeated after a completion that took long, or of which a client was told.
const REPEATABLE: Duration = Duration::from_secs(60);
/// A completion that takes longer may have lost its client.
const LONG: Duration = Duration::from_millis(500);
/// No proxy gives up earlier. Requests at one offset before may have different content: one of them counts.
const CUT: Duration = Duration::from_secs(2);
const MAX_KEPT: usize = 64;

/// What is known of a request that has received all bytes of an upload.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::engine) struct Received {
    /// Where its content began: the length, if it brought no byte.
    pub(in crate::engine) start: u64,
    /// The largest offset that was told while it ran.
    pub(in crate::engine) told: u64,
    /// It has created the upload.
    pub(in crate::engine) is_creation: bool,
}

#[derive(Debug)]
enum State {
    Running,
    Succeeded(HookReply),
    Failed(Arc<Error>),
    /// Without a result: it was not begun, or it panicked.
    Dropped,
}

#[derive(Debug)]
pub(in crate::engine) struct Completing {
    pub(in crate::engine) upload: Arc<Upload>,
    received: Received,
    /// The first [offset](Self::offset).
    first: u64,
    is_told: AtomicBool,
    /// The bytes that count for other requests, if any can be withheld.
    offset: AtomicU64,
    began: Instant,
    state: watch::Sender<State>,
}

/// How a completion has ended.
#[derive(Debug)]
pub(in crate::engine) enum Completed {
    Succeeded(HookReply),
    Failed(Arc<Error>),
    /// Without a result.
    Dropped,
}

impl Completing {
    fn new(upload: Arc<Upload>, received: Received, before: Option<&Self>) -> Self {
        let length = upload.length.unwrap_or_default();
        let told = before.map_or(0, |before| before.offset.load(Relaxed));
        let offset = length
            .saturating_sub(MAX_WITHHELD)
            .max(received.told)
            // The length, if an earlier request has received all bytes.
            .max(received.start)
            .max(told);
        Self {
            upload,
            received,
            first: offset,
            is_told: AtomicBool::new(false),
            offset: AtomicU64::new(offset),
            began: Instant::now(),
            state: watch::Sender::new(State::Running),
        }
    }

    pub(in crate::engine) fn is_by_creation(&self) -> bool {
        self.received.is_creation && self.began.elapsed() >= CUT
    }

    pub(in crate::engine) fn is_running(&self) -> bool {
        matches!(*self.state.borrow(), State::Running)
    }

    pub(in crate::engine) fn has_succeeded(&self) -> bool {
        matches!(*self.state.borrow(), State::Succeeded(_))
    }

    /// Returns whether it has ended by then.
    pub(in crate::engine) async fn ended_within(&self, limit: Duration) -> bool {
        timeout(limit, self.ended()).await.is_ok()
    }

    pub(in crate::engine) async fn ended(&self) -> Completed {
        let mut state = self.state.subscribe();
        let ended = state.wait_for(|state| !matches!(state, State::Running));
        match ended.await.as_deref() {
            Ok(State::Succeeded(reply)) => Completed::Succeeded(reply.clone()),
            Ok(State::Failed(error)) => Completed::Failed(error.clone()),
            _ => Completed::Dropped,
        }
    }

    /// The offset of another request that continues.
    pub(in crate::engine) fn offset(&self) -> u64 {
        self.offset.load(Relaxed)
    }

    /// Returns whether a request that sends the bytes from `at` on repeats what has been received.
    pub(in crate::engine) fn repeats(&self, at: u64) -> bool {
        let length = self.upload.length.unwrap_or_default();
        at == length
            || (self.was_told() && (self.first..length).contains(&at))
            || (at == self.received.start && self.began.elapsed() >= CUT)
    }

    fn was_told(&self) -> bool {
        self.is_told.load(Relaxed)
    }

    /// The state that HEAD tells. A byte more counts the next time.
    pub(in crate::engine) fn tell(&self) -> Snapshot {
        let mut upload = (*self.upload).clone();
        if upload.is_final() {
            // No bytes of it count before its concatenation.
            return Snapshot::new(Arc::new(upload), 0, SystemTime::now());
        }
        upload.awaits_end = true;
        self.is_told.store(true, Relaxed);
        let last = upload.length.unwrap_or_default().saturating_sub(1);
        let grow = |offset: u64| Some((offset + 1).min(last).max(offset));
        let told = self.offset.fetch_update(Relaxed, Relaxed, grow);
        let offset = told.unwrap_or_else(|offset| offset);
        Snapshot::new(Arc::new(upload), offset, SystemTime::now())
    }

    /// All that is stored, of which the completion is pending.
    pub(in crate::engine) fn whole(&self) -> Snapshot {
        let length = self.upload.length.unwrap_or_default();
        Snapshot::new(self.upload.clone(), length, SystemTime::now())
    }
}

/// Ends a completion when dropped.
#[derive(Debug)]
pub(in crate::engine) struct CompletingGuard {
    engine: Arc<Engine>,
    completing: Arc<Completing>,
}

impl CompletingGuard {
    /// The completion is recorded. Its event may still have to be emitted, by a sink that looks at the upload.
    pub(in crate::engine) fn succeed(&self, reply: HookReply) {
        self.end(State::Succeeded(reply));
    }

    /// Tells the requests that have joined. The error of the one that began it is equal.
    pub(in crate::engine) fn fail(&self, error: Error) -> Error {
        let error = Arc::new(error);
        self.end(State::Failed(error.clone()));
        Error::Shared {
            error,
            is_first: true,
        }
    }

    fn end(&self, ended: State) {
        self.completing.state.send_if_modified(|state| {
            let is_running = matches!(state, State::Running);
            if is_running {
                *state = ended;
            }
            is_running
        });
    }
}

impl Drop for CompletingGuard {
    fn drop(&mut self) {
        let (live, completing) = (&self.engine.live, &self.completing);
        self.end(State::Dropped);
        let id = &completing.upload.id;
        let mut shard = live.uploads.shard(id);
        let current = shard.completing.running.get(id);
        if current.is_some_and(|current| Arc::ptr_eq(current, completing)) {
            shard.completing.running.remove(id);
            shard.completing.keep(completing);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Completions {
    running: UploadMap<Arc<Completing>>,
    /// Those that took long, or of which a client was told, and when they ended.
    kept: UploadMap<(Arc<Completing>, Instant)>,
    late: UploadMap<Late>,
}

#[derive(Debug)]
enum Late {
    Running,
    Ended(Result<Inspected, Error>, Instant),
}

impl Completions {
    fn keep(&mut self, completing: &Arc<Completing>) {
        if !completing.was_told() && completing.began.elapsed() < LONG
            || completing.upload.is_final()
        {
            return;
        }
        let now = Instant::now();
        self.kept.retain(|_, (_, ended)| now - *ended < REPEATABLE);
        if self.kept.len() < MAX_KEPT {
            let id = completing.upload.id.clone();
            self.kept.insert(id, (completing.clone(), now));
        }
    }

    fn kept(&self, id: &UploadId) -> Option<&Arc<Completing>> {
        let (completing, ended) = self.kept.get(id)?;
        (ended.elapsed() < REPEATABLE).then_some(completing)
    }
}

impl LiveUploads {
    /// The completion that runs.
    pub(in crate::engine) fn completing(&self, id: &UploadId) -> Option<Arc<Completing>> {
        self.running(id)
            .filter(|completing| completing.is_running())
    }

    fn running(&self, id: &UploadId) -> Option<Arc<Completing>> {
        self.uploads.shard(id).completing.running.get(id).cloned()
    }

    /// The completion that runs, or has ended shortly before.
    pub(in crate::engine) fn repeatable(&self, id: &UploadId) -> Option<Arc<Completing>> {
        let shard = self.uploads.shard(id);
        let completions = &shard.completing;
        if completions.running.is_empty() && completions.kept.is_empty() {
            return None;
        }
        let running = completions.running.get(id);
        running.or_else(|| completions.kept(id)).cloned()
    }

    /// Takes the result of a HEAD that took too long. `Err` if it still runs.
    pub(in crate::engine) fn take_late(
        &self,
        id: &UploadId,
    ) -> Result<Option<Result<Inspected, Error>>, ()> {
        let late = &mut self.uploads.shard(id).completing.late;
        match late.get(id) {
            None => Ok(None),
            Some(Late::Running) => Err(()),
            Some(Late::Ended(..)) => Ok(match late.remove(id) {
                Some(Late::Ended(found, at)) if at.elapsed() < LATE_LIFETIME => Some(found),
                _ => None,
            }),
        }
    }

    /// Returns false if there are too many.
    pub(in crate::engine) fn begin_late(&self, id: &UploadId) -> bool {
        let late = &mut self.uploads.shard(id).completing.late;
        late.retain(|_, late| match late {
            Late::Running => true,
            Late::Ended(_, at) => at.elapsed() < LATE_LIFETIME,
        });
        late.len() < MAX_KEPT && late.insert(id.clone(), Late::Running).is_none()
    }

    pub(in crate::engine) fn end_late(
        &self,
        id: &UploadId,
        found: Option<Result<Inspected, Error>>,
    ) {
        let late = &mut self.uploads.shard(id).completing.late;
        match found {
            Some(found) => late.insert(id.clone(), Late::Ended(found, Instant::now())),
            None => late.remove(id),
        };
    }
}

impl Engine {
    /// From here on, other requests are told that the completion of the upload runs, until the guard is dropped.
    pub(in crate::engine) fn begin_completion(
        self: &Arc<Self>,
        upload: &Arc<Upload>,
        received: Received,
    ) -> CompletingGuard {
        let mut shard = self.live.uploads.shard(&upload.id);
        let completions = &mut shard.completing;
        let before = completions.kept.remove(&upload.id);
        let before = before.as_ref().map(|(before, _)| &**before);
        let completing = Arc::new(Completing::new(upload.clone(), received, before));
        completions
            .running
            .insert(upload.id.clone(), completing.clone());
        CompletingGuard {
            engine: self.clone(),
            completing,
        }
    }
}

/// The response of a hook, for a request that has joined.
pub(in crate::engine) fn reply_of(upload: &Upload) -> HookReply {
    let stored: Option<&Arc<ClientResponse>> = upload.completion.response();
    stored.map(|stored| Box::new((**stored).clone()))
}
