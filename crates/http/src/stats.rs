//! Counters of the HTTP server for metrics, and the guard that counts an open connection.
//!
//! The counters are relaxed atomics: they must not synchronize anything. `OpenConnection` also holds the connection's
//! permit from the limit on all connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::OwnedSemaphorePermit;

/// Counters of the HTTP server. Byte counts are updated once a tick, so they lag by at most 200 ms.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct NetStats {
    /// Connections open now.
    pub open: AtomicU64,
    /// Connections accepted since the start.
    pub accepted: AtomicU64,
    /// Failed `accept` calls: file descriptors exhausted, or the connection was already closed.
    pub accept_errors: AtomicU64,
    /// Times the connection limit was reached, which pauses `accept` until a connection closes.
    pub limit_reached: AtomicU64,
    /// Connections of silent or slow clients closed at the connection limit to make room.
    pub evicted: AtomicU64,
    /// Connections closed because their PROXY header was not valid or not from a trusted proxy.
    pub proxy_errors: AtomicU64,
    /// TLS handshakes that succeeded.
    pub tls_handshakes: AtomicU64,
    /// TLS handshakes that failed.
    pub tls_errors: AtomicU64,
    /// Requests handed to the service.
    pub requests: AtomicU64,
    /// Requests rejected before they reached the service.
    pub rejected: AtomicU64,
    /// Connections rejected or closed because their address had too many.
    pub address_connections: AtomicU64,
    /// Requests rejected because their address had sent too many.
    pub address_requests: AtomicU64,
    /// Requests rejected because their address had too many uploads.
    pub address_uploads: AtomicU64,
    /// Requests rejected because their address had too many downloads.
    pub address_downloads: AtomicU64,
    /// Current memory of heads and trailers that [`ConnectionLimits::head_memory`](super::ConnectionLimits::head_memory)
    /// limits, in bytes.
    pub head_bytes: AtomicU64,
    /// Content of HTTP/2 and HTTP/3 that is held because its service does not read it, in bytes.
    pub held_bytes: AtomicU64,
    /// Bytes reserved of [`ConnectionLimits::unread_memory`](super::ConnectionLimits::unread_memory).
    pub unread_bytes: AtomicU64,
    /// Connections closed because a head took too long.
    pub header_timeouts: AtomicU64,
    /// Connections closed because no further request arrived.
    pub idle_timeouts: AtomicU64,
    /// Bodies aborted because no byte arrived in time.
    pub body_timeouts: AtomicU64,
    /// Bodies and responses aborted because they were below the minimum rate.
    pub too_slow: AtomicU64,
    /// Connections closed because the client read no byte of a response in time.
    pub write_timeouts: AtomicU64,
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

/// A connection that is counted as open until this is dropped.
#[derive(Debug)]
pub(super) struct OpenConnection(Arc<NetStats>, #[expect(dead_code)] OwnedSemaphorePermit);

impl OpenConnection {
    pub(super) fn new(stats: Arc<NetStats>, permit: OwnedSemaphorePermit) -> Self {
        NetStats::add(&stats.open, 1);
        Self(stats, permit)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}
