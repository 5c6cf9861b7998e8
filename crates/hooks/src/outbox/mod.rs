//! The outbox: no told event is lost, whatever moment the process dies at.
//!
//! What may happen is announced, and kept in the database before it does. What has happened is told:
//! its row is marked, and it is delivered, from memory where nothing older waits. What has arrived is
//! deleted. What was announced and never told, because a process died or because it never came true,
//! is [settled](landfall::Handler::resolve) with the store, which knows.
//!
//! So each event arrives at least once, with the same [id](landfall::event::Event::id) each time, and
//! those of one ordering key (an upload or a job) in their order: a later one waits until an earlier
//! one has arrived or is a dead letter, but for an event that fails no longer than a minute, unless
//! the order is strict. Uploads do not wait for each other. While a receiver is down, a circuit
//! breaker lets one attempt through at a time; what failed then counts as not yet tried once it is
//! back.
//!
//! Several processes may share the database. What one has in hand carries its name, and it says every
//! few seconds that it lives; what one had that is gone, others take over. Nobody else touches the
//! announcements of a process that lives. One that was thought gone and comes back finds its name
//! struck off, takes another and begins with what the database says: what it tells then is written
//! whether or not somebody settled it meanwhile, so the worst is that an event arrives twice.

mod batch;
mod breaker;
mod claim;
mod commit;
mod deliver;
mod events;
mod fact;
mod failed;
mod maintenance;
mod node;
mod publish;
mod queues;
mod settings;
mod settle;
mod sql;
mod tally;
mod writer;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicI64},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use landfall::{
    BoxError,
    event::{Event, EventKind, EventKinds, EventSink},
};
pub use landfall_database::{Clock, Connections, Database, DatabaseError, Durability, Statement};
use landfall_database::{Migration, millis};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::timeout,
};

use self::{
    batch::{Command, Size, Stored},
    breaker::Breaker,
    fact::{Fact, Implied},
    maintenance::NodeLease,
    node::Node,
    queues::DeliveryQueues,
    sql::Hold,
    tally::{Tally, add},
    writer::Writer,
};
pub use self::{
    events::{Choice, Events, KeptEvent, KeptState, Order, Query},
    settings::{CircuitBreaker, OutboxError, OutboxSettings},
    tally::{OutboxStats, RouteStats},
};
use crate::HookName;
pub use crate::progress::Route;

/// What may wait for the writer; a request that tells more waits.
const COMMANDS: usize = 2048;
/// How long the end waits for deliveries that are under way, and then for the database.
const LAST_WAIT: Duration = Duration::from_secs(10);
/// The name of the tables among others in the database.
const TABLES: &str = "outbox";
const MIGRATIONS: &[Migration] = &[Migration::expand(
    include_str!("../../migrations/0001-outbox.sqlite.sql"),
    include_str!("../../migrations/0001-outbox.postgres.sql"),
)];

/// Keeps events until they have arrived. Cheap to clone; all clones are one outbox.
///
/// It is a sink of a handler, and needs the handler to [run](Self::run):
///
/// ```no_run
/// # use landfall_hooks::outbox::{Database, Outbox, OutboxError, OutboxSettings, Route};
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
    commands: mpsc::Sender<Command>,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("routes", &self.shared.routes)
            .finish_non_exhaustive()
    }
}

/// Announcements of this process that are kept and of which it has told nothing yet: since when.
type Open = HashMap<Arc<str>, (Instant, HookName)>;

