//! Failed deliveries: dead letters, holds and independent events.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use landfall::{
    event::{EventKind, EventSink as _},
    upload::Upload,
};
use landfall_hooks::{DeliveryError, HookName, HookResponse, Message, Route, Transport};
use landfall_state::outbox::{EventSelection, EventState, OutboxSettings, Query, StoredEvent};
use landfall_state::sql::{Clock, Durability, Statement};
use landfall_test_services::until;

use super::harness::{
    ALL, Running, TIMEOUT, event, in_states, on_each_database, prepare_and_emit, upload,
};

/// The reaction of a receiver to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behavior {
    Accept,
    Fail,
    Reject,
    Hang,
}

type Decide = dyn Fn(&Message, usize) -> Behavior + Send + Sync;

/// A receiver whose behavior depends on the message and on the number of its attempts.
struct Receiver {
    decide: Mutex<Arc<Decide>>,
    seen: Mutex<HashMap<String, usize>>,
    received: Mutex<Vec<Message>>,
    hanging: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
}

impl Receiver {
    fn new(decide: impl Fn(&Message, usize) -> Behavior + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            decide: Mutex::new(Arc::new(decide)),
            seen: Mutex::default(),
            received: Mutex::default(),
            hanging: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
        })
    }

    fn accept_all(&self) {
        *self.decide.lock().unwrap() = Arc::new(|_, _| Behavior::Accept);
    }

    fn hooks(&self) -> Vec<HookName> {
        let received = self.received.lock().unwrap();
        received.iter().map(|message| message.hook).collect()
    }

    fn attempts(&self) -> usize {
        self.seen.lock().unwrap().values().sum()
    }
}

#[derive(Clone)]
struct ScriptedTransport(Arc<Receiver>);

impl std::fmt::Debug for ScriptedTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScriptedTransport")
    }
}

#[async_trait]
impl Transport for ScriptedTransport {
    fn name(&self) -> &str {
        "http"
    }

    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        let receiver = &self.0;
        let nth = {
            let mut seen = receiver.seen.lock().unwrap();
            let nth = seen.entry(message.id.clone()).or_default();
            *nth += 1;
            *nth
        };
        let decide = receiver.decide.lock().unwrap().clone();
        let running = receiver.running.fetch_add(1, Ordering::SeqCst) + 1;
        receiver.most_running.fetch_max(running, Ordering::SeqCst);
        let delivered = match decide(message, nth) {
            Behavior::Accept => {
                receiver.received.lock().unwrap().push(message.clone());
                Ok(HookResponse::default())
            }
            Behavior::Fail => {
                // Long enough for other deliveries to start.
                tokio::time::sleep(Duration::from_millis(2)).await;
                Err(DeliveryError::new("500"))
            }
            Behavior::Reject => Err(DeliveryError::new("422").permanent(true)),
            Behavior::Hang => {
                receiver.hanging.fetch_add(1, Ordering::SeqCst);
                std::future::pending().await
            }
        };
        receiver.running.fetch_sub(1, Ordering::SeqCst);
        delivered
    }
}

impl Running {
    async fn scripted(settings: OutboxSettings, receiver: &Arc<Receiver>) -> Self {
        let route = Route {
            transport: Arc::new(ScriptedTransport(receiver.clone())),
            names: ALL,
        };
        Self::start(settings, vec![route]).await
    }

    async fn emit(&self, kind: EventKind, upload: &Arc<Upload>) {
        prepare_and_emit(&self.outbox, event(kind, upload)).await;
    }

    /// Emits that it was created, and that it was completed.
    async fn emit_both(&self, upload: &Arc<Upload>) {
        self.emit(EventKind::Created, upload).await;
        self.emit(EventKind::Completed, upload).await;
    }

    async fn pending(&self) -> Vec<StoredEvent> {
        let pending = in_states(&[EventState::Pending]);
        self.outbox.events().list(&pending).await.unwrap()
    }

