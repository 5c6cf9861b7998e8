//! Progress, and its order with other events.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use landfall::{
    event::{Event, EventKind, EventSink},
    hook::{Hook, RequestInfo},
    upload::{Snapshot, Upload},
};
use landfall_hooks::{
    BlockingHooks, Creations, DeliveryError, FailureMode, HookName, HookNames, HookResponse,
    Message, ProgressNotifier, Route, Transport,
};
use landfall_test_services::until;
use tokio::sync::Semaphore;

use super::harness::{Receiver, Running, TestDatabase, event, upload};

/// A receiver whose calls wait for permits.
#[derive(Debug)]
struct Gate {
    receiver: Arc<Receiver>,
    open: Semaphore,
    calls: Mutex<Vec<u64>>,
    at_once: AtomicUsize,
}

#[async_trait]
impl Transport for Gate {
    fn name(&self) -> &str {
        "http"
    }

    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        if message.hook == HookName::PostReceive {
            assert_eq!(
                self.at_once.fetch_add(1, Ordering::Relaxed),
                0,
                "one at a time"
            );
            self.calls.lock().unwrap().push(message.upload.offset);
            self.open.acquire().await.unwrap().forget();
            self.at_once.fetch_sub(1, Ordering::Relaxed);
        }
        self.receiver.received.lock().unwrap().push(message.clone());
        Ok(HookResponse::default())
    }
}

fn gate() -> (Arc<Gate>, ProgressNotifier) {
    let gate = Arc::new(Gate {
        receiver: Arc::default(),
        open: Semaphore::new(0),
        calls: Mutex::default(),
        at_once: AtomicUsize::new(0),
    });
    let route = Route {
        transport: gate.clone(),
        names: HookNames::DEFAULT,
    };
    (
        gate,
        ProgressNotifier::new(vec![route], Creations::default()),
    )
}

fn progress(upload: &Arc<Upload>, offset: u64) -> Event {
    Event::new(EventKind::Progress, upload.clone(), offset, None)
}

#[tokio::test]
async fn next_call_has_the_latest_progress() {
    let (gate, sink) = gate();
    assert!(sink.event_kinds().progress && !sink.event_kinds().created);
    let upload = upload();
    for offset in 1..=4 {
        sink.emit_progress(progress(&upload, offset));
    }
    until(async || !gate.calls.lock().unwrap().is_empty()).await;
    gate.open.add_permits(9);
    sink.wait_idle(upload.id.as_str()).await;
    let (first, last) = (1, 4);
    let calls = gate.calls.lock().unwrap().clone();
    assert!(calls == [first, last] || calls == [last], "{calls:?}");
    assert_eq!(sink.stats().delivered, calls.len() as u64);

    // Discarded progress is not sent.
    gate.open.forget_permits(9);
    gate.calls.lock().unwrap().clear();
    sink.emit_progress(progress(&upload, 5));
    until(async || gate.calls.lock().unwrap().len() == 1).await;
    sink.emit_progress(progress(&upload, 6));
    sink.discard(upload.id.as_str());
    gate.open.add_permits(9);
    sink.wait_idle(upload.id.as_str()).await;
    assert_eq!(*gate.calls.lock().unwrap(), [5]);
}

