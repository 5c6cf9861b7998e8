//! Every store and locker of the library passes its suite.

use std::time::Duration;

use landfall::{
    lease::{FileLocker, MemoryLocker},
    store::MemoryStore,
};
use landfall_testkit::{locker, store};

#[tokio::test(flavor = "multi_thread")]
async fn memory_store() {
    store::conformance(async || MemoryStore::new())
        .await
        .assert_complete();
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_locker() {
    locker::conformance(async || MemoryLocker::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_locker_in_one_process() {
    let dir = tempfile::tempdir().unwrap();
    locker::conformance(async || FileLocker::new(dir.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_locker_between_processes() {
    let dir = tempfile::tempdir().unwrap();
    let make = async || (FileLocker::new(dir.path()), FileLocker::new(dir.path()));
    locker::conformance_between(make, Duration::from_secs(1)).await;
}
