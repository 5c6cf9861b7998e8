use std::time::Duration;

/// The time for which uploads are retained; `None` is forever.
///
/// An expired upload returns 410. Its bytes are removed by a [`Sweeper`](crate::Sweeper), which the
/// program must run:
///
/// ```no_run
/// # use std::time::Duration;
/// # async fn run(uploads: landfall::Handler) {
/// let sweeper = uploads.sweeper();
/// tokio::spawn(async move { sweeper.run_forever(Duration::from_secs(60)).await });
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lifetimes {
    /// Unfinished uploads, counted from their last byte.
    pub unfinished: Option<Duration>,
    /// Finished uploads, counted from their last byte.
    pub finished: Option<Duration>,
}

/// Resource limits of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum size of an upload, in bytes; `None` is unlimited.
    pub max_size: Option<u64>,
    /// Maximum concurrent transfers.
    ///
    /// When the limit is reached, a transfer whose client has been silent (for at least two seconds) or
    /// sends less than 1 KiB per second is evicted with 503 and `Retry-After`. If there is none, the
    /// new transfer gets that response.
    pub max_transfers: usize,
    /// Memory for received bytes that are not written yet, over all transfers, in bytes; at least
    /// 256 KiB. When it is exhausted, clients are slowed down by backpressure.
    pub max_buffered_bytes: usize,
    /// Maximum concurrent concatenations; others wait.
    pub max_concatenations: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_size: None,
            max_transfers: 10_000,
            max_buffered_bytes: 256 << 20,
            max_concatenations: 4,
        }
    }
}
