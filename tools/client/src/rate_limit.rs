//! Limits the rate of a transfer.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A rate limit that all requests of a transfer share.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    bytes_per_second: u64,
    /// The time at which all bytes sent so far are within the rate.
    free_at: Mutex<Instant>,
}

impl RateLimiter {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            free_at: Mutex::new(Instant::now()),
        }
    }

    /// Returns the largest number of bytes that are sent at once: those of a tenth of a second.
    pub(crate) fn burst(&self) -> usize {
        let burst = (self.bytes_per_second / 10).clamp(1, 1 << 20);
        usize::try_from(burst).unwrap_or(1 << 20)
    }

    /// Records bytes, and returns the time to wait before they are sent.
    pub(crate) fn reserve(&self, bytes: usize) -> Duration {
        let now = Instant::now();
        let mut free_at = self.free_at.lock();
        let start = (*free_at).max(now);
        *free_at = start + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        start - now
    }
}
