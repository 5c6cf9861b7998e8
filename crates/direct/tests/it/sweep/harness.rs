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
use landfall_access::grants::enforce::{GrantHook, GrantHookSettings};
use landfall_direct::{
    Direct, DirectSettings, OpenRequest, Record, Repository, Requester, SweepReport, TransferMode,
};
use landfall_objects::Cloud as _;
use landfall_s3::client::{Client, ErrorKind};
use landfall_state::queue::{
    Job, Queue, QueueSettings, StaleFilter,
    tracking::{JobTracker, ReconcileReport, reconcile},
};
use landfall_state::sql::{Clock, Connections, Database, Durability, Statement};
use landfall_test_services::Access;
use landfall_testkit::record::RecordingSink;

use crate::{
    repository::harness::TestDatabase,
    uploads::harness::{Script, Service, alice, parts, settings},
};

/// Slightly longer than the default idle timeout.
pub(crate) const AFTER_IDLE_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60 + 1);
/// After this time all running uploads are due.
pub(crate) const MAX_CHECK_DELAY: Duration = Duration::from_secs(5 * 60 + 1);

/// A clock that the test advances.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn go(&self, span: Duration) {
        let span = u64::try_from(span.as_millis()).unwrap();
        self.0.fetch_add(span, Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let ahead = self.0.clone();
        Clock::new(move || SystemTime::now() + Duration::from_millis(ahead.load(Ordering::SeqCst)))
    }
}

/// The database and the bucket that nodes share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) object: TestDatabase,
    pub(crate) bucket: String,
    pub(crate) access: Access,
    pub(crate) hands: TestClock,
    pub(crate) sink: RecordingSink,
    pub(crate) hook: Script,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) direct: Direct,
    pub(crate) queue: Queue,
    pub(crate) repository: Repository,
    pub(crate) handler: Handler,
    pub(crate) client: Client,
}

impl World {
    pub(crate) fn new(service: Service, object: TestDatabase) -> Self {
        Self {
            object,
            bucket: service.bucket(),
            access: service.access(),
            hands: TestClock::default(),
            sink: RecordingSink::default(),
            hook: Script::default(),
        }
    }

    pub(crate) async fn node(&self) -> Node {
        self.node_by(&self.access, |_| {}).await
    }

    /// Creates a node with another connection to the service.
    pub(crate) async fn node_by(
        &self,
        access: &Access,
        change: impl FnOnce(&mut DirectSettings),
    ) -> Node {
        let (hook, sink) = (self.hook.clone(), self.sink.clone());
        let database = &self.object.database;
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

    /// Advances the clock and sweeps until nothing is due.
    pub(crate) async fn sweep_after(&self, node: &Node, span: Duration) -> SweepReport {
        self.hands.go(span);
        sweep(node).await
    }

    /// Returns the kinds of an upload's emitted events, without progress.
    pub(crate) fn emitted(&self, record: &Record) -> Vec<EventKind> {
        self.sink.kinds(record.id())
    }
}

pub(crate) async fn sweep(node: &Node) -> SweepReport {
    let mut all = SweepReport::default();
    loop {
        let report = node.direct.sweep().await.unwrap();
        if report.examined == 0 {
            return all;
        }
        all.examined += report.examined;
        all.completed += report.completed;
        all.expired += report.expired;
        all.failed += report.failed;
        all.check_failures += report.check_failures;
    }
}

/// Creates a node like a server.
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
    talk.calls.limits.attempts = 1;
    let client = Client::new(talk).unwrap();
    let connections: Connections = database.open(Durability::ProcessCrash).await.unwrap();
    let mut queue = QueueSettings::new(database.clone());
    queue.connections = Some(connections.share());
    queue.clock = clock;
    let queue = Queue::open(queue).await.unwrap();
    let repository = Repository::open(connections).await.unwrap();
    let mut wanted = DirectSettings::new(
        std::sync::Arc::new(landfall_direct::S3Bucket::new(client.clone())),
        bucket,
    );
    change(&mut wanted);
    let direct = Direct::new(wanted, queue.clone(), repository.clone());
    let mut config = Config::new(Composer::join(MemoryStore::new()))
        .hook(GrantHook::new(queue.clone(), GrantHookSettings::default()))
        .hook(hook)
        .sink(JobTracker::new(queue.clone()))
        .sink(sink);
    config.external_uploads = Some(Arc::new(direct.clone()));
    let handler = Handler::new(config).unwrap();
    direct.set_handler(&handler);
    Node {
        direct,
        queue,
        repository,
        handler,
        client,
    }
}

impl Node {
    pub(crate) async fn open(&self, mode: TransferMode, size: Option<u64>) -> Arc<Record> {
        let mut asked = OpenRequest::new(mode, "a file.bin");
        asked.size = size;
        self.open_for(&alice(), asked).await
    }

    pub(crate) async fn open_for(&self, requester: &Requester, asked: OpenRequest) -> Arc<Record> {
        self.direct
            .open(requester, asked, &mut parts())
            .await
            .unwrap()
    }

    /// Returns the current record.
    pub(crate) async fn now(&self, record: &Record) -> Record {
        self.repository.get(record.id()).await.unwrap().unwrap()
    }

    pub(crate) async fn job(&self, record: &Record) -> Job {
        self.queue.get(record.job).await.unwrap().unwrap()
    }

    /// Returns whether its object exists.
    pub(crate) async fn has_object(&self, record: &Record) -> bool {
        match self.client.head_object(&record.object).await {
            Ok(_) => true,
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Returns the keys of unfinished multipart uploads with this prefix.
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
        let object = &record.object;
        let none: [String; 0] = [];
        assert_eq!(self.multiparts(&object.bucket, &object.key).await, none);
    }

    pub(crate) async fn direct_settles(
        &self,
        kind: EventKind,
        id: &UploadId,
        created: Option<SystemTime>,
    ) -> Resolution {
        self.handler.resolve(kind, id, created).await.unwrap()
    }

    pub(crate) async fn reconcile(&self) -> ReconcileReport {
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
    /// Returns the number that a query selects.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let connections = self.object.connections().await;
        let rows = connections.read(Statement::new(format!("SELECT ({sql}) AS number")));
        let number = rows.await.unwrap()[0].number("number").unwrap();
        connections.close().await;
        number
    }

    /// Asserts that no quota is reserved.
    pub(crate) async fn assert_settled(&self) {
        // A node writes reports first, both in one transaction.
        let reserved = "SELECT CAST(COALESCE(SUM(reserved_bytes), 0) AS BIGINT) FROM queue_usage";
        assert_eq!(self.number(reserved).await, 0);
    }
}
