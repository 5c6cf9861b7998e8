//! The loop of the simulation: it takes one event after the other, and makes nodes run. The plan of faults is made
//! before the start; when they end, everything must complete.

use std::sync::Arc;

use landfall::upload::UploadId;
use landfall_state::{
    queue::Queue,
    sql::{Connections, Statement},
};
use tokio::runtime::Runtime;

use crate::{
    check::MAX_REQUEST,
    clients::{Client, Reply, Signal, content},
    jobs,
    node::Node,
    world::{Event, Fault, Service, World},
};

/// Milliseconds. Clients abandon a request without a response; in half of the cases the node notices.
const MAX_WAIT: (u64, u64) = (15_000, 60_000);
/// Without faults, everything must be complete after so long.
const RECOVERY: u64 = 400_000;
const SHUTDOWN: u64 = 15_000;
/// The time from which a stopped process continues until it checks the age of its leases, in milliseconds.
const NOTICE: u64 = 500;

pub(crate) struct Cluster {
    /// For the reads of this loop, which pass no network.
    runtime: Runtime,
    queue: Queue,
    world: Arc<World>,
    database: Connections,
    nodes: Vec<Option<Node>>,
    clients: Vec<Client>,
    done: usize,
    incarnations: u64,
    responses: u64,
}

/// The outcome.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) events: u64,
    pub(crate) responses: u64,
    pub(crate) completed: usize,
    pub(crate) simulated: u64,
    pub(crate) trace: u64,
    pub(crate) starts: u64,
}

impl Cluster {
    pub(crate) fn new(
        world: Arc<World>,
        database: Connections,
        runtime: Runtime,
        queue: Queue,
    ) -> Self {
        let nodes = (0..world.settings.nodes).map(|_| None).collect();
        let clients = {
            let random = &mut world.state.lock().random;
            let uploads = 0..world.settings.uploads;
            uploads.map(|number| Client::new(number, random)).collect()
        };
        let mut cluster = Self {
            runtime,
            queue,
            world,
            database,
            nodes,
            clients,
            done: 0,
            incarnations: 0,
            responses: 0,
        };
        cluster.plan();
        cluster
    }

    fn plan(&mut self) {
        let state = &mut *self.world.state.lock();
        let nodes = self.nodes.len();
        let span = self.world.settings.arrival_span();
        for node in 0..nodes {
            let at = state.random.below(5000);
            state.push(at, Event::Fault(Fault::Start(node)));
        }
        for client in 0..self.clients.len() {
            let at = state.random.between(3000, span);
            state.push(at, Event::Client(client, Signal::Next));
        }
        // Each node has about one fault.
        for _ in 0..nodes + 10 {
            let (node, at) = (
                state.random.index(nodes),
                state.random.between(10_000, span),
            );
            let lasts = match state.random.below(3) {
                0 => state.random.between(100, 3000),
                _ => state.random.between(3000, 25_000),
            };
            match state.random.below(4) {
                0 => {
                    state.push(at, Event::Fault(Fault::Crash(node)));
                    state.push(at + lasts, Event::Fault(Fault::Start(node)));
                }
                1 => drop(state.push(at, Event::Fault(Fault::Pause(node, lasts)))),
                _ => {
                    let service = Service::ALL[state.random.index(4)];
                    state.push(at, Event::Fault(Fault::Partition(node, service, lasts)));
                }
            }
        }
        for at in [span / 4, span / 2] {
            let at = at + state.random.below(span / 8);
            let lasts = state.random.between(2000, 10_000);
            let step = i64::try_from(state.random.below(4000)).unwrap_or_default() - 2000;
            state.push(at, Event::Fault(Fault::Failover(lasts, step)));
            let at = state.random.between(span / 8, span);
            let lasts = state.random.between(2000, 15_000);
            state.push(at, Event::Fault(Fault::Storm(lasts)));
        }
        for _ in 0..4 {
            let at = state.random.between(span / 8, span);
            state.push(at, Event::Fault(Fault::Takeovers));
        }
        // All nodes restart, one after the other.
        let each = (span / 2) / nodes as u64;
        for node in 0..nodes {
            let at = span / 2 + each * node as u64;
            state.push(at, Event::Fault(Fault::Stop(node)));
            state.push(at + SHUTDOWN, Event::Fault(Fault::Crash(node)));
            state.push(at + SHUTDOWN + 1000, Event::Fault(Fault::Start(node)));
        }
        state.quiet_since = span + 40_000;
    }

