//! Flow control of the bytes that a client sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

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
    is_large: AtomicBool,
    set: Box<dyn Fn(u32) + Send + Sync>,
}

impl ReceiveWindow {
    /// `set` changes the window of the connection, which is [`WINDOW`] at first.
    pub(crate) fn new(
        server: Arc<ServerShared>,
        set: impl Fn(u32) + Send + Sync + 'static,
    ) -> Self {
        Self {
            server,
            is_large: AtomicBool::new(false),
            set: Box::new(set),
        }
    }

    /// Enlarges it until the result is dropped; `None` if it is large already, or too many are.
    fn enlarge(self: &Arc<Self>) -> Option<LargeWindow> {
        if self.is_large.swap(true, Relaxed) {
            return None;
        }
        if !self.server.take_large_reads() {
            self.is_large.store(false, Relaxed);
            return None;
        }
        (self.set)(LARGE_WINDOW);
        Some(LargeWindow(self.clone()))
    }
}

struct LargeWindow(Arc<ReceiveWindow>);

impl Drop for LargeWindow {
    fn drop(&mut self) {
        (self.0.set)(WINDOW);
        self.0.is_large.store(false, Relaxed);
        self.0.server.return_large_reads();
    }
}

/// Measures a body, and enlarges the window of its connection while it is fast.
pub(crate) struct WindowUse {
    window: Arc<ReceiveWindow>,
    large: Option<LargeWindow>,
    /// Bytes that have arrived since then.
    received: u64,
    since: Instant,
}

impl WindowUse {
    pub(super) fn new(window: Arc<ReceiveWindow>) -> Self {
        Self {
            window,
            large: None,
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
        } else if self.large.is_none() {
            self.large = self.window.enlarge();
        }
    }

    pub(super) fn restore(&mut self) {
        self.large = None;
    }
}
