//! Deliveries that fail: what is given up, what waits behind them, and what does not.

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
    Composer, Config, Handler,
    event::{EventKind, EventSink},
    store::MemoryStore,
    upload::Upload,
};
use landfall_hooks::{
    Failure, HookName, Message, Reaction, Transport,
    outbox::{Choice, Clock, KeptState, Outbox, OutboxSettings, Query, Route},
};
use tokio::task::JoinHandle;

use super::site::{ALL, PATIENCE, event, everywhere, upload};

/// What a receiver does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behavior {
    Accept,
    Fail,
    Reject,
    Hang,
}

type Decide = dyn Fn(&Message, usize) -> Behavior + Send + Sync;

/// A receiver whose behavior depends on the message and on how often it came.
struct Receiver {
    decide: Mutex<Arc<Decide>>,
    seen: Mutex<HashMap<String, usize>>,
    arrived: Mutex<Vec<Message>>,
    hanging: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
}

impl Receiver {
    fn new(decide: impl Fn(&Message, usize) -> Behavior + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            decide: Mutex::new(Arc::new(decide)),
            seen: Mutex::default(),
            arrived: Mutex::default(),
            hanging: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
        })
    }

    fn accept_all(&self) {
        *self.decide.lock().unwrap() = Arc::new(|_, _| Behavior::Accept);
    }

    fn hooks(&self) -> Vec<HookName> {
        let arrived = self.arrived.lock().unwrap();
        arrived.iter().map(|message| message.hook).collect()
    }

    fn attempts(&self) -> usize {
        self.seen.lock().unwrap().values().sum()
    }
}

#[derive(Clone)]
struct Way(Arc<Receiver>);

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Way")
    }
}

#[async_trait]
impl Transport for Way {
    fn name(&self) -> &str {
        "http"
    }

    async fn deliver(&self, message: &Message) -> Result<Reaction, Failure> {
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
                receiver.arrived.lock().unwrap().push(message.clone());
                Ok(Reaction::default())
            }
            Behavior::Fail => {
                // Long enough for others to begin meanwhile, if they may.
                tokio::time::sleep(Duration::from_millis(2)).await;
                Err(Failure::new("500"))
            }
            Behavior::Reject => Err(Failure::new("422").permanent(true)),
            Behavior::Hang => {
                receiver.hanging.fetch_add(1, Ordering::SeqCst);
                std::future::pending().await
            }
        };
        receiver.running.fetch_sub(1, Ordering::SeqCst);
        delivered
    }
}

struct Site {
    outbox: Outbox,
    running: JoinHandle<()>,
}

impl Site {
    async fn start(settings: OutboxSettings, receiver: &Arc<Receiver>) -> Self {
        let route = Route {
            transport: Arc::new(Way(receiver.clone())),
            names: ALL,
        };
        let outbox = Outbox::open(settings, vec![route]).await.unwrap();
        let parts = Composer::join(MemoryStore::new());
        let handler = Handler::new(Config::new(parts)).unwrap();
        let running = tokio::spawn(outbox.clone().run(handler));
        Self { outbox, running }
    }

    async fn emit(&self, kind: EventKind, upload: &Arc<Upload>) {
        let event = event(kind, upload);
        let prepared = std::slice::from_ref(&event);
        self.outbox.prepare(prepared).await.unwrap();
        self.outbox.emit(event).await;
    }

