//! Timers for all connections in one place.
//!
//! A connection keeps no timer. Its [`Watch`] holds a few counters which the connection's task
//! writes with plain atomic stores; the [`sweep`] task compares them with what it saw a tick ago.
//! What has stood still for too long gets a verdict and is woken. So a request costs no clock read
//! and no timer, and a thousand idle connections cost a thousand loads per tick.

use std::cmp::Reverse;
use std::future::Future;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::{Instant, Interval};

use super::addresses::Addresses;
use super::limits::Limits;
use super::shutdown::Step;
use super::stats::NetStats;

/// What a connection (or, in HTTP/2, a stream's body) is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// A head is coming, or a new connection has been silent so far.
    Head,
    /// Between two requests.
    Idle,
    /// The service may read a body.
    Body,
    /// The request has been read; the service works or answers.
    Handling,
    /// The answer has been handed over and is being sent.
    Finishing,
    /// The answer has been sent; what the client still sends is discarded.
    Lingering,
}

/// Why the sweeper wants something to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Verdict {
    /// The head took too long, or no further request came, or the linger time is over.
    Close = 1,
    /// No byte of a body for too long.
    Stalled = 2,
    /// A body below the minimum rate.
    TooSlow = 3,
    /// No byte of a response was taken for too long.
    Unread = 4,
    /// Nothing received for a while: release buffers that have grown.
    Shed = 5,
}

/// Bits of [`Watch::waiting`].
pub(super) const READING: u8 = 1;
pub(super) const WRITING: u8 = 2;

/// How long a silent client is lingered for once the server is being shut down, or is full.
const LAST_LINGER: Duration = Duration::from_millis(500);

/// A client that has been silent for this long makes way once the server is full,
const SILENT_AFTER: Duration = Duration::from_secs(2);
/// as does one that sends fewer bytes per second.
const MIN_RATE: f64 = 1024.0;
/// The most connections that make way at a tick.
const MAX_EVICTIONS: usize = 16;

/// The counters of one connection.
#[derive(Debug)]
pub(super) struct Watch {
    /// A phase, below a number that is raised by each change of phase: by it the sweeper knows a
    /// phase that came back from one that stayed.
    word: AtomicU32,
    /// The word a verdict is about, and the verdict; 0 for none. About another word it is void.
    verdict: AtomicU64,
    /// Which directions the peer is being waited for.
    waiting: AtomicU8,
    read: AtomicU64,
    written: AtomicU64,
    requests: AtomicU32,
    closed: AtomicBool,
    /// Whether a large read has made hyper's buffer grow.
    grown: AtomicBool,
    /// Whether this is a socket, whose bytes count for [`NetStats`].
    socket: bool,
    waker: AtomicWaker,
}

impl Watch {
    pub(super) fn new(phase: Phase, socket: bool) -> Self {
        Self {
            word: AtomicU32::new(phase as u32),
            verdict: AtomicU64::new(0),
            waiting: AtomicU8::new(0),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            requests: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            grown: AtomicBool::new(false),
            socket,
            waker: AtomicWaker::new(),
        }
    }

    pub(super) fn word(&self) -> Word {
        Word(self.word.load(Relaxed))
    }

    pub(super) fn phase(&self) -> Phase {
        self.word().phase()
    }

    /// Begins a phase, and its time with it.
    pub(super) fn enter(&self, phase: Phase) -> Word {
        let word = self.word().next(phase);
        self.word.store(word.0, Relaxed);
        word
    }

    /// Begins a phase if `from` still holds; for tasks other than the connection's own.
    pub(super) fn enter_from(&self, from: Word, phase: Phase) {
        let _ = self
            .word
            .compare_exchange(from.0, from.next(phase).0, Relaxed, Relaxed);
    }

    /// The verdict about the present phase, if there is one.
    #[inline]
    pub(super) fn verdict(&self) -> Option<Verdict> {
        let packed = self.verdict.load(Relaxed);
        if packed == 0 {
            None
        } else {
            self.judge(packed)
        }
    }

    #[cold]
    fn judge(&self, packed: u64) -> Option<Verdict> {
        let void = packed >> 8 != u64::from(self.word().0);
        match packed & 0xff {
            _ if void => None,
            1 => Some(Verdict::Close),
            2 => Some(Verdict::Stalled),
            3 => Some(Verdict::TooSlow),
            4 => Some(Verdict::Unread),
            _ => Some(Verdict::Shed),
        }
    }

