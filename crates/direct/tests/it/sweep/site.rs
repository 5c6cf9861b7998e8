//! Nodes that share a database and a bucket, with a clock that the test sets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use landfall::{
    Composer, Config, Handler, Resolution,
    event::{EventKind, EventSink},
    hook::Hook,
    store::MemoryStore,
    upload::UploadId,
};
use landfall_database::{Connections, Database, Durability, Statement};
use landfall_direct::{Asked, Books, Direct, DirectSettings, Record, Swept, Way, Who};
use landfall_grants::{
    Clock, Job, Queue, QueueSettings,
    gate::{Follower, Gate, GateSettings, Reconciled, reconcile},
    queue::StaleFilter,
};
use landfall_s3::client::{Client, ErrorKind};
use landfall_test_services::Access;
use landfall_testkit::record::RecordingSink;

use crate::{
    books::site::Place,
    uploads::site::{Script, Service, alice, parts, settings},
};

/// The usual patience, and a bit.
pub(crate) const TOO_LONG: Duration = Duration::from_secs(24 * 60 * 60 + 1);
/// After this everything that is under way is due.
pub(crate) const A_WHILE: Duration = Duration::from_secs(5 * 60 + 1);

/// A clock that goes ahead of the real one when it is told to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hands(Arc<AtomicU64>);

impl Hands {
    pub(crate) fn go(&self, span: Duration) {
        let span = u64::try_from(span.as_millis()).unwrap();
        self.0.fetch_add(span, Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let ahead = self.0.clone();
        Clock::new(move || SystemTime::now() + Duration::from_millis(ahead.load(Ordering::SeqCst)))
    }
}

/// What nodes share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) bucket: String,
    pub(crate) access: Access,
    pub(crate) hands: Hands,
    pub(crate) sink: RecordingSink,
    pub(crate) hook: Script,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) direct: Direct,
    pub(crate) queue: Queue,
    pub(crate) books: Books,
    pub(crate) handler: Handler,
    pub(crate) client: Client,
}

impl World {
    pub(crate) fn new(service: Service, place: Place) -> Self {
        Self {
            place,
            bucket: service.bucket(),
            access: service.access(),
            hands: Hands::default(),
            sink: RecordingSink::default(),
            hook: Script::default(),
        }
    }

    pub(crate) async fn node(&self) -> Node {
        self.node_by(&self.access, |_| {}).await
    }

    /// One that goes another way to the service.
    pub(crate) async fn node_by(
        &self,
        access: &Access,
        change: impl FnOnce(&mut DirectSettings),
    ) -> Node {
        let (hook, sink) = (self.hook.clone(), self.sink.clone());
        let database = &self.place.database;
        node(
            database,
            access,
            &self.bucket,
            self.hands.clock(),
            change,
            hook,
            sink,
        )
        .await
    }

    /// Lets so much time pass, and sweeps until nothing is due.
    pub(crate) async fn sweep_after(&self, node: &Node, span: Duration) -> Swept {
        self.hands.go(span);
        sweep(node).await
    }

    /// Kinds of the events that were told of an upload, but for progress.
    pub(crate) fn told(&self, record: &Record) -> Vec<EventKind> {
        self.sink.kinds(record.id())
    }
}

pub(crate) async fn sweep(node: &Node) -> Swept {
    let mut all = Swept::default();
    loop {
        let swept = node.direct.sweep().await.unwrap();
        if swept.seen == 0 {
            return all;
        }
        all.seen += swept.seen;
        all.completed += swept.completed;
        all.expired += swept.expired;
        all.failed += swept.failed;
        all.unknown += swept.unknown;
    }
}

/// A node as a server would have it.
pub(crate) async fn node(
    database: &Database,
    access: &Access,
    bucket: &str,
    clock: Clock,
    change: impl FnOnce(&mut DirectSettings),
    hook: impl Hook,
    sink: impl EventSink,
) -> Node {
    let mut talk = settings(access);
    talk.attempts = 1;
    let client = Client::new(talk).unwrap();
    let connections: Connections = database.open(Durability::Process).await.unwrap();
    let mut queue = QueueSettings::new(database.clone());
    queue.connections = Some(connections.lend());
    queue.clock = clock;
    let queue = Queue::open(queue).await.unwrap();
    let books = Books::open(connections).await.unwrap();
    let mut wanted = DirectSettings::new(client.clone(), bucket);
    change(&mut wanted);
    let direct = Direct::new(wanted, queue.clone(), books.clone());
    let mut config = Config::new(Composer::join(MemoryStore::new()))
        .hook(Gate::new(queue.clone(), GateSettings::default()))
        .hook(hook)
        .sink(Follower::new(queue.clone()))
        .sink(sink);
    config.direct = Some(Arc::new(direct.clone()));
    let handler = Handler::new(config).unwrap();
    direct.join(&handler);
    Node {
        direct,
        queue,
        books,
        handler,
        client,
    }
}

impl Node {
    pub(crate) async fn open(&self, way: Way, size: Option<u64>) -> Arc<Record> {
        let mut asked = Asked::new(way, "a file.bin");
        asked.size = size;
        self.open_for(&alice(), asked).await
    }

    pub(crate) async fn open_for(&self, who: &Who, asked: Asked) -> Arc<Record> {
        self.direct.open(who, asked, &mut parts()).await.unwrap()
    }

    /// As it is in the books.
    pub(crate) async fn now(&self, record: &Record) -> Record {
        self.books.get(record.id()).await.unwrap().unwrap()
    }

    pub(crate) async fn job(&self, record: &Record) -> Job {
        self.queue.get(record.job).await.unwrap().unwrap()
    }

    /// Whether there is an object at its key.
    pub(crate) async fn has_object(&self, record: &Record) -> bool {
        match self.client.head_object(&record.place).await {
            Ok(_) => true,
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Keys of unfinished multipart uploads that begin so.
    pub(crate) async fn multiparts(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let page = self
            .client
            .list_multiparts(bucket, prefix, None, 1000)
            .await;
        let uploads = page.unwrap().uploads.into_iter();
        uploads.map(|one| one.key).collect()
    }

    pub(crate) async fn assert_nothing_of(&self, record: &Record) {
        assert!(!self.has_object(record).await);
        let place = &record.place;
        let none: [String; 0] = [];
        assert_eq!(self.multiparts(&place.bucket, &place.key).await, none);
    }

    pub(crate) async fn direct_settles(
        &self,
        kind: EventKind,
        id: &UploadId,
        created: Option<SystemTime>,
    ) -> Resolution {
        self.handler.resolve(kind, id, created).await.unwrap()
    }

    pub(crate) async fn reconcile(&self) -> Reconciled {
        let silence = StaleFilter {
            before: self.queue.now() + Duration::from_secs(1),
            since: SystemTime::UNIX_EPOCH,
        };
        reconcile(&self.queue, &self.handler, silence)
            .await
            .unwrap()
    }
}

impl World {
    /// The number that a query gives.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let connections = self.place.connections().await;
        let rows = connections.read(Statement::new(sql)).await.unwrap();
        let number = rows[0].number(0).unwrap();
        connections.close().await;
        number
    }

    /// That nothing of any quota is reserved.
    pub(crate) async fn assert_settled(&self) {
        // A node writes what was reported first, and both in one transaction.
        let reserved = "SELECT CAST(COALESCE(SUM(reserved), 0) AS BIGINT) FROM queue_usage";
        assert_eq!(self.number(reserved).await, 0);
    }
}
