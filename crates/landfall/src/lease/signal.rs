//! How a lease holder is told to let go.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use tokio::sync::Notify;

/// Why a lease holder should let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Asked {
    /// Another request wants the upload: keep what was received, acknowledge it, let go at once.
    Yield = 1,
    /// The lease is lost or can't be renewed in time: write nothing more, acknowledge nothing.
    Lost = 2,
}

#[derive(Default)]
struct Inner {
    state: AtomicU8,
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
    pub fn raise(&self, asked: Asked) {
        self.0.state.fetch_max(asked as u8, Ordering::AcqRel);
        self.0.notify.notify_waiters();
    }

    /// What was asked so far, without waiting: one atomic load.
    #[must_use]
    pub fn asked(&self) -> Option<Asked> {
        match self.0.state.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Asked::Yield),
            _ => Some(Asked::Lost),
        }
    }

    /// Waits until the lease is lost.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it.
    pub async fn lost(&self) {
        loop {
            let raised = self.0.notify.notified();
            tokio::pin!(raised);
            raised.as_mut().enable();
            if self.asked() == Some(Asked::Lost) {
                return;
            }
            raised.await;
        }
    }

    /// Waits until the signal is raised.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it.
    pub async fn wait(&self) -> Asked {
        loop {
            let raised = self.0.notify.notified();
            tokio::pin!(raised);
            raised.as_mut().enable();
            if let Some(asked) = self.asked() {
                return asked;
            }
            raised.await;
        }
    }
}

impl fmt::Debug for YieldSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("YieldSignal").field(&self.asked()).finish()
    }
}
