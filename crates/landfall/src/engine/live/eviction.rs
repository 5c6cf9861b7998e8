//! Evicting the writers whose clients send least when the transfer limit is reached.
//!
//! Writers are measured only when a request finds the limit reached.

use std::{
    cmp::Reverse,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{LiveUpload, LiveUploads, WriterState};

const SILENT_AFTER: Duration = Duration::from_secs(2);
const MIN_RATE: u64 = 1024;
/// A rate is measured over a time of at least `SILENT_AFTER`, and at most this.
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
        found.sort_unstable_by_key(|(silence, _)| Reverse(*silence));
        found.truncate(MAX_CANDIDATES);
        found.into_iter().rev().map(|(_, live)| live).collect()
    }
}

impl LiveUpload {
    /// Zero if the client is slow, `None` if it makes progress.
    fn idleness(&self, writer: &mut WriterState, now: Instant) -> Option<Duration> {
        if writer.has_ended || writer.is_evicted || !self.is_waiting.load(Ordering::Relaxed) {
            return None;
        }
        let silence = now.saturating_duration_since(writer.received_at);
        if silence >= SILENT_AFTER {
            return Some(silence);
        }
        let received = self.received.load(Ordering::Relaxed);
        let sample = *writer.sample.get_or_insert(Sample { at: now, received });
        let time = now.saturating_duration_since(sample.at);
        if time > RATE_WINDOW {
            writer.sample = Some(Sample { at: now, received });
            return None;
        }
        let moved = u128::from(received.saturating_sub(sample.received));
        let is_slow =
            time >= SILENT_AFTER && moved * 1000 < u128::from(MIN_RATE) * time.as_millis();
        is_slow.then_some(Duration::ZERO)
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