    async fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is_so() {
            let stats = self.outbox.stats();
            assert!(began.elapsed() < PATIENCE / 2, "{what}: {stats:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn failed(&self) -> u64 {
        self.outbox.stats().routes[0].failed
    }

    /// Waits until so many failures of one event are recorded.
    async fn until_recorded(&self, failures: u64) {
        let began = Instant::now();
        let pending = Query {
            states: vec![KeptState::Waiting],
            ..Query::default()
        };
        let events = self.outbox.events();
        loop {
            let pending = events.list(&pending).await.unwrap();
            if pending.iter().any(|event| event.attempts == failures) {
                return;
            }
            let stats = self.outbox.stats();
            assert!(began.elapsed() < PATIENCE / 2, "{failures}: {stats:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn dead(&self) -> Vec<(String, u64, Option<String>)> {
        let all = Query {
            limit: 1000,
            ..Query::default()
        };
        let dead = self.outbox.events().list(&all).await.unwrap();
        let dead = dead.into_iter();
        dead.map(|one| (one.hook, one.attempts, one.error))
            .collect()
    }

    async fn close(self) {
        self.outbox.close().await;
        // What hangs does so for ever.
        self.running.abort();
    }
}

/// A clock that stands still until it is moved.
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

/// `post-create` fails, all else arrives.
fn creations_fail(message: &Message, _nth: usize) -> Behavior {
    match message.hook {
        HookName::PostCreate => Behavior::Fail,
        _ => Behavior::Accept,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_event_is_a_dead_letter_at_once_and_the_next_is_delivered() {
    everywhere(async |place| {
        let receiver = Receiver::new(|message, _| match message.hook {
            HookName::PostCreate => Behavior::Reject,
            _ => Behavior::Accept,
        });
        let mut settings = place.settings();
        settings.strict_order = true;
        let site = Site::start(settings, &receiver).await;
        for _ in 0..10 {
            let upload = upload();
            site.emit(EventKind::Created, &upload).await;
            site.emit(EventKind::Completed, &upload).await;
        }
        let arrived = || receiver.arrived.lock().unwrap().len() == 10;
        site.until("the next events arrive", arrived).await;
        let dead = site.dead().await;
        let rejected = ("post-create".to_owned(), 1, Some("422".to_owned()));
        assert_eq!(dead, vec![rejected; 10]);
        let stats = &site.outbox.stats().routes[0];
        assert!(!stats.is_down, "a receiver that answers is not down");
        assert_eq!((stats.given_up, stats.opened), (10, 0));
        site.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_event_holds_the_next_for_a_minute_and_arrives_late() {
    everywhere(async |place| {
        let (receiver, clock) = (Receiver::new(creations_fail), Frozen::new());
        let mut settings = place.settings();
        settings.clock = Some(clock.source());
        settings.hold = Duration::from_secs(60);
        settings.first_wait = Duration::from_secs(40);
        settings.longest_wait = Duration::from_secs(3600);
        let site = Site::start(settings, &receiver).await;
        let upload = upload();
        site.emit(EventKind::Created, &upload).await;
        site.emit(EventKind::Completed, &upload).await;
        site.until_recorded(1).await;
        clock.advance(59);
        site.until_recorded(2).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(receiver.hooks(), []);
        clock.advance(2);
        site.until("the next arrives", || !receiver.hooks().is_empty())
            .await;
        // A later event does not wait at all.
        site.emit(EventKind::Terminated, &upload).await;
        let three = || receiver.hooks() == [HookName::PostFinish, HookName::PostTerminate];
        site.until("the last arrives", three).await;
        receiver.accept_all();
        clock.advance(3600);
        site.until("the first arrives", || receiver.hooks().len() == 3)
            .await;
        let arrived = receiver.arrived.lock().unwrap().clone();
        assert_eq!(arrived[2].hook, HookName::PostCreate);
        assert!(
            arrived[2].sequence < arrived[0].sequence,
            "it shows that it is late"
        );
        assert_eq!(site.dead().await, []);
        site.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_order_holds_the_next_until_a_failing_event_has_arrived() {
    everywhere(async |place| {
        let (receiver, clock) = (Receiver::new(creations_fail), Frozen::new());
        let mut settings = place.settings();
        settings.clock = Some(clock.source());
        settings.first_wait = Duration::from_secs(40);
        settings.longest_wait = settings.first_wait;
        settings.strict_order = true;
        let site = Site::start(settings, &receiver).await;
        let upload = upload();
        site.emit(EventKind::Created, &upload).await;
        site.emit(EventKind::Completed, &upload).await;
        for failed in 1..5 {
            site.until_recorded(failed).await;
            clock.advance(41);
        }
        site.until_recorded(5).await;
        site.emit(EventKind::Terminated, &upload).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(receiver.hooks(), []);
        receiver.accept_all();
        clock.advance(41);
        let all = [
            HookName::PostCreate,
            HookName::PostFinish,
            HookName::PostTerminate,
        ];
        site.until("all arrive", || receiver.hooks() == all).await;
        site.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_up_takes_both_time_and_attempts() {
    everywhere(async |place| {
        let (receiver, clock) = (Receiver::new(creations_fail), Frozen::new());
        let mut settings = place.settings();
        settings.clock = Some(clock.source());
        settings.first_wait = Duration::from_secs(1);
        settings.longest_wait = Duration::from_secs(600);
        settings.give_up_after = Duration::from_secs(24 * 3600);
        let site = Site::start(settings, &receiver).await;
        let upload = upload();
        site.emit(EventKind::Created, &upload).await;
        site.until_recorded(1).await;
        // Two days later, and with it all the time there is.
        for failed in 2..=19 {
            clock.advance(48 * 3600);
            site.until_recorded(failed).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(site.dead().await, [], "nineteen attempts are too few");
        clock.advance(600);
        site.until("it is given up", || {
            site.outbox.stats().routes[0].given_up == 1
        })
        .await;
        let given_up = ("post-create".to_owned(), 20, Some("500".to_owned()));
        assert_eq!(site.dead().await, [given_up]);
        site.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_retries_stop_no_other_event() {
    everywhere(async |place| {
        const POISON: usize = 32;
        let receiver = Receiver::new(|message, nth| match (message.hook, nth) {
            (HookName::PostCreate, 1) => Behavior::Fail,
            (HookName::PostCreate, _) => Behavior::Hang,
            _ => Behavior::Accept,
        });
        let mut settings = place.settings();
        settings.parallel = 8;
        settings.circuit_breaker.failures = 1000;
        let site = Site::start(settings, &receiver).await;
        for _ in 0..POISON {
            site.emit(EventKind::Created, &upload()).await;
        }
        site.until("all fail", || site.failed() == POISON as u64)
            .await;
        let hanging = || receiver.hanging.load(Ordering::SeqCst);
        site.until("two hang", || hanging() == 2).await;
        for _ in 0..100 {
            site.emit(EventKind::Completed, &upload()).await;
        }
        let arrived = || receiver.arrived.lock().unwrap().len() == 100;
        site.until("all others arrive", arrived).await;
        assert_eq!(hanging(), 2, "a quarter of the workers");
        site.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_down_is_tried_by_one_delivery_at_a_time() {
    everywhere(async |place| {
        const UPLOADS: usize = 200;
        let receiver = Receiver::new(|_, _| Behavior::Fail);
        let mut settings = place.settings();
        settings.circuit_breaker.max_delay = Duration::from_millis(200);
        let site = Site::start(settings, &receiver).await;
        let is_down = || site.outbox.stats().routes[0].is_down;
        for _ in 0..UPLOADS {
            let upload = upload();
            site.emit(EventKind::Created, &upload).await;
            site.emit(EventKind::Completed, &upload).await;
        }
        site.until("it is down", is_down).await;
        site.until("the rest ends", || {
            receiver.running.load(Ordering::SeqCst) <= 1
        })
        .await;
        receiver.most_running.store(0, Ordering::SeqCst);
        let before = receiver.attempts();
        site.until("it is tried", || receiver.attempts() >= before + 5)
            .await;
        assert_eq!(receiver.most_running.load(Ordering::SeqCst), 1);
        assert!(is_down());
        receiver.accept_all();
        let all = || receiver.arrived.lock().unwrap().len() >= 2 * UPLOADS;
        site.until("all arrive", all).await;
        let stats = &site.outbox.stats().routes[0];
        assert_eq!((stats.is_down, stats.opened, stats.given_up), (false, 1, 0));
        // None has overtaken another of its upload, though many have failed before.
        super::site::assert_in_order(&receiver.arrived.lock().unwrap());
        site.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_behind_a_dropped_one_are_delivered_at_once() {
    everywhere(async |place| {
        let receiver = Receiver::new(creations_fail);
        let mut settings = place.settings();
        settings.first_wait = settings.hold;
        settings.longest_wait = settings.hold;
        let site = Site::start(settings, &receiver).await;
        let upload = upload();
        site.emit(EventKind::Created, &upload).await;
        site.emit(EventKind::Completed, &upload).await;
        site.until_recorded(1).await;
        let events = site.outbox.events();
        let pending = Query {
            states: vec![KeptState::Waiting],
            ..Query::default()
        };
        let pending = events.list(&pending).await.unwrap();
        let failed = pending.into_iter().find(|event| event.attempts == 1);
        let failed = Choice::Ids(vec![failed.unwrap().id]);
        assert_eq!(events.drop(&failed).await.unwrap(), 1);
        let arrived = || receiver.hooks() == [HookName::PostFinish];
        site.until("the next event arrives", arrived).await;
        site.close().await;
    })
    .await;
}
