//! One budget of memory for all bytes on their way to S3.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long an upload waits for memory before it looks for some that others don't use.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// The budget. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    bytes: Arc<Semaphore>,
    total: usize,
    waiting: Arc<AtomicUsize>,
}

/// Memory that is taken. Dropping it gives it back.
#[derive(Debug, Default)]
pub(super) struct Memory {
    of_budget: Option<OwnedSemaphorePermit>,
    spare: Option<OwnedSemaphorePermit>,
}

impl Memory {
    fn of_budget(permit: OwnedSemaphorePermit) -> Self {
        Self {
            of_budget: Some(permit),
            spare: None,
        }
    }

    /// Memory beyond the budget, for as long as `permit` is held.
    pub(super) fn spare(permit: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            of_budget: None,
            spare: permit,
        }
    }

    pub(super) fn is_beyond_budget(&self) -> bool {
        self.spare.is_some()
    }

    /// Adds more to it.
    pub(super) fn add(&mut self, more: Self) {
        for (mine, more) in [
            (&mut self.of_budget, more.of_budget),
            (&mut self.spare, more.spare),
        ] {
            match (mine, more) {
                (_, None) => {}
                (Some(permit), Some(more)) => permit.merge(more),
                (none, more) => *none = more,
            }
        }
    }
}

impl Budget {
    pub(super) fn new(total: usize) -> Self {
        let total = total.min(Semaphore::MAX_PERMITS);
        Self {
            bytes: Arc::new(Semaphore::new(total)),
            total,
            waiting: Arc::default(),
        }
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }

    pub(super) fn used(&self) -> usize {
        self.total - self.bytes.available_permits()
    }

    /// Uploads that wait for memory.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes memory if there is some.
    pub(super) fn try_take(&self, bytes: usize) -> Option<Memory> {
        let permits = u32::try_from(bytes).ok()?;
        let permit = self.bytes.clone().try_acquire_many_owned(permits).ok()?;
        Some(Memory::of_budget(permit))
    }

    /// Waits for memory, in the order of asking.
    pub(super) async fn take(&self, bytes: usize) -> Memory {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let _waiting = Waiting::new(&self.waiting);
        let permit = self.bytes.clone().acquire_many_owned(permits).await;
        // The semaphore is never closed.
        permit.map_or_else(|_| Memory::default(), Memory::of_budget)
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
