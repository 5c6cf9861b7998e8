//! Where a step of I/O runs: in the task, or on the blocking pool, and how many at once there.

use std::{
    sync::{Arc, MutexGuard},
    time::Instant,
};

use tokio::sync::Semaphore;

use super::{
    pace::Pace,
    slots::{Gate, Slot},
    sys,
};
use crate::store::{Result, StoreError};

/// How many quick steps may be on the pool at once when the disk is slow.
const QUICK: usize = 64;
/// How many syncs: many, since a journal commits those that wait together.
const SYNCS: usize = 64;
/// How many copies and other long work: few, so that they leave the disk to the rest.
const LONG: usize = 4;

/// Runs the steps of one store. Clones share the limits.
#[derive(Debug, Clone)]
pub(crate) struct Steps {
    pace: Arc<Pace>,
    always_on_threads: bool,
    quick: Arc<Semaphore>,
    syncs: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Steps {
    pub(crate) fn new(always_on_threads: bool) -> Self {
        Self {
            always_on_threads,
            pace: Arc::new(Pace::new(Instant::now())),
            quick: Arc::new(Semaphore::new(QUICK)),
            syncs: Arc::new(Semaphore::new(SYNCS)),
            long: Arc::new(Semaphore::new(LONG)),
        }
    }

    /// A step that runs at page-cache speed if the disk is fast: in the task while that is so.
    ///
    /// # Cancel safety
    /// A step that reached the pool runs to its end.
    pub(crate) async fn quick<T, F>(&self, bytes: usize, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        if self.in_task() {
            return self.timed(bytes, step);
        }
        let this = self.clone();
        on_pool(&self.quick, move || this.timed(bytes, step)).await
    }

    /// A step that is like a quick one but known to wait for the disk.
    pub(super) async fn slow<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        on_pool(&self.quick, step).await
    }

    /// A quick step that changes an upload: no other such step for the same upload runs meanwhile.
    pub(super) async fn gated<T, F>(&self, slot: &Arc<Slot>, bytes: usize, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Gate) -> Result<T> + Send + 'static,
    {
        // Waiting for the gate means waiting for somebody's I/O: not in the task.
        if self.in_task()
            && let Some(mut gate) = slot.try_gate()
        {
            return self.timed(bytes, || step(&mut gate));
        }
        let (this, slot) = (self.clone(), Arc::clone(slot));
        on_pool(&self.quick, move || {
            let mut gate: MutexGuard<'_, Gate> = slot.gate();
            this.timed(bytes, || step(&mut gate))
        })
        .await
    }

    /// A step that syncs.
    pub(super) async fn sync<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        on_pool(&self.syncs, step).await
    }

    /// A step that syncs and changes an upload.
    pub(super) async fn gated_sync<T, F>(&self, slot: &Arc<Slot>, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Gate) -> Result<T> + Send + 'static,
    {
        let slot = Arc::clone(slot);
        on_pool(&self.syncs, move || step(&mut slot.gate())).await
    }

    /// A step that takes long: copying, reserving, removing something large, walking directories.
    pub(super) async fn long<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        on_pool(&self.long, step).await
    }

    /// A step that takes long and changes an upload.
    pub(super) async fn gated_long<T, F>(&self, slot: &Arc<Slot>, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Gate) -> Result<T> + Send + 'static,
    {
        let slot = Arc::clone(slot);
        on_pool(&self.long, move || step(&mut slot.gate())).await
    }

    /// A quick step for which nobody waits, such as the end of something that is dropped. Whatever it
    /// owns is dropped even if the runtime ends before the step is run.
    pub(crate) fn detached(&self, step: impl FnOnce() + Send + 'static) {
        let runtime = tokio::runtime::Handle::try_current();
        let Some(runtime) = runtime.ok().filter(|_| !self.in_task()) else {
            return self.timed(0, step);
        };
        let this = self.clone();
        runtime.spawn(async move {
            // Not run at all only if the runtime ends.
            let step = move || {
                step();
                Ok(())
            };
            let _ = this.quick(0, step).await;
        });
    }

    pub(crate) fn in_task(&self) -> bool {
        !self.always_on_threads && self.pace.in_task()
    }

    fn timed<T>(&self, bytes: usize, step: impl FnOnce() -> T) -> T {
        let before = self.pace.is_suspicious().then(sys::thread_waits);
        let began = Instant::now();
        let done = step();
        let ended = Instant::now();
        let has_waited = before.map(|before| before.is_none_or(|n| sys::thread_waits() != Some(n)));
        self.pace.note(began, ended, bytes, has_waited);
        done
    }
}

async fn on_pool<T, F>(limit: &Arc<Semaphore>, step: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let permit = Arc::clone(limit)
        .acquire_owned()
        .await
        .map_err(|closed| StoreError::Other {
            action: "waiting for a thread".into(),
            source: closed.into(),
        })?;
    let step = move || {
        let _permit = permit;
        step()
    };
    match tokio::task::spawn_blocking(step).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(StoreError::Other {
                action: "running a step on a thread".into(),
                source: error.into(),
            }),
        },
    }
}
