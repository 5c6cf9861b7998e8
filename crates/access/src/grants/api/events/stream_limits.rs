//! Bounds the open event streams, in all and per subject.
//!
//! A permit is held as long as its stream. The limit of a subject is checked first, with 429; the total gives 503. Both
//! counts change under one lock.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use crate::Problem;
use http::StatusCode;
use parking_lot::Mutex;

use super::super::ApiStats;

const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Limits on open event streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// All streams.
    pub total: usize,
    /// Streams of one subject.
    pub per_subject: usize,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            total: 16_384,
            per_subject: 2048,
        }
    }
}

/// The number of all open streams is [`ApiStats::event_streams`], changed under the lock.
#[derive(Debug)]
pub(in super::super) struct StreamLimiter {
    limits: StreamLimits,
    stats: Arc<ApiStats>,
    by_subject: Mutex<HashMap<String, usize>>,
}

#[derive(Debug)]
pub(super) struct StreamPermit {
    limiter: Arc<StreamLimiter>,
    subject: String,
}

impl StreamLimiter {
    pub(in super::super) fn new(limits: StreamLimits, stats: Arc<ApiStats>) -> Arc<Self> {
        Arc::new(Self {
            limits,
            stats,
            by_subject: Mutex::default(),
        })
    }

    pub(super) fn acquire(self: &Arc<Self>, subject: &str) -> Result<StreamPermit, Problem> {
        let full = |status, detail| Err(Problem::new(status, detail).retry_after(RETRY_AFTER));
        let mut by_subject = self.by_subject.lock();
        let own = by_subject.get(subject).copied().unwrap_or_default();
        if own >= self.limits.per_subject {
            let detail = "too many event streams of this subject";
            return full(StatusCode::TOO_MANY_REQUESTS, detail);
        }
        if self.stats.event_streams.load(Relaxed) >= self.limits.total as u64 {
            let detail = "too many event streams";
            return full(StatusCode::SERVICE_UNAVAILABLE, detail);
        }
        by_subject.insert(subject.to_owned(), own + 1);
        self.stats.event_streams.fetch_add(1, Relaxed);
        let (limiter, subject) = (self.clone(), subject.to_owned());
        Ok(StreamPermit { limiter, subject })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut by_subject = self.limiter.by_subject.lock();
        if let Some(own) = by_subject.get_mut(&self.subject) {
            *own -= 1;
            if *own == 0 {
                by_subject.remove(&self.subject);
            }
        }
        self.limiter.stats.event_streams.fetch_sub(1, Relaxed);
    }
}
