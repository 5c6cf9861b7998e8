//! A test harness: an outbox with a configurable receiver.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use landfall::{
    Composer, Config, Handler,
    event::{Event, EventKind, EventSink},
    store::MemoryStore,
    upload::{Upload, UploadId},
};
use landfall_hooks::{
    DeliveryError, EventHeaders, HookName, HookNames, HookResponse, JobData, Message, MessageId,
    Route, Transport,
};
use landfall_state::outbox::{EventState, Outbox, OutboxSettings, Query};
use landfall_state::sql::{Connections, Database};
use landfall_test_services::until;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Timeout of each test.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(180);

/// A receiver.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    /// Received messages in order.
    pub(crate) received: Mutex<Vec<Message>>,
    /// Set to fail all calls.
    pub(crate) is_down: AtomicBool,
    /// Every nth call fails; 0 for none.
    pub(crate) fails_each: AtomicUsize,
    /// The duration of a call.
    pub(crate) pause: Mutex<Duration>,
    /// The headers that it names.
    pub(crate) headers: Mutex<EventHeaders>,
    calls: AtomicUsize,
}

impl Receiver {
    pub(crate) fn messages(&self) -> Vec<Message> {
        self.received.lock().unwrap().clone()
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        let received = self.received.lock().unwrap();
        received.iter().map(|message| message.id.clone()).collect()
    }

    pub(crate) fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
    }

    /// Waits until this many distinct events were received.
    pub(crate) async fn until(&self, events: usize) -> Vec<Message> {
        let began = Instant::now();
        loop {
            let received = self.ids();
            let different: HashSet<_> = received.iter().collect();
            if different.len() >= events {
                return self.messages();
            }
            let so_far = different.len();
            assert!(began.elapsed() < TIMEOUT, "{so_far} of {events} received");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A transport to a receiver.
#[derive(Debug)]
pub(crate) struct TestTransport(pub(crate) &'static str, pub(crate) Arc<Receiver>);

#[async_trait]
impl Transport for TestTransport {
    fn name(&self) -> &str {
        self.0
    }

    fn event_headers(&self) -> EventHeaders {
        self.1.headers.lock().unwrap().clone()
    }

    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        let receiver = &self.1;
        let call = receiver.calls.fetch_add(1, Ordering::Relaxed);
        let pause = *receiver.pause.lock().unwrap();
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let each = receiver.fails_each.load(Ordering::Relaxed);
        let fails = each > 0 && call.is_multiple_of(each);
        // Half of the failed deliveries were received.
        if receiver.is_down.load(Ordering::Relaxed) || (fails && call.is_multiple_of(2 * each)) {
            return Err(DeliveryError::new("the receiver is down"));
        }
        receiver.received.lock().unwrap().push(message.clone());
        if fails {
            return Err(DeliveryError::new("the answer was lost"));
        }
        Ok(HookResponse::default())
    }
}

pub(crate) const ALL: HookNames = HookNames::from_names(&[
    HookName::PostCreate,
    HookName::PostFinish,
    HookName::PostTerminate,
    HookName::PostExpire,
]);

/// Returns a route with all events.
pub(crate) fn route(receiver: &Arc<Receiver>) -> Route {
    Route {
        transport: Arc::new(TestTransport("http", receiver.clone())),
        names: ALL,
    }
}

/// A temporary database.
#[derive(Debug)]
pub(crate) struct TestDatabase {
    pub(crate) database: Database,
    folder: TempDir,
}

impl TestDatabase {
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

    /// Returns settings with short delays.
    pub(crate) fn settings(&self) -> OutboxSettings {
        let mut settings = OutboxSettings::new(self.database.clone());
        settings.presence_dir = Some(self.folder.path().join("nodes"));
        settings.write_timeout = Duration::from_secs(60);
        settings.retry.min_backoff = Duration::from_millis(10);
        settings.retry.max_backoff = Duration::from_millis(200);
        // Longer than a test takes on a slow machine.
        settings.max_hold = Duration::from_secs(3600);
        settings.circuit_breaker.min_duration = Duration::from_millis(10);
        settings.circuit_breaker.min_delay = Duration::from_millis(10);
        settings.circuit_breaker.max_delay = Duration::from_millis(50);
        settings
    }
}

/// Runs a test on each database.
pub(crate) async fn on_each_database(test: impl AsyncFn(TestDatabase)) {
    run("sqlite", TestDatabase::sqlite(), &test).await;
    #[cfg(feature = "postgres")]
    run("postgres", TestDatabase::postgres(), &test).await;
}

async fn run(name: &str, database: TestDatabase, test: &impl AsyncFn(TestDatabase)) {
    // Shown when the test fails.
    println!("database: {name}");
    tokio::time::timeout(TIMEOUT, test(database))
        .await
        .expect("the test hangs");
}

/// A query of all events in these states.
pub(crate) fn in_states(states: &[EventState]) -> Query {
    Query {
        states: states.to_vec(),
        ..Query::default()
    }
}

/// A query of all events.
pub(crate) fn in_any_state() -> Query {
    in_states(&[EventState::Prepared, EventState::Pending, EventState::Dead])
}

/// A running outbox of an application without uploads.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) outbox: Outbox,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(settings: OutboxSettings, routes: Vec<Route>) -> Self {
        let outbox = Outbox::open(settings, routes).await.unwrap();
        let parts = Composer::join(MemoryStore::new());
        let handler = Handler::new(Config::new(parts)).unwrap();
        let task = tokio::spawn(outbox.clone().run(handler));
        Self { outbox, task }
    }

    /// Shuts down gracefully.
    pub(crate) async fn close(self) {
        self.outbox.close().await;
        self.task.await.unwrap();
    }

    /// Shuts down although a delivery never ends.
    pub(crate) async fn abort(self) {
        self.outbox.close().await;
        self.task.abort();
    }
}