    /// Runs until everything is complete, or nothing more is to be expected.
    pub(crate) fn run(&mut self) -> std::io::Result<Report> {
        let world = Arc::clone(&self.world);
        let deadline = world.state.lock().quiet_since + RECOVERY;
        let mut next_look = 0;
        loop {
            let event = world.state.lock().pop();
            let Some(event) = event else { break };
            let now = world.now();
            if now > deadline {
                break;
            }
            if now >= next_look {
                next_look = now + 1000;
                let has_failed = world.settings.mutant.is_some() && world.checks.violations().0 > 0;
                if has_failed || (now > world.settings.arrival_span() && self.is_complete()) {
                    break;
                }
                if world.settings.is_verbose && now % 10_000 < 1000 {
                    let (count, done) = (world.state.lock().count, self.done);
                    eprintln!(
                        "{now} ms: {count} events, {done} uploads, {:?}",
                        self.arrived()
                    );
                }
            }
            self.execute(event)?;
        }
        self.check_end();
        let state = world.state.lock();
        Ok(Report {
            events: state.count,
            responses: self.responses,
            completed: self.done,
            simulated: state.now,
            trace: state.trace(),
            starts: self.incarnations,
        })
    }

    fn execute(&mut self, event: Event) -> std::io::Result<()> {
        match event {
            Event::Effect(effect) => effect(),
            Event::Response {
                node,
                incarnation,
                number,
                wake,
            } => {
                self.world.state.lock().response_ended(node, number);
                let now = self.world.now();
                if let Some(found) = &mut self.nodes[node]
                    && found.incarnation() == incarnation
                {
                    if found.paused_until > now {
                        let at = found.paused_until;
                        let late = Event::Response {
                            node,
                            incarnation,
                            number,
                            wake,
                        };
                        self.world.state.lock().push(at, late);
                        return Ok(());
                    }
                    self.world.state.lock().record(&[1, node as u64]);
                    let _ = wake.send(());
                    found.run();
                }
            }
            Event::Run { node, number } => {
                let now = self.world.now();
                if let Some(found) = &mut self.nodes[node] {
                    match found.paused_until {
                        0 => found.run_if_due(number),
                        until if until <= now => found.resume(),
                        _ => {}
                    }
                }
            }
            Event::Client(client, signal) => self.signal(client, signal),
            Event::Fault(fault) => self.inject(fault)?,
        }
        Ok(())
    }

    fn inject(&mut self, fault: Fault) -> std::io::Result<()> {
        let world = Arc::clone(&self.world);
        let now = world.now();
        if world.settings.is_verbose {
            eprintln!("{now} ms: {fault:?}");
        }
        // Leases that a fault has touched are in order again after this.
        let touched = now + 15_000;
        match fault {
            Fault::Start(node) if self.nodes[node].is_none() => {
                self.incarnations += 1;
                let started = Node::start(&world, &self.database, node, self.incarnations)?;
                self.nodes[node].insert(started).run();
            }
            Fault::Start(_) => {}
            Fault::Crash(node) => {
                if let Some(node) = self.nodes[node].take() {
                    node.kill();
                }
            }
            Fault::Stop(node) => {
                if let Some(found) = &mut self.nodes[node]
                    && found.paused_until == 0
                {
                    found.stop();
                    found.run();
                }
            }
            Fault::Pause(node, lasts) => {
                if let Some(found) = &mut self.nodes[node] {
                    found.paused_until = now + lasts;
                    let mut state = world.state.lock();
                    state.reach[node].stopped_until = now + lasts + NOTICE;
                    state.reach[node].partitioned_until = touched + lasts;
                    state.push(now + lasts, Event::Run { node, number: 0 });
                }
            }
            Fault::Partition(node, service, lasts) => {
                let mut state = world.state.lock();
                state.cut(node, service, now + lasts);
                // Such a node knows in time that it has lost its leases.
                state.reach[node].partitioned_until = touched + lasts;
            }
            Fault::Storm(lasts) => {
                let mut state = world.state.lock();
                state.storm_until = now + lasts;
                for reach in &mut state.reach {
                    reach.partitioned_until = reach.partitioned_until.max(touched + lasts);
                }
            }
            Fault::Failover(lasts, step) => {
                let mut state = world.state.lock();
                (state.failover_until, state.clock_step) = (now + lasts, step);
            }
            Fault::Takeovers => {
                for client in 0..self.clients.len() {
                    let is_chosen = world.state.lock().random.chance(5000);
                    if is_chosen && self.clients[client].running.is_some() {
                        // The node does not notice.
                        drop(self.clients[client].abandon());
                        self.signal(client, Signal::Next);
                    }
                }
            }
        }
        Ok(())
    }

    fn signal(&mut self, number: usize, signal: Signal) {
        let world = Arc::clone(&self.world);
        let client = &mut self.clients[number];
        match signal {
            Signal::Next if !client.is_done && client.running.is_none() => self.send(number),
            Signal::Next => {}
            Signal::GiveUp(request) if client.is_current(request) => {
                let running = client.abandon();
                let is_noticed = world.state.lock().random.chance(5000);
                if let Some((node, incarnation, task)) = running
                    && is_noticed
                {
                    task.abort();
                    if let Some(node) = &mut self.nodes[node]
                        && node.incarnation() == incarnation
                        && node.paused_until == 0
                    {
                        node.run();
                    }
                }
                self.send(number);
            }
            Signal::GiveUp(_) => {}
            Signal::Response(reply) => self.receive(number, &reply),
        }
    }

