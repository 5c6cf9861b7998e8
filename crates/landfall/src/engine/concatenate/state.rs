//! In-memory state of final uploads that are not concatenated yet: a bounded cache.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    hook::ClientResponse,
    upload::{Completion, Digest, Upload, UploadId},
};

/// Others are concatenated by the next HEAD or the sweeper.
const MAX_PENDING: usize = 10_000;
const MAX_ADMITTED: usize = 256;
const MAX_FAILED: usize = 1000;
const MAX_FINISHED: usize = 1000;
const MIN_BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PartsProgress {
    pub(super) complete: usize,
    pub(super) measured: usize,
    pub(super) sum: u64,
    /// The sum of the lengths of the parts, each counted once.
    pub(super) distinct: u64,
    removals: u64,
}

#[derive(Debug)]
struct Pending {
    part: UploadId,
    progress: PartsProgress,
    digest: Option<Digest>,
}

#[derive(Debug, Default)]
struct State {
    pending: HashMap<UploadId, Pending>,
    by_part: HashMap<UploadId, HashSet<UploadId>>,
    running: HashSet<UploadId>,
    failed: HashMap<UploadId, Failure>,
    /// The last ones, oldest first.
    finished: VecDeque<Arc<Upload>>,
    removals: u64,
}

#[derive(Debug)]
struct Failure {
    until: Instant,
    backoff: Duration,
}

#[derive(Debug)]
pub(in crate::engine) struct FinalUploads {
    state: Mutex<State>,
    admitted: Arc<Semaphore>,
    pub(super) turns: Semaphore,
}

impl FinalUploads {
    pub(in crate::engine) fn new(max_concurrency: usize) -> Self {
        let max_concurrency = max_concurrency.clamp(1, MAX_ADMITTED);
        Self {
            state: Mutex::default(),
            admitted: Arc::new(Semaphore::new(MAX_ADMITTED)),
            turns: Semaphore::new(max_concurrency),
        }
    }

    pub(super) fn insert(&self, upload: &Upload, part: UploadId, progress: PartsProgress) {
        let id = &upload.id;
        let mut state = self.state.lock();
        state.remove_pending(id);
        if state.pending.len() < MAX_PENDING {
            let finals = state.by_part.entry(part.clone()).or_default();
            finals.insert(id.clone());
            let pending = Pending {
                part,
                progress,
                digest: upload.creation_digest(),
            };
            state.pending.insert(id.clone(), pending);
        }
    }

    /// Empty after any part was removed.
    pub(super) fn progress(&self, id: &UploadId) -> PartsProgress {
        let state = self.state.lock();
        let removals = state.removals;
        match state.pending.get(id) {
            Some(Pending { progress, .. }) if progress.removals == removals => *progress,
            _ => PartsProgress {
                removals,
                ..PartsProgress::default()
            },
        }
    }

    pub(in crate::engine) fn invalidate_progress(&self) {
        self.state.lock().removals += 1;
    }

    pub(super) fn waiting_for(&self, part: &UploadId) -> Vec<UploadId> {
        let state = self.state.lock();
        let finals = state.by_part.get(part);
        finals.map_or_else(Vec::new, |finals| finals.iter().cloned().collect())
    }

    /// Returns those that wait for a part, and were created by equal requests.
    pub(super) fn waiting_with(&self, part: &UploadId, digest: Option<Digest>) -> Vec<UploadId> {
        let state = self.state.lock();
        let is_equal = |id: &&UploadId| {
            let pending = state.pending.get(*id);
            pending.is_some_and(|pending| pending.digest == digest)
        };
        let finals = state.by_part.get(part).into_iter().flatten();
        finals.filter(is_equal).cloned().collect()
    }

    /// Remembers what the response to its creation needs: the application may take the file away.
    pub(super) fn record_finished(&self, upload: &Upload, reply: Option<&ClientResponse>) {
        let mut finished = Upload::new(upload.id.clone(), upload.length);
        finished.repetition.clone_from(&upload.repetition);
        finished.completion = Completion::Done(reply.cloned().map(Arc::new));
        let mut state = self.state.lock();
        if state.finished.len() >= MAX_FINISHED {
            state.finished.pop_front();
        }
        state.finished.push_back(Arc::new(finished));
    }

    pub(in crate::engine) fn forget_finished(&self, id: &UploadId) {
        let mut state = self.state.lock();
        state.finished.retain(|upload| upload.id != *id);
    }

    pub(super) fn finished(&self, id: &UploadId) -> Option<Arc<Upload>> {
        let state = self.state.lock();
        let mut finished = state.finished.iter();
        finished.find(|upload| upload.id == *id).cloned()
    }

    pub(super) fn is_busy(&self, id: &UploadId) -> bool {
        self.state.lock().is_busy(id)
    }

    pub(super) fn admit(self: &Arc<Self>, id: &UploadId) -> Option<Admission> {
        let mut state = self.state.lock();
        if state.is_busy(id) {
            return None;
        }
        let permit = self.admitted.clone().try_acquire_owned().ok()?;
        state.running.insert(id.clone());
        drop(state);
        Some(Admission {
            finals: self.clone(),
            id: id.clone(),
            failed: true,
            _permit: permit,
        })
    }

