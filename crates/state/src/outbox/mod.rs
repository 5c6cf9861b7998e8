//! The outbox of Landfall: delivers every event at least once, even if the process crashes.
//!
//! An event is *prepared* before its effect: it is stored in the database. After the effect it is
//! *emitted*: its row becomes *pending*, and it is delivered, from memory unless an older event
//! waits in the database. A delivered row becomes a row of the history, for a day. A prepared event whose process died, or that
//! did not happen in time, is in doubt: it is [resolved](landfall::Handler::resolve) with the store.
//!
//! Delivery is at least once: duplicates have the same [id](landfall::event::Event::id). Deliveries
//! with the same ordering key (an upload or a job) stay in order: each waits until the previous one
//! is delivered or is a dead letter. A failing event holds later ones for a few seconds, unless the
//! order is strict. Uploads do not wait for each other. While a receiver is down, a circuit
//! breaker allows one attempt at a time; when it is back, events that failed meanwhile count as
//! new.
//!
//! Several nodes can share the database. A row that a node delivers or resolves has its id as
//! owner, and each node renews a lease every few seconds. Other nodes take over the rows of a dead
//! node, and leave prepared events of a live one alone. A node that was evicted by mistake notices
//! that its id is gone, takes a new id and continues with the rows in the database. It emits its
//! events whether or not another node has resolved them: duplicates are possible, loss is not.
//!
//! The headers that a transport names may be credentials. They are in a separate column, encrypted
//! with a [`HeaderKey`], which is emptied when the event becomes a dead letter.
//!
//! The writer (`src/writer`) executes what all requests prepare, emit and have delivered, in one
//! transaction per batch. Triggers count rows and bytes, so that no count reads the table.
//!
//! Start reading at `commit.rs`, the transaction of a batch, and `queues.rs`, the deliveries in
//! memory. `sql/` has all statements.

mod admin;
mod batch;
mod breaker;
mod claim;
mod commit;
mod deliver;
mod event;
mod failed;
mod header_key;
mod maintenance;
mod node;
mod publish;
mod queues;
mod resolve;
mod settings;
mod sql;
mod stats;
mod transaction;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use landfall::{
    BoxError,
    event::{Acknowledgement, Event, EventKind, EventKinds, EventSink},
    removal::{ClockMemory, RemovalClock},
};
use landfall_hooks::{EventHeaders, HookName, RedactedHeaders, Route};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot, watch},
    time::{Instant, timeout},
};

pub use self::{
    admin::{
        Changed, DeliveredEvent, EventGroup, EventSelection, EventState, Events, FailedEvents,
        Query, SortOrder, StoredEvent,
    },
    header_key::HeaderKey,
    settings::{CircuitBreaker, OutboxError, OutboxSettings, RetryPolicy},
    stats::{OutboxStats, RouteStats},
};
use self::{
    batch::{Command, PrepareCommand, Size},
    breaker::Breaker,
    event::{ImpliedEvent, OutboxEvent},
    header_key::CannotDecrypt,
    maintenance::NodeLease,
    node::Node,
    queues::DeliveryQueues,
    sql::OrderHold,
    stats::Counters,
    transaction::Writer,
};
use crate::{
    sql::{
        Clock, Connections, DatabaseError, Durability, Migration, Statement, expand,
        from_unix_millis, millis,
    },
    writer::{self, Commands, Request},
};

const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
const TABLE_SET: &str = "outbox";
const MIGRATIONS: &[Migration] = &[
    expand!("0001-outbox"),
    expand!("0002-headers"),
    expand!("0003-sequence"),
    expand!("0004-history"),
    expand!("0005-retries"),
];

