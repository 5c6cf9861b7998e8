//! Timeouts of all connections, checked by one task.
//!
//! A connection has no timer. Its [`ConnectionActivity`] holds a few counters that the connection's task
//! updates with plain atomic stores. The sweeper ([`run_sweeper`]) compares them with their values at
//! the last tick, requests an action where a timeout has expired, and wakes the task. So a request costs
//! no clock read and no timer, and a thousand idle connections cost a thousand loads per tick.

use std::cmp::Reverse;
use std::fmt::Display;
use std::future::Future;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use http::HeaderValue;
use landfall::service::Peer;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, Interval};

use super::ConnectionLimits;
use super::addresses::Addresses;
use crate::log_throttle::LogThrottle;
use crate::shutdown::ShutdownPhase;
use crate::stats::NetStats;

/// In HTTP/2 and HTTP/3, also the phase of a stream's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Head,
    Idle,
    Body,
    Handling,
    Finishing,
    Lingering,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum TimeoutAction {
    Close = 1,
    BodyStalled = 2,
    BodyTooSlow = 3,
    ResponseStalled = 4,
}

pub(crate) const READING: u8 = 1;
pub(crate) const WRITING: u8 = 2;

/// During a shutdown or at the connection limit.
const SHUTDOWN_LINGER: Duration = Duration::from_millis(500);

/// At the connection limit, clients that have been silent for this long are evicted,
const SILENT_AFTER: Duration = Duration::from_secs(2);
/// and clients that send fewer bytes per second than this.
const MIN_RATE: f64 = 1024.0;
const MAX_EVICTIONS: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct ConnectionActivity {
    /// The phase, below a counter of phase changes, which tells a repeated phase from a lasting one.
    epoch: AtomicU32,
    /// The requested action and the epoch it applies to; 0 for none. Void in another epoch.
    action: AtomicU64,
    waiting: AtomicU8,
    read: AtomicU64,
    written: AtomicU64,
    requests: AtomicU32,
    closed: AtomicBool,
    socket: bool,
    waker: AtomicWaker,
}

impl ConnectionActivity {
    pub(crate) fn epoch(&self) -> PhaseEpoch {
        PhaseEpoch(self.epoch.load(Relaxed))
    }

    pub(crate) fn phase(&self) -> Phase {
        self.epoch().phase()
    }

    pub(crate) fn enter(&self, phase: Phase) -> PhaseEpoch {
        let epoch = self.epoch().next(phase);
        self.epoch.store(epoch.0, Relaxed);
        epoch
    }

    #[inline]
    pub(crate) fn action(&self) -> Option<TimeoutAction> {
        match self.action.load(Relaxed) {
            0 => None,
            packed => self.decode_action(packed),
        }
    }

    #[cold]
    fn decode_action(&self, packed: u64) -> Option<TimeoutAction> {
        let void = packed >> 8 != u64::from(self.epoch().0);
        match packed & 0xff {
            _ if void => None,
            1 => Some(TimeoutAction::Close),
            2 => Some(TimeoutAction::BodyStalled),
            3 => Some(TimeoutAction::BodyTooSlow),
            _ => Some(TimeoutAction::ResponseStalled),
        }
    }

    fn request_action(&self, epoch: PhaseEpoch, action: TimeoutAction) {
        self.action
            .store(u64::from(epoch.0) << 8 | action as u64, Relaxed);
        self.waker.wake();
    }

    pub(crate) fn set_waiting(&self, directions: u8) {
        self.waiting.store(directions, Relaxed);
    }

    /// A counter with a single writer: only the reading task may call it.
    pub(crate) fn add_read(&self, n: usize) {
        self.read.store(self.read.load(Relaxed) + n as u64, Relaxed);
    }

    /// A counter with a single writer: only the writing task may call it.
    pub(crate) fn add_written(&self, n: usize) {
        self.written
            .store(self.written.load(Relaxed) + n as u64, Relaxed);
    }

    pub(crate) fn add_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Release);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PhaseEpoch(u32);

impl PhaseEpoch {
    pub(crate) fn phase(self) -> Phase {
        match self.0 & 7 {
            0 => Phase::Head,
            1 => Phase::Idle,
            2 => Phase::Body,
            3 => Phase::Handling,
            4 => Phase::Finishing,
            _ => Phase::Lingering,
        }
    }

