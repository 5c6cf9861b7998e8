//! The memory budget of all uploads. It must not be exceeded by more than one part.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

const MAX_WAIT_ROUNDS: u32 = 48;
/// Time that a call waits for memory before it reclaims some again.
pub const RECLAIM_INTERVAL: Duration = Duration::from_millis(250);

/// The memory for the bytes of all uploads.
#[derive(Debug)]
pub struct MemoryBudget {
    bytes: Arc<Semaphore>,
    total: usize,
    /// Each call that waits has a clone.
    waiting: Arc<()>,
    /// One permit for memory beyond the budget, so that one upload always makes progress.
    overcommit: Arc<Semaphore>,
    /// Number of times that permit was acquired.
    overcommit_turns: AtomicU64,
}

/// Memory of a budget, until dropped.
#[derive(Debug, Default)]
pub struct MemoryPermit {
    budgeted: Option<OwnedSemaphorePermit>,
    overcommit: Option<OwnedSemaphorePermit>,
}

impl MemoryPermit {
    fn is_overcommitted(&self) -> bool {
        self.overcommit.is_some()
    }

    pub(crate) fn add(&mut self, more: Self) {
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
    /// Creates a budget in bytes.
    pub fn new(total: usize) -> Self {
        let total = total.min(Semaphore::MAX_PERMITS);
        Self {
            bytes: Arc::new(Semaphore::new(total)),
            total,
            waiting: Arc::default(),
            overcommit: Arc::new(Semaphore::new(1)),
            overcommit_turns: AtomicU64::new(0),
        }
    }

    /// Returns the budget in bytes.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Returns how many bytes are in use.
    pub fn used(&self) -> usize {
        self.total - self.bytes.available_permits()
    }

    /// Returns how many calls wait for memory.
    pub fn waiting(&self) -> usize {
        Arc::strong_count(&self.waiting) - 1
    }

    /// Acquires memory if there is some.
    pub fn try_acquire(&self, bytes: usize) -> Option<MemoryPermit> {
        let permits = u32::try_from(bytes).ok()?;
        let budgeted = self.bytes.clone().try_acquire_many_owned(permits).ok();
        budgeted.is_some().then_some(MemoryPermit {
            budgeted,
            overcommit: None,
        })
    }

    /// Waits for memory beyond the budget, which one call at a time gets.
    pub async fn overcommit(&self) -> MemoryPermit {
        let overcommit = self.overcommit.clone().acquire_owned().await.ok();
        self.overcommit_turns.fetch_add(1, Ordering::Relaxed);
        MemoryPermit {
            budgeted: None,
            overcommit,
        }
    }

    /// Waits for memory for the next bytes of a buffer, which has the memory `held`. Meanwhile `reclaim` sends
    /// bytes of idle uploads. `None` if all memory is used up and no upload makes progress.
    pub async fn acquire_for<F: Future<Output = ()>>(
        &self,
        held: &MemoryPermit,
        bytes: usize,
        reclaim: impl Fn() -> F,
    ) -> Option<MemoryPermit> {
        if let Some(memory) = self.try_acquire(bytes) {
            return Some(memory);
        }
        if held.is_overcommitted() {
            return Some(MemoryPermit::default());
        }
        // Created once, so that the call keeps its position in both queues.
        let mut permit = pin!(self.acquire(bytes));
        let mut turn = pin!(self.overcommit());
        let mut turns = self.overcommit_turns.load(Ordering::Relaxed);
        let mut round = 0;
        while round < MAX_WAIT_ROUNDS {
            reclaim().await;
            let either = async {
                tokio::select! {
                    biased;
                    memory = &mut permit => memory,
                    memory = &mut turn, if round > 0 => memory,
                }
            };
            if let Ok(memory) = timeout(RECLAIM_INTERVAL, either).await {
                return Some(memory);
            }
            // While others make progress, this upload's turn will come.
            let others = self.overcommit_turns.load(Ordering::Relaxed);
            round = if others == turns { round + 1 } else { 1 };
            turns = others;
        }
        None
    }

    /// Acquires memory for earlier bytes of a buffer, which has the memory `held`: soon, or beyond the budget.
    pub async fn reacquire_for(&self, held: &MemoryPermit, bytes: usize) -> MemoryPermit {
        match self.try_acquire(bytes) {
            Some(memory) => memory,
            // Waiting for its own permit would never end.
            None if held.is_overcommitted() => MemoryPermit::default(),
            None => match timeout(RECLAIM_INTERVAL, self.acquire(bytes)).await {
                Ok(memory) => memory,
                Err(_) => self.overcommit().await,
            },
        }
    }

    async fn acquire(&self, bytes: usize) -> MemoryPermit {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let _waiting = Arc::clone(&self.waiting);
        MemoryPermit {
            // Never none: the semaphore is never closed.
            budgeted: self.bytes.clone().acquire_many_owned(permits).await.ok(),
            overcommit: None,
        }
    }
}
