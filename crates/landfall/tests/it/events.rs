//! An effect and its event are one unit, whatever becomes of the request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use http_body_util::{Empty, Full};
use landfall::{
    BoxError, Composer, Config, Handler,
    event::{ChannelSink, Event, EventKind, EventKinds, EventSink, EventStream, channel},
    hook::ClientResponse,
    store::MemoryStore,
    upload::UploadId,
};
use tokio::{sync::Semaphore, task::yield_now, time::timeout};

use crate::harness::DATA;

/// A sink that takes an event when the test lets it.
#[derive(Debug, Clone)]
struct SlowSink {
    entered: Arc<Semaphore>,
    take: Arc<Semaphore>,
    taken: Arc<std::sync::Mutex<Vec<EventKind>>>,
}

impl SlowSink {
    fn new() -> Self {
        Self {
            entered: Arc::new(Semaphore::new(0)),
            take: Arc::new(Semaphore::new(0)),
            taken: Arc::default(),
        }
    }

    async fn takes(&self, kind: EventKind) {
        self.take.add_permits(1);
        while self.taken.lock().unwrap().last() != Some(&kind) {
            yield_now().await;
        }
    }
}

#[async_trait]
impl EventSink for SlowSink {
    fn event_kinds(&self) -> EventKinds {
        EventKinds::ALL
    }

    async fn emit(&self, event: Event) {
        self.entered.add_permits(1);
        self.take.acquire().await.unwrap().forget();
        self.taken.lock().unwrap().push(event.kind);
    }

    fn emit_progress(&self, _: Event) {}
}

fn handler(sink: impl EventSink) -> Handler {
    Handler::new(Config::new(Composer::join(MemoryStore::new())).sink(sink)).unwrap()
}

fn post(length: u64, content: &'static str) -> Request<Full<Bytes>> {
    let request = Request::post("/files/")
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Length", length);
    let request = match content {
        "" => request,
        _ => request.header("Content-Type", DATA),
    };
    request.body(Full::from(content)).unwrap()
}

async fn create(handler: &Handler) -> UploadId {
    let response = handler.handle(post(5, "")).await;
    assert_eq!(response.status(), 201);
    let location = response.headers()["location"].to_str().unwrap();
    UploadId::new(location.rsplit('/').next().unwrap()).unwrap()
}

async fn answer(handler: &Handler, request: Request<Full<Bytes>>) -> u16 {
    handler.handle(request).await.status().as_u16()
}

