//! A repository on each database.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use landfall::upload::{Upload, UploadId};
use landfall_direct::{Record, Repository, TransferMode};
use landfall_s3::client;
use landfall_state::queue::JobId;
use landfall_state::sql::{Connections, Database, Durability, Statement};
pub(crate) use landfall_test_services::until;
use tempfile::TempDir;

/// Time limit of a test.
const TIMEOUT: Duration = Duration::from_secs(180);

/// A database that is deleted on drop.
#[derive(Debug)]
pub(crate) struct TestDatabase {
    pub(crate) database: Database,
    _folder: TempDir,
}

impl TestDatabase {
    fn new(database: impl FnOnce(&TempDir) -> Database) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            database: database(&folder),
            _folder: folder,
        }
    }

    pub(crate) fn sqlite() -> Self {
        Self::new(|folder| Database::Sqlite(folder.path().join("state/queue.db")))
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn postgres() -> Self {
        let postgres = landfall_test_services::Postgres::shared();
        Self::new(|_| Database::Postgres(postgres.database("direct")))
    }

    pub(crate) async fn connections(&self) -> Connections {
        self.database.open(Durability::ProcessCrash).await.unwrap()
    }

    /// Opens a repository with its own connections, like another process.
    pub(crate) async fn repository(&self) -> Repository {
        Repository::open(self.connections().await).await.unwrap()
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let connections = self.connections().await;
        let mut transaction = connections.write().await.unwrap();
        transaction.execute(Statement::new(sql)).await.unwrap();
        transaction.commit().await.unwrap();
        connections.close().await;
    }
}

/// Runs a test on each database.
pub(crate) async fn everywhere(test: impl AsyncFn(TestDatabase)) {
    run("sqlite", TestDatabase::sqlite(), &test).await;
    #[cfg(feature = "postgres")]
    run("postgres", TestDatabase::postgres(), &test).await;
}

async fn run(name: &str, object: TestDatabase, test: &impl AsyncFn(TestDatabase)) {
    // Shown if the test fails.
    println!("database: {name}");
    tokio::time::timeout(TIMEOUT, test(object))
        .await
        .expect("the test hangs");
}

/// Returns a time in the precision of the repository.
pub(crate) fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

/// Creates a record that is due from `at(1000)` on, with a unique id.
pub(crate) fn record(subject: &str, key: &str) -> Record {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let upload = Upload::new(UploadId::new(&format!("direct-{number}")).unwrap(), Some(5));
    Record::new(
        upload,
        JobId(i64::try_from(number).unwrap()),
        subject,
        TransferMode::Multipart,
        client::ObjectRef::new("bucket", key),
        at(1000),
    )
}
