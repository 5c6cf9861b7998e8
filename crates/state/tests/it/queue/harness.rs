//! Queues on each database, with a clock that the test sets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use landfall::upload::UploadId;
use landfall_state::queue::{
    GrantOutcome, Job, JobId, NewJob, Queue, QueueSettings, StartOutcome, StartRequest, Token,
};
use landfall_state::sql::{Clock, Connections, Database, Durability, Row, Statement};
pub(crate) use landfall_test_services::until;
use tempfile::TempDir;

/// Nothing in these tests takes longer, unless it hangs.
const TIMEOUT: Duration = Duration::from_secs(180);

/// A manual clock.
#[derive(Debug, Clone)]
pub(crate) struct Hands(Arc<AtomicU64>);

impl Hands {
    pub(crate) fn go(&self, span: Duration) {
        let span = u64::try_from(span.as_millis()).unwrap();
        self.0.fetch_add(span, Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// A database that is gone with it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) database: Database,
    pub(crate) hands: Hands,
    _folder: TempDir,
}

impl Place {
    fn new(database: impl FnOnce(&TempDir) -> Database) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            database: database(&folder),
            hands: Hands(Arc::new(AtomicU64::new(1_700_000_000_000))),
            _folder: folder,
        }
    }

    pub(crate) fn sqlite() -> Self {
        Self::new(|folder| Database::Sqlite(folder.path().join("state/queue.db")))
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn postgres() -> Self {
        let postgres = landfall_test_services::Postgres::shared();
        Self::new(|_| Database::Postgres(postgres.database("queue")))
    }

    pub(crate) fn settings(&self) -> QueueSettings {
        let hands = self.hands.clone();
        let mut settings = QueueSettings::new(self.database.clone());
        settings.clock = Clock::new(move || hands.now());
        settings.node = "one".into();
        settings
    }

    pub(crate) async fn queue(&self) -> Queue {
        Queue::open(self.settings()).await.unwrap()
    }

    /// The database itself.
    pub(crate) async fn connections(&self) -> Connections {
        self.database.open(Durability::ProcessCrash).await.unwrap()
    }

    pub(crate) async fn rows(&self, sql: &str) -> Vec<Row> {
        let connections = self.connections().await;
        let rows = connections.read(Statement::new(sql)).await.unwrap();
        connections.close().await;
        rows
    }

    /// The number that a query gives.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let sql = format!("SELECT ({sql}) AS number");
        self.rows(&sql).await[0].number("number").unwrap()
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
    tokio::time::timeout(TIMEOUT, test(place))
        .await
        .expect("the test hangs");
}

pub(crate) fn asked(subject: &str, id: &str, size: impl Into<Option<u64>>) -> NewJob {
    let mut new = NewJob::new(subject, id, format!("{id}.bin"));
    new.size = size.into();
    new
}

pub(crate) fn upload(id: &str) -> UploadId {
    UploadId::new(id).unwrap()
}

pub(crate) async fn granted(queue: &Queue, new: NewJob) -> (Job, Token) {
    match queue.grant(new).await.unwrap() {
        GrantOutcome::Created(job, token) => (*job, token),
        other => panic!("not granted: {other:?}"),
    }
}

/// A job with an upload of its number.
pub(crate) async fn started(queue: &Queue, new: NewJob) -> JobId {
    let length = new.size;
    let (job, _) = granted(queue, new).await;
    let start = StartRequest::new(upload(&format!("u{}", job.id)), length, "digest");
    assert_eq!(
        queue.start(job.id, start).await.unwrap(),
        StartOutcome::Bound
    );
    job.id
}
