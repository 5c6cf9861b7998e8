//! One writer, and readers that don't wait.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use landfall::{
    BoxError, Composer, Config, Handler, LocationStyle,
    event::EventKind,
    hook::{ClientResponse, Decision, Hook, HookPoints, RequestInfo},
    lease::MemoryLocker,
    store::{MemoryStore, Store, file::FileStore},
    upload::{Snapshot, UploadId},
};
use landfall_testkit::{fault::FaultLocker, record::RecordingSink, test_data};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::client::{self, Sent, TestResponse};

const LENGTH: u64 = 100_000;

fn handler(parts: Composer) -> Handler {
    let mut config = Config::new(parts);
    config.location = LocationStyle::Relative;
    Handler::new(config).unwrap()
}

async fn create(handler: &Handler) -> UploadId {
    client::create(handler, Some(LENGTH), None, None)
        .await
        .id()
        .unwrap()
}

async fn offset(handler: &Handler, id: &UploadId) -> u64 {
    client::inspect(handler, id)
        .await
        .number("upload-offset")
        .unwrap()
}

async fn await_offset(handler: &Handler, id: &UploadId, wanted: u64) {
    for _ in 0..500 {
        if offset(handler, id).await == wanted {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("the offset never became {wanted}");
}

/// Starts a writer that has sent the bytes from `start` to `end`, and whose body continues.
async fn writer(
    handler: &Handler,
    id: &UploadId,
    bytes: &Bytes,
    start: u64,
    end: u64,
) -> (mpsc::Sender<Bytes>, JoinHandle<TestResponse>) {
    let writer = begin(handler, id, bytes, start, end).await;
    await_offset(handler, id, end).await;
    writer
}

/// The same, whose bytes needn't have arrived.
async fn begin(
    handler: &Handler,
    id: &UploadId,
    bytes: &Bytes,
    start: u64,
    end: u64,
) -> (mpsc::Sender<Bytes>, JoinHandle<TestResponse>) {
    let (sender, reply) = client::append_in_pieces(handler, id, start, LENGTH - start);
    sender
        .send(bytes.slice(start as usize..end as usize))
        .await
        .unwrap();
    (sender, reply)
}

async fn download(handler: &Handler, id: &UploadId) -> Vec<u8> {
    client::download(handler, id, None).await.bytes
}

/// Each in turn takes the upload from the other; returns how long they waited.
async fn take_over_in_turn(handlers: [&Handler; 2], id: &UploadId) -> Vec<Duration> {
    const STEP: u64 = LENGTH / 10;
    let bytes = test_data::bytes(1, LENGTH as usize);
    let mut took = Vec::new();
    let mut loser = None;
    for turn in 0..9 {
        let start = turn * STEP;
        let begun = Instant::now();
        let handler = handlers[turn as usize % 2];
        let next = begin(handler, id, &bytes, start, start + STEP).await;
        if let Some((_sender, reply)) = loser.replace(next) {
            let reply: TestResponse = timeout(Duration::from_secs(5), reply)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(reply.status, 423, "the loser is to come again");
            took.push(begun.elapsed());
        }
        await_offset(handler, id, start + STEP).await;
    }
    let rest = Sent::plain(bytes.slice(9 * STEP as usize..));
    let last = client::append(handlers[1], id, 9 * STEP, None, &rest).await;
    assert_eq!(last.status, 204);
    assert_eq!(
        download(handlers[0], id).await,
        bytes,
        "bytes got lost or mixed up"
    );
    took.sort();
    took
}

#[tokio::test]
async fn a_newcomer_wins_within_100_ms_in_one_process() {
    let dir = tempfile::tempdir().unwrap();
    for parts in [
        Composer::join(MemoryStore::new()),
        Composer::join(FileStore::new(dir.path()).unwrap()),
    ] {
        let handler = handler(parts);
        let id = create(&handler).await;
        let took = take_over_in_turn([&handler; 2], &id).await;
        assert!(
            took[took.len() / 2] < Duration::from_millis(100),
            "takeovers took {took:?}"
        );
    }
}

#[tokio::test]
async fn a_newcomer_wins_within_a_second_between_processes() {
    let dir = tempfile::tempdir().unwrap();
    let open = |dir: &Path| handler(Composer::join(FileStore::new(dir).unwrap()));
    let (one, other) = (open(dir.path()), open(dir.path()));
    let id = create(&one).await;
    let took = take_over_in_turn([&one, &other], &id).await;
    assert!(
        took[took.len() / 2] < Duration::from_secs(1),
        "takeovers took {took:?}"
    );
}

/// Stores with the locker that can lose leases.
fn losable(store: impl Store) -> (Handler, FaultLocker) {
    let locker = FaultLocker::new(MemoryLocker::new());
    (
        handler(Composer::join(store).with_locker(locker.clone())),
        locker,
    )
}

async fn a_loser_cannot_write(store: impl Store, is_told: bool) {
    let (handler, locker) = losable(store);
    let bytes = test_data::bytes(2, LENGTH as usize);
    let id = create(&handler).await;
    let (loser, reply) = writer(&handler, &id, &bytes, 0, 20_000).await;
    assert!(if is_told {
        locker.lose(&id)
    } else {
        locker.lose_silently(&id)
    });

    let (winner, won) = client::append_in_pieces(&handler, &id, 20_000, LENGTH - 20_000);
    winner.send(bytes.slice(20_000..50_000)).await.unwrap();
    await_offset(&handler, &id, 50_000).await;
    // The previous writer continues with wrong bytes.
    let _ = loser.send(Bytes::from(vec![b'!'; 10_000])).await;
    let reply = timeout(Duration::from_secs(5), reply)
        .await
        .unwrap()
        .unwrap();
    assert!(!reply.is_success(), "the loser got {}", reply.status);
    assert_eq!(
        reply.number("upload-offset"),
        None,
        "the loser acknowledged an offset"
    );
    winner.send(bytes.slice(50_000..)).await.unwrap();
    drop(winner);
    assert_eq!(won.await.unwrap().status, 204);
    assert_eq!(download(&handler, &id).await, bytes, "the loser wrote");
}

#[tokio::test]
async fn a_loser_that_does_not_notice_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    a_loser_cannot_write(MemoryStore::new(), false).await;
    a_loser_cannot_write(FileStore::new(dir.path()).unwrap(), false).await;
}

#[tokio::test]
async fn a_stopped_writer_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    a_loser_cannot_write(MemoryStore::new(), true).await;
    a_loser_cannot_write(FileStore::new(dir.path()).unwrap(), true).await;
}