/// Stores events until they are delivered. Cheap to clone; all clones are one outbox.
///
/// It is an event sink of a handler, and needs the handler to [run](Self::run):
///
/// ```no_run
/// # use landfall_hooks::Route;
/// # use landfall_state::sql::Database;
/// # use landfall_state::outbox::{Outbox, OutboxError, OutboxSettings};
/// # async fn example(handler: impl Fn(Outbox) -> landfall::Handler, routes: Vec<Route>)
/// # -> Result<(), OutboxError> {
/// let settings = OutboxSettings::new(Database::Sqlite("/var/lib/landfall/events.db".into()));
/// let outbox = Outbox::open(settings, routes).await?;
/// let handler = handler(outbox.clone());
/// let deliveries = tokio::spawn(outbox.clone().run(handler));
/// // … serve …
/// outbox.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
    commands: Commands<Command>,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("routes", &self.shared.routes)
            .finish_non_exhaustive()
    }
}

type PreparedEvents = HashMap<Arc<str>, (Instant, HookName)>;

#[derive(Debug)]
struct Shared {
    settings: OutboxSettings,
    routes: Vec<Route>,
    /// The headers that each of them names, and that any of them names.
    headers: Vec<EventHeaders>,
    named_headers: EventHeaders,
    /// A warning was logged.
    cannot_decrypt: AtomicBool,
    wants: EventKinds,
    database: Connections,
    removal_clock: RemovalClock,
    queues: DeliveryQueues,
    breakers: Vec<Breaker>,
    prepared: Mutex<PreparedEvents>,
    counters: Mutex<Counters>,
    soonest: AtomicI64,
    /// The time of the writer's last transaction.
    written_at: AtomicI64,
    failed: Notify,
    closing: watch::Sender<bool>,
    lease: Mutex<NodeLease>,
    running: tokio::sync::Mutex<()>,
}

impl Shared {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().map(|route| route.transport.name())
    }

    fn row_count(&self, hook: HookName) -> usize {
        let routes = self.routes.iter();
        routes.filter(|route| route.names.contains(hook)).count()
    }

    fn event_size(&self, event: &OutboxEvent) -> Size {
        let rows = self.row_count(event.message.hook);
        let bytes = rows.saturating_mul(event.bytes);
        Size { rows, bytes }
    }

    fn reserve(&self, size: Size, factor: usize) -> Result<(), OutboxError> {
        let mut counters = self.counters.lock();
        let reserved = counters.reserve(size, factor);
        if reserved.is_err() {
            counters.stats.rejected_requests += 1;
        }
        reserved
    }

    /// A route that is down does not delay the upload.
    fn add_creation(&self, upload: &str) {
        for (route, breaker) in self.routes.iter().zip(&self.breakers) {
            if route.names.contains(HookName::PostCreate) && !breaker.is_down() {
                self.settings.creations.add(route.transport.name(), upload);
            }
        }
    }

    /// Without the key, the event is delivered without these headers.
    fn decrypt(&self, headers: &str, delivery: [&str; 2]) -> RedactedHeaders {
        let decrypted = self.settings.header_key.decrypt(headers, delivery);
        decrypted.unwrap_or_else(|CannotDecrypt| {
            if !self.cannot_decrypt.swap(true, Relaxed) {
                tracing::warn!(
                    "cannot decrypt the forwarded headers of stored events, which have another key: \
                     delivering these events without them"
                );
            }
            RedactedHeaders::default()
        })
    }

    /// There is no limit while the route is down.
    fn order_hold(&self, route: usize) -> OrderHold {
        let is_unlimited = self.settings.strict_order || self.breakers[route].is_down();
        let limit = (!is_unlimited).then(|| millis(self.settings.max_hold));
        OrderHold { limit }
    }
}

