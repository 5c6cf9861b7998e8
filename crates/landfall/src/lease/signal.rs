//! How a lease holder is told to let go.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

/// Why a lease holder should let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum YieldReason {
    /// Another request wants the upload: keep what was received, acknowledge it, let go at once.
    Requested,
    /// The lease is lost or can't be renewed in time: write nothing more, acknowledge nothing.
    LeaseLost,
}

/// The states of a signal. Those between not raised and unconditional are requests to append at an
/// offset, plus one.
const NOT_RAISED: u64 = 0;
const UNCONDITIONAL: u64 = u64::MAX - 1;
const LOST: u64 = u64::MAX;

#[derive(Default)]
struct Inner {
    /// Only grows.
    state: AtomicU64,
    notify: Notify,
}

/// The side of a lease on which the holder hears that it should let go. Clones share it; the locker
/// keeps one and raises it.
#[derive(Clone, Default)]
pub struct YieldSignal(Arc<Inner>);

impl YieldSignal {
    /// A signal that hasn't been raised.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the signal. [`Asked::Lost`] overrides [`Asked::Yield`], never the other way round.
    pub fn set(&self, asked: YieldReason) {
        self.raise_to(match asked {
            YieldReason::Requested => UNCONDITIONAL,
            YieldReason::LeaseLost => LOST,
        });
    }

    /// Raises [`Asked::Yield`] for a request that appends at an offset; `None`: for one that needs the
    /// upload in any case.
    pub fn request(&self, offset: Option<u64>) {
        let state = offset.map(|offset| offset.saturating_add(1).min(UNCONDITIONAL));
        self.raise_to(state.unwrap_or(UNCONDITIONAL));
    }

    fn raise_to(&self, state: u64) {
        self.0.state.fetch_max(state, Ordering::AcqRel);
        self.0.notify.notify_waiters();
    }

    /// Returns what was asked of a holder whose upload has `offset` bytes. A request that appends at a
    /// smaller offset can only fail, so the holder need not yield to it.
    #[must_use]
    pub fn asked_at(&self, offset: u64) -> Option<YieldReason> {
        if self.state() <= offset {
            return None;
        }
        self.reason()
    }

    /// The state: it only grows, with each request that is not covered by those before.
    pub(crate) fn state(&self) -> u64 {
        self.0.state.load(Ordering::Acquire)
    }

    /// What was asked so far, without waiting: one atomic load.
    #[must_use]
    pub fn reason(&self) -> Option<YieldReason> {
        match self.state() {
            NOT_RAISED => None,
            LOST => Some(YieldReason::LeaseLost),
            _ => Some(YieldReason::Requested),
        }
    }

    /// Waits until the lease is lost.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it.
    pub async fn lost(&self) {
        self.wait_above(UNCONDITIONAL).await;
    }

    /// Waits until the signal is raised.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it.
    pub async fn wait(&self) -> YieldReason {
        self.wait_above(NOT_RAISED).await
    }

    /// Waits until the [state](Self::state) is greater than `state`.
    pub(crate) async fn wait_above(&self, state: u64) -> YieldReason {
        loop {
            let raised = self.0.notify.notified();
            tokio::pin!(raised);
            raised.as_mut().enable();
            if self.state() > state
                && let Some(asked) = self.reason()
            {
                return asked;
            }
            raised.await;
        }
    }
}

impl fmt::Debug for YieldSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("YieldSignal").field(&self.reason()).finish()
    }
}