#[tokio::test]
async fn concurrent_calls_are_limited() {
    let (gate, sink) = gate();
    let uploads: Vec<_> = (0..70).map(|_| upload()).collect();
    for upload in &uploads {
        sink.emit_progress(progress(upload, 1));
    }
    assert_eq!(sink.stats().dropped, 54);
    drop(gate);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_do_not_overtake_progress() {
    let database = TestDatabase::sqlite();
    let (gate, sink) = gate();
    let mut settings = database.settings();
    settings.progress = Some(sink.clone());
    let route = Route {
        transport: gate.clone(),
        names: HookNames::DEFAULT,
    };
    let running = Running::start(settings, vec![route]).await;
    let outbox = &running.outbox;
    let (upload, other) = (upload(), upload());
    outbox.emit(event(EventKind::Created, &upload)).await;
    until(async || gate.receiver.ids().len() == 1).await;
    sink.emit_progress(progress(&upload, 1));
    until(async || !gate.calls.lock().unwrap().is_empty()).await;
    sink.emit_progress(progress(&upload, 2));
    outbox.emit(event(EventKind::Completed, &upload)).await;
    // Other uploads do not wait.
    outbox.emit(event(EventKind::Completed, &other)).await;
    until(async || gate.receiver.ids().len() == 2).await;
    gate.open.add_permits(9);
    until(async || gate.receiver.ids().len() == 5).await;
    let of_one = |message: &Message| message.upload.id == upload.id.as_str();
    let received = gate.receiver.messages();
    let hooks: Vec<_> = received
        .iter()
        .filter(|one| of_one(one))
        .map(|one| one.hook)
        .collect();
    let expected = [
        HookName::PostCreate,
        HookName::PostReceive,
        HookName::PostReceive,
        HookName::PostFinish,
    ];
    assert_eq!(hooks, expected);
    assert_eq!(*gate.calls.lock().unwrap(), [1, 2], "the last comes first");

    // Progress of a removed upload is not delivered.
    gate.open.forget_permits(9);
    sink.emit_progress(progress(&other, 3));
    until(async || gate.calls.lock().unwrap().len() == 3).await;
    sink.emit_progress(progress(&other, 4));
    outbox.emit(event(EventKind::Terminated, &other)).await;
    gate.open.add_permits(9);
    until(async || gate.receiver.ids().len() == 7).await;
    assert_eq!(*gate.calls.lock().unwrap(), [1, 2, 3]);
    running.close().await;
}

/// Receives `post-create` when it is opened.
#[derive(Debug)]
struct SlowCreation {
    open: Semaphore,
    began: Mutex<Vec<HookName>>,
    ended: Mutex<Vec<HookName>>,
    fails: bool,
}

#[async_trait]
impl Transport for SlowCreation {
    fn name(&self) -> &str {
        "http"
    }

    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        self.began.lock().unwrap().push(message.hook);
        if message.hook == HookName::PostCreate {
            self.open.acquire().await.unwrap().forget();
        }
        self.ended.lock().unwrap().push(message.hook);
        match self.fails && message.hook == HookName::PostCreate {
            true => Err(DeliveryError::new("500")),
            false => Ok(HookResponse::default()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_overtakes_the_first_attempt_of_the_creation() {
    for fails in [false, true] {
        let transport = Arc::new(SlowCreation {
            open: Semaphore::new(0),
            began: Mutex::default(),
            ended: Mutex::default(),
            fails,
        });
        let creations = Creations::default();
        let database = TestDatabase::sqlite();
        let mut settings = database.settings();
        settings.creations = creations.clone();
        // Later attempts take no part.
        settings.retry.min_backoff = Duration::from_secs(3600);
        let names = HookNames::from_names(&HookName::ALL);
        let route = || Route {
            transport: transport.clone(),
            names: HookNames::DEFAULT,
        };
        let progress_sink = ProgressNotifier::new(vec![route()], creations.clone());
        settings.progress = Some(progress_sink.clone());
        let running = Running::start(settings, vec![route()]).await;
        let outbox = &running.outbox;
        let hooks = BlockingHooks::new(transport.clone(), names, FailureMode::Deny);
        let hooks = hooks.after(creations);

        let upload = upload();
        outbox.emit(event(EventKind::Created, &upload)).await;
        progress_sink.emit_progress(progress(&upload, 1));
        progress_sink.emit_progress(progress(&upload, 2));
        let snapshot = |upload: Arc<Upload>| Snapshot::new(upload, 2, SystemTime::now());
        let (snapshot, other) = (snapshot(upload.clone()), snapshot(self::upload()));
        let request = RequestInfo::default();
        let finish = hooks.before_finish(&request, &snapshot);
        tokio::pin!(finish);
        // Another upload has nothing to wait for, which shows that the first one waits.
        tokio::select! {
            biased;
            _ = &mut finish => panic!("it did not wait"),
            decided = hooks.before_finish(&request, &other) => drop(decided.unwrap()),
        }
        let has_begun = |hook| transport.began.lock().unwrap().contains(&hook);
        until(async || has_begun(HookName::PostCreate)).await;
        assert_eq!(*transport.ended.lock().unwrap(), [HookName::PreFinish]);
        transport.open.add_permits(9);
        finish.await.unwrap();
        progress_sink.wait_idle(upload.id.as_str()).await;
        let ended = transport.ended.lock().unwrap().clone();
        assert_eq!(ended[1], HookName::PostCreate, "{ended:?}");
        assert_eq!(ended.len(), 4, "{ended:?}");
        running.close().await;
    }
}