    fn next(self, phase: Phase) -> Self {
        Self(((self.0 >> 3).wrapping_add(1) << 3) | phase as u32)
    }
}

#[derive(Debug)]
pub(crate) struct ServerShared {
    shutdown_phase: AtomicU8,
    pub(crate) limits: ConnectionLimits,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) stats: Arc<NetStats>,
    /// How many more connections may have a large read buffer.
    large_reads: AtomicUsize,
    rejected_proxies: Mutex<LogThrottle>,
    registrations: Mutex<Registrations>,
    /// Cloned by each acceptor that waits for a connection to close.
    waiting: Arc<()>,
    wakeup: Notify,
    /// Offers HTTP/3 to clients of TLS (RFC 7838).
    pub(crate) alt_svc: OnceLock<HeaderValue>,
}

#[derive(Debug, Default)]
struct Registrations {
    watches: Vec<Arc<ConnectionActivity>>,
    asleep: bool,
}

impl ServerShared {
    pub(crate) fn new(limits: ConnectionLimits, stats: Arc<NetStats>) -> Self {
        let has_large = limits.large_read_buffer > limits.read_buffer;
        Self {
            large_reads: AtomicUsize::new(if has_large { limits.large_reads } else { 0 }),
            shutdown_phase: AtomicU8::new(ShutdownPhase::Running as u8),
            addresses: Arc::new(Addresses::new(limits.addresses.clone(), limits.workers)),
            limits,
            stats,
            rejected_proxies: Mutex::default(),
            registrations: Mutex::default(),
            waiting: Arc::default(),
            wakeup: Notify::new(),
            alt_svc: OnceLock::new(),
        }
    }

    #[inline]
    pub(crate) fn shutdown_phase(&self) -> ShutdownPhase {
        ShutdownPhase::from_u8(self.shutdown_phase.load(Acquire))
    }