    fn condemn(&self, word: Word, verdict: Verdict) {
        self.verdict
            .store(u64::from(word.0) << 8 | verdict as u64, Relaxed);
        self.waker.wake();
    }

    /// Takes a [`Verdict::Shed`] back: it has been done.
    pub(super) fn clear_shed(&self) {
        let shed = u64::from(self.word().0) << 8 | Verdict::Shed as u64;
        let _ = self.verdict.compare_exchange(shed, 0, Relaxed, Relaxed);
    }

    /// Whether a large read has made hyper's buffer grow.
    pub(super) fn is_grown(&self) -> bool {
        self.grown.load(Relaxed)
    }

    pub(super) fn set_grown(&self, grown: bool) {
        self.grown.store(grown, Relaxed);
    }

    /// Whether only the client is being waited for, to send.
    pub(super) fn is_reading(&self) -> bool {
        self.waiting.load(Relaxed) == READING
    }

    pub(super) fn set_waiting(&self, directions: u8) {
        self.waiting.store(directions, Relaxed);
    }

    /// Only the task that reads may call it: the counter has one writer.
    pub(super) fn add_read(&self, n: usize) {
        self.read.store(self.read.load(Relaxed) + n as u64, Relaxed);
    }

    /// Only the task that writes may call it.
    pub(super) fn add_written(&self, n: usize) {
        self.written
            .store(self.written.load(Relaxed) + n as u64, Relaxed);
    }

    /// Counts a request; gives back its number, beginning with 1 and wrapping.
    pub(super) fn add_request(&self) -> u32 {
        self.requests.fetch_add(1, Relaxed).wrapping_add(1)
    }

    pub(super) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// Nothing more will happen here; the sweeper lets go of it.
    pub(super) fn close(&self) {
        self.closed.store(true, Release);
    }
}

/// See [`Watch::word`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u32);

