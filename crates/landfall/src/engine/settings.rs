//! What the engine is put together from.

use std::{sync::Arc, time::Duration};

use crate::{Composer, event::EventSink, hook::Hook};

/// How long uploads are kept; `None` = for ever.
///
/// An upload whose time is over answers 410. Its bytes are removed by a [`Sweeper`](crate::Sweeper),
/// which the program must run:
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

/// Limits that keep one client, or many, from taking everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest upload, in bytes; `None` = no limit.
    pub max_size: Option<u64>,
    /// Bodies being stored at once. Past it the one whose client has been silent longest (for at least
    /// two seconds), or brings less than 1 KiB per second, ends with 503 and `Retry-After`; if all move,
    /// the new one does.
    pub max_transfers: usize,
    /// Memory for bytes that wait to be written, over all transfers, in bytes; past it clients feel
    /// back-pressure. At least 256 KiB.
    pub max_buffered_bytes: usize,
    /// Concatenations being carried out at once; others wait.
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

/// What an engine is put together from; the fields are those of [`Config`](crate::Config).
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) parts: Composer,
    pub(crate) limits: Limits,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) hooks: Vec<Arc<dyn Hook>>,
    pub(crate) sinks: Vec<Arc<dyn EventSink>>,
    pub(crate) progress_interval: Duration,
    pub(crate) lease_wait: Duration,
    pub(crate) body_timeout: Option<Duration>,
    pub(crate) disable_unfinished_download: bool,
}