    pub(in crate::engine) fn remove(&self, id: &UploadId) {
        let mut state = self.state.lock();
        state.remove_pending(id);
        state.failed.remove(id);
        for waiting in state.by_part.remove(id).unwrap_or_default() {
            state.pending.remove(&waiting);
        }
    }
}

impl State {
    fn remove_pending(&mut self, id: &UploadId) {
        let Some(Pending { part, .. }) = self.pending.remove(id) else {
            return;
        };
        if let Some(finals) = self.by_part.get_mut(&part) {
            finals.remove(id);
            if finals.is_empty() {
                self.by_part.remove(&part);
            }
        }
    }

    fn is_busy(&self, id: &UploadId) -> bool {
        let failure = self.failed.get(id);
        self.running.contains(id) || failure.is_some_and(|failure| failure.until > Instant::now())
    }

    fn record_failure(&mut self, id: &UploadId) {
        let last = self.failed.get(id).map(|failure| failure.backoff);
        let backoff = last.map_or(MIN_BACKOFF, |last| (last * 2).min(MAX_BACKOFF));
        if self.failed.len() >= MAX_FAILED && last.is_none() {
            let first = self.failed.iter().min_by_key(|(_, failure)| failure.until);
            if let Some(first) = first.map(|(id, _)| id.clone()) {
                self.failed.remove(&first);
            }
        }
        let until = Instant::now() + backoff;
        self.failed.insert(id.clone(), Failure { until, backoff });
    }
}

/// Records a failure on drop, unless [`end`](Self::end) was called.
#[derive(Debug)]
pub(super) struct Admission {
    finals: Arc<FinalUploads>,
    pub(super) id: UploadId,
    failed: bool,
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    pub(super) fn end(mut self) {
        self.failed = false;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut state = self.finals.state.lock();
        state.running.remove(&self.id);
        if self.failed {
            state.record_failure(&self.id);
        } else {
            state.failed.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: impl ToString) -> UploadId {
        UploadId::new(&name.to_string()).unwrap()
    }

    #[test]
    fn the_number_of_pending_finals_is_bounded_and_removal_makes_room() {
        let finals = FinalUploads::new(4);
        let insert = |name: String, part: &str| {
            let upload = Upload::new(id(name), None);
            finals.insert(&upload, id(part), PartsProgress::default());
        };
        for n in 0..MAX_PENDING + 10 {
            insert(
                format!("final-{n}"),
                if n % 2 == 0 { "even" } else { "odd" },
            );
        }
        assert_eq!(finals.state.lock().pending.len(), MAX_PENDING);
        assert_eq!(finals.waiting_for(&id("odd")).len(), MAX_PENDING / 2);
        // Removing a part removes the final uploads that wait for it; removing a final one only itself.
        finals.remove(&id("even"));
        finals.remove(&id("final-1"));
        assert_eq!(finals.state.lock().pending.len(), MAX_PENDING / 2 - 1);
        assert_eq!(finals.waiting_for(&id("odd")).len(), MAX_PENDING / 2 - 1);
        assert_eq!(finals.state.lock().by_part.len(), 1);
        insert("another".into(), "late");
        assert_eq!(finals.waiting_for(&id("late")), [id("another")]);
        // A final upload waits for one part at a time.
        insert("another".into(), "later");
        assert!(finals.waiting_for(&id("late")).is_empty());
        finals.remove(&id("another"));
        finals.remove(&id("odd"));
        let state = finals.state.lock();
        assert!(state.pending.is_empty() && state.by_part.is_empty());
    }

    #[test]
    fn a_failed_concatenation_is_not_admitted_at_once_again() {
        let finals = Arc::new(FinalUploads::new(4));
        let admission = finals.admit(&id("a")).unwrap();
        assert!(finals.admit(&id("a")).is_none(), "it runs");
        drop(admission);
        assert!(finals.admit(&id("a")).is_none(), "it failed");
        finals.remove(&id("a"));
        finals.admit(&id("a")).unwrap().end();
        finals.admit(&id("a")).unwrap().end();
        for n in 0..MAX_FAILED + 10 {
            drop(finals.admit(&id(n)).unwrap());
        }
        let state = finals.state.lock();
        assert_eq!(state.failed.len(), MAX_FAILED);
        assert!(state.running.is_empty());
    }

    #[test]
    fn failures_are_retried_ever_later() {
        let mut state = State::default();
        let mut backoffs = Vec::new();
        for _ in 0..13 {
            state.record_failure(&id("a"));
            backoffs.push(state.failed[&id("a")].backoff.as_millis());
        }
        assert_eq!(backoffs[..4], [250, 500, 1000, 2000]);
        assert_eq!(backoffs[9..], [128_000, 256_000, 300_000, 300_000]);
    }

    #[test]
    fn the_number_of_admitted_concatenations_is_bounded() {
        let finals = Arc::new(FinalUploads::new(4));
        let admitted: Vec<_> = (0..MAX_ADMITTED)
            .map(|n| finals.admit(&id(n)).unwrap())
            .collect();
        assert!(finals.admit(&id("one-more")).is_none());
        for admission in admitted {
            admission.end();
        }
        finals.admit(&id("one-more")).unwrap().end();
    }
}
