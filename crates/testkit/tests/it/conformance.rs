//! Every store, locker and sink of the library passes its suite.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{own_locker::OwnLocker, own_store, power_loss::PowerLossStore};
use landfall::{
    event::{self, EventKinds},
    lease::{FileLocker, MemoryLocker},
    store::{MemoryStore, file::FileStore},
};
use landfall_testkit::{
    fault::{FaultStore, Faults},
    locker,
    record::RecordingSink,
    sink, store,
};

#[tokio::test(flavor = "multi_thread")]
async fn memory_store() {
    store::conformance(async || MemoryStore::new())
        .await
        .assert_complete();
}

#[tokio::test(flavor = "multi_thread")]
async fn file_store() {
    let dir = tempfile::tempdir().unwrap();
    let make = async || FileStore::new(tempfile::tempdir_in(dir.path()).unwrap().keep()).unwrap();
    store::conformance(make).await.assert_complete();
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

#[tokio::test(flavor = "multi_thread")]
async fn the_store_written_from_nothing() {
    let report = store::conformance(async || own_store::OwnStore::default()).await;
    assert!(report.passed.contains(&"any_range_can_be_read"));
    assert!(report.passed.contains(&"a_terminated_upload_is_gone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_locker_written_from_nothing() {
    locker::conformance(async || OwnLocker::default()).await;
}

#[test]
fn a_store_takes_less_than_150_lines() {
    let source = include_str!("../../../landfall/examples/store/store.rs");
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    let lines = source.lines().filter(is_code).count();
    assert!(
        lines < 150,
        "{lines} lines, not counting blank ones and comments"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_store_without_faults() {
    let make = async || FaultStore::new(MemoryStore::new(), Faults::none());
    store::conformance(make).await.assert_complete();
}

#[tokio::test(flavor = "multi_thread")]
async fn forgetful_store_without_crashes() {
    store::conformance(async || PowerLossStore::new(MemoryStore::new()))
        .await
        .assert_complete();
}

#[tokio::test(flavor = "multi_thread")]
async fn recording_sink() {
    sink::conformance(async || {
        let sink = RecordingSink::default();
        let heard = sink.clone();
        let listener = move || {
            let heard = heard.events();
            let heard = heard
                .iter()
                .filter(|event| event.kind != event::EventKind::Progress);
            let ids = heard.map(event::Event::id).collect();
            Box::pin(std::future::ready(ids)) as _
        };
        sink::Subject {
            sink: Arc::new(sink),
            listener: Box::new(listener),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channel() {
    sink::conformance(async || {
        let wants = EventKinds {
            progress: false,
            ..EventKinds::ALL
        };
        let (sink, mut events) = event::channel(wants, 4);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hearing = heard.clone();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                hearing.lock().unwrap().push(event.id());
            }
        });
        let listener = move || {
            let ids = heard.lock().unwrap().clone();
            Box::pin(std::future::ready(ids)) as _
        };
        sink::Subject {
            sink: Arc::new(sink),
            listener: Box::new(listener),
        }
    })
    .await;
}
