//! Evicting the writers whose clients send least when the transfer limit is reached.
//!
//! Writers are measured only when a request finds the limit reached.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{LiveUpload, LiveUploads, WriterState};
use crate::eviction::Idleness;

/// A rate is measured over at most this time.
const RATE_WINDOW: Duration = Duration::from_secs(20);
const SCAN_INTERVAL: Duration = Duration::from_millis(100);
const MAX_CANDIDATES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Scan {
    at: Option<Instant>,
    /// Sorted: the last one is evicted first.
    found: Vec<Arc<LiveUpload>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    at: Instant,
    received: u64,
}

impl LiveUploads {
    /// Evicts the writer whose client has been silent longest, or a slow one if none is silent. False if
    /// all of them make progress.
    pub(in crate::engine) fn evict(&self) -> bool {
        let mut scan = self.last_scan.lock();
        let now = Instant::now();
        loop {
            if let Some(live) = scan.found.pop() {
                if live.evict(now) {
                    return true;
                }
            } else if scan.at.is_none_or(|at| now - at >= SCAN_INTERVAL) {
                scan.at = Some(now);
                scan.found = self.scan(now);
            } else {
                return false;
            }
        }
    }

    fn scan(&self, now: Instant) -> Vec<Arc<LiveUpload>> {
        let mut found = Vec::new();
        for shard in self.uploads.shards() {
            for live in shard.writers.values() {
                if let Some(silence) = live.idleness(&mut live.writer.lock(), now) {
                    found.push((silence, live.clone()));
                }
            }
        }
        let mut found = Idleness::largest(found.into_iter(), MAX_CANDIDATES);
        found.reverse();
        found
    }
}

impl LiveUpload {
    fn idleness(&self, writer: &mut WriterState, now: Instant) -> Option<Idleness> {
        if writer.has_ended || writer.is_evicted || !self.is_waiting.load(Ordering::Relaxed) {
            return None;
        }
        let silence = now.saturating_duration_since(writer.received_at);
        let received = self.received.load(Ordering::Relaxed);
        let current = Sample { at: now, received };
        let mut sample = *writer.sample.get_or_insert(current);
        if now.saturating_duration_since(sample.at) > RATE_WINDOW {
            sample = current;
            writer.sample = Some(sample);
        }
        let waited = now.saturating_duration_since(sample.at);
        Idleness::measure(silence, received.saturating_sub(sample.received), waited)
    }

    fn evict(&self, now: Instant) -> bool {
        let mut writer = self.writer.lock();
        writer.is_evicted = self.idleness(&mut writer, now).is_some();
        if writer.is_evicted {
            self.requested.notify_waiters();
        }
        writer.is_evicted
    }
}
