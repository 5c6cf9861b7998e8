//! The clock, the network and the services that all nodes share. It knows no node's inside.
//!
//! Times are milliseconds since the start. A call draws its fate when it is sent: how long the request and the response
//! travel, and whether one of them is lost. So the time of its end is known at once, and a node may run ahead to it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    fmt,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use futures_util::{FutureExt as _, TryStreamExt as _};
use landfall::{
    store::{MemoryStore, Read as _, Store as _},
    upload::UploadId,
};
use landfall_state::sql::Clock;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::{
    check::Checks,
    clients::Signal,
    records::Records,
    settings::{Mutant, Settings},
};

/// The services that nodes call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Store,
    Leases,
    Database,
    Receiver,
}

impl Service {
    pub(crate) const ALL: [Self; 4] = [Self::Store, Self::Leases, Self::Database, Self::Receiver];

    /// Milliseconds after which a caller gives up.
    const fn timeout(self) -> u64 {
        match self {
            Self::Store => 4000,
            Self::Leases => 2000,
            Self::Database => 3000,
            Self::Receiver => 5000,
        }
    }
}

pub(crate) enum Event {
    /// A request reaches a service.
    Effect(Box<dyn FnOnce() + Send>),
    /// The response reaches a node, or its time is up.
    Response {
        node: usize,
        incarnation: u64,
        number: u64,
        wake: oneshot::Sender<()>,
    },
    /// The node continues, if nothing else has made it run since.
    Run {
        node: usize,
        number: u64,
    },
    Client(usize, Signal),
    Fault(Fault),
}

/// Faults, which are planned before the start.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    Crash(usize),
    Start(usize),
    Stop(usize),
    Pause(usize, u64),
    Partition(usize, Service, u64),
    /// All calls are slow, and many are lost.
    Storm(u64),
    /// Clients give up their requests and send new ones.
    Takeovers,
    /// Transactions fail or lose their response for a time; the clock of the new primary differs.
    Failover(u64, i64),
}

struct Entry(u64, u64, Event);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// Random numbers: SplitMix64.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % end
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or_default()
    }

    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from)
    }

    /// Returns true with this probability, in ten-thousandths.
    pub(crate) fn chance(&mut self, of_10_000: u64) -> bool {
        self.below(10_000) < of_10_000
    }
}

pub(crate) fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The state of a node in the network.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// The calls to end, by time and number.
    pending: BTreeSet<(u64, u64)>,
    /// Until when a service is cut off.
    cut: [u64; 4],
    /// Until when the node may not know that it has lost its leases, because it was stopped.
    pub(crate) stopped_until: u64,
    /// Until when its calls may have failed.
    pub(crate) partitioned_until: u64,
}

pub(crate) struct State {
    pub(crate) now: u64,
    number: u64,
    events: BinaryHeap<Reverse<Entry>>,
    pub(crate) random: Random,
    pub(crate) reach: Vec<Reach>,
    pub(crate) storm_until: u64,
    pub(crate) failover_until: u64,
    pub(crate) clock_step: i64,
    pub(crate) quiet_since: u64,
    trace: u64,
    pub(crate) count: u64,
}

impl State {
    pub(crate) fn push(&mut self, at: u64, event: Event) -> u64 {
        self.number += 1;
        self.events
            .push(Reverse(Entry(at.max(self.now), self.number, event)));
        self.number
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        let Reverse(Entry(at, _, event)) = self.events.pop()?;
        self.now = at;
        self.count += 1;
        Some(event)
    }

    /// Adds to the trace: two runs with the same seed have the same.
    pub(crate) fn record(&mut self, facts: &[u64]) {
        for fact in facts.iter().chain(&[self.now]) {
            self.trace = mix(self.trace ^ *fact).wrapping_add(*fact);
        }
    }

    pub(crate) fn trace(&self) -> u64 {
        self.trace
    }

    fn is_cut(&self, node: usize, service: Service) -> bool {
        let is_down = service == Service::Database && self.now < self.failover_until;
        is_down || self.now < self.reach[node].cut[service as usize]
    }

    pub(crate) fn cut(&mut self, node: usize, service: Service, until: u64) {
        self.reach[node].cut[service as usize] = until;
    }

    fn delay(&mut self) -> u64 {
        let is_storm = self.now < self.storm_until;
        match self.random.below(1000) {
            0..5 => self.random.between(200, 3000),
            _ if is_storm => self.random.between(20, 500),
            _ => self.random.between(1, 12),
        }
    }

    fn is_lost(&mut self) -> bool {
        let is_quiet = self.now >= self.quiet_since;
        let chance = match self.now < self.storm_until {
            true => 500,
            false => 20,
        };
        !is_quiet && self.random.chance(chance)
    }

    pub(crate) fn response_ended(&mut self, node: usize, number: u64) {
        let pending = &mut self.reach[node].pending;
        pending.remove(&(self.now, number));
    }

    /// The next time at which a call of the node ends.
    pub(crate) fn next_end(&self, node: usize) -> Option<u64> {
        self.reach[node].pending.first().map(|(at, _)| *at)
    }
}

/// Everything outside of the nodes.
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) state: Mutex<State>,
    pub(crate) store: MemoryStore,
    pub(crate) records: Records,
    pub(crate) checks: Checks,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

