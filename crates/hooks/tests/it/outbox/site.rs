//! An outbox with a receiver that does as it is told.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use landfall::{
    Composer, Config, Handler,
    event::{Event, EventKind, EventSink},
    store::MemoryStore,
    upload::{Upload, UploadId},
};
use landfall_hooks::{
    Failure, HookName, HookNames, Message, Reaction, Transport,
    outbox::{Database, Outbox, OutboxSettings, Route},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Nothing in these tests takes longer, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A receiver.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    /// Ids of events, in the order in which they arrived.
    pub(crate) arrived: Mutex<Vec<Message>>,
    /// Nothing arrives.
    pub(crate) is_down: AtomicBool,
    /// Every so many calls one fails; none if 0.
    pub(crate) fails_each: AtomicUsize,
    /// How long a call takes.
    pub(crate) pause: Mutex<Duration>,
    calls: AtomicUsize,
}

impl Receiver {
    pub(crate) fn messages(&self) -> Vec<Message> {
        self.arrived.lock().unwrap().clone()
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        let arrived = self.arrived.lock().unwrap();
        arrived.iter().map(|message| message.id.clone()).collect()
    }

    pub(crate) fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
    }

    /// Waits until so many different events have arrived.
    pub(crate) async fn until(&self, events: usize) -> Vec<Message> {
        let began = Instant::now();
        loop {
            let arrived = self.ids();
            let different: HashSet<_> = arrived.iter().collect();
            if different.len() >= events {
                return self.messages();
            }
            let so_far = different.len();
            assert!(began.elapsed() < PATIENCE, "{so_far} of {events} arrived");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The way to a receiver.
#[derive(Debug)]
pub(crate) struct Way(pub(crate) &'static str, pub(crate) Arc<Receiver>);

#[async_trait]
impl Transport for Way {
    fn name(&self) -> &str {
        self.0
    }

    async fn deliver(&self, message: &Message) -> Result<Reaction, Failure> {
        let receiver = &self.1;
        let call = receiver.calls.fetch_add(1, Ordering::Relaxed);
        let pause = *receiver.pause.lock().unwrap();
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let each = receiver.fails_each.load(Ordering::Relaxed);
        let fails = each > 0 && call.is_multiple_of(each);
        // Half of what fails has arrived all the same.
        if receiver.is_down.load(Ordering::Relaxed) || (fails && call.is_multiple_of(2 * each)) {
            return Err(Failure::new("the receiver is down"));
        }
        receiver.arrived.lock().unwrap().push(message.clone());
        if fails {
            return Err(Failure::new("the answer was lost"));
        }
        Ok(Reaction::default())
    }
}

pub(crate) const ALL: HookNames = HookNames::of(&[
    HookName::PostCreate,
    HookName::PostFinish,
    HookName::PostTerminate,
    HookName::PostExpire,
]);

/// All events for a receiver.
pub(crate) fn route(receiver: &Arc<Receiver>) -> Route {
    Route {
        transport: Arc::new(Way("http", receiver.clone())),
        names: ALL,
    }
}

/// A database that is gone with it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) database: Database,
    folder: TempDir,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("state/events.db"));
        Self { database, folder }
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn postgres() -> Self {
        let postgres = landfall_test_services::Postgres::shared();
        Self {
            database: Database::Postgres(postgres.database("outbox")),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Settings with short waits.
    pub(crate) fn settings(&self) -> OutboxSettings {
        let mut settings = OutboxSettings::new(self.database.clone());
        settings.presence = Some(self.folder.path().join("nodes"));
        settings.patience = Duration::from_secs(60);
        settings.first_wait = Duration::from_millis(10);
        settings.longest_wait = Duration::from_millis(200);
        // Longer than a test takes on a slow machine.
        settings.hold = Duration::from_secs(3600);
        settings.circuit_breaker.min_duration = Duration::from_millis(10);
        settings.circuit_breaker.min_delay = Duration::from_millis(10);
        settings.circuit_breaker.max_delay = Duration::from_millis(50);
        settings
    }
}

/// Runs a test on each database.
pub(crate) async fn everywhere(test: impl AsyncFn(Place)) {
    run("sqlite", Place::sqlite(), &test).await;
    #[cfg(feature = "postgres")]
    run("postgres", Place::postgres(), &test).await;
}

async fn run(name: &str, place: Place, test: &impl AsyncFn(Place)) {
    // Shown when the test fails.
    println!("database: {name}");
    tokio::time::timeout(PATIENCE, test(place))
        .await
        .expect("the test hangs");
}

/// An outbox that runs, beside a handler on a store in memory.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) outbox: Outbox,
    pub(crate) handler: Handler,
    pub(crate) receiver: Arc<Receiver>,
    running: JoinHandle<()>,
}

impl Site {
    pub(crate) async fn start(settings: OutboxSettings) -> Self {
        Self::beside(settings, Arc::default(), Composer::join(MemoryStore::new())).await
    }

    pub(crate) async fn beside(
        settings: OutboxSettings,
        receiver: Arc<Receiver>,
        parts: Composer,
    ) -> Self {
        let outbox = Outbox::open(settings, vec![route(&receiver)])
            .await
            .unwrap();
        let handler = Handler::new(Config::new(parts).sink(outbox.clone())).unwrap();
        let running = tokio::spawn(outbox.clone().run(handler.clone()));
        Self {
            outbox,
            handler,
            receiver,
            running,
        }
    }

    /// Ends it as it should end.
    pub(crate) async fn close(self) {
        self.outbox.close().await;
        self.running.await.unwrap();
    }

    /// What an upload goes through.
    pub(crate) async fn announce_and_tell(&self, upload: &Arc<Upload>, kinds: &[EventKind]) {
        for kind in kinds {
            let announced = event(*kind, upload);
            self.outbox.prepare(&[announced]).await.unwrap();
            self.outbox.emit(event(*kind, upload)).await;
        }
    }
}

pub(crate) fn upload() -> Arc<Upload> {
    let mut upload = Upload::new(UploadId::random(), Some(5));
    upload.created = Some(std::time::SystemTime::now());
    Arc::new(upload)
}

pub(crate) fn event(kind: EventKind, upload: &Arc<Upload>) -> Event {
    Event::new(kind, upload.clone(), 0, None)
}

/// Asserts that of each upload what arrived first was earlier, and that what arrived again was about
/// the same. (It may have another number: two nodes can tell the same thing, if one is slow.)
pub(crate) fn assert_in_order(arrived: &[Message]) {
    let mut seen: BTreeMap<&str, &Message> = BTreeMap::new();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for message in arrived {
        if let Some(before) = seen.insert(&message.id, message) {
            let about = |message: &Message| (message.hook, message.upload.id.clone());
            assert_eq!(about(before), about(message), "one id for two things");
            continue;
        }
        let before = last.insert(&message.upload.id, message.sequence);
        assert!(
            before.is_none_or(|before| before < message.sequence),
            "{} of {} came too late",
            message.hook,
            message.upload.id
        );
    }
}