    fn send(&mut self, number: usize) {
        let world = Arc::clone(&self.world);
        let (node, sent, patience, is_lost) = {
            let state = &mut *world.state.lock();
            let sent = self.clients[number].next_request(&mut state.random);
            let node = state.random.index(self.nodes.len());
            let patience = state.random.between(MAX_WAIT.0, MAX_WAIT.1);
            let is_lost = state.now < state.quiet_since && state.random.chance(50);
            (node, sent, patience, is_lost)
        };
        // The load balancer sends requests to nodes that are ready, or have been so a moment ago.
        let count = self.nodes.len();
        let order = (node..count).chain(0..node);
        let mut ready = order.filter(|at| self.nodes[*at].as_ref().is_some_and(Node::is_ready));
        let (node, request) = (ready.next(), sent.number);
        let now = world.now();
        let mut give_up_after = patience;
        if let Some(at) = node
            && let Some(found) = &mut self.nodes[at]
            && !is_lost
        {
            let incarnation = found.incarnation();
            let task = found.handle(number, sent);
            self.clients[number].running = task.map(|task| (at, incarnation, task));
        } else if node.is_none() {
            give_up_after = 1000;
        }
        let give_up = Event::Client(number, Signal::GiveUp(request));
        world.state.lock().push(now + give_up_after, give_up);
    }

    fn receive(&mut self, number: usize, reply: &Reply) {
        let world = Arc::clone(&self.world);
        self.responses += 1;
        if reply.took > MAX_REQUEST {
            world.violation(format!("starved: a request took {} ms", reply.took));
        }
        let client = &mut self.clients[number];
        let state = &mut *world.state.lock();
        state.record(&[
            2,
            number as u64,
            u64::from(reply.status),
            reply.offset.unwrap_or(0),
        ]);
        let is_lost = state.now < state.quiet_since && state.random.chance(100);
        if !client.is_current(reply.number()) || is_lost {
            return;
        }
        match client.receive(reply, &mut state.random) {
            Ok(wait) if !client.is_done => {
                let at = state.now + wait;
                state.push(at, Event::Client(number, Signal::Next));
            }
            Ok(_) => self.done += 1,
            Err(text) => {
                world.checks.violation(state.now, text);
                client.is_done = true;
            }
        }
    }

    fn arrived(&self) -> (usize, usize) {
        let ids = self.clients.iter().filter_map(|client| client.id.as_ref());
        self.world.checks.count_events(ids)
    }

    fn is_complete(&self) -> bool {
        let (arrived, all) = self.arrived();
        let is_completed = |client: &Client| {
            let id = client.id.as_ref();
            id.is_some_and(|id| self.job_problem(id, client.length).is_none())
        };
        self.done == self.clients.len() && arrived == all && self.clients.iter().all(is_completed)
    }

    fn job_problem(&self, id: &UploadId, length: u64) -> Option<String> {
        self.runtime
            .block_on(jobs::problem(&self.queue, id, length))
    }

    /// Checks what must hold at the end.
    fn check_end(&self) {
        let world = &*self.world;
        if world.settings.mutant.is_some() && world.checks.violations().0 > 0 {
            return;
        }
        let now = world.now();
        for (number, client) in self.clients.iter().enumerate() {
            let Some(id) = &client.id else {
                world.violation(format!("starved: client {number} got no upload"));
                continue;
            };
            if client.acknowledged < client.length {
                let text = format!(
                    "starved: upload {id} has {} of {}",
                    client.acknowledged, client.length
                );
                world.violation(text);
                continue;
            }
            let stored = world.stored(id, client.length);
            if stored.as_deref() != Some(&*content(number, 0, client.length)) {
                world.violation(format!(
                    "acknowledged bytes: upload {id} is not as it was sent"
                ));
            }
            world.checks.check_events(now, id);
            if let Some(problem) = self.job_problem(id, client.length) {
                world.violation(format!(
                    "at least once: the job of upload {id} is {problem}"
                ));
            }
        }
        if world.settings.is_verbose && world.checks.violations().0 > 0 {
            for node in self.nodes.iter().flatten() {
                eprintln!("{}", node.describe());
            }
            let rows = "SELECT ordering_key || ' ' || event_id || ' state ' || state || ' of ' || owner_node \
                        || ' due ' || due_at || ' attempts ' || attempts AS text FROM outbox_deliveries";
            for query in [
                rows,
                "SELECT node_id || ' until ' || expires_at AS text FROM outbox_nodes",
            ] {
                let rows = self.database.read(Statement::new(query));
                for row in self.runtime.block_on(rows).unwrap_or_default() {
                    eprintln!("{}", row.text("text").unwrap_or_default());
                }
            }
        }
    }
}
