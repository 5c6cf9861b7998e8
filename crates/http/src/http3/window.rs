//! Flow control of the bytes that a client sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use quinn::VarInt;

use crate::timeouts::ServerShared;

/// Bytes of all requests of a connection that a client may send before the service reads them,
pub(super) const WINDOW: u64 = 2 << 20;
/// and for a long body that arrives fast: what 1 Gb/s sends in 130 ms. `ConnectionLimits::large_reads`
/// limits their number.
pub(super) const LARGE_WINDOW: u64 = 16 << 20;

/// The flow-control window of a connection, which is large only while few long bodies arrive fast.
pub(super) struct ReceiveWindow {
    pub(super) connection: quinn::Connection,
    pub(super) server: Arc<ServerShared>,
    pub(super) is_large: AtomicBool,
}

impl ReceiveWindow {
    /// Returns whether the caller has to restore it.
    pub(super) fn enlarge(&self) -> bool {
        if self.is_large.swap(true, Relaxed) {
            return false;
        }
        let is_enlarged = self.server.take_large_reads();
        if is_enlarged {
            self.set(LARGE_WINDOW);
        } else {
            self.is_large.store(false, Relaxed);
        }
        is_enlarged
    }

    pub(super) fn restore(&self) {
        self.set(WINDOW);
        self.is_large.store(false, Relaxed);
        self.server.return_large_reads();
    }

    fn set(&self, bytes: u64) {
        let window = VarInt::from_u64(bytes).unwrap_or(VarInt::MAX);
        self.connection.set_receive_window(window);
    }
}