/// What the writer and everybody else share.
#[derive(Debug)]
struct Shared {
    settings: OutboxSettings,
    routes: Vec<Route>,
    wants: EventKinds,
    database: Connections,
    queues: DeliveryQueues,
    /// One for each route.
    breakers: Vec<Breaker>,
    open: Mutex<Open>,
    tally: Tally,
    /// When the next of what failed is due.
    soonest: AtomicI64,
    /// Something failed, and is due at `soonest`.
    failed: Notify,
    closing: watch::Sender<bool>,
    lease: Mutex<NodeLease>,
    /// Held while deliveries are made.
    running: tokio::sync::Mutex<()>,
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(&self) -> MutexGuard<'_, NodeLease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of the routes.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().map(|route| route.transport.name())
    }

    /// How many rows an event of this kind takes.
    fn rows_of(&self, hook: HookName) -> usize {
        let routes = self.routes.iter();
        routes.filter(|route| route.names.has(hook)).count()
    }

    /// What an event takes in the database.
    fn size_of(&self, fact: &Fact) -> Size {
        let rows = self.rows_of(fact.message.hook);
        Size {
            rows,
            bytes: rows.saturating_mul(fact.json.len()),
        }
    }

    /// Reserves capacity, which the writer releases.
    fn reserve(&self, size: Size, share: usize) -> Result<(), OutboxError> {
        let reserved = self.tally.reserve(size, &self.settings, share);
        if reserved.is_err() {
            add(&self.tally.refused, 1);
        }
        reserved
    }

    /// How long events of a route that fail hold later ones: as long as they fail, while it is down.
    fn hold(&self, route: usize) -> Hold {
        let is_unlimited = self.settings.strict_order || self.breakers[route].is_down();
        Hold {
            limit: (!is_unlimited).then(|| millis(self.settings.hold)),
        }
    }
}

impl Outbox {
    /// Opens the database, makes or changes its tables, and takes over what processes left that are
    /// gone. Its connections and the task that writes belong to the runtime in which this is called.
    ///
    /// # Errors
    /// The database can't be opened, or two routes have one name.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn open(settings: OutboxSettings, routes: Vec<Route>) -> Result<Self, OutboxError> {
        let mut names = HashSet::new();
        for route in &routes {
            let name = route.transport.name();
            if !names.insert(name) {
                return Err(OutboxError::SameName(name.to_owned()));
            }
        }
        let mut database = match &settings.connections {
            Some(open) => open.clone(),
            None => connect(&settings.database, settings.survives_power_loss).await?,
        };
        if let Some(clock) = &settings.clock {
            database = database.with_clock(clock.clone());
        }
        migrate(&database).await?;
        let node = Node::new(settings.presence.as_deref())?;
        let wants = routes.iter().fold(EventKinds::NONE, |all, route| {
            let kinds = route.names.event_kinds();
            EventKinds {
                progress: false,
                ..all.union(kinds)
            }
        });
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let shared = Arc::new(Shared {
            wants,
            queues: DeliveryQueues::new(routes.len()),
            breakers: routes
                .iter()
                .map(|_| Breaker::new(settings.circuit_breaker))
                .collect(),
            open: Mutex::default(),
            tally: Tally::new(routes.len()),
            soonest: AtomicI64::new(i64::MAX),
            failed: Notify::new(),
            closing: watch::Sender::new(false),
            lease: Mutex::new(NodeLease::new(&node, settings.node_timeout)),
            running: tokio::sync::Mutex::default(),
            settings,
            routes,
            database,
        });
        tokio::spawn(Writer::new(shared.clone(), node).run(receiver));
        let outbox = Self { shared, commands };
        outbox.maintain(true).await;
        outbox.count().await?;
        Ok(outbox)
    }

    /// How it stands. What is in the database was counted a few seconds ago.
    #[must_use]
    pub fn stats(&self) -> OutboxStats {
        let Shared {
            tally, settings, ..
        } = &*self.shared;
        let routes = self.shared.names().zip(&self.shared.breakers);
        tally.snapshot(settings, routes)
    }

    /// Asks the database for a sign of life, for health pages.
    ///
    /// # Errors
    /// It gives none.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn check(&self) -> Result<(), OutboxError> {
        let rows = self.shared.database.read(Statement::new("SELECT 1"));
        rows.await?;
        Ok(())
    }

    /// Ends it: waits a little for deliveries that are under way, writes what was told, and lets go of
    /// what it had in hand, so that others take it up at once. What is told later is settled by
    /// whoever opens the outbox next.
    ///
    /// # Cancel safety
    /// May be dropped; what isn't written then is settled later.
    pub async fn close(&self) {
        self.shared.closing.send_replace(true);
        let _ = timeout(LAST_WAIT, self.shared.running.lock()).await;
        let (done, closed) = oneshot::channel();
        let end = async {
            if self.commands.send(Command::Close(done)).await.is_ok() {
                let _ = closed.await;
            }
        };
        if timeout(LAST_WAIT, end).await.is_err() {
            tracing::error!(
                "the database didn't take the last events in time; they are settled later"
            );
        }
    }

    async fn keep(&self, events: &[Event]) -> Result<(), OutboxError> {
        if *self.shared.closing.borrow() {
            return Err(OutboxError::Closed);
        }
        let shared = &self.shared;
        let settings = &shared.settings;
        let is_creation = events.iter().any(|event| event.kind == EventKind::Created);
        let wanted = events
            .iter()
            .filter(|event| shared.wants.contains(event.kind));
        let facts = wanted.map(|event| Fact::new(event, &settings.headers));
        let mut facts = facts.collect::<Result<Vec<_>, _>>()?;
        {
            let open = shared.open();
            facts.retain(|fact| !open.contains_key(&fact.id));
        }
        if facts.is_empty() && !is_creation {
            return Ok(());
        }
        let size = facts.iter().map(|fact| shared.size_of(fact)).sum();
        // An upload that exists may be completed: other events have twice the limit.
        let share = if is_creation { 1 } else { 2 };
        if facts.is_empty() {
            return shared.reserve(size, share);
        }
        let (done, stored) = oneshot::channel();
        let command = Command::Prepare(Stored {
            facts,
            implied: Implied::by(events),
            reserved: size,
            done,
        });
        let store = async {
            self.send(command, size, share).await?;
            stored.await.map_err(|_| OutboxError::Closed)?
        };
        match timeout(settings.patience, store).await {
            Ok(stored) => stored,
            Err(_) => {
                add(&shared.tally.unkept, 1);
                Err(OutboxError::Slow(settings.patience))
            }
        }
    }

    /// Sends a command that takes capacity to the writer, if there is capacity for it.
    ///
    /// Cancel safe: dropped, nothing was sent and nothing reserved.
    async fn send(&self, command: Command, size: Size, share: usize) -> Result<(), OutboxError> {
        let place = self.commands.reserve().await;
        let place = place.map_err(|_| OutboxError::Closed)?;
        self.shared.reserve(size, share)?;
        place.send(command);
        Ok(())
    }
}

