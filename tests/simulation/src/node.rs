//! A node: the real handler, lease table and outbox in its own runtime, whose clock is paused between the
//! calls to [`Node::run`]. It decides nothing about faults.
//!
//! A runtime for each node, because a process that is stopped runs no task at all, and continues with all of its timers
//! due at once; and because its clock may be faster than others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use landfall::{Composer, Config, Handler};
use landfall_hooks::{HookName, HookNames, Route};
use landfall_leases::{BucketLocker, LeaseSettings};
use landfall_state::{
    outbox::{Outbox, OutboxSettings, RetryPolicy},
    queue::Queue,
    sql::{Connections, Database},
};
use parking_lot::Mutex;
use tokio::{
    runtime::{Builder, Runtime},
    task::AbortHandle,
};

use crate::{
    check::{TTL, WatchedLocker},
    clients::{Reply, SentRequest, Signal},
    jobs,
    receiver::{DatabaseNetwork, Receiver},
    records::RemoteRecords,
    store::RemoteStore,
    world::{Event, Port, World},
};

/// A node may run ahead of the others by so much while it waits for nothing. Requests reach it late by that.
const RUN_AHEAD: u64 = 250;
/// So many nodes look for jobs that a crash has left behind: of all, each would examine each.
const RECONCILERS: usize = 3;
const EVENTS: HookNames = HookNames::from_names(&[HookName::PostCreate, HookName::PostFinish]);

/// The parts of a node that has started.
#[derive(Clone)]
struct Started {
    queue: Queue,
    handler: Handler,
    outbox: Outbox,
    locker: WatchedLocker<BucketLocker<RemoteRecords>>,
}

pub(crate) struct Node {
    runtime: Runtime,
    port: Port,
    started: Arc<Mutex<Option<Started>>>,
    is_stopping: Arc<AtomicBool>,
    pub(crate) paused_until: u64,
    /// The number of the event that makes it run again.
    run_number: u64,
}

impl Node {
    pub(crate) fn start(
        world: &Arc<World>,
        database: &Connections,
        node: usize,
        incarnation: u64,
    ) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        let rate = world.state.lock().random.between(990, 1011);
        let started = Arc::new(Mutex::new(None));
        let into = Arc::clone(&started);
        let port = runtime.block_on(async {
            let port = Port::new(world, node, incarnation, rate);
            let database = database.simulated(Arc::new(DatabaseNetwork(port.clone())));
            tokio::spawn(start(port.clone(), database, into));
            port
        });
        Ok(Self {
            runtime,
            port,
            started,
            is_stopping: Arc::default(),
            paused_until: 0,
            run_number: 0,
        })
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.port.incarnation
    }

    /// A load balancer sends requests to it.
    pub(crate) fn is_ready(&self) -> bool {
        !self.is_stopping.load(Ordering::Relaxed) && self.started.lock().is_some()
    }

    /// Runs the node from now, and ahead while nothing can reach it.
    pub(crate) fn run(&mut self) {
        let world = &self.port.world;
        let until = world.now() + RUN_AHEAD;
        self.runtime.block_on(self.port.run_until(until));
        let node = self.port.node;
        let mut state = world.state.lock();
        let at = self.runtime.block_on(async { self.port.global_now() });
        let number = self.run_number + 1;
        self.run_number = number;
        state.push(at, Event::Run { node, number });
    }

    pub(crate) fn run_if_due(&mut self, number: u64) {
        if number == self.run_number {
            self.run();
        }
    }

    /// Continues after a pause: the clock of the process has not stopped.
    pub(crate) fn resume(&mut self) {
        self.paused_until = 0;
        let now = self.port.world.now();
        self.runtime.block_on(self.port.jump(now));
        self.run();
    }

    /// Handles a request; `None`: the node does not listen.
    pub(crate) fn handle(&mut self, client: usize, sent: SentRequest) -> Option<AbortHandle> {
        let handler = self.started.lock().as_ref()?.handler.clone();
        let port = self.port.clone();
        let task = self.runtime.spawn(async move {
            let since = port.global_now();
            let number = sent.number;
            let response = handler.handle(sent.into_request()).await;
            let reply = Reply::new(number, response, port.global_now() - since);
            let mut state = port.world.state.lock();
            let at = port.global_now() + state.random.between(1, 20);
            state.push(at, Event::Client(client, Signal::Response(reply)));
        });
        // A stopped process has the request in the buffer of its socket.
        if self.paused_until == 0 {
            self.run();
        }
        Some(task.abort_handle())
    }

    /// Begins a graceful shutdown.
    pub(crate) fn stop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        let started = self.started.lock().clone();
        self.runtime.spawn(async move {
            if let Some(Started {
                queue,
                handler,
                outbox,
                locker,
            }) = started
            {
                handler.shutdown().await;
                queue.close().await;
                outbox.close().await;
                locker.inner.close().await;
            }
        });
    }

    /// Ends the process. Its requests still arrive.
    pub(crate) fn kill(self) {
        self.port.forget();
    }

    pub(crate) fn describe(&self) -> String {
        match &*self.started.lock() {
            Some(Started { outbox, locker, .. }) => {
                format!("{:?} {:?}", locker.inner.stats(), outbox.stats())
            }
            None => "not started".to_owned(),
        }
    }
}

async fn start(port: Port, database: Connections, into: Arc<Mutex<Option<Started>>>) {
    let world = Arc::clone(&port.world);
    let clock = world.clock();
    let outbox = loop {
        // The path is that of no file.
        let mut settings = OutboxSettings::new(Database::Sqlite("unused".into()));
        settings.connections = Some(database.clone());
        settings.clock = Some(clock.clone());
        settings.presence_dir = None;
        settings.strict_order = true;
        settings.resolve_after = Duration::from_secs(10);
        settings.delivery_timeout = Duration::from_secs(30);
        settings.retry = RetryPolicy {
            min_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(8),
            ..RetryPolicy::default()
        };
        let route = Route {
            transport: Arc::new(Receiver(port.clone())),
            names: EVENTS,
        };
        match Outbox::open(settings, vec![route]).await {
            Ok(outbox) => break outbox,
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    };
    let mut leases = LeaseSettings::bucket();
    leases.ttl = Duration::from_millis(TTL);
    leases.heartbeat = Duration::from_secs(1);
    let locker = BucketLocker::new_here(RemoteRecords(port.clone()), leases);
    let Ok(inner) = locker else { return };
    let locker = WatchedLocker {
        inner,
        port: port.clone(),
    };
    let composer = Composer::join(RemoteStore(port.clone()));
    let composer = composer.with_locker(locker.clone());
    let queue = loop {
        match jobs::open(database.clone(), clock.clone()).await {
            Ok(queue) => break queue,
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    };
    // The queue comes first, so that it contains what the application is notified of.
    let mut config = jobs::track(Config::new(composer), &queue).sink(outbox.clone());
    config.body_timeout = Some(Duration::from_secs(30));
    let Ok(handler) = Handler::new(config) else {
        return;
    };
    tokio::spawn(outbox.clone().run(handler.clone()));
    if port.node < RECONCILERS {
        tokio::spawn(jobs::reconcile_all(queue.clone(), handler.clone()));
    }
    *into.lock() = Some(Started {
        queue,
        handler,
        outbox,
        locker,
    });
}
