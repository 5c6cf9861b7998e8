//! Limits of connections: per client address ([`addresses`], [`fair_queue`]) and in time ([`timeouts`]).

pub(crate) mod addresses;
pub(crate) mod fair_queue;
pub(crate) mod timeouts;

use std::time::Duration;

use http::HeaderValue;

use self::addresses::AddressLimits;
use crate::rejection::RejectionFields;

/// A timeout may fire two of these late: the last byte and the expiry are each noticed at a tick.
const MAX_TICK: Duration = Duration::from_millis(200);

/// Limits of connections, in time and in memory.
///
/// A duration of zero disables that timeout. Timeouts are checked once a tick (a quarter of the
/// smallest one, at most 200 ms), so each fires up to two ticks late.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionLimits {
    /// Threads, each with its own runtime, on which a connection stays; 0 serves on the runtime that runs
    /// [`serve`](crate::serve).
    pub workers: usize,
    /// Maximum number of open connections; further clients wait in the listener's backlog.
    pub max_connections: usize,
    /// Limits per client address.
    pub addresses: AddressLimits,
    /// Fields of this layer's own responses.
    pub rejection_fields: RejectionFields,
    /// Maximum bytes of a request line with its headers. Streams of HTTP/2 and HTTP/3 have at most 256 KiB: a
    /// connection has many of them. Trailers have at most 16 KiB.
    pub max_head: usize,
    /// True if HTTP/1.1 requests may have `Content-Length` and chunks: chunks decide, and the connection closes
    /// after the response (RFC 9112 section 6.3). A proxy may have decided otherwise, so not behind one.
    pub both_lengths: bool,
    /// Maximum memory of all unfinished heads and trailers above 8 KiB, and of running requests whose head is above
    /// 64 KiB (HTTP/2 and HTTP/3: 8 KiB), in bytes; further ones are rejected with 503.
    pub head_memory: u64,
    /// Maximum memory of content of HTTP/2 and HTTP/3 that clients may send before it is read, in bytes, besides 64 KiB
    /// of each connection. The connection that has the most waits first.
    pub unread_memory: u64,
    /// Time to receive a head, from its first byte or from `accept`; then the connection is closed.
    pub header_timeout: Duration,
    /// Maximum time between two requests on a connection.
    pub idle_timeout: Duration,
    /// Maximum time without a byte of a body while the service waits for one; then the body ends with
    /// [`RequestBodyError::Timeout`](landfall::service::RequestBodyError::Timeout).
    pub body_timeout: Duration,
    /// Maximum time in which the client reads no byte of a response; then the connection is closed.
    pub write_timeout: Duration,
    /// Minimum bytes per second of a body, averaged over each `rate_window`, and of a response, averaged over each
    /// `write_timeout`; 0 disables it.
    ///
    /// Only time in which the server waits for the client counts. A slower body ends with
    /// [`RequestBodyError::TooSlow`](landfall::service::RequestBodyError::TooSlow), a response as after `write_timeout`.
    pub min_rate: u64,
    /// Averaging window of `min_rate`.
    pub rate_window: Duration,
    /// Maximum bytes of one read, at least 8 KiB. A buffer grows only while reads fill it.
    pub read_buffer: usize,
    /// Maximum bytes of one read of a long body that arrives fast, for at most `large_reads` connections;
    /// no more than `read_buffer` disables it.
    pub large_read_buffer: usize,
    /// Maximum number of connections with a `large_read_buffer`.
    pub large_reads: usize,
    /// True if HTTP/2 with prior knowledge is accepted besides HTTP/1 without TLS.
    pub http2: bool,
    /// Maximum number of concurrent requests of one connection of HTTP/2 or HTTP/3, also of those that the client has
    /// reset while the service runs.
    pub max_streams: u32,
    /// Lingering close: maximum time since the client's last byte. Bytes that arrive after an early response
    /// are discarded.
    pub linger_idle: Duration,
    /// Lingering close: maximum time in total.
    pub linger_total: Duration,
    /// Lingering close: maximum bytes to discard.
    pub linger_bytes: u64,
    /// `Strict-Transport-Security` in responses over TLS, unless the service sets it (RFC 6797).
    pub hsts: Option<HeaderValue>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            workers: 0,
            max_connections: 10_000,
            addresses: AddressLimits::default(),
            rejection_fields: RejectionFields::default(),
            max_head: 1024 * 1024,
            both_lengths: false,
            head_memory: 64 * 1024 * 1024,
            unread_memory: 64 * 1024 * 1024,
            header_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(120),
            min_rate: 16,
            rate_window: Duration::from_secs(60),
            read_buffer: 256 * 1024,
            large_read_buffer: 1024 * 1024,
            large_reads: 16,
            http2: false,
            max_streams: 128,
            linger_idle: Duration::from_secs(5),
            linger_total: Duration::from_secs(30),
            linger_bytes: 256 * 1024 * 1024,
            hsts: None,
        }
    }
}

impl ConnectionLimits {
    pub(crate) fn max_permits(&self) -> u32 {
        let max = u32::try_from(self.max_connections).unwrap_or(u32::MAX);
        max.clamp(1, u32::MAX >> 3)
    }

    pub(crate) fn max_stream_head(&self) -> u32 {
        self.max_head.min(256 * 1024) as u32
    }

    pub(crate) fn tick(&self) -> Duration {
        let timers = [
            self.header_timeout,
            self.idle_timeout,
            self.body_timeout,
            self.write_timeout,
            self.linger_idle,
            self.linger_total,
        ];
        let smallest = timers.into_iter().filter(|t| !t.is_zero()).min();
        let tick = smallest.map_or(MAX_TICK, |smallest| smallest / 4);
        tick.clamp(Duration::from_millis(5), MAX_TICK)
    }
}