impl World {
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        let mut reach = Vec::new();
        reach.resize_with(settings.nodes, Reach::default);
        let state = State {
            now: 0,
            number: 0,
            events: BinaryHeap::new(),
            random: Random(mix(settings.seed)),
            reach,
            storm_until: 0,
            failover_until: 0,
            clock_step: 0,
            quiet_since: u64::MAX,
            trace: 0,
            count: 0,
        };
        Arc::new(Self {
            records: Records::new(settings.mutant),
            checks: Checks::default(),
            settings,
            state: Mutex::new(state),
            store: MemoryStore::new(),
        })
    }

    pub(crate) fn is_mutant(&self, mutant: Mutant) -> bool {
        self.settings.mutant == Some(mutant)
    }

    pub(crate) fn now(&self) -> u64 {
        self.state.lock().now
    }

    /// Returns the clock of the database.
    pub(crate) fn clock(self: &Arc<Self>) -> Clock {
        let world = Arc::clone(self);
        Clock::new(move || {
            let state = world.state.lock();
            let millis = state.now.saturating_add_signed(state.clock_step);
            // Long after 1970, so that every retention ends later.
            UNIX_EPOCH + Duration::from_secs(1_800_000_000) + Duration::from_millis(millis)
        })
    }

    /// Returns all bytes of an upload in the store.
    pub(crate) fn stored(&self, id: &UploadId, length: u64) -> Option<Vec<u8>> {
        let read = async {
            let upload = self.store.load(id).await.ok()?.upload;
            let bytes = self.store.read(&upload, 0..length).await.ok()?;
            let chunks: Vec<_> = bytes.try_collect().await.ok()?;
            Some(chunks.concat())
        };
        read.now_or_never()?
    }

    pub(crate) fn violation(&self, text: String) {
        self.checks.violation(self.now(), text);
    }
}

/// The connection of one incarnation of a node to the rest, for its tasks.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    pub(crate) world: Arc<World>,
    pub(crate) node: usize,
    pub(crate) incarnation: u64,
    /// When it started, by both clocks.
    started: (u64, Instant),
    /// Its clock's milliseconds per second.
    rate: u64,
    /// A call was sent, so that the node must not run beyond its end.
    sent: Arc<Notify>,
}

impl Port {
    /// Creates the port in the runtime of the node.
    pub(crate) fn new(world: &Arc<World>, node: usize, incarnation: u64, rate: u64) -> Self {
        Self {
            world: Arc::clone(world),
            node,
            incarnation,
            started: (world.now(), Instant::now()),
            rate,
            sent: Arc::default(),
        }
    }

    fn local(&self, global: u64) -> Instant {
        let passed = global.saturating_sub(self.started.0);
        self.started.1 + Duration::from_millis((passed * self.rate).div_ceil(1000))
    }

    /// The time of the task that calls, which may be ahead.
    pub(crate) fn global_now(&self) -> u64 {
        let passed = u64::try_from(self.started.1.elapsed().as_millis()).unwrap_or_default();
        self.started.0 + (passed * 1000).div_ceil(self.rate)
    }

    /// Jumps to a time, as after a pause.
    pub(crate) async fn jump(&self, to: u64) {
        let gap = self.local(to).saturating_duration_since(Instant::now());
        if !gap.is_zero() {
            tokio::time::advance(gap).await;
        }
    }

    /// Lets all tasks run until a time, or until a call ends, and at least until none can continue now.
    pub(crate) async fn run_until(&self, until: u64) {
        let least = Instant::now() + Duration::from_millis(1);
        loop {
            let end = self.world.state.lock().next_end(self.node);
            let limit = self
                .local(end.map_or(until, |end| end.min(until)))
                .max(least);
            tokio::select! {
                biased;
                () = self.sent.notified() => {}
                () = tokio::time::sleep_until(limit) => return,
            }
        }
    }

    /// Calls a service; `None`: the request or the response was lost.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        service: Service,
        effect: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let result = Arc::new(Mutex::new(None));
        let (arrived, is_lost) = {
            let mut state = self.world.state.lock();
            let sent = self.global_now();
            let arrives = sent + state.delay();
            let responds = arrives + state.delay();
            let (no_request, no_response) = (state.is_lost(), state.is_lost());
            let no_request = no_request || state.is_cut(self.node, service);
            let (world, node, into) = (Arc::clone(&self.world), self.node, Arc::clone(&result));
            if !no_request {
                let effect = move || {
                    if !world.state.lock().is_cut(node, service) {
                        *into.lock() = Some(effect());
                    }
                };
                state.push(arrives, Event::Effect(Box::new(effect)));
            }
            let is_lost = no_request || no_response;
            let ends = if is_lost {
                sent + service.timeout()
            } else {
                responds
            };
            (self.wake_at(&mut state, ends.max(arrives + 1)), is_lost)
        };
        let _ = arrived.await;
        let is_lost = is_lost || self.world.state.lock().is_cut(self.node, service);
        let result = result.lock().take();
        result.filter(|_| !is_lost)
    }

    /// Travels one way; false: the message was lost.
    pub(crate) async fn travel(&self, service: Service) -> bool {
        let (arrived, is_lost) = {
            let mut state = self.world.state.lock();
            let sent = self.global_now();
            let is_lost = state.is_lost();
            let delay = state.delay();
            let delay = if is_lost { service.timeout() } else { delay };
            (self.wake_at(&mut state, sent + delay), is_lost)
        };
        let _ = arrived.await;
        !is_lost && !self.world.state.lock().is_cut(self.node, service)
    }

    fn wake_at(&self, state: &mut State, at: u64) -> oneshot::Receiver<()> {
        let (wake, arrived) = oneshot::channel();
        let (node, incarnation) = (self.node, self.incarnation);
        let number = state.number + 1;
        state.push(
            at,
            Event::Response {
                node,
                incarnation,
                number,
                wake,
            },
        );
        state.reach[node].pending.insert((at, number));
        self.sent.notify_one();
        arrived
    }

    /// Ends all calls of a node that is dead.
    pub(crate) fn forget(&self) {
        self.world.state.lock().reach[self.node].pending.clear();
    }
}

/// Deliveries and bytes by upload.
pub(crate) type ByUpload<T> = BTreeMap<String, T>;
