//! The signal to the holder of a lease: another request needs the upload, or the lease is lost.
//!
//! It is one atomic number that only grows. A loss covers every request, and a request at a larger offset covers one at
//! a smaller offset. The hot path reads it with one atomic load.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};

use tokio::sync::Notify;

/// A reason to yield.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum YieldReason {
    /// Another request wants the upload: commit and acknowledge the received bytes, then release.
    Requested,
    /// The lease is lost or cannot be renewed in time: write and acknowledge nothing more.
    LeaseLost,
}

/// States between `NOT_RAISED` and `UNCONDITIONAL` are the offset of a request to append, plus one.
const NOT_RAISED: u64 = 0;
const UNCONDITIONAL: u64 = u64::MAX - 1;
const LOST: u64 = u64::MAX;

#[derive(Default)]
struct Inner {
    /// Only grows.
    state: AtomicU64,
    notify: Notify,
}

/// A signal to the holder of a lease that it should yield. Clones share it; the locker keeps one.
#[derive(Clone, Default)]
pub struct YieldSignal(Arc<Inner>);

impl YieldSignal {
    /// Creates a signal that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the signal. [`YieldReason::LeaseLost`] overrides [`YieldReason::Requested`].
    pub fn set(&self, reason: YieldReason) {
        self.raise_to(match reason {
            YieldReason::Requested => UNCONDITIONAL,
            YieldReason::LeaseLost => LOST,
        });
    }

    /// Sets [`YieldReason::Requested`] for a request that appends at an offset; `None`: for one
    /// that needs the upload in any case.
    pub fn request(&self, offset: Option<u64>) {
        let state = offset.map(|offset| offset.saturating_add(1).min(UNCONDITIONAL));
        self.raise_to(state.unwrap_or(UNCONDITIONAL));
    }

    fn raise_to(&self, state: u64) {
        self.0.state.fetch_max(state, Ordering::AcqRel);
        self.0.notify.notify_waiters();
    }

    /// Returns the reason to yield for a holder whose upload has `offset` bytes. A request that
    /// appends at a smaller offset can only fail, so the holder need not yield to it.
    #[must_use]
    pub fn reason_at(&self, offset: u64) -> Option<YieldReason> {
        if self.state() <= offset {
            return None;
        }
        self.reason()
    }

    /// Grows with each request that earlier ones do not cover.
    pub(crate) fn state(&self) -> u64 {
        self.0.state.load(Ordering::Acquire)
    }

    /// Returns the reason so far, without waiting: one atomic load.
    #[must_use]
    pub fn reason(&self) -> Option<YieldReason> {
        match self.state() {
            NOT_RAISED => None,
            LOST => Some(YieldReason::LeaseLost),
            _ => Some(YieldReason::Requested),
        }
    }

    /// Waits until the lease is lost. Cancel safe.
    pub async fn lost(&self) {
        self.wait_above(UNCONDITIONAL).await;
    }

    /// Runs `work` unless the lease is lost before it ends. `None`: it was, and the caller must drop `work`.
    ///
    /// Waits for the loss only where `work` waits, and in a box: most never do.
    pub(crate) async fn unless_lost<T>(
        &self,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let mut lost = None;
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let lost = lost.get_or_insert_with(|| Box::pin(self.lost()));
            lost.as_mut().poll(cx).map(|()| None)
        })
        .await
    }

    /// Waits until the signal is set. Cancel safe.
    pub async fn wait(&self) -> YieldReason {
        self.wait_above(NOT_RAISED).await
    }

    pub(crate) async fn wait_above(&self, state: u64) -> YieldReason {
        loop {
            let raised = self.0.notify.notified();
            tokio::pin!(raised);
            raised.as_mut().enable();
            if self.state() > state
                && let Some(reason) = self.reason()
            {
                return reason;
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