    async fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is_so() {
            let stats = self.outbox.stats();
            assert!(began.elapsed() < TIMEOUT / 2, "{what}: {stats:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn failed(&self) -> u64 {
        self.outbox.stats().routes[0].failed
    }

    /// Waits until one event has this many recorded failures.
    async fn until_recorded(&self, failures: u64) {
        let is_failed = |event: &StoredEvent| event.attempts == failures;
        until(async || self.pending().await.iter().any(is_failed)).await;
    }

    async fn dead(&self) -> Vec<(String, u64, Option<String>)> {
        let all = Query {
            limit: 1000,
            ..Query::default()
        };
        let dead = self.outbox.events().list(&all).await.unwrap();
        let dead = dead.into_iter();
        dead.map(|one| (one.event, one.attempts, one.error))
            .collect()
    }
}

/// A clock that is moved by the test.
#[derive(Debug, Clone)]
struct Frozen(Arc<AtomicI64>, SystemTime);

impl Frozen {
    fn new() -> Self {
        Self(Arc::default(), SystemTime::now())
    }

    fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    fn source(&self) -> Clock {
        let Self(moved, start) = self.clone();
        Clock::new(move || {
            let moved = u64::try_from(moved.load(Ordering::SeqCst)).unwrap();
            start + Duration::from_secs(moved)
        })
    }
}

/// `post-create` fails, other events succeed.
fn creations_fail(message: &Message, _nth: usize) -> Behavior {
    match message.hook {
        HookName::PostCreate => Behavior::Fail,
        _ => Behavior::Accept,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_event_becomes_a_dead_letter_at_once() {
    on_each_database(async |database| {
        let receiver = Receiver::new(|message, _| match message.hook {
            HookName::PostCreate => Behavior::Reject,
            _ => Behavior::Accept,
        });
        let mut settings = database.settings();
        settings.strict_order = true;
        let harness = Running::scripted(settings, &receiver).await;
        for _ in 0..10 {
            harness.emit_both(&upload()).await;
        }
        let received = || receiver.received.lock().unwrap().len() == 10;
        harness.until("the next events arrive", received).await;
        let dead = harness.dead().await;
        let rejected = ("post-create".to_owned(), 1, Some("422".to_owned()));
        assert_eq!(dead, vec![rejected; 10]);
        let stats = &harness.outbox.stats().routes[0];
        assert!(!stats.is_down, "a receiver that answers is not down");
        assert_eq!((stats.dead_lettered, stats.opened), (10, 0));
        harness.abort().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_event_holds_the_next_for_a_minute() {
    on_each_database(async |database| {
        let (receiver, clock) = (Receiver::new(creations_fail), Frozen::new());
        let mut settings = database.settings();
        settings.clock = Some(clock.source());
        settings.max_hold = Duration::from_secs(60);
        settings.retry.min_backoff = Duration::from_secs(40);
        settings.retry.max_backoff = Duration::from_secs(3600);
        let harness = Running::scripted(settings, &receiver).await;
        let upload = upload();
        harness.emit_both(&upload).await;
        harness.until_recorded(1).await;
        clock.advance(59);
        harness.until_recorded(2).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(receiver.hooks(), []);
        clock.advance(2);
        harness
            .until("the next arrives", || !receiver.hooks().is_empty())
            .await;
        // A later event does not wait.
        harness.emit(EventKind::Terminated, &upload).await;
        let three = || receiver.hooks() == [HookName::PostFinish, HookName::PostTerminate];
        harness.until("the last arrives", three).await;
        receiver.accept_all();
        clock.advance(3600);
        harness
            .until("the first arrives", || receiver.hooks().len() == 3)
            .await;
        let received = receiver.received.lock().unwrap().clone();
        assert_eq!(received[2].hook, HookName::PostCreate);
        assert!(
            received[2].sequence < received[0].sequence,
            "it shows that it is late"
        );
        assert_eq!(harness.dead().await, []);
        harness.abort().await;
    })
    .await;
}

/// A wrong clock that is corrected while the server runs: nothing waits until it would have been right.
#[tokio::test(flavor = "multi_thread")]
async fn clock_that_was_ahead_delays_nothing_after_its_return() {
    const AHEAD: i64 = 30 * 24 * 3600;
    on_each_database(async |database| {
        let (receiver, clock) = (Receiver::new(creations_fail), Frozen::new());
        let mut settings = database.settings();
        settings.clock = Some(clock.source());
        settings.max_hold = Duration::from_secs(1000 * 3600);
        clock.advance(AHEAD);
        let harness = Running::scripted(settings, &receiver).await;
        let upload = upload();
        harness.emit_both(&upload).await;
        harness.until_recorded(1).await;
        clock.advance(-AHEAD);
        receiver.accept_all();
        let all = [HookName::PostCreate, HookName::PostFinish];
        harness
            .until("all arrive", || receiver.hooks() == all)
            .await;
        harness.abort().await;
    })
    .await;
}

/// Another process with a wrong clock, such as a sweep, has taken over events and ended: the running server notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_a_clock_ahead_delays_nothing_after_its_end() {
    on_each_database(async |database| {
        let receiver = Receiver::new(|_, _| Behavior::Accept);
        let mut settings = database.settings();
        // Thorough maintenance takes place every sixty sixths of it.
        settings.node_timeout = Duration::from_millis(300);
        settings.retry.retry_for = Duration::from_secs(3600);
        settings.resolve_after = Duration::from_secs(2);
        settings.connections = Some(database.database.open(Durability::PowerLoss).await.unwrap());
        let connections = settings.connections.as_ref().unwrap().share();
        let harness = Running::scripted(settings, &receiver).await;
        let kinds = [EventKind::Created, EventKind::Completed];
        let prepared = kinds.map(|kind| event(kind, &upload()));
        harness.outbox.prepare(&prepared).await.unwrap();
        // The second was emitted.
        let statements = [
            "UPDATE outbox_deliveries SET owner_node = '', due_at = due_at + 2592000000",
            "UPDATE outbox_deliveries SET state = 1 WHERE event_name = 'post-finish'",
        ];
        let mut transaction = connections.write().await.unwrap();
        for sql in statements {
            transaction.execute(Statement::new(sql)).await.unwrap();
        }
        transaction.commit().await.unwrap();
        let all = || harness.outbox.stats().queued == 0;
        harness.until("nothing waits", all).await;
        // The upload of the first does not exist.
        assert_eq!(receiver.hooks(), [HookName::PostFinish]);
        harness.abort().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_order_holds_the_next_until_delivery() {
    on_each_database(async |database| {
        let (receiver, clock) = (Receiver::new(creations_fail), Frozen::new());
        let mut settings = database.settings();
        settings.clock = Some(clock.source());
        settings.retry.min_backoff = Duration::from_secs(40);
        settings.retry.max_backoff = settings.retry.min_backoff;
        settings.strict_order = true;
        let harness = Running::scripted(settings, &receiver).await;
        let upload = upload();
        harness.emit_both(&upload).await;
        for failed in 1..5 {
            harness.until_recorded(failed).await;
            clock.advance(41);
        }
        harness.until_recorded(5).await;
        harness.emit(EventKind::Terminated, &upload).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(receiver.hooks(), []);
        receiver.accept_all();
        clock.advance(41);
        let all = [
            HookName::PostCreate,
            HookName::PostFinish,
            HookName::PostTerminate,
        ];
        harness
            .until("all arrive", || receiver.hooks() == all)
            .await;
        harness.abort().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_lettering_requires_time_and_attempts() {
    on_each_database(async |database| {
        let (receiver, clock) = (Receiver::new(creations_fail), Frozen::new());
        let mut settings = database.settings();
        settings.clock = Some(clock.source());
        settings.retry.min_backoff = Duration::from_secs(1);
        settings.retry.max_backoff = Duration::from_secs(600);
        settings.retry.retry_for = Duration::from_secs(24 * 3600);
        let harness = Running::scripted(settings, &receiver).await;
        let upload = upload();
        harness.emit(EventKind::Created, &upload).await;
        harness.until_recorded(1).await;
        // Two days later, the retry time is over.
        for failed in 2..=19 {
            clock.advance(48 * 3600);
            harness.until_recorded(failed).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(harness.dead().await, [], "nineteen attempts are too few");
        clock.advance(600);
        harness
            .until("it is given up", || {
                harness.outbox.stats().routes[0].dead_lettered == 1
            })
            .await;
        let given_up = ("post-create".to_owned(), 20, Some("500".to_owned()));
        assert_eq!(harness.dead().await, [given_up]);
        harness.abort().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_retries_do_not_delay_other_events() {
    on_each_database(async |database| {
        const POISON: usize = 32;
        let receiver = Receiver::new(|message, nth| match (message.hook, nth) {
            (HookName::PostCreate, 1) => Behavior::Fail,
            (HookName::PostCreate, _) => Behavior::Hang,
            _ => Behavior::Accept,
        });
        let mut settings = database.settings();
        settings.max_concurrency = 8;
        settings.circuit_breaker.failures = 1000;
        let harness = Running::scripted(settings, &receiver).await;
        for _ in 0..POISON {
            harness.emit(EventKind::Created, &upload()).await;
        }
        harness
            .until("all fail", || harness.failed() == POISON as u64)
            .await;
        let hanging = || receiver.hanging.load(Ordering::SeqCst);
        harness.until("two hang", || hanging() == 2).await;
        for _ in 0..100 {
            harness.emit(EventKind::Completed, &upload()).await;
        }
        let received = || receiver.received.lock().unwrap().len() == 100;
        harness.until("all others arrive", received).await;
        assert_eq!(hanging(), 2, "a quarter of the workers");
        harness.abort().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receiver_that_is_down_gets_one_delivery_at_a_time() {
    on_each_database(async |database| {
        const UPLOADS: usize = 200;
        let receiver = Receiver::new(|_, _| Behavior::Fail);
        let mut settings = database.settings();
        settings.circuit_breaker.max_delay = Duration::from_millis(200);
        let harness = Running::scripted(settings, &receiver).await;
        let is_down = || harness.outbox.stats().routes[0].is_down;
        for _ in 0..UPLOADS {
            harness.emit_both(&upload()).await;
        }
        harness.until("it is down", is_down).await;
        harness
            .until("the rest ends", || {
                receiver.running.load(Ordering::SeqCst) <= 1
            })
            .await;
        receiver.most_running.store(0, Ordering::SeqCst);
        let before = receiver.attempts();
        harness
            .until("it is tried", || receiver.attempts() >= before + 5)
            .await;
        assert_eq!(receiver.most_running.load(Ordering::SeqCst), 1);
        assert!(is_down());
        // An operator who retries them again finds them again, but for the one that is being tried.
        let (events, failed) = (harness.outbox.events(), EventSelection::Failed(None));
        let first = events.retry(&failed).await.unwrap().count;
        assert!(first > 1, "{first}");
        let second = events.retry(&failed).await.unwrap().count;
        assert!(second + 1 >= first, "{second} of {first}");
        receiver.accept_all();
        let all = || receiver.received.lock().unwrap().len() >= 2 * UPLOADS;
        harness.until("all arrive", all).await;
        let stats = &harness.outbox.stats().routes[0];
        assert_eq!(
            (stats.is_down, stats.opened, stats.dead_lettered),
            (false, 1, 0)
        );
        // All events are in order per upload, though many have failed before.
        super::harness::assert_in_order(&receiver.received.lock().unwrap());
        harness.abort().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_behind_a_deleted_one_are_delivered_at_once() {
    on_each_database(async |database| {
        let receiver = Receiver::new(creations_fail);
        let mut settings = database.settings();
        settings.retry.min_backoff = settings.max_hold;
        settings.retry.max_backoff = settings.max_hold;
        let harness = Running::scripted(settings, &receiver).await;
        let upload = upload();
        harness.emit_both(&upload).await;
        harness.until_recorded(1).await;
        let events = harness.outbox.events();
        let pending = harness.pending().await;
        let failed = pending.into_iter().find(|event| event.attempts == 1);
        let failed = EventSelection::Ids(vec![failed.unwrap().id]);
        assert_eq!(events.delete(&failed).await.unwrap().count, 1);
        let received = || receiver.hooks() == [HookName::PostFinish];
        harness.until("the next event arrives", received).await;
        harness.abort().await;
    })
    .await;
}
