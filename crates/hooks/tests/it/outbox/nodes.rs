//! Settling, several nodes, and a database that goes away.

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
    store::{
        MemoryStore, Store as _,
        file::{FileOptions, FileStore},
    },
    upload::Completion,
};
use landfall_hooks::outbox::{Clock, Database, Outbox, OutboxSettings};
use tokio::time::timeout;

use super::site::{Receiver, Site, assert_in_order, event, everywhere, route, upload};

/// An upload that is complete.
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

#[tokio::test(flavor = "multi_thread")]
async fn what_never_came_true_is_forgotten() {
    everywhere(async |place| {
        let mut settings = place.settings();
        settings.settle_after = Duration::from_millis(100);
        let site = Site::start(settings).await;
        let never = upload();
        let announced = event(EventKind::Completed, &never);
        site.outbox.prepare(&[announced]).await.unwrap();
        let began = Instant::now();
        while site.outbox.stats().rows > 0 {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "{:?}",
                site.outbox.stats()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // It can come true later all the same.
        site.announce_and_tell(&never, &[EventKind::Created, EventKind::Completed])
            .await;
        assert_in_order(&site.receiver.until(2).await);
        site.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_one_upload_do_not_delay_each_other_after_a_kill() {
    everywhere(async |place| {
        let dir = tempfile::tempdir().unwrap();
        let mut options = FileOptions::default();
        // Each lease is then held for a while.
        options.always_on_threads = true;
        let store = FileStore::open(dir.path(), options).unwrap();
        let killed = Outbox::open(place.settings(), vec![route(&Arc::default())]);
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

        // Far less than the time after which an event that is found busy is settled again.
        let site = Site::beside(place.settings(), Arc::default(), Composer::join(store)).await;
        let told = timeout(Duration::from_secs(30), site.receiver.until(2 * UPLOADS)).await;
        assert_in_order(&told.expect("an event waits for long"));
        site.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_an_upload_that_was_busy_for_a_moment_comes_soon() {
    everywhere(async |place| {
        let parts = Composer::join(MemoryStore::new());
        let mut finished = (*upload()).clone();
        finished.completion = Completion::Done(None);
        let finished = parts.get_store().create(finished).await.unwrap();
        let killed = Outbox::open(place.settings(), vec![route(&Arc::default())]);
        let killed = killed.await.unwrap();
        let announced = [event(EventKind::Completed, &finished)];
        killed.prepare(&announced).await.unwrap();
        killed.close().await;

        let lease = parts.get_locker().try_acquire(&finished.id).await.unwrap();
        let site = Site::beside(place.settings(), Arc::default(), parts.clone()).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(site.receiver.ids().len(), 0);
        drop(lease);
        let told = timeout(Duration::from_secs(30), site.receiver.until(1)).await;
        told.expect("the event waits for long");
        site.close().await;
    })
    .await;
}

/// Two nodes on one store and one receiver; the first has nothing to show that it lives but time.
async fn two(settings: &OutboxSettings, receiver: &Arc<Receiver>) -> (Site, Site) {
    let parts = Composer::join(MemoryStore::new());
    let mut blind = settings.clone();
    blind.presence = None;
    let one = Site::beside(blind.clone(), receiver.clone(), parts.clone()).await;
    let other = Site::beside(blind, receiver.clone(), parts).await;
    (one, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_change_nodes_stay_in_order() {
    everywhere(async |place| {
        let receiver = Arc::new(Receiver::default());
        receiver
            .fails_each
            .store(5, std::sync::atomic::Ordering::Relaxed);
        let (one, other) = two(&place.settings(), &receiver).await;
        let nodes = [&one, &other];
        let work = (0..300).map(async |n: usize| {
            let upload = upload();
            nodes[n % 2]
                .announce_and_tell(&upload, &[EventKind::Created])
                .await;
            nodes[(n + 1) % 2]
                .announce_and_tell(&upload, &[EventKind::Completed])
                .await;
            // As it is in the store by then.
            let mut finished = (*upload).clone();
            finished.completion = Completion::Done(None);
            nodes[n % 2]
                .announce_and_tell(&Arc::new(finished), &[EventKind::Terminated])
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
async fn a_node_that_falls_silent_is_succeeded() {
    everywhere(async |place| {
        let receiver = Arc::new(Receiver::default());
        let mut settings = place.settings();
        settings.node_timeout = Duration::from_secs(3);
        settings.settle_after = Duration::from_millis(500);
        settings.presence = None;
        let parts = Composer::join(MemoryStore::new());
        receiver.set_down(true);

        // A runtime that ends takes the node with it, in the middle of everything.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (first, hers) = (parts.clone(), receiver.clone());
        let theirs = settings.clone();
        let begun = runtime.spawn(async move {
            let site = Site::beside(theirs, hers, first).await;
            for _ in 0..20 {
                whole_upload(&site.handler).await;
            }
            let stuck = upload();
            let never = event(EventKind::Completed, &stuck);
            site.outbox.prepare(&[never]).await.unwrap();
            site
        });
        let gone = begun.await.unwrap();
        runtime.shutdown_background();

        let other = Site::beside(settings, receiver.clone(), parts).await;
        receiver.set_down(false);
        let arrived = other.receiver.until(40).await;
        assert_in_order(&arrived);
        let began = Instant::now();
        while other.outbox.stats().rows > 0 {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "{:?}",
                other.outbox.stats()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(receiver.until(40).await.len(), arrived.len());
        drop(gone);
        other.close().await;
    })
    .await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn postgres_may_go_away() {
    let mut postgres = landfall_test_services::Postgres::start(true);
    let url = postgres.database("outbox");
    let mut settings = OutboxSettings::new(Database::Postgres(url));
    settings.first_wait = Duration::from_millis(10);
    settings.patience = Duration::from_secs(3);
    let site = Site::start(settings).await;
    let before: Vec<_> = (0..50).map(|_| upload()).collect();
    site.receiver.set_down(true);
    for upload in &before {
        site.announce_and_tell(upload, &[EventKind::Created]).await;
    }
    let running = upload();
    let end = event(EventKind::Completed, &running);
    site.outbox
        .prepare(std::slice::from_ref(&end))
        .await
        .unwrap();
    postgres.stop();

    let refused = site
        .outbox
        .prepare(&[event(EventKind::Created, &upload())])
        .await;
    let refused = refused.unwrap_err().to_string();
    assert_eq!(
        refused,
        "the database didn't keep an announcement within 3s"
    );
    // What had been announced happens, and is told when the database is back.
    site.outbox.emit(end).await;
    site.receiver.set_down(false);
    postgres.restart();
    assert_in_order(&site.receiver.until(51).await);
    let began = Instant::now();
    while site
        .outbox
        .prepare(&[event(EventKind::Created, &upload())])
        .await
        .is_err()
    {
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    site.close().await;
}

/// The bytes of an SQLite database and of its log.
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
async fn an_idle_outbox_writes_nothing_for_minutes() {
    let place = super::site::Place::sqlite();
    let site = Site::start(place.settings()).await;
    site.announce_and_tell(&upload(), &[EventKind::Created])
        .await;
    site.receiver.until(1).await;
    let began = Instant::now();
    while site.outbox.stats().rows > 0 {
        assert!(began.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = written(&place.database);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(before == written(&place.database), "an idle outbox wrote");
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_presence_folder_is_succeeded_after_13_seconds() {
    everywhere(async |place| {
        let mut settings = place.settings();
        settings.presence = None;
        let moved = Arc::new(AtomicU64::new(0));
        let (start, seconds) = (SystemTime::now(), moved.clone());
        settings.clock = Some(Clock::new(move || {
            start + Duration::from_secs(seconds.load(Ordering::SeqCst))
        }));
        // It has claimed an event, and is never heard of again.
        let silent = Outbox::open(settings.clone(), vec![route(&Arc::default())]);
        let silent = silent.await.unwrap();
        let created = event(EventKind::Created, &upload());
        silent
            .prepare(std::slice::from_ref(&created))
            .await
            .unwrap();
        silent.emit(created).await;
        let other = Site::start(settings).await;
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
