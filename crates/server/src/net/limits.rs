use std::time::Duration;

use super::addresses::AddressLimits;

/// A timer fires at most two of these late: the last byte is noticed at a tick, as is the end.
const MAX_TICK: Duration = Duration::from_millis(200);

/// What a connection may take, in time and in memory.
///
/// A duration of zero switches that timer off. Timers are checked once a tick (a quarter of the
/// smallest one, at most 200 ms), so each fires up to two ticks late.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Threads that serve connections, each with a runtime of its own on which a connection stays;
    /// 0 serves them on the runtime that runs [`serve`](super::serve).
    pub workers: usize,
    /// Connections open at once. Past it no connection is accepted until one closes: the client
    /// waits in the listener's backlog.
    pub max_connections: usize,
    /// What each client address may take.
    pub addresses: AddressLimits,
    /// Bytes of a request line and its headers together; also of the trailers of a chunked body.
    /// More is answered with 431.
    pub max_head: usize,
    /// Memory for unfinished heads that are larger than 8 KiB, of all connections together, in bytes.
    /// Past it such a head is answered with 503.
    pub head_memory: u64,
    /// From the first byte of a request (on a new connection: from its acceptance) to the end of
    /// the head. The connection is then closed.
    pub header_timeout: Duration,
    /// How long a connection may stay open between two requests.
    pub idle_timeout: Duration,
    /// How long a body may stay without a byte while the service waits for one. The body then ends
    /// with [`BodyError::Timeout`](super::BodyError::Timeout).
    pub body_timeout: Duration,
    /// How long the client may take no byte of a response. The connection is then closed.
    pub write_timeout: Duration,
    /// Bytes per second a body must bring on average over each `rate_window` in which the service
    /// waited for the client; 0 asks for none. A slower one ends with
    /// [`BodyError::TooSlow`](super::BodyError::TooSlow).
    pub min_rate: u64,
    /// The time `min_rate` is averaged over.
    pub rate_window: Duration,
    /// The most bytes one read may bring. A connection's buffer grows towards it only while reads
    /// fill it. At least 8 KiB.
    pub read_buffer: usize,
    /// How long a client may be silent, in a body or between two requests, before a read buffer that
    /// has grown is released.
    pub release_after: Duration,
    /// Whether HTTP/2 with prior knowledge is spoken beside HTTP/1.
    pub http2: bool,
    /// Streams open at once in one HTTP/2 connection.
    pub max_streams: u32,
    /// After an answer that came before the end of its request: how long to go on discarding what
    /// the client sends, counted from its last byte …
    pub linger_idle: Duration,
    /// … and in all.
    pub linger_total: Duration,
    /// … and how many bytes at most.
    pub linger_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: 0,
            max_connections: 10_000,
            addresses: AddressLimits::default(),
            max_head: 64 * 1024,
            head_memory: 64 * 1024 * 1024,
            header_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(120),
            min_rate: 16,
            rate_window: Duration::from_secs(60),
            read_buffer: 256 * 1024,
            release_after: Duration::from_secs(2),
            http2: false,
            max_streams: 128,
            linger_idle: Duration::from_secs(5),
            linger_total: Duration::from_secs(30),
            linger_bytes: 256 * 1024 * 1024,
        }
    }
}

impl Limits {
    /// How often the timers are checked.
    pub(super) fn tick(&self) -> Duration {
        let timers = [
            self.header_timeout,
            self.idle_timeout,
            self.body_timeout,
            self.write_timeout,
            self.linger_idle,
            self.linger_total,
            self.release_after,
        ];
        let smallest = timers.into_iter().filter(|t| !t.is_zero()).min();
        smallest
            .map_or(MAX_TICK, |t| t / 4)
            .clamp(Duration::from_millis(5), MAX_TICK)
    }
}
