use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of the HTTP edge, to be read by anyone at any time.
///
/// The byte counts are brought up to date once a tick (at most 200 ms late).
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct NetStats {
    /// Connections open now.
    pub open: AtomicU64,
    /// Connections accepted since the start.
    pub accepted: AtomicU64,
    /// Failed `accept` calls (file descriptors exhausted, connection gone already).
    pub accept_errors: AtomicU64,
    /// Times the connection limit was reached, so that nothing was accepted until one closed.
    pub full: AtomicU64,
    /// Connections of silent or slow clients that were closed for others, the limit being reached.
    pub evicted: AtomicU64,
    /// Requests handed to the service.
    pub requests: AtomicU64,
    /// Requests refused before the service saw them.
    pub refused: AtomicU64,
    /// Connections rejected or closed because their address had too many.
    pub address_connections: AtomicU64,
    /// Requests rejected because their address had sent too many.
    pub address_requests: AtomicU64,
    /// Requests rejected because their address had too many uploads.
    pub address_uploads: AtomicU64,
    /// Memory that unfinished heads larger than 8 KiB take now, in bytes.
    pub head_bytes: AtomicU64,
    /// Connections closed because a head took too long.
    pub header_timeouts: AtomicU64,
    /// Connections closed because no further request came.
    pub idle_timeouts: AtomicU64,
    /// Bodies ended because no byte came for too long.
    pub body_timeouts: AtomicU64,
    /// Bodies ended because they came too slowly.
    pub too_slow: AtomicU64,
    /// Connections closed because the client took no byte of a response for too long.
    pub write_timeouts: AtomicU64,
    /// Times the read buffer of a silent connection was released.
    pub buffers_released: AtomicU64,
    /// Bytes received.
    pub bytes_in: AtomicU64,
    /// Bytes sent.
    pub bytes_out: AtomicU64,
}

impl NetStats {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }
}