    /// Returns whether there was one.
    pub(crate) fn take_large_reads(&self) -> bool {
        self.large_reads
            .try_update(Relaxed, Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }

    pub(crate) fn return_large_reads(&self) {
        self.large_reads.fetch_add(1, Relaxed);
    }

    pub(crate) fn advance(&self, shutdown_phase: ShutdownPhase) {
        self.shutdown_phase.fetch_max(shutdown_phase as u8, AcqRel);
        self.wakeup.notify_one();
    }

    /// Records that a connection is closed for its PROXY header.
    pub(crate) fn reject_proxy(&self, peer: Peer, reason: &dyn Display) {
        NetStats::add(&self.stats.proxy_errors, 1);
        let now = std::time::Instant::now();
        if self.rejected_proxies.lock().is_due(now) {
            let peer = peer.text();
            tracing::warn!(peer, %reason, "closed a connection without a trusted PROXY header");
        }
    }

    pub(crate) async fn wait_for<T>(&self, vacancy: impl Future<Output = T>) -> T {
        let _waiting = Arc::clone(&self.waiting);
        vacancy.await
    }

    fn is_full(&self) -> bool {
        Arc::strong_count(&self.waiting) > 1
    }

    pub(crate) fn track_new(&self, phase: Phase, socket: bool) -> Arc<ConnectionActivity> {
        let activity = Arc::new(ConnectionActivity {
            epoch: AtomicU32::new(phase as u32),
            socket,
            ..ConnectionActivity::default()
        });
        let asleep = {
            let mut registrations = self.registrations.lock();
            registrations.watches.push(activity.clone());
            std::mem::take(&mut registrations.asleep)
        };
        if asleep {
            self.wakeup.notify_one();
        }
        activity
    }

    /// Waits for a registration if there are no connections to check.
    async fn wait(&self, tick: &mut Interval, nothing: bool) {
        let asleep = nothing && {
            let mut registrations = self.registrations.lock();
            registrations.asleep = registrations.watches.is_empty();
            registrations.asleep
        };
        if asleep {
            self.wakeup.notified().await;
            tick.reset_immediately();
        }
        tokio::select! {
            _ = tick.tick() => {}
            () = self.wakeup.notified() => {}
        }
    }
}

pub(crate) async fn run_sweeper(server: Arc<ServerShared>) {
    let mut entries: Vec<TrackedConnection> = Vec::new();
    let mut known_phase = ShutdownPhase::Running;
    let mut tick = tokio::time::interval(server.limits.tick());
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before = Instant::now();
    loop {
        server.wait(&mut tick, entries.is_empty()).await;
        let now = Instant::now();
        let passed = now - before;
        before = now;
        entries.extend(
            std::mem::take(&mut server.registrations.lock().watches)
                .into_iter()
                .map(|activity| TrackedConnection::new(activity, now)),
        );
        let shutdown_phase = server.shutdown_phase();
        let mut delta = ActivityDelta::default();
        entries.retain_mut(|entry| {
            let closed = entry.activity.closed.load(Acquire);
            let since = entry.update(now, passed, &server);
            if entry.activity.socket {
                delta.read += since.read;
                delta.written += since.written;
                delta.requests += since.requests;
            }
            if shutdown_phase != known_phase {
                entry.activity.waker.wake();
            }
            !closed
        });
        if server.is_full() {
            evict(&mut entries, now, &server.stats);
        }
        NetStats::add(&server.stats.bytes_in, delta.read);
        NetStats::add(&server.stats.bytes_out, delta.written);
        NetStats::add(&server.stats.requests, delta.requests);
        known_phase = shutdown_phase;
        if entries.is_empty() {
            entries.shrink_to(1024);
        }
    }
}

fn evict(entries: &mut [TrackedConnection], now: Instant, stats: &NetStats) {
    let leaving = entries.iter().filter(|entry| entry.evicted).count();
    let others = entries.iter_mut().filter(|entry| !entry.evicted);
    let silent = others.filter_map(|entry| Some((entry.silence(now)?, entry)));
    let mut found: Vec<_> = silent.collect();
    found.sort_unstable_by_key(|(silence, _)| Reverse(*silence));
    let count = MAX_EVICTIONS.saturating_sub(leaving);
    for (_, entry) in found.into_iter().take(count) {
        entry.evicted = true;
        let action = match entry.epoch.phase() {
            Phase::Body => TimeoutAction::BodyStalled,
            _ => TimeoutAction::Close,
        };
        entry.activity.request_action(entry.epoch, action);
        NetStats::add(&stats.evicted, 1);
    }
}

#[derive(Clone, Copy, Default)]
struct ActivityDelta {
    read: u64,
    written: u64,
    requests: u64,
}

struct TrackedConnection {
    activity: Arc<ConnectionActivity>,
    epoch: PhaseEpoch,
    since: Instant,
    evicted: bool,
    read: u64,
    read_at: Instant,
    written: u64,
    written_at: Instant,
    requests: u32,
    received: RateWindow,
    sent: RateWindow,
}

/// A window of the minimum rate of one direction.
#[derive(Clone, Copy)]
struct RateWindow {
    /// Time waited for the client.
    waited: Duration,
    /// Bytes before it.
    start: u64,
}

impl RateWindow {
    fn new(start: u64) -> Self {
        let waited = Duration::ZERO;
        Self { waited, start }
    }

    fn rate(&self, bytes: u64) -> f64 {
        (bytes - self.start) as f64 / self.waited.as_secs_f64()
    }

    /// Returns whether a window has ended in which the client was below the minimum.
    fn too_slow(&mut self, bytes: u64, waited: Duration, window: Duration, min_rate: u64) -> bool {
        if min_rate == 0 || window.is_zero() {
            return false;
        }
        self.waited += waited;
        if self.waited < window {
            return false;
        }
        let rate = self.rate(bytes);
        *self = Self::new(bytes);
        rate < min_rate as f64
    }
}

impl TrackedConnection {
    fn new(activity: Arc<ConnectionActivity>, now: Instant) -> Self {
        Self {
            epoch: activity.epoch(),
            activity,
            since: now,
            evicted: false,
            read: 0,
            read_at: now,
            written: 0,
            written_at: now,
            requests: 0,
            received: RateWindow::new(0),
            sent: RateWindow::new(0),
        }
    }