impl Outbox {
    /// Opens the database, migrates it, and takes over deliveries of dead nodes.
    ///
    /// Its connections and its writer task belong to the current runtime. May be dropped.
    ///
    /// # Errors
    /// The database cannot be opened, or two routes have the same name.
    pub async fn open(settings: OutboxSettings, routes: Vec<Route>) -> Result<Self, OutboxError> {
        let mut names = HashSet::new();
        for route in &routes {
            let name = route.transport.name();
            if !names.insert(name) {
                return Err(OutboxError::DuplicateRoute(name.to_owned()));
            }
        }
        let mut database = match &settings.connections {
            Some(open) => open.clone(),
            None => settings.database.open(Durability::PowerLoss).await?,
        };
        if let Some(clock) = &settings.clock {
            database = database.with_clock(clock.clone());
        }
        migrate(&database).await?;
        let removal_clock = removal_clock(database.clock());
        for row in database.read(sql::newest()).await? {
            let sequence = row.opt_number("sequence")?.unwrap_or_default();
            Event::skip_sequence(u64::try_from(sequence).unwrap_or_default());
            if let Some(at) = row.opt_number("at")? {
                removal_clock.recall(ClockMemory::last_used(from_unix_millis(at)));
            }
        }
        let node = Node::new(settings.presence_dir.as_deref())?;
        let kinds = routes.iter().map(|route| route.names.event_kinds());
        let wants = EventKinds {
            progress: false,
            ..kinds.fold(EventKinds::NONE, EventKinds::union)
        };
        let (commands, requests) = Commands::channel();
        let breaker = |_: &Route| Breaker::new(settings.circuit_breaker);
        let breakers = routes.iter().map(breaker).collect();
        let names = routes.iter().map(|route| route.transport.name());
        let counters = Counters::new(&settings, names);
        let headers = routes.iter().map(|route| route.transport.event_headers());
        let headers: Vec<_> = headers.collect();
        let named_headers = headers.iter();
        let named_headers = named_headers.fold(EventHeaders::default(), |all, one| all.union(one));
        let shared = Arc::new(Shared {
            headers,
            named_headers,
            cannot_decrypt: AtomicBool::new(false),
            wants,
            queues: DeliveryQueues::new(routes.len()),
            breakers,
            prepared: Mutex::default(),
            counters: Mutex::new(counters),
            soonest: AtomicI64::new(i64::MAX),
            written_at: AtomicI64::new(i64::MIN),
            failed: Notify::new(),
            closing: watch::Sender::new(false),
            lease: Mutex::new(NodeLease::new(&node, settings.node_timeout)),
            running: tokio::sync::Mutex::default(),
            settings,
            routes,
            database,
            removal_clock,
        });
        let gathers = shared.database.is_postgres();
        let writer = Writer::new(shared.clone(), node);
        tokio::spawn(writer::run(writer, gathers, requests));
        let outbox = Self { shared, commands };
        outbox.maintain(true).await;
        outbox.count().await?;
        Ok(outbox)
    }

    /// Returns the counters. The database is counted every few seconds.
    #[must_use]
    pub fn stats(&self) -> OutboxStats {
        let mut stats = self.shared.counters.lock().stats.clone();
        let now = self.shared.database.clock().millis();
        for (route, breaker) in stats.routes.iter_mut().zip(&self.shared.breakers) {
            route.is_down = breaker.is_down();
            route.next_attempt = breaker.wait(now);
            route.opened = breaker.opened();
        }
        stats
    }

    /// Checks that the database responds, for health pages; an error if not. May be dropped.
    pub async fn check(&self) -> Result<(), OutboxError> {
        let rows = self.shared.database.read(Statement::new("SELECT 1"));
        rows.await?;
        Ok(())
    }

    /// Closes the outbox.
    ///
    /// Waits a limited time for running deliveries, writes emitted events and releases this node's
    /// rows, so that other nodes continue at once. Events that are emitted later are resolved by
    /// another node or after the restart.
    ///
    /// # Cancel safety
    /// Can be dropped; events that were not written are then resolved later.
    pub async fn close(&self) {
        self.shared.closing.send_replace(true);
        let _ = timeout(SHUTDOWN_TIMEOUT, self.shared.running.lock()).await;
        if timeout(SHUTDOWN_TIMEOUT, self.commands.close())
            .await
            .is_err()
        {
            tracing::error!("timed out writing the last events; they are resolved later");
        }
    }