#[tokio::test]
async fn a_dropped_request_emits_the_events_of_its_effects() {
    let sink = SlowSink::new();
    let handler = handler(sink.clone());
    let dropped = async |request: Request<Full<Bytes>>| {
        let task = tokio::spawn({
            let handler = handler.clone();
            async move { answer(&handler, request).await }
        });
        sink.entered.acquire().await.unwrap().forget();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    };
    dropped(post(5, "")).await;
    sink.takes(EventKind::Created).await;
    // With its bytes: the creation is emitted, and nothing else has happened yet.
    dropped(post(5, "hello")).await;
    sink.takes(EventKind::Created).await;

    sink.take.add_permits(1);
    let id = create(&handler).await;
    sink.entered.acquire().await.unwrap().forget();
    let path = format!("/files/{id}");
    let patch = Request::patch(&path)
        .header("Tus-Resumable", "1.0.0")
        .header("Content-Type", DATA)
        .header("Upload-Offset", 0);
    dropped(patch.body(Full::from("hello")).unwrap()).await;
    sink.takes(EventKind::Completed).await;
    let delete = Request::delete(&path).header("Tus-Resumable", "1.0.0");
    dropped(delete.body(Full::default()).unwrap()).await;
    sink.takes(EventKind::Terminated).await;
    assert!(handler.get(&id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_stopped_upload_is_removed_and_emitted_though_its_request_is_dropped() {
    let sink = SlowSink::new();
    let (progress, mut progressed) = progress_channel();
    let config = Config::new(Composer::join(MemoryStore::new()));
    let mut config = config.sink(sink.clone()).sink(progress);
    config.progress_interval = Duration::from_millis(50);
    let handler = Handler::new(config).unwrap();
    sink.take.add_permits(1);
    let id = create(&handler).await;
    sink.entered.acquire().await.unwrap().forget();
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<_, BoxError>>(1);
    let body = http_body_util::StreamBody::new(Frames(receiver));
    let request = Request::patch(format!("/files/{id}"))
        .header("Tus-Resumable", "1.0.0")
        .header("Content-Type", DATA)
        .header("Upload-Offset", 0)
        .body(body)
        .unwrap();
    let task = tokio::spawn({
        let handler = handler.clone();
        async move { handler.handle(request).await.status() }
    });
    let frame = http_body::Frame::data(Bytes::from_static(b"he"));
    sender.send(Ok(frame)).await.unwrap();
    let event = progressed.next().await.unwrap();
    event.stop(ClientResponse::default());
    sink.entered.acquire().await.unwrap().forget();
    task.abort();
    sink.takes(EventKind::Terminated).await;
    assert!(handler.get(&id).await.unwrap().is_none());
}

fn progress_channel() -> (ChannelSink, EventStream) {
    let kinds = EventKinds {
        progress: true,
        ..EventKinds::NONE
    };
    channel(kinds, 16)
}

/// The frames of a body that comes bit by bit.
struct Frames(tokio::sync::mpsc::Receiver<Result<http_body::Frame<Bytes>, BoxError>>);

impl futures_core::Stream for Frames {
    type Item = Result<http_body::Frame<Bytes>, BoxError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

async fn drain(events: &mut EventStream) -> Vec<EventKind> {
    let mut kinds = Vec::new();
    while let Ok(Some(event)) = timeout(Duration::from_millis(50), events.next()).await {
        kinds.push(event.kind);
    }
    kinds
}

#[tokio::test]
async fn a_full_stream_fails_requests_before_they_change_anything() {
    let (sink, mut events) = channel(EventKinds::ALL, 1);
    let handler = handler(sink.timeout(Duration::from_millis(50)));
    let id = create(&handler).await;
    // The stream is full, and no task polls it.
    assert_eq!(answer(&handler, post(5, "")).await, 503);
    assert_eq!(answer(&handler, post(5, "hello")).await, 503);
    let path = format!("/files/{id}");
    let delete = || {
        let request = Request::delete(&path).header("Tus-Resumable", "1.0.0");
        request.body(Full::default()).unwrap()
    };
    assert_eq!(answer(&handler, delete()).await, 503);
    let patch = |offset: u64, content: &'static str| {
        let request = Request::patch(&path)
            .header("Tus-Resumable", "1.0.0")
            .header("Content-Type", DATA)
            .header("Upload-Offset", offset);
        request.body(Full::from(content)).unwrap()
    };
    // An effect without an event is possible.
    assert_eq!(answer(&handler, patch(0, "hell")).await, 204);
    assert_eq!(answer(&handler, patch(4, "o")).await, 503);
    assert_eq!(drain(&mut events).await, [EventKind::Created]);

    // The client repeats its last request, and the completion is emitted.
    assert_eq!(answer(&handler, patch(5, "")).await, 204);
    assert_eq!(drain(&mut events).await, [EventKind::Completed]);
    assert_eq!(answer(&handler, delete()).await, 204);
    assert_eq!(drain(&mut events).await, [EventKind::Terminated]);
    drop(events);
    create(&handler).await;
    assert_eq!(answer(&handler, post(5, "hello")).await, 201);
}

#[tokio::test]
async fn nothing_is_reserved_for_a_request_that_is_dropped_while_it_waits() {
    let (sink, mut events) = channel(EventKinds::ALL, 1);
    let handler = handler(sink);
    create(&handler).await;
    for content in ["", "hello"] {
        let request = handler.handle(post(5, content));
        assert!(timeout(Duration::from_millis(20), request).await.is_err());
    }
    assert_eq!(drain(&mut events).await, [EventKind::Created]);
    let options = Request::options("/files/").body(Empty::<Bytes>::new());
    handler.handle(options.unwrap()).await;
    create(&handler).await;
    assert_eq!(drain(&mut events).await, [EventKind::Created]);
}

/// A sink that cannot record the first events that it is given.
#[derive(Debug, Clone)]
struct FailingSink(Arc<AtomicUsize>);

#[async_trait]
impl EventSink for FailingSink {
    fn event_kinds(&self) -> EventKinds {
        EventKinds::ALL
    }

    async fn record(&self, _: &Event) -> Result<(), BoxError> {
        let failing = self
            .0
            .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        match failing {
            Ok(_) => Err("the database is down".into()),
            Err(_) => Ok(()),
        }
    }

    async fn emit(&self, _: Event) {}

    fn emit_progress(&self, _: Event) {}
}

#[tokio::test(start_paused = true)]
async fn an_event_is_emitted_once_it_is_recorded() {
    let failing = FailingSink(Arc::new(AtomicUsize::new(20)));
    let (sink, mut events) = channel(EventKinds::ALL, 16);
    let parts = Composer::join(MemoryStore::new());
    let config = Config::new(parts).sink(sink).sink(failing.clone());
    let handler = Handler::new(config).unwrap();
    let id = create(&handler).await;
    let early = timeout(Duration::from_millis(1), events.next()).await;
    assert!(early.is_err(), "emitted before it was recorded");
    let event = timeout(Duration::from_secs(600), events.next()).await;
    let event = event.expect("the event is lost").unwrap();
    assert_eq!((event.kind, &event.upload.id), (EventKind::Created, &id));
    assert_eq!(failing.0.load(SeqCst), 0);
    let twice = timeout(Duration::from_secs(3600), events.next()).await;
    assert!(twice.is_err(), "emitted twice");
}

/// Completes an upload in a store.
async fn complete(handler: &Handler) -> UploadId {
    let response = handler.handle(post(5, "hello")).await;
    assert_eq!(response.status(), 201);
    let location = response.headers()["location"].to_str().unwrap();
    UploadId::new(location.rsplit('/').next().unwrap()).unwrap()
}

const COMPLETED: EventKinds = EventKinds {
    completed: true,
    ..EventKinds::NONE
};

fn listening(store: &MemoryStore, capacity: usize) -> (Handler, EventStream) {
    let (sink, events) = channel(COMPLETED, capacity);
    let sink = sink.timeout(Duration::from_millis(50));
    let handler = Handler::new(Config::new(store.clone()).sink(sink));
    (handler.unwrap(), events)
}

#[tokio::test(start_paused = true)]
async fn a_completion_is_emitted_after_each_start_until_it_is_acknowledged() {
    let store = MemoryStore::new();
    let (handler, mut events) = listening(&store, 16);
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..5 {
        ids.insert(complete(&handler).await);
    }
    let first = events.next().await.unwrap();
    assert!(!first.redelivered);
    first.acknowledge().await.unwrap();
    first.clone().acknowledge().await.unwrap();
    ids.remove(&first.upload.id);
    drop((handler, events, first));

    // More than fit into the stream.
    for _ in 0..2 {
        let (handler, mut events) = listening(&store, 2);
        let mut found = std::collections::BTreeSet::new();
        while found.len() < ids.len() {
            let event = timeout(Duration::from_secs(600), events.next()).await;
            let event = event.expect("a completion is lost").unwrap();
            assert!(event.redelivered && event.kind == EventKind::Completed);
            assert_eq!(event.offset, 5);
            assert!(found.insert(event.upload.id.clone()), "emitted twice");
        }
        assert_eq!(found, ids);
        drop(handler);
    }
    let (handler, mut events) = listening(&store, 16);
    for _ in 0..ids.len() {
        events.next().await.unwrap().acknowledge().await.unwrap();
    }
    drop((handler, events));
    let (_handler, mut events) = listening(&store, 16);
    let again = timeout(Duration::from_secs(3600), events.next()).await;
    assert!(again.is_err(), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn each_sink_acknowledges() {
    let store = MemoryStore::new();
    let sinks = |config: Config| {
        let (one, events) = channel(COMPLETED, 16);
        let (other, others) = channel(COMPLETED, 16);
        let (display, seen) = channel(EventKinds::ALL, 16);
        let display = display.without_acknowledgement();
        let config = config.sink(one).sink(other).sink(display);
        (Handler::new(config).unwrap(), events, others, seen)
    };
    let (handler, mut events, mut others, mut seen) = sinks(Config::new(store.clone()));
    complete(&handler).await;
    events.next().await.unwrap().acknowledge().await.unwrap();
    let missed = others.next().await.unwrap();
    assert!(drain(&mut seen).await.contains(&EventKind::Completed));
    drop((missed, handler, events, others));

    let (_handler, mut events, mut others, mut seen) = sinks(Config::new(store.clone()));
    others.next().await.unwrap().acknowledge().await.unwrap();
    // The other sink may get it twice, one that does not acknowledge does not.
    let twice = events.next().await.unwrap();
    assert!(drain(&mut seen).await.is_empty());
    twice.acknowledge().await.unwrap();
    let (_handler, mut events, ..) = sinks(Config::new(store));
    assert!(drain(&mut events).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_removed_upload_is_acknowledged() {
    let store = MemoryStore::new();
    let (handler, mut events) = listening(&store, 16);
    let id = complete(&handler).await;
    let event = events.next().await.unwrap();
    assert!(handler.remove(&id).await.unwrap());
    event.acknowledge().await.unwrap();
    let (_handler, mut events) = listening(&store, 16);
    assert!(drain(&mut events).await.is_empty());
}