impl Word {
    pub(super) fn phase(self) -> Phase {
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

/// What all connections of one [`serve`](super::serve) share.
#[derive(Debug)]
pub(super) struct Gate {
    step: AtomicU8,
    pub(super) limits: Limits,
    pub(super) addresses: Arc<Addresses>,
    pub(super) stats: Arc<NetStats>,
    newcomers: Mutex<Newcomers>,
    /// Acceptors that wait until a connection closes.
    waiting: AtomicUsize,
    /// Wakes the sweeper before its tick.
    alarm: Notify,
}

/// Watches the sweeper has not seen yet.
#[derive(Debug, Default)]
struct Newcomers {
    watches: Vec<Arc<Watch>>,
    /// The sweeper has nothing to check, and sleeps until something comes.
    asleep: bool,
}

impl Gate {
    pub(super) fn new(limits: Limits, stats: Arc<NetStats>) -> Self {
        Self {
            step: AtomicU8::new(Step::Running as u8),
            addresses: Arc::new(Addresses::new(limits.addresses.clone(), limits.workers)),
            limits,
            stats,
            newcomers: Mutex::default(),
            waiting: AtomicUsize::new(0),
            alarm: Notify::new(),
        }
    }

    #[inline]
    pub(super) fn step(&self) -> Step {
        Step::from_u8(self.step.load(Acquire))
    }

    /// Goes on to the next step of a shutdown and lets every connection know.
    pub(super) fn advance(&self, step: Step) {
        self.step.fetch_max(step as u8, AcqRel);
        self.alarm.notify_one();
    }

    /// Waits for `vacancy`; silent connections make way meanwhile.
    pub(super) async fn wait_for<T>(&self, vacancy: impl Future<Output = T>) -> T {
        /// Also when the acceptor is dropped.
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        self.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(&self.waiting);
        vacancy.await
    }

    fn is_full(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// Has the sweeper look after it from its next tick on.
    pub(super) fn admit(&self, watch: Arc<Watch>) {
        let asleep = {
            let mut newcomers = self.newcomers();
            newcomers.watches.push(watch);
            std::mem::take(&mut newcomers.asleep)
        };
        if asleep {
            self.alarm.notify_one();
        }
    }

    fn newcomers(&self) -> MutexGuard<'_, Newcomers> {
        self.newcomers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when there may be something to check: at a tick, or at once if there was nothing.
    async fn wait(&self, tick: &mut Interval, nothing: bool) {
        let asleep = nothing && {
            let mut newcomers = self.newcomers();
            newcomers.asleep = newcomers.watches.is_empty();
            newcomers.asleep
        };
        if asleep {
            self.alarm.notified().await;
            tick.reset_immediately();
        }
        tokio::select! {
            _ = tick.tick() => {}
            () = self.alarm.notified() => {}
        }
    }
}

/// Looks after all watches; runs as long as connections are served.
pub(super) async fn sweep(gate: Arc<Gate>) {
    let mut entries: Vec<Entry> = Vec::new();
    let mut known_step = Step::Running;
    let mut tick = tokio::time::interval(gate.limits.tick());
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before = Instant::now();
    loop {
        gate.wait(&mut tick, entries.is_empty()).await;
        let now = Instant::now();
        let passed = now - before;
        before = now;
        entries.extend(
            std::mem::take(&mut gate.newcomers().watches)
                .into_iter()
                .map(|watch| Entry::new(watch, now)),
        );
        let step = gate.step();
        let mut moved = Moved::default();
        entries.retain_mut(|entry| {
            let closed = entry.watch.closed.load(Acquire);
            let since = entry.look(now, passed, &gate);
            if entry.watch.socket {
                moved.read += since.read;
                moved.written += since.written;
                moved.requests += since.requests;
            }
            if step != known_step {
                entry.watch.waker.wake();
            }
            !closed
        });
        if gate.is_full() {
            evict(&mut entries, now, &gate.stats);
        }
        NetStats::add(&gate.stats.bytes_in, moved.read);
        NetStats::add(&gate.stats.bytes_out, moved.written);
        NetStats::add(&gate.stats.requests, moved.requests);
        known_step = step;
        if entries.is_empty() {
            entries.shrink_to(1024);
        }
    }
}

/// Closes the connections whose clients have been silent longest, and then slow ones.
fn evict(entries: &mut [Entry], now: Instant, stats: &NetStats) {
    // Those that were to make way and are still there count.
    let leaving = entries.iter().filter(|entry| entry.evicted).count();
    let mut found: Vec<_> = entries
        .iter_mut()
        .filter(|entry| !entry.evicted)
        .filter_map(|entry| Some((entry.silence(now)?, entry)))
        .collect();
    found.sort_unstable_by_key(|(silence, _)| Reverse(*silence));
    for (_, entry) in found
        .into_iter()
        .take(MAX_EVICTIONS.saturating_sub(leaving))
    {
        entry.evicted = true;
        let verdict = match entry.word.phase() {
            Phase::Body => Verdict::Stalled,
            _ => Verdict::Close,
        };
        entry.watch.condemn(entry.word, verdict);
        NetStats::add(&stats.evicted, 1);
    }
}

/// What has happened between two looks.
#[derive(Clone, Copy, Default)]
struct Moved {
    read: u64,
    written: u64,
    requests: u64,
}

/// A watch, and what the sweeper remembers of it.
struct Entry {
    watch: Arc<Watch>,
    word: Word,
    /// Since when the word holds.
    since: Instant,
    /// Whether it has been asked to release buffers since the last byte.
    shed: bool,
    /// Whether it is to close for others.
    evicted: bool,
    read: u64,
    read_at: Instant,
    written: u64,
    written_at: Instant,
    requests: u32,
    /// For the minimum rate: time waited for the client in this window, and `read` at its start.
    waited: Duration,
    window_read: u64,
}

impl Entry {
    fn new(watch: Arc<Watch>, now: Instant) -> Self {
        Self {
            word: watch.word(),
            watch,
            since: now,
            shed: false,
            evicted: false,
            read: 0,
            read_at: now,
            written: 0,
            written_at: now,
            requests: 0,
            waited: Duration::ZERO,
            window_read: 0,
        }
    }

    /// Judges by what has changed since the last look; gives back what has happened since.
    fn look(&mut self, now: Instant, passed: Duration, gate: &Gate) -> Moved {
        let word = self.watch.word();
        let waiting = self.watch.waiting.load(Relaxed);
        let read = self.watch.read.load(Relaxed);
        let written = self.watch.written.load(Relaxed);
        let requests = self.watch.requests.load(Relaxed);
        let moved = Moved {
            read: read - self.read,
            written: written - self.written,
            requests: requests.wrapping_sub(self.requests).into(),
        };
        if word != self.word {
            self.word = word;
            self.since = now;
            self.shed = false;
            self.evicted &= !matches!(word.phase(), Phase::Head | Phase::Idle);
            self.read_at = now;
            self.waited = Duration::ZERO;
            self.window_read = read;
        }
        // Time counts against the client only while it is the client that is waited for.
        if moved.read > 0 || waiting & READING == 0 {
            self.read_at = now;
            self.shed = false;
        }
        if moved.written > 0 || waiting & WRITING == 0 {
            self.written_at = now;
        }
        self.read = read;
        self.written = written;
        self.requests = requests;
        self.judge(now, passed, waiting, gate);
        moved
    }

    fn judge(&mut self, now: Instant, passed: Duration, waiting: u8, gate: &Gate) {
        let (limits, stats) = (&gate.limits, &gate.stats);
        let over = |since: Instant, limit: Duration| !limit.is_zero() && now - since >= limit;
        let (linger_idle, linger_total) = match gate.step() {
            Step::Running if !gate.is_full() => (limits.linger_idle, limits.linger_total),
            Step::Running => (LAST_LINGER, LAST_LINGER * 2),
            _ => (limits.linger_idle.min(LAST_LINGER), limits.linger_total),
        };
        let verdict = match self.word.phase() {
            Phase::Head if over(self.since, limits.header_timeout) => {
                Some((Verdict::Close, &stats.header_timeouts))
            }
            Phase::Idle if over(self.since, limits.idle_timeout) => {
                Some((Verdict::Close, &stats.idle_timeouts))
            }
            Phase::Body if over(self.read_at, limits.body_timeout) => {
                Some((Verdict::Stalled, &stats.body_timeouts))
            }
            Phase::Body if self.too_slow(passed, waiting, limits) => {
                Some((Verdict::TooSlow, &stats.too_slow))
            }
            Phase::Lingering
                if over(self.read_at, linger_idle) || over(self.since, linger_total) =>
            {
                self.watch.condemn(self.word, Verdict::Close);
                None
            }
            _ => None,
        };
        let verdict = verdict.or_else(|| {
            over(self.written_at, limits.write_timeout)
                .then_some((Verdict::Unread, &stats.write_timeouts))
        });
        let silent_since = match self.word.phase() {
            Phase::Idle => self.since,
            Phase::Body => self.read_at,
            _ => now,
        };
        if verdict.is_none()
            && !self.shed
            && self.watch.is_grown()
            && over(silent_since, limits.release_after)
        {
            self.shed = true;
            self.watch.condemn(self.word, Verdict::Shed);
        }
        if let Some((verdict, counter)) = verdict {
            let first = self
                .watch
                .verdict()
                .is_none_or(|known| known == Verdict::Shed);
            if first {
                NetStats::add(counter, 1);
            }
            self.watch.condemn(self.word, verdict);
        }
    }

    /// How long the server has waited for the client in vain; zero if that is slow, `None` if it moves.
    fn silence(&self, now: Instant) -> Option<Duration> {
        if !self.watch.socket {
            return None;
        }
        let silence = match self.word.phase() {
            Phase::Idle => now - self.since,
            Phase::Body => now - self.read_at,
            _ => return None,
        };
        if silence >= SILENT_AFTER {
            return Some(silence);
        }
        let rate = (self.read - self.window_read) as f64 / self.waited.as_secs_f64();
        (self.waited >= SILENT_AFTER && rate < MIN_RATE).then_some(Duration::ZERO)
    }

    fn too_slow(&mut self, passed: Duration, waiting: u8, limits: &Limits) -> bool {
        if limits.min_rate == 0 || limits.rate_window.is_zero() {
            return false;
        }
        if waiting & READING != 0 {
            self.waited += passed;
        }
        if self.waited < limits.rate_window {
            return false;
        }
        let rate = (self.read - self.window_read) as f64 / self.waited.as_secs_f64();
        self.waited = Duration::ZERO;
        self.window_read = self.read;
        rate < limits.min_rate as f64
    }
}
