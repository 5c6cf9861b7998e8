//! A receiver that is down for a weekend.

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
    Failure, HookName, HookNames, Message, Reaction, Transport,
    message::{JobFacts, Number},
    outbox::{Clock, Durability, Outbox, Query, Route},
};

use super::site::{PATIENCE, Place};

const JOBS: u64 = 33_334;
const LIFE: [HookName; 3] = [
    HookName::UploadStarted,
    HookName::UploadCompleted,
    HookName::UploadCancelled,
];
const EVENTS: usize = 3 * JOBS as usize;

/// A receiver that notes in which order the events of each job arrive.
#[derive(Debug, Default)]
struct Receiver {
    is_up: AtomicBool,
    jobs: Mutex<HashMap<String, Vec<HookName>>>,
    arrived: AtomicU64,
}

#[derive(Debug)]
struct Way(Arc<Receiver>);

#[async_trait]
impl Transport for Way {
    fn name(&self) -> &str {
        "http"
    }

    async fn deliver(&self, message: &Message) -> Result<Reaction, Failure> {
        if !self.0.is_up.load(Ordering::SeqCst) {
            return Err(Failure::new("the application is down"));
        }
        let mut jobs = self.0.jobs.lock().unwrap();
        let job = jobs.entry(message.lane().into_owned()).or_default();
        job.push(message.hook);
        self.0.arrived.fetch_add(1, Ordering::SeqCst);
        Ok(Reaction::default())
    }
}

fn message(job: u64, step: u64) -> Message {
    let mut facts = JobFacts::default();
    facts.id = job.to_string();
    let upload = facts.upload(None);
    let sequence = step * JOBS + job + 1;
    let number = Number {
        id: format!("{sequence:032x}"),
        sequence,
    };
    let hook = LIFE[usize::try_from(step).unwrap()];
    Message::about_job(hook, SystemTime::now(), facts, upload, number)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weekend_without_the_application_loses_nothing() {
    let place = Place::sqlite();
    let connections = place.database.open(Durability::ProcessCrash).await.unwrap();
    let mut settings = place.settings();
    settings.connections = Some(connections.share());
    settings.give_up_after = Duration::from_secs(24 * 3600);
    settings.first_wait = Duration::from_millis(500);
    settings.longest_wait = Duration::from_secs(600);
    settings.circuit_breaker = Default::default();
    let moved = Arc::new(AtomicU64::new(0));
    let hours = moved.clone();
    settings.clock = Some(Clock::new(move || {
        SystemTime::now() + Duration::from_secs(hours.load(Ordering::SeqCst))
    }));
    let receiver = Arc::new(Receiver::default());
    let route = Route {
        transport: Arc::new(Way(receiver.clone())),
        names: HookNames::OF_QUEUE,
    };
    let outbox = Outbox::open(settings, vec![route]).await.unwrap();
    let parts = Composer::join(MemoryStore::new());
    let handler = Handler::new(Config::new(parts)).unwrap();
    let running = tokio::spawn(outbox.clone().run(handler));

    // A third of all events each day.
    for day in 0..3 {
        let jobs: Vec<u64> = (0..JOBS).collect();
        for part in jobs.chunks(2000) {
            let messages: Vec<_> = part.iter().map(|job| message(*job, day)).collect();
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
    assert_eq!(receiver.arrived.load(Ordering::SeqCst), 0);
    assert!(stats.routes[0].is_down, "{stats:?}");
    assert!(stats.routes[0].failed > 10, "{stats:?}");

    receiver.is_up.store(true, Ordering::SeqCst);
    moved.fetch_add(60, Ordering::SeqCst);
    let began = Instant::now();
    while receiver.arrived.load(Ordering::SeqCst) < EVENTS as u64 {
        let stats = outbox.stats();
        assert!(began.elapsed() < PATIENCE, "{stats:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("all arrived after {:?}", began.elapsed());
    let jobs = receiver.jobs.lock().unwrap().clone();
    assert_eq!(jobs.len(), JOBS as usize);
    for (job, events) in jobs {
        assert_eq!(events, LIFE, "of {job}");
    }
    let dead = outbox.events().list(&Query::default()).await.unwrap();
    assert_eq!(dead, []);
    outbox.close().await;
    running.await.unwrap();
}
