use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use http::StatusCode;
use landfall_api::Problem;
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

#[derive(Debug)]
pub(in super::super) struct StreamLimiter {
    seats: StreamLimits,
    stats: Arc<ApiStats>,
    taken: Mutex<OpenStreams>,
}

#[derive(Debug, Default)]
struct OpenStreams {
    total: usize,
    by_subject: HashMap<String, usize>,
}

#[derive(Debug)]
pub(super) struct StreamPermit {
    table: Arc<StreamLimiter>,
    subject: String,
}

impl StreamLimiter {
    pub(in super::super) fn new(seats: StreamLimits, stats: Arc<ApiStats>) -> Arc<Self> {
        Arc::new(Self {
            seats,
            stats,
            taken: Mutex::default(),
        })
    }

    pub(super) fn acquire(self: &Arc<Self>, subject: &str) -> Result<StreamPermit, Problem> {
        let full = |status, detail| Err(Problem::new(status, detail).retry_after(RETRY_AFTER));
        let mut taken = self.taken.lock();
        let own = taken.by_subject.get(subject).copied().unwrap_or_default();
        if own >= self.seats.per_subject {
            let detail = "too many event streams of this subject";
            return full(StatusCode::TOO_MANY_REQUESTS, detail);
        }
        if taken.total >= self.seats.total {
            let detail = "too many event streams";
            return full(StatusCode::SERVICE_UNAVAILABLE, detail);
        }
        taken.total += 1;
        taken.by_subject.insert(subject.to_owned(), own + 1);
        self.stats.event_streams.fetch_add(1, Relaxed);
        let (table, subject) = (self.clone(), subject.to_owned());
        Ok(StreamPermit { table, subject })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut taken = self.table.taken.lock();
        taken.total -= 1;
        if let Some(own) = taken.by_subject.get_mut(&self.subject) {
            *own -= 1;
            if *own == 0 {
                taken.by_subject.remove(&self.subject);
            }
        }
        self.table.stats.event_streams.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_come_free_again() {
        let seats = StreamLimits {
            total: 3,
            per_subject: 2,
        };
        let stats = Arc::<ApiStats>::default();
        let table = StreamLimiter::new(seats, stats.clone());
        let first = table.acquire("a").unwrap();
        let _second = table.acquire("a").unwrap();
        assert!(!table.acquire("a").unwrap_err().status().is_server_error());
        let _third = table.acquire("b").unwrap();
        assert!(table.acquire("c").unwrap_err().status().is_server_error());
        assert_eq!(stats.event_streams.load(Relaxed), 3);
        drop(first);
        let _fourth = table.acquire("a").unwrap();
        assert_eq!(stats.event_streams.load(Relaxed), 3);
        assert_eq!(table.taken.lock().by_subject["a"], 2);
    }
}
