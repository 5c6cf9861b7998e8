//! The conformance suite of [`EventSink`]: emitted events reach the listener in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use landfall::{
    Composer, Config, Handler,
    event::{Event, EventKind, EventSink},
    store::{MemoryStore, Store as _},
    upload::{Upload, UploadId},
};
use tokio::task::JoinSet;

use crate::{
    check::{Check, checks, run_all},
    engine::client,
    store::{drop_midway, poll_times},
};

/// The ids ([`Event::id`]) of events that have reached the listener, in order.
pub type Listener =
    Box<dyn Fn() -> Pin<Box<dyn Future<Output = Vec<String>> + Send>> + Send + Sync>;

/// A sink and its listener. Progress events are ignored, because they may be dropped.
pub struct Subject {
    /// The sink, which wants at least creations, completions and removals.
    pub sink: Arc<dyn EventSink>,
    /// The events that have reached the listener.
    pub listener: Listener,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject")
            .field("sink", &self.sink)
            .finish_non_exhaustive()
    }
}

/// Runs every check of a sink, each on one made by `make`. Needs a tokio runtime with its timer on.
///
/// # Panics
/// If a check fails: at the end, with the list of all that failed and why.
pub async fn conformance(make: impl AsyncFn() -> Subject) {
    run_all("sink", &all(), make).await.assert_complete();
}

