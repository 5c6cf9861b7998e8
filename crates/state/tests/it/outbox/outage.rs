//! A receiver that is down for three days.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use landfall_hooks::{DeliveryError, HookName, HookNames, HookResponse, Message, Route, Transport};
use landfall_state::outbox::Query;
use landfall_state::sql::{Clock, Durability};
use landfall_test_services::until;

use super::harness::{Running, TestDatabase, insert, job_event};

const LIFECYCLE: [HookName; 3] = [
    HookName::UploadStarted,
    HookName::UploadCompleted,
    HookName::UploadCancelled,
];

/// Returns the number of jobs, three events each; ten times as many if `LANDFALL_LONG=1`.
fn job_count() -> u64 {
    let is_long = std::env::var("LANDFALL_LONG").is_ok_and(|long| long == "1");
    if is_long { 33_334 } else { 3_334 }
}

/// A receiver that records the order of each job's events.
#[derive(Debug, Default)]
struct Receiver {
    is_up: AtomicBool,
    jobs: Mutex<HashMap<String, Vec<HookName>>>,
    received: AtomicU64,
}

#[derive(Debug)]
struct TestTransport(Arc<Receiver>);

#[async_trait]
impl Transport for TestTransport {
    fn name(&self) -> &str {
        "http"
    }

    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        if !self.0.is_up.load(Ordering::SeqCst) {
            return Err(DeliveryError::new("the application is down"));
        }
        let mut jobs = self.0.jobs.lock().unwrap();
        let job = jobs.entry(message.ordering_key().into_owned()).or_default();
        job.push(message.hook);
        self.0.received.fetch_add(1, Ordering::SeqCst);
        Ok(HookResponse::default())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_day_outage_loses_no_event() {
    let database = TestDatabase::sqlite();
    let connections = database.database.open(Durability::ProcessCrash).await;
    let connections = connections.unwrap();
    let mut settings = database.settings();
    settings.connections = Some(connections.share());
    settings.retry.retry_for = Duration::from_secs(24 * 3600);
    settings.retry.min_backoff = Duration::from_millis(500);
    settings.retry.max_backoff = Duration::from_secs(600);
    settings.circuit_breaker = Default::default();
    let moved = Arc::new(AtomicU64::new(0));
    let hours = moved.clone();
    settings.clock = Some(Clock::new(move || {
        SystemTime::now() + Duration::from_secs(hours.load(Ordering::SeqCst))
    }));
    let receiver = Arc::new(Receiver::default());
    let route = Route {
        transport: Arc::new(TestTransport(receiver.clone())),
        names: HookNames::JOB_EVENTS,
    };
    let running = Running::start(settings, vec![route]).await;
    let outbox = &running.outbox;

    // A third of all events per day.
    for (hook, day) in LIFECYCLE.into_iter().zip(0..) {
        let messages =
            (0..job_count()).map(|job| job_event(hook, job, day * job_count() + job + 1));
        for part in messages.collect::<Vec<_>>().chunks(2000) {
            insert(outbox, &connections, part, true).await;
        }
        for _ in 0..24 {
            moved.fetch_add(3600, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }
    let stats = outbox.stats();
    assert_eq!(receiver.received.load(Ordering::SeqCst), 0);
    assert!(stats.routes[0].is_down, "{stats:?}");
    assert!(stats.routes[0].failed > 10, "{stats:?}");
    let wait = stats.routes[0].next_attempt;
    assert!(wait.is_some_and(|wait| wait <= Duration::from_secs(30)));
    // Most have never been tried.
    let undelivered = Query {
        retrying: true,
        ..Query::default()
    };
    let events = outbox.events().list(&undelivered).await.unwrap();
    assert_eq!(events.len(), undelivered.limit);
    let untried = events.iter().filter(|event| event.attempts == 0);
    assert!(untried.count() > 50, "{events:?}");

    receiver.is_up.store(true, Ordering::SeqCst);
    moved.fetch_add(60, Ordering::SeqCst);
    let all = 3 * job_count();
    until(async || receiver.received.load(Ordering::SeqCst) >= all).await;
    let jobs = receiver.jobs.lock().unwrap().clone();
    assert_eq!(jobs.len() as u64, job_count());
    for (job, events) in jobs {
        assert_eq!(events, LIFECYCLE, "of {job}");
    }
    let dead = outbox.events().list(&Query::default()).await.unwrap();
    assert_eq!(dead, []);
    running.close().await;
}
