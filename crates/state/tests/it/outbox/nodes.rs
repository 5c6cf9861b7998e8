//! Resolution, several nodes, and database outages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use landfall::{
    Composer, Handler,
    event::{EventKind, EventSink},
    lease::Fence,
    store::{
        MemoryStore, Store as _,
        file::{FileOptions, FileStore},
    },
    upload::Completion,
};
use landfall_hooks::HookName;
use landfall_state::outbox::{EventState, Outbox, OutboxSettings};
use landfall_state::sql::{Clock, Database};
use landfall_test_services::until;
use tokio::time::timeout;

use super::harness::{
    Harness, Receiver, assert_in_order, event, in_states, on_each_database, prepare_and_emit,
    route, upload,
};

/// Creates a complete upload.
async fn whole_upload(handler: &Handler) {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/files/")
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Length", "5")
        .header("Content-Type", "application/offset+octet-stream");
    let body: Full<Bytes> = "hello".into();
    let response = handler.handle(request.body(body).unwrap()).await;
    assert_eq!(response.status(), 201);
}

/// Two nodes prepare the completion of an upload, the second one dies before it, and the first one completes it.
#[tokio::test(flavor = "multi_thread")]
async fn event_that_another_node_also_prepared_is_not_lost_when_that_node_dies() {
    on_each_database(async |database| {
        let one = Harness::start(database.settings()).await;
        let mut settings = database.settings();
        settings.resolve_after = Duration::ZERO;
        let other = Harness::start(settings).await;
        let upload = upload();
        let completion = || event(EventKind::Completed, &upload);
        one.outbox.prepare(&[completion()]).await.unwrap();
        other.outbox.prepare(&[completion()]).await.unwrap();
        // As when it dies: another node finds out that the upload is not complete.
        other.outbox.close().await;
        let (events, prepared) = (one.outbox.events(), in_states(&[EventState::Prepared]));
        until(async || events.list(&prepared).await.unwrap().is_empty()).await;
        one.outbox.emit(completion()).await;
        one.receiver.until(1).await;
        one.outbox.close().await;
    })
    .await;
}