/// The checks, to be run one by one.
pub fn all() -> Vec<Check<Subject>> {
    checks! {
        |_: &Subject| true =>
            events_arrive_in_order,
            a_prepared_event_that_does_not_happen_is_not_emitted,
            preparing_again_changes_nothing,
            an_unprepared_event_is_emitted_too,
            a_dropped_prepare_has_no_effect,
            concurrent_events_of_one_upload_all_arrive,
            dropped_requests_lose_no_event;
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(300);

impl Subject {
    async fn until(&self, ids: &BTreeSet<String>) -> Vec<String> {
        let (mut began, mut last) = (Instant::now(), 0);
        loop {
            let received = (self.listener)().await;
            if received.len() > last {
                (began, last) = (Instant::now(), received.len());
            }
            let missing = ids.iter().filter(|id| !received.contains(id)).count();
            if missing == 0 {
                return received;
            }
            let all = ids.len();
            assert!(began.elapsed() < TIMEOUT, "missing: {missing} of {all}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn receives_only(&self, events: &[&Event]) {
        let ids = events.iter().map(|event| event.id()).collect();
        self.until(&ids).await;
        tokio::time::sleep(SILENCE).await;
        let received = (self.listener)().await;
        let emitted: Vec<_> = events.iter().map(|event| event.id()).collect();
        assert_eq!(received, emitted, "each once, and nothing else");
    }
}

fn upload() -> Arc<Upload> {
    Arc::new(Upload::new(UploadId::random(), Some(5)))
}

fn event(kind: EventKind, upload: &Arc<Upload>) -> Event {
    Event::new(kind, upload.clone(), 0, None)
}

async fn events_arrive_in_order(subject: &Subject) {
    const UPLOADS: usize = 40;
    let record = crate::record::RecordingSink::default();
    let mut config = Config::new(Composer::join(MemoryStore::new())).sink(record.clone());
    config.sinks.push(subject.sink.clone());
    config.location = landfall::LocationStyle::Relative;
    let handler = Handler::new(config).unwrap();
    let mut running = JoinSet::new();
    for _ in 0..UPLOADS {
        let handler = handler.clone();
        running.spawn(async move {
            let id = client::create_empty(&handler, 5).await;
            let body = client::body("hello".into());
            let appended = client::append(&handler, &id, 0, 5, body).await;
            appended.expect(204);
            client::delete(&handler, &id).await.expect(204);
        });
    }
    running.join_all().await;
    let wants = subject.sink.event_kinds();
    let mut emitted = record.events();
    emitted.retain(|event| wants.contains(event.kind) && event.kind != EventKind::Progress);
    let uploads = emitted.into_iter().map(|event| (event.id(), event));
    let uploads: BTreeMap<_, _> = uploads.collect();
    assert_eq!(uploads.len(), 3 * UPLOADS, "it doesn't want all three");
    let received = subject.until(&uploads.keys().cloned().collect()).await;
    let mut last: BTreeMap<UploadId, u64> = BTreeMap::new();
    for id in &received {
        let event = uploads.get(id).expect("an event that happened");
        let before = last.insert(event.upload.id.clone(), event.sequence);
        let is_in_order = before.is_none_or(|before| before < event.sequence);
        assert!(is_in_order, "{:?} came too late", event.kind);
    }
    assert_eq!(received.len(), uploads.len(), "nothing came twice");
}

async fn a_prepared_event_that_does_not_happen_is_not_emitted(subject: &Subject) {
    let (one, other) = (upload(), upload());
    let kinds = [EventKind::Created, EventKind::Completed];
    let never = kinds.map(|kind| event(kind, &one));
    subject.sink.prepare(&never).await.unwrap();
    let prepared = kinds.map(|kind| event(kind, &other));
    subject.sink.prepare(&prepared).await.unwrap();
    subject.sink.emit(prepared[0].clone()).await;
    subject.receives_only(&[&prepared[0]]).await;
}

async fn preparing_again_changes_nothing(subject: &Subject) {
    let upload = upload();
    for _ in 0..3 {
        let again = event(EventKind::Completed, &upload);
        subject.sink.prepare(&[again]).await.unwrap();
    }
    let emitted = event(EventKind::Completed, &upload);
    subject.sink.emit(emitted.clone()).await;
    subject.receives_only(&[&emitted]).await;
}

async fn an_unprepared_event_is_emitted_too(subject: &Subject) {
    let upload = upload();
    let emitted = [EventKind::Created, EventKind::Completed].map(|kind| event(kind, &upload));
    for event in &emitted {
        subject.sink.emit(event.clone()).await;
    }
    subject.receives_only(&emitted.each_ref()).await;
}

async fn a_dropped_prepare_has_no_effect(subject: &Subject) {
    let upload = upload();
    let emitted = [event(EventKind::Created, &upload)];
    for _ in 0..3 {
        let preparing = pin!(subject.sink.prepare(&emitted));
        let _ = poll_times(1, preparing).await;
    }
    subject.sink.prepare(&emitted).await.unwrap();
    let [emitted] = emitted;
    subject.sink.emit(emitted.clone()).await;
    subject.receives_only(&[&emitted]).await;
}

async fn concurrent_events_of_one_upload_all_arrive(subject: &Subject) {
    let upload = upload();
    let kinds = [
        EventKind::Created,
        EventKind::Completed,
        EventKind::Terminated,
    ];
    let events = kinds.map(|kind| event(kind, &upload));
    subject.sink.prepare(&events).await.unwrap();
    let mut telling = JoinSet::new();
    for event in events.clone() {
        let sink = subject.sink.clone();
        telling.spawn(async move { sink.emit(event).await });
    }
    telling.join_all().await;
    let ids = events.iter().map(Event::id).collect();
    let received = subject.until(&ids).await;
    assert_eq!(received.len(), 3);
}

async fn dropped_requests_lose_no_event(subject: &Subject) {
    const UPLOADS: usize = 24;
    let record = crate::record::RecordingSink::default();
    let store = MemoryStore::new();
    let mut config = Config::new(Composer::join(store.clone())).sink(record.clone());
    config.sinks.push(subject.sink.clone());
    let handler = Handler::new(config).unwrap();
    let mut running = JoinSet::new();
    for round in 0..UPLOADS {
        let handler = handler.clone();
        running.spawn(async move {
            let created = client::create(&handler, 5, "hello".into());
            match round % 4 {
                3 => drop(created.await),
                _ => drop(drop_midway(round, created).await),
            }
        });
    }
    running.join_all().await;
    let wants = subject.sink.event_kinds();
    let mut ids = BTreeSet::new();
    for prepared in record.prepared() {
        client::head(&handler, &prepared.upload.id).await;
        let began = Instant::now();
        // A prepared event happens soon, or never.
        while store.load(&prepared.upload.id).await.is_err() && began.elapsed() < SILENCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let Ok(found) = store.load(&prepared.upload.id).await else {
            continue;
        };
        let has_happened = prepared.kind == EventKind::Created || found.upload.completion.is_done();
        if has_happened && wants.contains(prepared.kind) {
            ids.insert(prepared.id());
        }
    }
    assert!(!ids.is_empty(), "no request had an effect");
    subject.until(&ids).await;
}
