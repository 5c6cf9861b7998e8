//! The outbox: no told event is lost, whatever moment the process dies at.
//!
//! What may happen is announced, and kept in the database before it does. What has happened is told:
//! its row is marked, and it is delivered, from memory where nothing older waits. What has arrived is
//! deleted. What was announced and never told, because a process died or because it never came true,
//! is [settled](landfall::Handler::settle) with the store, which knows.
//!
//! So each event arrives at least once, with the same [id](landfall::event::Event::id) each time, and
//! those of one upload in their order: a later one waits until an earlier one has arrived or is dead.
//! Uploads don't wait for each other.
//!
//! Several processes may share the database. What one has in hand carries its name, and it says every
//! few seconds that it lives; what one had that is gone, others take over. Nobody else touches the
//! announcements of a process that lives. One that was thought gone and comes back finds its name
//! struck off, takes another and begins with what the database says: what it tells then is written
//! whether or not somebody settled it meanwhile, so the worst is that an event arrives twice.

mod batch;
mod clock;
mod commit;
mod deliver;
mod events;
mod fact;
mod lanes;
mod node;
mod publish;
mod settings;
mod settle;
mod sql;
mod tally;
mod tend;
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
use landfall_database::Migration;
pub use landfall_database::{Connections, Database, DatabaseError, Durability, Statement};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::timeout,
};

use self::{
    batch::{Announcement, Command},
    clock::Clock,
    fact::{Fact, Implied},
    lanes::Lanes,
    node::Node,
    tally::{Tally, add},
    writer::Writer,
};
pub use self::{
    events::{Choice, Events, KeptEvent, KeptState, Order, Query},
    settings::{OutboxError, OutboxSettings},
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
    clock: Arc<Clock>,
    lanes: Lanes,
    open: Mutex<Open>,
    tally: Tally,
    /// When the next of what failed is due.
    soonest: AtomicI64,
    /// Something failed, and is due at `soonest`.
    failed: Notify,
    closing: watch::Sender<bool>,
    /// Held while deliveries are made.
    running: tokio::sync::Mutex<()>,
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Makes room for so many rows, which whoever writes them gives back.
    fn make_room(&self, rows: usize, limit: usize) -> Result<(), OutboxError> {
        self.tally.reserve(rows, limit).map_err(|rows| {
            add(&self.tally.refused, 1);
            OutboxError::Full { rows, limit }
        })
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
        let database = match &settings.connections {
            Some(open) => open.clone(),
            None => connect(&settings.database, settings.survives_power_loss).await?,
        };
        migrate(&database).await?;
        let node = Node::new(settings.presence.as_deref())?;
        let wants = routes.iter().fold(EventKinds::NONE, |all, route| {
            let kinds = route.names.event_kinds();
            EventKinds {
                progress: false,
                ..all.or(kinds)
            }
        });
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let shared = Arc::new(Shared {
            wants,
            clock: Arc::default(),
            lanes: Lanes::new(routes.len()),
            open: Mutex::default(),
            tally: Tally::new(routes.len()),
            soonest: AtomicI64::new(i64::MAX),
            failed: Notify::new(),
            closing: watch::Sender::new(false),
            running: tokio::sync::Mutex::default(),
            settings,
            routes,
            database,
        });
        tokio::spawn(Writer::new(shared.clone(), node).run(receiver));
        let outbox = Self { shared, commands };
        outbox.tend(true).await;
        outbox.count().await?;
        Ok(outbox)
    }

    /// How it stands. What is in the database was counted a few seconds ago.
    #[must_use]
    pub fn stats(&self) -> OutboxStats {
        let Shared {
            tally, settings, ..
        } = &*self.shared;
        tally.snapshot(settings.limit, self.shared.names())
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
        let wanted = events.iter().filter(|event| shared.wants.has(event.kind));
        let facts = wanted.map(|event| Fact::new(event, &settings.headers));
        let mut facts = facts.collect::<Result<Vec<_>, _>>()?;
        {
            let open = shared.open();
            facts.retain(|fact| !open.contains_key(&fact.id));
        }
        if facts.is_empty() && !is_creation {
            return Ok(());
        }
        let rows = facts
            .iter()
            .map(|fact| shared.rows_of(fact.message.hook))
            .sum();
        // What has begun may end.
        let limit = if is_creation {
            settings.limit
        } else {
            settings.limit.saturating_mul(2)
        };
        if facts.is_empty() {
            return shared.make_room(0, limit);
        }
        let (done, kept) = oneshot::channel();
        let command = Command::Announce(Announcement {
            facts,
            implied: Implied::by(events),
            reserved: rows,
            done,
        });
        let keep = async {
            self.send(command, rows, limit).await?;
            kept.await.map_err(|_| OutboxError::Closed)
        };
        match timeout(settings.patience, keep).await {
            Ok(kept) => kept,
            Err(_) => {
                add(&shared.tally.unkept, 1);
                Err(OutboxError::Slow(settings.patience))
            }
        }
    }

    /// Gives the writer something that takes so many rows, if there is room for them.
    ///
    /// Cancel safe: dropped, nothing was given and no room was taken.
    async fn send(&self, command: Command, rows: usize, limit: usize) -> Result<(), OutboxError> {
        let place = self.commands.reserve().await;
        let place = place.map_err(|_| OutboxError::Closed)?;
        self.shared.make_room(rows, limit)?;
        place.send(command);
        Ok(())
    }

    /// Looks after nodes, and if `thoroughly` after what is old.
    async fn tend(&self, thoroughly: bool) {
        let (done, tended) = oneshot::channel();
        let command = Command::Tend { thoroughly, done };
        if self.commands.send(command).await.is_ok() {
            let _ = tended.await;
        }
    }

    /// Counts what is in the database.
    async fn count(&self) -> Result<(), DatabaseError> {
        let shared = &self.shared;
        let mut found = vec![tally::Found::default(); shared.routes.len()];
        let now = shared.clock.now();
        for state in [sql::ANNOUNCED, sql::TOLD, sql::DEAD] {
            for row in shared.database.read(sql::count(state)).await? {
                let (route, rows) = (row.text(0)?, row.number(1)?);
                let rows = u64::try_from(rows).unwrap_or_default();
                let Some(at) = shared.names().position(|name| name == route) else {
                    continue;
                };
                match state {
                    sql::ANNOUNCED => found[at].announced = rows,
                    sql::TOLD => {
                        found[at].waiting = rows;
                        let age = now.saturating_sub(row.number(2)?).max(0);
                        found[at].oldest = Duration::from_millis(age.unsigned_abs());
                    }
                    _ => found[at].dead = rows,
                }
            }
        }
        shared.tally.found(&found);
        Ok(())
    }
}

#[async_trait]
impl EventSink for Outbox {
    fn wants(&self) -> EventKinds {
        self.shared.wants
    }

    async fn announce(&self, events: &[Event]) -> Result<(), BoxError> {
        Ok(self.keep(events).await?)
    }

    async fn tell(&self, event: Event) {
        if event.kind == EventKind::Progress || !self.shared.wants.has(event.kind) {
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
        let command = Command::Tell { fact, implied };
        if self.commands.send(command).await.is_err() {
            tracing::warn!(
                id,
                "an event came after the outbox was closed; it is settled later"
            );
        }
    }

    fn tell_progress(&self, _event: Event) {}
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
