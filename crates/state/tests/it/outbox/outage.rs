//! A receiver that is down for three days.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use landfall::{Composer, Config, Handler, store::MemoryStore};
use landfall_hooks::{
    DeliveryError, HookName, HookNames, HookResponse, JobData, Message, MessageId, Route, Transport,
};
use landfall_state::outbox::{Outbox, Query};
use landfall_state::sql::{Clock, Durability};

use super::harness::{TIMEOUT, TestDatabase};

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

fn message(job: u64, step: u64, jobs: u64) -> Message {
    let data = JobData {
        id: job.to_string(),
        ..JobData::default()
    };
    let upload = data.upload(None);
    let sequence = step * jobs + job + 1;
    let number = MessageId {
        id: format!("{sequence:032x}"),
        sequence,
    };
    let hook = LIFECYCLE[usize::try_from(step).unwrap()];
    Message::about_job(hook, SystemTime::now(), data, upload, number)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_day_outage_loses_no_event() {
    let database = TestDatabase::sqlite();
    let connections = database
        .database
        .open(Durability::ProcessCrash)
        .await
        .unwrap();
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
    let outbox = Outbox::open(settings, vec![route]).await.unwrap();
    let parts = Composer::join(MemoryStore::new());
    let handler = Handler::new(Config::new(parts)).unwrap();
    let running = tokio::spawn(outbox.clone().run(handler));

    // A third of all events per day.
    for day in 0..3 {
        let jobs: Vec<u64> = (0..job_count()).collect();
        for part in jobs.chunks(2000) {
            let messages: Vec<_> = part
                .iter()
                .map(|job| message(*job, day, job_count()))
                .collect();
            let mut transaction = connections.write().await.unwrap();
            for statement in outbox.insert_statements(&messages).unwrap() {
                transaction.execute(statement).await.unwrap();
            }
            transaction.commit().await.unwrap();
            outbox.notify_pending();
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

    receiver.is_up.store(true, Ordering::SeqCst);
    moved.fetch_add(60, Ordering::SeqCst);
    let began = Instant::now();
    while receiver.received.load(Ordering::SeqCst) < 3 * job_count() {
        let stats = outbox.stats();
        assert!(began.elapsed() < TIMEOUT, "{stats:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("all received after {:?}", began.elapsed());
    let jobs = receiver.jobs.lock().unwrap().clone();
    assert_eq!(jobs.len() as u64, job_count());
    for (job, events) in jobs {
        assert_eq!(events, LIFECYCLE, "of {job}");
    }
    let dead = outbox.events().list(&Query::default()).await.unwrap();
    assert_eq!(dead, []);
    outbox.close().await;
    running.await.unwrap();
}
