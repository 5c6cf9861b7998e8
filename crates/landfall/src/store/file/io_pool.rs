//! Scheduling of I/O steps: in the calling task or on the blocking pool, with bounded concurrency.

use std::{sync::Arc, time::Instant};

use tokio::sync::Semaphore;

use super::{
    cache::{CachedUpload, WriterState},
    latency::LatencyTracker,
    sys,
};
use crate::store::{Result, StoreError};

/// A larger sync never runs in the task.
const SMALL_SYNC: u64 = 256 * 1024;
const MAX_CONCURRENT_STEPS: usize = 64;
/// High, because a journal commits waiting syncs together.
const MAX_CONCURRENT_SYNCS: usize = 64;
/// Low, to leave disk bandwidth for the rest.
const MAX_CONCURRENT_LONG: usize = 4;

#[derive(Debug, Clone, Copy)]
pub(crate) enum StepKind {
    /// Runs in the calling task while the disk is fast; copies this many bytes.
    Short(usize),
    /// Is known to wait for the disk.
    Waiting,
    /// Syncs about this many bytes.
    Sync(u64),
    /// Copies, preallocates, removes a large file, or lists.
    Long,
}

impl StepKind {
    pub(super) fn short_or_sync(syncs: bool) -> Self {
        if syncs { Self::Sync(0) } else { Self::Short(0) }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct IoPool {
    latency: Arc<LatencyTracker>,
    sync_latency: Arc<LatencyTracker>,
    always_on_threads: bool,
    short: Arc<Semaphore>,
    syncs: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl IoPool {
    pub(crate) fn new(always_on_threads: bool) -> Self {
        Self {
            always_on_threads,
            latency: Arc::new(LatencyTracker::new(Instant::now())),
            sync_latency: Arc::new(LatencyTracker::for_syncs(Instant::now())),
            short: Arc::new(Semaphore::new(MAX_CONCURRENT_STEPS)),
            syncs: Arc::new(Semaphore::new(MAX_CONCURRENT_SYNCS)),
            long: Arc::new(Semaphore::new(MAX_CONCURRENT_LONG)),
        }
    }

    /// A step that reached the pool runs to its end, even if the call is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        kind: StepKind,
        step: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.is_inline(kind) {
            return self.measure(kind, step);
        }
        let this = self.clone();
        on_pool(self.limit(kind), move || this.measure(kind, step)).await
    }

    /// Runs a short step in the calling task. `None` if that could wait, for the disk or for the lock.
    pub(super) fn run_now<T>(
        &self,
        entry: &CachedUpload,
        bytes: usize,
        step: impl FnOnce(&mut WriterState) -> T,
    ) -> Option<T> {
        let mut state = self.runs_inline().then(|| entry.state.try_lock())??;
        Some(self.measure(StepKind::Short(bytes), || step(&mut state)))
    }

    pub(super) async fn run_locked<T: Send + 'static>(
        &self,
        entry: &Arc<CachedUpload>,
        kind: StepKind,
        step: impl FnOnce(&mut WriterState) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        // The lock may be held during I/O of another task, so never wait for it in the task.
        if self.is_inline(kind)
            && let Some(mut state) = entry.state.try_lock()
        {
            return self.measure(kind, || step(&mut state));
        }
        let (this, entry) = (self.clone(), Arc::clone(entry));
        on_pool(self.limit(kind), move || {
            let mut state = entry.state.lock();
            this.measure(kind, || step(&mut state))
        })
        .await
    }

    fn limit(&self, kind: StepKind) -> &Arc<Semaphore> {
        match kind {
            StepKind::Short(_) | StepKind::Waiting => &self.short,
            StepKind::Sync(_) => &self.syncs,
            StepKind::Long => &self.long,
        }
    }

    /// Runs cleanup of a `drop`. The values that the step owns are dropped even if the runtime ends before it
    /// runs.
    pub(crate) fn spawn_detached(&self, step: impl FnOnce() + Send + 'static) {
        let runtime = tokio::runtime::Handle::try_current();
        let Some(runtime) = runtime.ok().filter(|_| !self.runs_inline()) else {
            return self.measure(StepKind::Short(0), step);
        };
        let this = self.clone();
        runtime.spawn(async move {
            // Fails only if the runtime ends.
            let step = move || {
                step();
                Ok(())
            };
            let _ = this.run(StepKind::Short(0), step).await;
        });
    }

    pub(crate) fn runs_inline(&self) -> bool {
        !self.always_on_threads && self.latency.runs_inline()
    }

    fn is_inline(&self, kind: StepKind) -> bool {
        match kind {
            StepKind::Short(_) => self.runs_inline(),
            StepKind::Sync(bytes) => {
                bytes <= SMALL_SYNC && !self.always_on_threads && self.sync_latency.runs_inline()
            }
            StepKind::Waiting | StepKind::Long => false,
        }
    }

    pub(super) fn measure<T>(&self, kind: StepKind, step: impl FnOnce() -> T) -> T {
        self.measure_from(Instant::now(), kind, step)
    }

    /// `started` is now, for a step that needs it, too.
    pub(super) fn measure_from<T>(
        &self,
        started: Instant,
        kind: StepKind,
        step: impl FnOnce() -> T,
    ) -> T {
        let (latency, bytes) = match kind {
            StepKind::Short(bytes) => (&self.latency, bytes),
            StepKind::Sync(..=SMALL_SYNC) => (&self.sync_latency, 0),
            StepKind::Sync(_) | StepKind::Waiting | StepKind::Long => return step(),
        };
        let before = latency.should_check_waits().then(sys::thread_waits);
        let done = step();
        let ended = Instant::now();
        let has_waited = before.map(|before| before.is_none_or(|n| sys::thread_waits() != Some(n)));
        latency.record(started, ended, bytes, has_waited);
        done
    }
}

async fn on_pool<T: Send + 'static>(
    limit: &Arc<Semaphore>,
    step: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let permit = Arc::clone(limit)
        .acquire_owned()
        .await
        .map_err(|closed| StoreError::other("waiting for the blocking pool", closed))?;
    let step = move || {
        let _permit = permit;
        step()
    };
    match tokio::task::spawn_blocking(step).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(StoreError::other(
                "running a step on the blocking pool",
                error,
            )),
        },
    }
}
