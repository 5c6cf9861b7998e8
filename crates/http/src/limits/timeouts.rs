//! Timeouts of all connections, checked by one task.
//!
//! A connection has no timer. Its [`ConnectionActivity`] holds a few counters that the connection's task
//! updates with plain atomic stores. The sweeper ([`run_sweeper`]) compares them with their values at
//! the last tick, requests an action where a timeout has expired, and wakes the task. So a request costs
//! no clock read and no timer, and a thousand idle connections cost a thousand loads per tick.

use std::fmt::Display;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use http::HeaderValue;
use landfall::Idleness;
use landfall::service::{Peer, RequestBodyError};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::ConnectionLimits;
use super::addresses::Addresses;
use crate::log_throttle::LogThrottle;
use crate::shutdown::{Shutdown, ShutdownPhase};
use crate::stats::NetStats;

/// In HTTP/2 and HTTP/3, also the phase of a stream's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Head,
    Idle,
    Body,
    Handling,
    Lingering,
}

impl Phase {
    fn of(state: u32) -> Self {
        match state & PHASE {
            0 => Self::Head,
            1 => Self::Idle,
            2 => Self::Body,
            3 => Self::Handling,
            _ => Self::Lingering,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum TimeoutAction {
    Close = 1,
    BodyStalled = 2,
    BodyTooSlow = 3,
    ResponseStalled = 4,
}

/// Parts of [`ConnectionActivity::state`].
const PHASE: u32 = 0b111;
const ACTION: u32 = 0b111 << ACTION_SHIFT;
const ACTION_SHIFT: u32 = 3;

pub(crate) const READING: u8 = 1;
pub(crate) const WRITING: u8 = 2;

/// During a shutdown or at the connection limit.
const SHUTDOWN_LINGER: Duration = Duration::from_millis(500);

/// Connections that leave at once when the connection limit is reached.
const MAX_EVICTIONS: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct ConnectionActivity {
    /// The phase, the action that is requested in it (0 for none), and a counter of phase changes, which tells a
    /// repeated phase from a lasting one.
    state: AtomicU32,
    waiting: AtomicU8,
    read: AtomicU64,
    written: AtomicU64,
    socket: bool,
    /// Of the task of the connection or stream, which checks for an action after it has registered.
    pub(crate) waker: AtomicWaker,
    /// Of the task that reads the body, which does so, too.
    pub(crate) reader: AtomicWaker,
}

impl ConnectionActivity {
    /// Returns the state without the action.
    fn epoch(&self) -> u32 {
        self.state.load(Relaxed) & !ACTION
    }

    pub(crate) fn phase(&self) -> Phase {
        Phase::of(self.epoch())
    }

    pub(crate) fn enter(&self, phase: Phase) {
        let changes = (self.state.load(Relaxed) | ACTION | PHASE).wrapping_add(1);
        self.state.store(changes | phase as u32, Relaxed);
    }

    #[inline]
    pub(crate) fn action(&self) -> Option<TimeoutAction> {
        match (self.state.load(Relaxed) & ACTION) >> ACTION_SHIFT {
            0 => None,
            1 => Some(TimeoutAction::Close),
            2 => Some(TimeoutAction::BodyStalled),
            3 => Some(TimeoutAction::BodyTooSlow),
            _ => Some(TimeoutAction::ResponseStalled),
        }
    }

    /// Has no effect in another phase.
    fn request_action(&self, epoch: u32, action: TimeoutAction) {
        let requested = epoch | (action as u32) << ACTION_SHIFT;
        let _ = self.state.try_update(Relaxed, Relaxed, |state| {
            (state & !ACTION == epoch).then_some(requested)
        });
        self.wake_all();
    }

    pub(crate) fn set_waiting(&self, directions: u8, is_waiting: bool) {
        match is_waiting {
            true => self.waiting.fetch_or(directions, Relaxed),
            false => self.waiting.fetch_and(!directions, Relaxed),
        };
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

    fn wake_all(&self) {
        self.reader.wake();
        self.waker.wake();
    }
}

#[derive(Debug)]
pub(crate) struct ServerShared {
    shutdown: Shutdown,
    pub(crate) limits: ConnectionLimits,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) stats: Arc<NetStats>,
    /// Further connections that may have a large read buffer.
    large_reads: Arc<Semaphore>,
    rejected_proxies: LogThrottle,
    /// Connections that the sweeper does not know yet.
    new: Mutex<Vec<Arc<ConnectionActivity>>>,
    registered: Notify,
    /// Each open connection holds a permit.
    connections: Arc<Semaphore>,
    /// Cloned by each acceptor that waits for a connection to close.
    waiting: Arc<()>,
    full: LogThrottle,
    /// Offers HTTP/3 to clients of TLS (RFC 7838).
    pub(crate) alt_svc: Option<HeaderValue>,
}

impl ServerShared {
    pub(crate) fn new(
        limits: ConnectionLimits,
        shutdown: Shutdown,
        stats: Arc<NetStats>,
        alt_svc: Option<HeaderValue>,
    ) -> Self {
        let has_large = limits.large_read_buffer > limits.read_buffer;
        let large_reads = if has_large { limits.large_reads } else { 0 };
        Self {
            large_reads: Arc::new(Semaphore::new(large_reads)),
            connections: Arc::new(Semaphore::new(limits.max_permits() as usize)),
            shutdown,
            addresses: Arc::new(Addresses::new(
                limits.addresses.clone(),
                limits.workers,
                stats.clone(),
            )),
            limits,
            stats,
            rejected_proxies: LogThrottle::default(),
            new: Mutex::default(),
            registered: Notify::new(),
            waiting: Arc::default(),
            full: LogThrottle::default(),
            alt_svc,
        }
    }

    #[inline]
    pub(crate) fn shutdown_phase(&self) -> ShutdownPhase {
        self.shutdown.phase()
    }

    /// Changes the `counted` memory of a head. Returns false if that of all heads exceeds the limit.
    pub(crate) fn count_head(&self, counted: &mut u64, now: u64) -> bool {
        let (before, total) = (mem::replace(counted, now), &self.stats.head_bytes);
        if now > before {
            let added = now - before;
            return total.fetch_add(added, Relaxed) + added <= self.limits.head_memory;
        }
        if now < before {
            total.fetch_sub(before - now, Relaxed);
        }
        true
    }

    /// Why the content of a request, for which this action is required, cannot be read on.
    pub(crate) fn stopped(&self, action: Option<TimeoutAction>) -> Option<RequestBodyError> {
        match action {
            Some(TimeoutAction::BodyTooSlow) => Some(RequestBodyError::TooSlow),
            Some(_) => Some(RequestBodyError::Timeout),
            None => {
                let is_aborting = self.shutdown_phase() >= ShutdownPhase::Aborting;
                is_aborting.then_some(RequestBodyError::ShuttingDown)
            }
        }
    }

    pub(crate) fn large_reads(&self) -> Option<OwnedSemaphorePermit> {
        self.large_reads.clone().try_acquire_owned().ok()
    }

    /// Records that a connection is closed for its PROXY header.
    pub(crate) fn reject_proxy(&self, peer: Peer, reason: &dyn Display) {
        NetStats::add(&self.stats.proxy_errors, 1);
        if self.rejected_proxies.is_due() {
            let peer = peer.text();
            tracing::warn!(peer, %reason, "closed a connection without a trusted PROXY header");
        }
    }

    /// Waits until there may be another connection. `None` if there will be none.
    pub(crate) async fn vacancy(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = self.connections.clone().try_acquire_owned() {
            return Some(permit);
        }
        NetStats::add(&self.stats.limit_reached, 1);
        if self.full.is_due() {
            let limit = self.limits.max_connections;
            tracing::warn!(limit, "connection limit reached, further clients wait");
        }
        let _waiting = Arc::clone(&self.waiting);
        self.connections.clone().acquire_owned().await.ok()
    }

    /// Waits until no connection is open.
    pub(crate) async fn no_connection(&self) {
        // The semaphore is never closed.
        let _ = self
            .connections
            .acquire_many(self.limits.max_permits())
            .await;
    }

    fn is_full(&self) -> bool {
        Arc::strong_count(&self.waiting) > 1
    }

    pub(crate) fn track_new(&self, phase: Phase, socket: bool) -> Arc<ConnectionActivity> {
        let activity = Arc::new(ConnectionActivity {
            state: AtomicU32::new(phase as u32),
            socket,
            ..ConnectionActivity::default()
        });
        self.new.lock().push(activity.clone());
        self.registered.notify_one();
        activity
    }
}

pub(crate) async fn run_sweeper(server: Arc<ServerShared>) {
    let mut entries: Vec<TrackedConnection> = Vec::new();
    let mut known_phase = ShutdownPhase::Running;
    let mut tick = interval(server.limits.tick());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Instant::now();
    loop {
        if entries.is_empty() {
            entries.shrink_to(1024);
            server.registered.notified().await;
            tick.reset_immediately();
        }
        tokio::select! {
            _ = tick.tick() => {}
            () = server.shutdown.changed(known_phase) => {}
        }
        let now = Instant::now();
        let passed = now - mem::replace(&mut before, now);
        let new = mem::take(&mut *server.new.lock());
        let new = new.into_iter();
        entries.extend(new.map(|activity| TrackedConnection::new(activity, now)));
        let phase = server.shutdown_phase();
        entries.retain_mut(|entry| {
            // The connection has dropped its own.
            let is_closed = Arc::get_mut(&mut entry.activity).is_some();
            entry.update(now, passed, &server);
            if phase != known_phase {
                entry.activity.wake_all();
            }
            !is_closed
        });
        known_phase = phase;
        if server.is_full() {
            evict(&mut entries, now, &server.stats);
        }
    }
}

fn evict(entries: &mut [TrackedConnection], now: Instant, stats: &NetStats) {
    let leaving = entries.iter().filter(|entry| entry.evicted).count();
    let others = entries.iter_mut().filter(|entry| !entry.evicted);
    let idle = others.filter_map(|entry| Some((entry.idleness(now)?, entry)));
    for entry in Idleness::largest(idle, MAX_EVICTIONS.saturating_sub(leaving)) {
        entry.evicted = true;
        let action = match Phase::of(entry.epoch) {
            Phase::Body => TimeoutAction::BodyStalled,
            _ => TimeoutAction::Close,
        };
        entry.activity.request_action(entry.epoch, action);
        NetStats::add(&stats.evicted, 1);
    }
}

struct TrackedConnection {
    activity: Arc<ConnectionActivity>,
    epoch: u32,
    since: Instant,
    evicted: bool,
    received: Direction,
    sent: Direction,
}

/// The bytes of one direction of a connection.
struct Direction {
    bytes: u64,
    /// When some were transferred, or the server did not wait for the client.
    active_at: Instant,
    /// The window of the minimum rate: its bytes, and the time waited for the client.
    window_bytes: u64,
    waited: Duration,
}

impl Direction {
    fn new(now: Instant) -> Self {
        Self {
            bytes: 0,
            active_at: now,
            window_bytes: 0,
            waited: Duration::ZERO,
        }
    }

    fn update(&mut self, bytes: u64, is_waiting: bool, now: Instant) -> u64 {
        let new = bytes - mem::replace(&mut self.bytes, bytes);
        self.window_bytes += new;
        if new > 0 || !is_waiting {
            self.active_at = now;
        }
        new
    }

    fn restart_window(&mut self) {
        (self.window_bytes, self.waited) = (0, Duration::ZERO);
    }

    /// Returns the bytes of a window that has ended in which the client was below the minimum.
    fn too_slow(&mut self, waited: Duration, window: Duration, min_rate: u64) -> Option<u64> {
        if min_rate == 0 || window.is_zero() {
            return None;
        }
        self.waited += waited;
        if self.waited < window {
            return None;
        }
        let bytes = self.window_bytes;
        let is_slow = (bytes as f64) < min_rate as f64 * self.waited.as_secs_f64();
        self.restart_window();
        is_slow.then_some(bytes)
    }
}

impl TrackedConnection {
    fn new(activity: Arc<ConnectionActivity>, now: Instant) -> Self {
        Self {
            epoch: activity.epoch(),
            activity,
            since: now,
            evicted: false,
            received: Direction::new(now),
            sent: Direction::new(now),
        }
    }

    fn update(&mut self, now: Instant, passed: Duration, server: &ServerShared) {
        let epoch = self.activity.epoch();
        let waiting = self.activity.waiting.load(Relaxed);
        let (reads, writes) = (waiting & READING != 0, waiting & WRITING != 0);
        let (read, written) = (&self.activity.read, &self.activity.written);
        let read = self.received.update(read.load(Relaxed), reads, now);
        let written = self.sent.update(written.load(Relaxed), writes, now);
        if self.activity.socket {
            NetStats::add(&server.stats.bytes_in, read);
            NetStats::add(&server.stats.bytes_out, written);
        }
        if epoch != self.epoch {
            (self.epoch, self.since) = (epoch, now);
            self.evicted &= !matches!(Phase::of(epoch), Phase::Head | Phase::Idle);
            self.received.active_at = now;
            self.received.restart_window();
            self.sent.restart_window();
        }
        let waited = |is_waiting| if is_waiting { passed } else { Duration::ZERO };
        self.evaluate(now, [waited(reads), waited(writes)], server);
    }

    fn evaluate(&mut self, now: Instant, waited: [Duration; 2], server: &ServerShared) {
        let (limits, stats) = (&server.limits, &server.stats);
        let over = |since: Instant, limit: Duration| !limit.is_zero() && now - since >= limit;
        let (min_rate, window) = (limits.min_rate, limits.rate_window);
        let is_slow = self
            .received
            .too_slow(waited[0], window, min_rate)
            .is_some();
        // Many clients confirm what they take in large steps, so the window is as long as they may take nothing. A
        // client that has taken nothing is stuck, not slow.
        let window = limits.write_timeout;
        let takes_slowly = matches!(self.sent.too_slow(waited[1], window, min_rate), Some(1..));
        let (linger_idle, linger_total) = match server.shutdown_phase() {
            ShutdownPhase::Running if !server.is_full() => {
                (limits.linger_idle, limits.linger_total)
            }
            ShutdownPhase::Running => (SHUTDOWN_LINGER, SHUTDOWN_LINGER * 2),
            _ => (limits.linger_idle.min(SHUTDOWN_LINGER), limits.linger_total),
        };
        let received_at = self.received.active_at;
        let lingers_long = over(received_at, linger_idle) || over(self.since, linger_total);
        let (action, counter) = match Phase::of(self.epoch) {
            Phase::Head if over(self.since, limits.header_timeout) => {
                (TimeoutAction::Close, Some(&stats.header_timeouts))
            }
            Phase::Idle if over(self.since, limits.idle_timeout) => {
                (TimeoutAction::Close, Some(&stats.idle_timeouts))
            }
            Phase::Body if over(received_at, limits.body_timeout) => {
                (TimeoutAction::BodyStalled, Some(&stats.body_timeouts))
            }
            Phase::Body if is_slow => (TimeoutAction::BodyTooSlow, Some(&stats.too_slow)),
            _ if over(self.sent.active_at, limits.write_timeout) => {
                (TimeoutAction::ResponseStalled, Some(&stats.write_timeouts))
            }
            _ if takes_slowly => (TimeoutAction::ResponseStalled, Some(&stats.too_slow)),
            Phase::Lingering if lingers_long => (TimeoutAction::Close, None),
            _ => return,
        };
        if let Some(counter) = counter
            && self.activity.action().is_none()
        {
            NetStats::add(counter, 1);
        }
        self.activity.request_action(self.epoch, action);
    }

    fn idleness(&self, now: Instant) -> Option<Idleness> {
        if !self.activity.socket {
            return None;
        }
        let silence = match Phase::of(self.epoch) {
            Phase::Idle => now - self.since,
            Phase::Body => now - self.received.active_at,
            _ => return None,
        };
        Idleness::measure(silence, self.received.window_bytes, self.received.waited)
    }
}