#[async_trait]
impl EventSink for Outbox {
    fn event_kinds(&self) -> EventKinds {
        self.shared.wants
    }

    async fn prepare(&self, events: &[Event]) -> Result<(), BoxError> {
        Ok(self.keep(events).await?)
    }

    async fn emit(&self, event: Event) {
        if event.kind == EventKind::Progress || !self.shared.wants.contains(event.kind) {
            return;
        }
        let id = event.id();
        let fact = match Fact::new(&event, &self.shared.settings.headers) {
            Ok(fact) => fact,
            Err(error) => {
                tracing::error!(id, %error, "an event can't be written");
                return;
            }
        };
        if let Some(progress) = &self.shared.settings.progress
            && matches!(event.kind, EventKind::Terminated | EventKind::Expired)
        {
            progress.forget(event.upload.id.as_str());
        }
        let implied = Implied::by(std::slice::from_ref(&event));
        let command = Command::Emit { fact, implied };
        if self.commands.send(command).await.is_err() {
            tracing::warn!(
                id,
                "an event came after the outbox was closed; it is settled later"
            );
        }
    }

    fn emit_progress(&self, _event: Event) {}
}

/// Brings the tables of the outbox to the version of this program.
///
/// # Errors
/// See [`Connections::migrate`].
///
/// # Cancel safety
/// Dropped, it has done all or nothing.
pub async fn migrate(database: &Connections) -> Result<(), DatabaseError> {
    database.migrate(TABLES, MIGRATIONS).await
}

async fn connect(database: &Database, for_power_loss: bool) -> Result<Connections, OutboxError> {
    let durability = if for_power_loss {
        Durability::Power
    } else {
        Durability::Process
    };
    Ok(database.open(durability).await?)
}