/// A request on one node does not complete an upload, nor does one on another node, whose event is resolved. Then the
/// first node completes it, and is killed before it emits the event.
#[tokio::test(flavor = "multi_thread")]
async fn event_prepared_again_is_stored_after_another_node_has_resolved_it() {
    on_each_database(async |database| {
        let mut settings = database.settings();
        settings.presence_dir = None;
        let open = || Outbox::open(settings.clone(), vec![route(&Arc::default())]);
        let (one, other) = (open().await.unwrap(), open().await.unwrap());
        let store = MemoryStore::new();
        let mut unfinished = (*upload()).clone();
        unfinished.completion = Completion::Pending;
        let unfinished = store.create(unfinished).await.unwrap();
        let completion = || event(EventKind::Completed, &unfinished);
        one.prepare(&[completion()]).await.unwrap();
        other.prepare(&[completion()]).await.unwrap();
        other.close().await;
        let receiver = Arc::<Receiver>::default();
        let parts = Composer::join(store.clone());
        let third = Harness::start_with(settings.clone(), receiver.clone(), parts).await;
        let (events, prepared) = (one.events(), in_states(&[EventState::Prepared]));
        until(async || events.list(&prepared).await.unwrap().is_empty()).await;

        one.prepare(&[completion()]).await.unwrap();
        let (_, mut append) = store.resume(&unfinished.id, Fence(1)).await.unwrap();
        append.write(&mut vec!["hello".into()]).await.unwrap();
        assert_eq!(append.commit().await.unwrap(), 5);
        drop(append);
        one.close().await;
        let delivered = timeout(Duration::from_secs(30), receiver.until(1)).await;
        assert_eq!(
            delivered.expect("the event is lost")[0].hook,
            HookName::PostFinish
        );
        third.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_event_that_did_not_happen_is_deleted() {
    on_each_database(async |database| {
        let mut settings = database.settings();
        settings.resolve_after = Duration::from_millis(100);
        let harness = Harness::start(settings).await;
        let never = upload();
        let announced = event(EventKind::Completed, &never);
        harness.outbox.prepare(&[announced]).await.unwrap();
        harness.until_idle().await;
        // It can still happen later.
        harness
            .prepare_and_emit(&never, &[EventKind::Created, EventKind::Completed])
            .await;
        assert_in_order(&harness.receiver.until(2).await);
        harness.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_one_upload_resolve_without_delay_after_a_crash() {
    on_each_database(async |database| {
        let dir = tempfile::tempdir().unwrap();
        let mut options = FileOptions::default();
        // Leases are then held for a while.
        options.always_on_threads = true;
        let store = FileStore::open(dir.path(), options).unwrap();
        let killed = Outbox::open(database.settings(), vec![route(&Arc::default())]);
        let killed = killed.await.unwrap();
        const UPLOADS: usize = 20;
        for _ in 0..UPLOADS {
            let mut finished = (*upload()).clone();
            finished.completion = Completion::Done(None);
            let finished = store.create(finished).await.unwrap();
            let happened = [EventKind::Created, EventKind::Completed];
            let happened = happened.map(|kind| event(kind, &finished));
            killed.prepare(&happened).await.unwrap();
        }
        killed.close().await;

        // Far less than the delay after which a busy event is resolved again.
        let harness =
            Harness::start_with(database.settings(), Arc::default(), Composer::join(store)).await;
        let told = timeout(Duration::from_secs(30), harness.receiver.until(2 * UPLOADS)).await;
        assert_in_order(&told.expect("an event waits for long"));
        harness.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn event_of_a_briefly_busy_upload_resolves_soon() {
    on_each_database(async |database| {
        let parts = Composer::join(MemoryStore::new());
        let mut finished = (*upload()).clone();
        finished.completion = Completion::Done(None);
        let finished = parts.store().create(finished).await.unwrap();
        let killed = Outbox::open(database.settings(), vec![route(&Arc::default())]);
        let killed = killed.await.unwrap();
        let announced = [event(EventKind::Completed, &finished)];
        killed.prepare(&announced).await.unwrap();
        killed.close().await;

        let lease = parts.locker().try_acquire(&finished.id).await.unwrap();
        let harness = Harness::start_with(database.settings(), Arc::default(), parts.clone()).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(harness.receiver.ids().len(), 0);
        drop(lease);
        let told = timeout(Duration::from_secs(30), harness.receiver.until(1)).await;
        told.expect("the event waits for long");
        harness.close().await;
    })
    .await;
}

/// Starts two nodes with one store and one receiver, without presence files.
async fn two(settings: &OutboxSettings, receiver: &Arc<Receiver>) -> (Harness, Harness) {
    let parts = Composer::join(MemoryStore::new());
    let mut blind = settings.clone();
    blind.presence_dir = None;
    let one = Harness::start_with(blind.clone(), receiver.clone(), parts.clone()).await;
    let other = Harness::start_with(blind, receiver.clone(), parts).await;
    (one, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_from_several_nodes_stay_in_order() {
    on_each_database(async |database| {
        let receiver = Arc::new(Receiver::default());
        receiver.fails_each.store(5, Ordering::Relaxed);
        let (one, other) = two(&database.settings(), &receiver).await;
        let nodes = [&one, &other];
        let work = (0..300).map(async |n: usize| {
            let upload = upload();
            nodes[n % 2]
                .prepare_and_emit(&upload, &[EventKind::Created])
                .await;
            nodes[(n + 1) % 2]
                .prepare_and_emit(&upload, &[EventKind::Completed])
                .await;
            // The state in the store by then.
            let mut finished = (*upload).clone();
            finished.completion = Completion::Done(None);
            nodes[n % 2]
                .prepare_and_emit(&Arc::new(finished), &[EventKind::Terminated])
                .await;
        });
        futures_util::future::join_all(work).await;
        assert_in_order(&receiver.until(900).await);
        one.close().await;
        other.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_silent_node_are_taken_over() {
    on_each_database(async |database| {
        let receiver = Arc::new(Receiver::default());
        let mut settings = database.settings();
        settings.node_timeout = Duration::from_secs(3);
        settings.resolve_after = Duration::from_millis(500);
        settings.presence_dir = None;
        let parts = Composer::join(MemoryStore::new());
        receiver.set_down(true);

        // The node ends with its runtime, without any shutdown.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (first, hers) = (parts.clone(), receiver.clone());
        let theirs = settings.clone();
        let begun = runtime.spawn(async move {
            let harness = Harness::start_with(theirs, hers, first).await;
            for _ in 0..20 {
                whole_upload(&harness.handler).await;
            }
            let stuck = upload();
            let never = event(EventKind::Completed, &stuck);
            harness.outbox.prepare(&[never]).await.unwrap();
            harness
        });
        let gone = begun.await.unwrap();
        runtime.shutdown_background();

        let other = Harness::start_with(settings, receiver.clone(), parts).await;
        receiver.set_down(false);
        let received = other.receiver.until(40).await;
        assert_in_order(&received);
        other.until_idle().await;
        assert_eq!(receiver.until(40).await.len(), received.len());
        drop(gone);
        other.close().await;
    })
    .await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn postgres_outage_loses_no_event() {
    let mut postgres = landfall_test_services::Postgres::start(true);
    let url = postgres.database("outbox");
    let mut settings = OutboxSettings::new(Database::Postgres(url));
    settings.retry.min_backoff = Duration::from_millis(10);
    settings.write_timeout = Duration::from_secs(3);
    let harness = Harness::start(settings).await;
    let before: Vec<_> = (0..50).map(|_| upload()).collect();
    harness.receiver.set_down(true);
    for upload in &before {
        harness
            .prepare_and_emit(upload, &[EventKind::Created])
            .await;
    }
    let running = upload();
    let end = event(EventKind::Completed, &running);
    harness
        .outbox
        .prepare(std::slice::from_ref(&end))
        .await
        .unwrap();
    postgres.stop();

    // Once the outage is known, requests do not wait. Any statement may be the one that meets it.
    let began = Instant::now();
    loop {
        let start = Instant::now();
        let created = [event(EventKind::Created, &upload())];
        let refused = harness.outbox.prepare(&created);
        let refused = refused.await.unwrap_err().to_string();
        if refused.starts_with("the database is down: ") {
            assert!(
                start.elapsed() < Duration::from_secs(1),
                "{:?}",
                start.elapsed()
            );
            break;
        }
        assert_eq!(refused, "the database did not store the event within 3s");
        assert!(began.elapsed() < Duration::from_secs(30), "{refused}");
    }
    // Prepared events happen, and are delivered when the database is back.
    harness.outbox.emit(end).await;
    harness.receiver.set_down(false);
    postgres.restart();
    assert_in_order(&harness.receiver.until(51).await);
    let next = [event(EventKind::Created, &upload())];
    until(async || harness.outbox.prepare(&next).await.is_ok()).await;
    harness.close().await;
}

/// Reads the files of an SQLite database.
fn written(database: &Database) -> Vec<u8> {
    let Database::Sqlite(path) = database else {
        panic!("it is no file")
    };
    let mut log = path.clone().into_os_string();
    log.push("-wal");
    [path.clone().into_os_string(), log]
        .iter()
        .flat_map(|file| std::fs::read(file).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_outbox_does_not_write() {
    let database = super::harness::TestDatabase::sqlite();
    let harness = Harness::start(database.settings()).await;
    harness
        .prepare_and_emit(&upload(), &[EventKind::Created])
        .await;
    harness.receiver.until(1).await;
    harness.until_idle().await;
    let before = written(&database.database);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(
        before == written(&database.database),
        "an idle outbox wrote"
    );
    harness.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_without_presence_directory_is_evicted_after_its_lease() {
    on_each_database(async |database| {
        let mut settings = database.settings();
        settings.presence_dir = None;
        let moved = Arc::new(AtomicU64::new(0));
        let (start, seconds) = (SystemTime::now(), moved.clone());
        settings.clock = Some(Clock::new(move || {
            start + Duration::from_secs(seconds.load(Ordering::SeqCst))
        }));
        // The node has claimed an event, and then stays silent.
        let silent = Outbox::open(settings.clone(), vec![route(&Arc::default())]);
        let silent = silent.await.unwrap();
        prepare_and_emit(&silent, event(EventKind::Created, &upload())).await;
        let other = Harness::start(settings).await;
        for second in 0..=10 {
            moved.store(second, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(other.receiver.ids().len(), 0, "it may be alive still");
        moved.store(14, Ordering::SeqCst);
        other.receiver.until(1).await;
        other.close().await;
    })
    .await;
}