/// Allows the first completion, whose lease is lost meanwhile, and denies the next.
#[derive(Debug, Clone)]
struct LostThenDenied {
    locker: FaultLocker,
    is_lost: Arc<AtomicBool>,
}

#[async_trait]
impl Hook for LostThenDenied {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_finish: true,
            ..HookPoints::default()
        }
    }

    async fn before_finish(
        &self,
        _request: &RequestInfo,
        upload: &Snapshot,
    ) -> Result<Decision, BoxError> {
        if self.is_lost.swap(true, Ordering::Relaxed) {
            return Ok(Decision::deny(ClientResponse::text(422, "a virus")));
        }
        assert!(self.locker.lose(&upload.upload.id));
        Ok(Decision::allow())
    }
}

#[tokio::test]
async fn a_completion_whose_lease_is_lost_is_decided_again_and_not_told() {
    let store = MemoryStore::new();
    let locker = FaultLocker::new(MemoryLocker::new());
    let hook = LostThenDenied {
        locker: locker.clone(),
        is_lost: Arc::default(),
    };
    let sink = RecordingSink::default();
    let parts = Composer::join(store).with_locker(locker);
    let mut config = Config::new(parts).hook(hook).sink(sink.clone());
    config.location = LocationStyle::Relative;
    let handler = Handler::new(config).unwrap();
    let id = create(&handler).await;
    let all = Sent::plain(test_data::bytes(4, LENGTH as usize));
    let reply = client::append(&handler, &id, 0, None, &all).await;
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(client::inspect_unlocked(&handler, &id).await.status, 422);
    assert_eq!(sink.kinds(&id), [EventKind::Created, EventKind::Terminated]);
}

#[tokio::test]
async fn a_finished_upload_is_read_without_a_lease() {
    let store = MemoryStore::new();
    let locker = Arc::new(store.locker().unwrap());
    let handler = handler(Composer::join(store));
    let bytes = test_data::bytes(4, LENGTH as usize);
    let id = create(&handler).await;
    let all = Sent::plain(bytes.clone());
    assert_eq!(
        client::append(&handler, &id, 0, None, &all).await.status,
        204
    );
    let lease = locker.acquire(&id, Duration::from_secs(1)).await.unwrap();
    let reads = (0..8).map(|_| download(&handler, &id));
    let reads = timeout(
        Duration::from_secs(5),
        futures_util::future::join_all(reads),
    )
    .await;
    assert!(
        reads
            .expect("a reader waited for the lease")
            .iter()
            .all(|read| *read == bytes)
    );
    assert_eq!(offset(&handler, &id).await, LENGTH);
    assert_eq!(
        lease.signal().reason(),
        None,
        "a reader requested the lease"
    );
}
