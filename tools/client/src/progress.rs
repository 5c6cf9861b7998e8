//! Counts bytes and emits events.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{Event, Progress, Rate};

const EVENT_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) type EventCallback = Arc<dyn Fn(Event) + Send + Sync>;

/// The progress of one transfer, which its parts share.
pub(crate) struct Meter {
    callback: Option<EventCallback>,
    start: Instant,
    total: AtomicU64,
    acknowledged: AtomicU64,
    /// Bytes of running requests.
    pending: AtomicU64,
    /// Bytes of all requests.
    transferred: AtomicU64,
    next_event: AtomicU64,
    rate: Mutex<Rate>,
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").finish_non_exhaustive()
    }
}

impl Meter {
    pub(crate) fn new(callback: Option<EventCallback>, total: Option<u64>) -> Self {
        let start = Instant::now();
        Self {
            callback,
            start,
            total: AtomicU64::new(total.unwrap_or(u64::MAX)),
            acknowledged: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            transferred: AtomicU64::new(0),
            next_event: AtomicU64::new(0),
            rate: Mutex::new(Rate::new(start)),
        }
    }

    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) {
        if let Some(callback) = &self.callback {
            callback(event());
        }
    }

    pub(crate) fn set_total(&self, total: u64) {
        self.total.store(total, Relaxed);
    }

    /// Returns the bytes of all requests.
    pub(crate) fn transferred(&self) -> u64 {
        self.transferred.load(Relaxed)
    }

    /// Counts bytes of a running request.
    pub(crate) fn transfer(&self, bytes: u64) {
        self.transferred.fetch_add(bytes, Relaxed);
        self.pending.fetch_add(bytes, Relaxed);
        if self.callback.is_some() {
            let now = self.start.elapsed();
            let due = Duration::from_micros(self.next_event.load(Relaxed));
            if now >= due {
                let next = (now + EVENT_INTERVAL).as_micros();
                self.next_event
                    .store(u64::try_from(next).unwrap_or(u64::MAX), Relaxed);
                self.emit_progress();
            }
        }
    }

    /// Removes the bytes of a request that ended.
    pub(crate) fn end_request(&self, bytes: u64) {
        self.pending.fetch_sub(bytes, Relaxed);
    }

    /// Records that the acknowledged offset of a part changed.
    pub(crate) fn acknowledge(&self, from: u64, to: u64) {
        match to.checked_sub(from) {
            Some(more) => self.acknowledged.fetch_add(more, Relaxed),
            None => self.acknowledged.fetch_sub(from - to, Relaxed),
        };
    }

    /// Returns the acknowledged bytes.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Relaxed)
    }

    /// Sets the acknowledged bytes.
    pub(crate) fn reset_acknowledged(&self, bytes: u64) {
        self.acknowledged.store(bytes, Relaxed);
    }

    pub(crate) fn emit_progress(&self) {
        let Some(callback) = &self.callback else {
            return;
        };
        let acknowledged = self.acknowledged.load(Relaxed);
        let bytes = acknowledged.saturating_add(self.pending.load(Relaxed));
        let total = Some(self.total.load(Relaxed)).filter(|total| *total != u64::MAX);
        let remaining = total.map(|total| total.saturating_sub(bytes));
        let (rate, remaining) = self.rate(Instant::now(), remaining);
        callback(Event::Progress(Progress {
            bytes: total.map_or(bytes, |total| bytes.min(total)),
            acknowledged,
            total,
            rate,
            remaining,
        }));
    }

    pub(crate) fn rate(&self, now: Instant, remaining: Option<u64>) -> (f64, Option<Duration>) {
        let mut rate = self.rate.lock();
        rate.record(now, self.transferred(), remaining)
    }

    /// Starts a new mean rate, after a time in which nothing could be transferred.
    pub(crate) fn restart_rate(&self) {
        self.rate.lock().restart();
    }
}

/// The bytes of one request, which no longer count as pending when it is dropped.
#[derive(Debug)]
pub(crate) struct RequestBytes {
    meter: Arc<Meter>,
    bytes: AtomicU64,
}

impl RequestBytes {
    pub(crate) fn new(meter: Arc<Meter>) -> Self {
        Self {
            meter,
            bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.meter.transfer(bytes);
    }

    /// Removes bytes that are acknowledged.
    pub(crate) fn acknowledge(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Relaxed);
        self.meter.end_request(bytes);
    }

    pub(crate) fn count(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}

impl Drop for RequestBytes {
    fn drop(&mut self) {
        self.meter.end_request(*self.bytes.get_mut());
    }
}
