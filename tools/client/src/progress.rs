//! Counts bytes and emits events.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{Event, Progress};

const EVENT_INTERVAL: Duration = Duration::from_millis(100);
/// The time over which the rate is the mean.
const RATE_WINDOW: Duration = Duration::from_secs(5);

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
    samples: Mutex<VecDeque<(Instant, u64)>>,
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").finish_non_exhaustive()
    }
}

impl Meter {
    pub(crate) fn new(callback: Option<EventCallback>, total: Option<u64>) -> Self {
        Self {
            callback,
            start: Instant::now(),
            total: AtomicU64::new(total.unwrap_or(u64::MAX)),
            acknowledged: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            transferred: AtomicU64::new(0),
            next_event: AtomicU64::new(0),
            samples: Mutex::default(),
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
        let rate = self.rate();
        let remaining = total
            .filter(|_| rate > 0.0)
            .map(|total| total.saturating_sub(bytes) as f64 / rate)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        callback(Event::Progress(Progress {
            bytes: total.map_or(bytes, |total| bytes.min(total)),
            acknowledged,
            total,
            rate,
            remaining,
        }));
    }

    fn rate(&self) -> f64 {
        let now = Instant::now();
        let transferred = self.transferred();
        let mut samples = self.samples.lock();
        while samples.len() > 1
            && samples
                .get(1)
                .is_some_and(|(at, _)| now - *at > RATE_WINDOW)
        {
            samples.pop_front();
        }
        let (since, before) = samples.front().copied().unwrap_or((self.start, 0));
        samples.push_back((now, transferred));
        let seconds = (now - since).as_secs_f64();
        match seconds > 0.0 {
            true => (transferred - before) as f64 / seconds,
            false => 0.0,
        }
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