/// An event of a job.
pub(crate) fn job_event(hook: HookName, job: u64, sequence: u64) -> Message {
    let data = JobData {
        id: job.to_string(),
        request_id: format!("r{job}"),
        filename: Some("a.png".into()),
        ..JobData::default()
    };
    let upload = data.upload(None);
    let number = MessageId {
        id: format!("{sequence:032x}"),
        sequence,
    };
    Message::about_job(hook, SystemTime::now(), data, upload, number)
}

/// Inserts events in a transaction, and commits it if `commits`.
pub(crate) async fn insert(
    outbox: &Outbox,
    connections: &Connections,
    messages: &[Message],
    commits: bool,
) {
    let mut transaction = connections.write().await.unwrap();
    for statement in outbox.insert_statements(messages).unwrap() {
        transaction.execute(statement).await.unwrap();
    }
    if commits {
        transaction.commit().await.unwrap();
    }
    outbox.notify_pending();
}

/// Prepares an event of an upload and emits it.
pub(crate) async fn prepare_and_emit(outbox: &Outbox, event: Event) {
    let prepared = std::slice::from_ref(&event);
    outbox.prepare(prepared).await.unwrap();
    outbox.emit(event).await;
}

/// A running outbox with a handler on a memory store.
#[derive(Debug)]
pub(crate) struct Harness {
    pub(crate) outbox: Outbox,
    pub(crate) handler: Handler,
    pub(crate) receiver: Arc<Receiver>,
    running: JoinHandle<()>,
}

impl Harness {
    pub(crate) async fn start(settings: OutboxSettings) -> Self {
        Self::start_with(settings, Arc::default(), Composer::join(MemoryStore::new())).await
    }

    pub(crate) async fn start_with(
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

    /// Shuts down gracefully.
    pub(crate) async fn close(self) {
        self.outbox.close().await;
        self.running.await.unwrap();
    }

    /// Prepares and emits events of an upload.
    pub(crate) async fn prepare_and_emit(&self, upload: &Arc<Upload>, kinds: &[EventKind]) {
        for kind in kinds {
            // The number of the event is that of the moment in which it happened.
            let prepared = event(*kind, upload);
            self.outbox.prepare(&[prepared]).await.unwrap();
            self.outbox.emit(event(*kind, upload)).await;
        }
    }

    /// Waits until nothing is queued.
    pub(crate) async fn until_idle(&self) {
        until(async || self.outbox.stats().queued == 0).await;
    }

    /// Waits until this many events are dead letters.
    pub(crate) async fn until_dead(&self, events: u64) {
        until(async || self.outbox.stats().routes[0].dead_lettered >= events).await;
    }
}

pub(crate) fn upload() -> Arc<Upload> {
    let mut upload = Upload::new(UploadId::random(), Some(5));
    upload.created = Some(SystemTime::now());
    Arc::new(upload)
}

pub(crate) fn event(kind: EventKind, upload: &Arc<Upload>) -> Event {
    Event::new(kind, upload.clone(), 0, None)
}

/// Asserts that the events of each upload arrived in order, and that duplicates match.
///
/// A duplicate may have another sequence number: two nodes can emit the same event.
pub(crate) fn assert_in_order(received: &[Message]) {
    let mut seen: BTreeMap<&str, &Message> = BTreeMap::new();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for message in received {
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
