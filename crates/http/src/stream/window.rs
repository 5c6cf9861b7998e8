//! Flow control of the bytes that a client sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::limits::timeouts::ServerShared;

/// Bytes of all requests of a connection that a client may send before the service reads them,
pub(crate) const WINDOW: u32 = 2 << 20;
/// and for a long body that arrives fast: what 1 Gb/s sends in 130 ms. `ConnectionLimits::large_reads`
/// limits their number.
pub(crate) const LARGE_WINDOW: u32 = 16 << 20;

/// A body is fast if as many bytes as the window has arrive in this time: a longer round trip is rare.
const FAST: Duration = Duration::from_secs(2);

/// The flow-control window of a connection, which is large only while few long bodies arrive fast.
pub(crate) struct ReceiveWindow {
    server: Arc<ServerShared>,
    size: AtomicU32,
    changed: Box<dyn Fn(u32) + Send + Sync>,
}

impl ReceiveWindow {
    /// `changed` is called with each size after the first.
    pub(crate) fn new(
        server: Arc<ServerShared>,
        changed: impl Fn(u32) + Send + Sync + 'static,
    ) -> Self {
        Self {
            server,
            size: AtomicU32::new(WINDOW),
            changed: Box::new(changed),
        }
    }

    pub(crate) fn size(&self) -> u32 {
        self.size.load(Relaxed)
    }

    fn set(&self, size: u32) {
        self.size.store(size, Relaxed);
        (self.changed)(size);
    }
}

/// Measures a body, and enlarges the window of its connection while it is fast.
pub(crate) struct WindowUse {
    window: Arc<ReceiveWindow>,
    enlarged: Option<OwnedSemaphorePermit>,
    /// Bytes that have arrived since then.
    received: u64,
    since: Instant,
}

impl WindowUse {
    pub(super) fn new(window: Arc<ReceiveWindow>) -> Self {
        Self {
            window,
            enlarged: None,
            received: 0,
            since: Instant::now(),
        }
    }

    pub(super) fn receive(&mut self, len: u64) {
        self.received += len;
        if self.received < WINDOW.into() {
            return;
        }
        let now = Instant::now();
        let is_fast = now - self.since < FAST;
        (self.received, self.since) = (0, now);
        if !is_fast {
            self.restore();
        } else if self.window.size() == WINDOW
            && let Some(permit) = self.window.server.large_reads()
        {
            self.enlarged = Some(permit);
            self.window.set(LARGE_WINDOW);
        }
    }

    pub(super) fn restore(&mut self) {
        if self.enlarged.take().is_some() {
            self.window.set(WINDOW);
        }
    }
}

impl Drop for WindowUse {
    fn drop(&mut self) {
        self.restore();
    }
}