    async fn store_prepared(&self, events: &[Event]) -> Result<(), OutboxError> {
        if *self.shared.closing.borrow() {
            return Err(OutboxError::Closed);
        }
        let shared = &self.shared;
        let settings = &shared.settings;
        let is_creation = events.iter().any(|event| event.kind == EventKind::Created);
        let is_wanted = |event: &&Event| shared.wants.contains(event.kind);
        let new = events.iter().filter(is_wanted);
        let new = new.map(|event| OutboxEvent::new(event, &shared.named_headers));
        let new = new.collect::<Result<Vec<_>, _>>()?;
        if new.is_empty() && !is_creation {
            return Ok(());
        }
        // Also one that this node has prepared for an earlier request: another node may have removed its row meanwhile.
        let is_new = |event: &&OutboxEvent| !shared.prepared.lock().contains_key(&event.id);
        let sizes = new.iter().filter(is_new);
        let sizes = sizes.map(|event| shared.event_size(event));
        let size = sizes.fold(Size::default(), Size::plus);
        // Events of existing uploads may use up to twice the limit.
        let factor = if is_creation { 1 } else { 2 };
        if new.is_empty() {
            return shared.reserve(size, factor);
        }
        if let Some(outage) = shared.database.known_outage() {
            shared.counters.lock().stats.persist_failures += 1;
            return Err(outage.into());
        }
        let (done, stored) = oneshot::channel();
        let command = Command::Prepare(PrepareCommand {
            events: new,
            implied: ImpliedEvent::by(events),
            reserved: size,
            done,
        });
        let store = async {
            self.send(command, size, factor).await?;
            stored.await.map_err(|_| OutboxError::Closed)?
        };
        match timeout(settings.write_timeout, store).await {
            Ok(stored) => stored,
            Err(_) => {
                shared.counters.lock().stats.persist_failures += 1;
                Err(OutboxError::Timeout(settings.write_timeout))
            }
        }
    }

    /// Cancel safe: if dropped, nothing was sent or reserved.
    async fn send(&self, command: Command, size: Size, factor: usize) -> Result<(), OutboxError> {
        let permit = self.commands.reserve().await;
        let permit = permit.map_err(|_| OutboxError::Closed)?;
        self.shared.reserve(size, factor)?;
        permit.send(Request::Execute(command));
        Ok(())
    }
}

#[async_trait]
impl EventSink for Outbox {
    fn event_kinds(&self) -> EventKinds {
        self.shared.wants
    }

    /// Prepared events are stored, and resolved after a start.
    fn acknowledgement(&self) -> Acknowledgement {
        Acknowledgement::NotNeeded
    }

    async fn prepare(&self, events: &[Event]) -> Result<(), BoxError> {
        Ok(self.store_prepared(events).await?)
    }

    async fn emit(&self, event: Event) {
        if event.kind == EventKind::Progress || !self.shared.wants.contains(event.kind) {
            return;
        }
        let id = event.id();
        let outbox_event = match OutboxEvent::new(&event, &self.shared.named_headers) {
            Ok(outbox_event) => outbox_event,
            Err(error) => {
                tracing::error!(id, %error, "failed to serialize an event");
                return;
            }
        };
        if let Some(progress) = &self.shared.settings.progress
            && matches!(event.kind, EventKind::Terminated | EventKind::Expired)
        {
            progress.discard(event.upload.id.as_str());
        }
        if event.kind == EventKind::Created {
            self.shared.add_creation(event.upload.id.as_str());
        }
        let implied = ImpliedEvent::by(std::slice::from_ref(&event));
        let event = outbox_event;
        let command = Command::Emit { event, implied };
        if self.commands.send(command).await.is_err() {
            tracing::warn!(id, "the outbox is closed; an event is resolved later");
        }
    }

    fn emit_progress(&self, _event: Event) {}
}

/// Returns the clock that decides when rows are deleted.
#[must_use]
pub fn removal_clock(clock: &Clock) -> RemovalClock {
    let (is_custom, clock) = (clock.is_custom(), clock.clone());
    match is_custom {
        true => RemovalClock::believing(move || clock.now()),
        false => RemovalClock::with_wall(move || clock.now()),
    }
}

/// Migrates the tables of the outbox to this version.
///
/// # Errors
/// See [`Connections::migrate`].
///
/// # Cancel safety
/// If dropped, it has done all or nothing.
pub async fn migrate(database: &Connections) -> Result<(), DatabaseError> {
    database.migrate(TABLE_SET, MIGRATIONS).await
}
