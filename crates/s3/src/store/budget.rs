//! The memory budget of all part buffers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(super) const RECLAIM_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Debug, Clone)]
pub(super) struct MemoryBudget {
    bytes: Arc<Semaphore>,
    total: usize,
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
pub(super) struct MemoryPermit {
    budgeted: Option<OwnedSemaphorePermit>,
    overcommit: Option<OwnedSemaphorePermit>,
}

impl MemoryPermit {
    fn budgeted(permit: OwnedSemaphorePermit) -> Self {
        Self {
            budgeted: Some(permit),
            overcommit: None,
        }
    }

    pub(super) fn overcommit(permit: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            budgeted: None,
            overcommit: permit,
        }
    }

    pub(super) fn is_overcommitted(&self) -> bool {
        self.overcommit.is_some()
    }

    pub(super) fn add(&mut self, more: Self) {
        for (mine, more) in [
            (&mut self.budgeted, more.budgeted),
            (&mut self.overcommit, more.overcommit),
        ] {
            match (mine, more) {
                (_, None) => {}
                (Some(permit), Some(more)) => permit.merge(more),
                (none, more) => *none = more,
            }
        }
    }
}

impl MemoryBudget {
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

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn try_acquire(&self, bytes: usize) -> Option<MemoryPermit> {
        let permits = u32::try_from(bytes).ok()?;
        let permit = self.bytes.clone().try_acquire_many_owned(permits).ok()?;
        Some(MemoryPermit::budgeted(permit))
    }

    pub(super) async fn acquire(&self, bytes: usize) -> MemoryPermit {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let _waiting = BudgetWaiter::new(&self.waiting);
        let permit = self.bytes.clone().acquire_many_owned(permits).await;
        // Never an error: the semaphore is never closed.
        permit.map_or_else(|_| MemoryPermit::default(), MemoryPermit::budgeted)
    }
}

struct BudgetWaiter<'a>(&'a AtomicUsize);

impl<'a> BudgetWaiter<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for BudgetWaiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