    fn update(&mut self, now: Instant, passed: Duration, server: &ServerShared) -> ActivityDelta {
        let epoch = self.activity.epoch();
        let waiting = self.activity.waiting.load(Relaxed);
        let read = self.activity.read.load(Relaxed);
        let written = self.activity.written.load(Relaxed);
        let requests = self.activity.requests.load(Relaxed);
        let delta = ActivityDelta {
            read: read - self.read,
            written: written - self.written,
            requests: requests.wrapping_sub(self.requests).into(),
        };
        if epoch != self.epoch {
            self.epoch = epoch;
            self.since = now;
            self.evicted &= !matches!(epoch.phase(), Phase::Head | Phase::Idle);
            self.read_at = now;
            self.received = RateWindow::new(read);
            self.sent = RateWindow::new(written);
        }
        if delta.read > 0 || waiting & READING == 0 {
            self.read_at = now;
        }
        if delta.written > 0 || waiting & WRITING == 0 {
            self.written_at = now;
        }
        self.read = read;
        self.written = written;
        self.requests = requests;
        self.evaluate(now, passed, waiting, server);
        delta
    }

    fn evaluate(&mut self, now: Instant, passed: Duration, waiting: u8, server: &ServerShared) {
        let (limits, stats) = (&server.limits, &server.stats);
        let over = |since: Instant, limit: Duration| !limit.is_zero() && now - since >= limit;
        let (linger_idle, linger_total) = match server.shutdown_phase() {
            ShutdownPhase::Running if !server.is_full() => {
                (limits.linger_idle, limits.linger_total)
            }
            ShutdownPhase::Running => (SHUTDOWN_LINGER, SHUTDOWN_LINGER * 2),
            _ => (limits.linger_idle.min(SHUTDOWN_LINGER), limits.linger_total),
        };
        let action = match self.epoch.phase() {
            Phase::Head if over(self.since, limits.header_timeout) => {
                Some((TimeoutAction::Close, &stats.header_timeouts))
            }
            Phase::Idle if over(self.since, limits.idle_timeout) => {
                Some((TimeoutAction::Close, &stats.idle_timeouts))
            }
            Phase::Body if over(self.read_at, limits.body_timeout) => {
                Some((TimeoutAction::BodyStalled, &stats.body_timeouts))
            }
            Phase::Body if self.receives_too_slowly(passed, waiting, limits) => {
                Some((TimeoutAction::BodyTooSlow, &stats.too_slow))
            }
            Phase::Lingering
                if over(self.read_at, linger_idle) || over(self.since, linger_total) =>
            {
                self.activity
                    .request_action(self.epoch, TimeoutAction::Close);
                None
            }
            _ => None,
        };
        let is_stuck = over(self.written_at, limits.write_timeout);
        let is_slow = self.takes_too_slowly(passed, waiting, limits);
        let action = action.or_else(|| match (is_stuck, is_slow) {
            (true, _) => Some((TimeoutAction::ResponseStalled, &stats.write_timeouts)),
            (_, true) => Some((TimeoutAction::ResponseStalled, &stats.too_slow)),
            _ => None,
        });
        if let Some((action, counter)) = action {
            if self.activity.action().is_none() {
                NetStats::add(counter, 1);
            }
            self.activity.request_action(self.epoch, action);
        }
    }

    /// Zero if the client is slow, `None` if it is active.
    fn silence(&self, now: Instant) -> Option<Duration> {
        if !self.activity.socket {
            return None;
        }
        let silence = match self.epoch.phase() {
            Phase::Idle => now - self.since,
            Phase::Body => now - self.read_at,
            _ => return None,
        };
        if silence >= SILENT_AFTER {
            return Some(silence);
        }
        let is_slow =
            self.received.waited >= SILENT_AFTER && self.received.rate(self.read) < MIN_RATE;
        is_slow.then_some(Duration::ZERO)
    }

    fn receives_too_slowly(
        &mut self,
        passed: Duration,
        waiting: u8,
        limits: &ConnectionLimits,
    ) -> bool {
        let waited = if waiting & READING != 0 {
            passed
        } else {
            Duration::ZERO
        };
        let window = limits.rate_window;
        self.received
            .too_slow(self.read, waited, window, limits.min_rate)
    }

    /// Many clients confirm what they take in large steps, so the window is as long as they may take nothing.
    fn takes_too_slowly(
        &mut self,
        passed: Duration,
        waiting: u8,
        limits: &ConnectionLimits,
    ) -> bool {
        let waited = if waiting & WRITING != 0 {
            passed
        } else {
            Duration::ZERO
        };
        // A client that has taken nothing is stuck, not slow.
        let has_taken = self.written > self.sent.start;
        let window = limits.write_timeout;
        let is_slow = self
            .sent
            .too_slow(self.written, waited, window, limits.min_rate);
        is_slow && has_taken
    }
}
