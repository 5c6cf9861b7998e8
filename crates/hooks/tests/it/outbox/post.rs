//! Events that were not prepared: those of the upload queue.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use landfall::{Composer, event::EventSink, store::MemoryStore};
use landfall_hooks::{
    HookName, HookNames, Message,
    message::{JobFacts, Number},
    outbox::{
        Connections, Durability, Events, KeptState, Order, Outbox, OutboxError, OutboxSettings,
        Query, Route,
    },
};
use tokio::task::JoinHandle;

use super::site::{ALL, Receiver, Way, assert_in_order, everywhere};

/// An outbox with a receiver that wants events of the queue.
struct Queue {
    outbox: Outbox,
    connections: Connections,
    receiver: Arc<Receiver>,
    running: JoinHandle<()>,
}

impl Queue {
    async fn start(mut settings: OutboxSettings) -> Self {
        let connections = settings.database.open(Durability::Power).await.unwrap();
        settings.connections = Some(connections.lend());
        let receiver = Arc::new(Receiver::default());
        let route = |name, receiver: &Arc<Receiver>, names| Route {
            transport: Arc::new(Way(name, receiver.clone())),
            names,
        };
        let deaf = Arc::default();
        let routes = vec![
            route("http", &receiver, HookNames::OF_QUEUE),
            // Nothing of the queue is for this one.
            route("grpc", &deaf, ALL),
        ];
        let outbox = Outbox::open(settings, routes).await.unwrap();
        let parts = Composer::join(MemoryStore::new());
        let handler = landfall::Handler::new(landfall::Config::new(parts)).unwrap();
        let running = tokio::spawn(outbox.clone().run(handler));
        Self {
            outbox,
            connections,
            receiver,
            running,
        }
    }

    /// Stores events in a transaction of the caller, and commits it if `commits`.
    async fn insert(&self, messages: &[Message], commits: bool) {
        let mut transaction = self.connections.write().await.unwrap();
        for statement in self.outbox.insert_statements(messages).unwrap() {
            transaction.execute(statement).await.unwrap();
        }
        if commits {
            transaction.commit().await.unwrap();
        }
        self.outbox.notify_pending();
    }

    async fn close(self) {
        self.outbox.close().await;
        self.running.await.unwrap();
    }
}

/// The `nth` event of the queue, about a job.
fn told(hook: HookName, job: u64, nth: u64) -> Message {
    let mut facts = JobFacts::default();
    facts.id = job.to_string();
    facts.request_id = format!("r{job}");
    facts.filename = Some("a.png".into());
    let upload = facts.upload(None);
    let number = Number {
        id: format!("{nth:032x}"),
        sequence: nth,
    };
    Message::about_job(hook, SystemTime::now(), facts, upload, number)
}

const LIFE: [HookName; 3] = [
    HookName::UploadStarted,
    HookName::UploadProgress,
    HookName::UploadCompleted,
];

/// What each of `jobs` goes through, the jobs side by side.
fn lives(jobs: u64) -> Vec<Message> {
    let each = (0..3_u64).flat_map(|step| (0..jobs).map(move |job| (step, job)));
    each.map(|(step, job)| {
        told(
            LIFE[usize::try_from(step).unwrap()],
            job,
            step * jobs + job + 1,
        )
    })
    .collect()
}

/// Asserts that the first arrivals of each job are in order.
fn assert_jobs_in_order(arrived: &[Message]) {
    let mut jobs = arrived.to_vec();
    for message in &mut jobs {
        message.upload.id = message.lane().into_owned();
    }
    assert_in_order(&jobs);
}

#[tokio::test(flavor = "multi_thread")]
async fn inserted_events_arrive_in_order_for_each_job() {
    everywhere(async |place| {
        let queue = Queue::start(place.settings()).await;
        assert_eq!(queue.outbox.names(), HookNames::OF_QUEUE.or(ALL));
        assert!(!queue.outbox.event_kinds().progress);
        queue
            .receiver
            .fails_each
            .store(3, std::sync::atomic::Ordering::Relaxed);
        for part in lives(200).chunks(50) {
            queue.insert(part, true).await;
        }
        // A busy receiver may be spared progress that is old news by then, but nothing else.
        let terminal = |arrived: &[Message]| {
            let ends = arrived
                .iter()
                .filter(|one| one.hook == HookName::UploadCompleted);
            ends.map(|one| one.id.clone())
                .collect::<std::collections::HashSet<_>>()
                .len()
        };
        let began = Instant::now();
        while terminal(&queue.receiver.messages()) < 200 {
            assert!(began.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let arrived = queue.receiver.messages();
        assert_jobs_in_order(&arrived);
        let job = arrived[0].job.as_ref().unwrap();
        assert_eq!(job.filename.as_deref(), Some("a.png"));
        while queue.outbox.stats().rows > 0 {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{:?}",
                queue.outbox.stats()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inserted_events_are_stored_once() {
    everywhere(async |place| {
        let mut settings = place.settings();
        settings.first_wait = Duration::from_secs(600);
        settings.longest_wait = settings.first_wait;
        let queue = Queue::start(settings).await;
        queue.receiver.set_down(true);
        let all = lives(4);
        queue.insert(&all, true).await;
        let events = Events::open(&place.database).await.unwrap();
        let waiting = Query {
            states: vec![KeptState::Waiting],
            order: Order::Oldest,
            ..Query::default()
        };
        let kept = events.list(&waiting).await.unwrap();
        assert_eq!(kept.len(), 12);
        assert!(
            kept.iter()
                .all(|one| one.route == "http" && one.upload.starts_with("job:"))
        );
        let mut messages: Vec<_> = kept.into_iter().map(|one| one.message.unwrap()).collect();
        messages.sort_by_key(|message| message.sequence);
        assert_eq!(messages, all);
        // By a caller that does not know whether its first transaction was committed.
        queue.insert(&all, true).await;
        assert_eq!(events.list(&waiting).await.unwrap().len(), 12);
        queue.close().await;

        let queue = Queue::start(place.settings()).await;
        let arrived = queue.receiver.until(12).await;
        assert_jobs_in_order(&arrived);
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_that_waits_gives_way_to_newer_progress() {
    everywhere(async |place| {
        let mut settings = place.settings();
        settings.first_wait = Duration::from_secs(600);
        settings.longest_wait = settings.first_wait;
        let queue = Queue::start(settings).await;
        queue.receiver.set_down(true);
        let started = told(HookName::UploadStarted, 7, 1);
        queue.insert(&[started], true).await;
        let began = Instant::now();
        while queue.outbox.stats().routes[0].failed == 0 {
            assert!(began.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for nth in 2..100 {
            let of_both = [7, 8].map(|job| told(HookName::UploadProgress, job, 2 * nth + job % 2));
            queue.insert(&of_both, true).await;
        }
        let ended = told(HookName::UploadCancelled, 7, 1000);
        queue.insert(&[ended], true).await;
        let events = Events::open(&place.database).await.unwrap();
        let mut waiting = Query {
            states: vec![KeptState::Waiting],
            upload: Some("job:7".into()),
            ..Query::default()
        };
        let kept = events.list(&waiting).await.unwrap();
        let mut numbers: Vec<_> = kept
            .iter()
            .map(|one| one.message.as_ref().unwrap().sequence)
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 199, 1000]);
        // The one that is tried stays until it has arrived, as the first of its job does.
        waiting.upload = Some("job:8".into());
        assert!(events.list(&waiting).await.unwrap().len() <= 3);
        assert!(queue.outbox.stats().rows <= 6, "{:?}", queue.outbox.stats());
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_callers_transaction_are_delivered_once_committed() {
    everywhere(async |place| {
        let mut settings = place.settings();
        settings.limit = 5;
        let queue = Queue::start(settings).await;
        let outbox = queue.outbox.clone();
        queue.receiver.set_down(true);
        queue.insert(&lives(2), false).await;
        // More than the limit, and the same events twice: a full outbox refuses none of them.
        let events = lives(4);
        for _ in 0..2 {
            queue.insert(&events, true).await;
        }
        // Newer progress replaces progress that no node has tried to deliver.
        for sequence in [100, 101] {
            let newer = told(HookName::UploadProgress, 9, sequence);
            queue.insert(&[newer], true).await;
        }
        queue.receiver.set_down(false);
        let mut wanted = events;
        wanted.push(told(HookName::UploadProgress, 9, 101));
        let arrived = queue.receiver.until(wanted.len()).await;
        assert_jobs_in_order(&arrived);
        for one in &wanted {
            assert!(
                arrived.iter().any(|arrived| arrived.id == one.id),
                "{one:?}"
            );
        }
        // The receiver wants no questions, and the outbox takes nothing once it is closed.
        let unwanted = outbox.insert_statements(&[told(HookName::PreGrant, 1, 200)]);
        assert_eq!(unwanted.unwrap(), []);
        queue.close().await;
        let closed = outbox.insert_statements(&lives(1)).unwrap_err();
        assert!(matches!(closed, OutboxError::Closed), "{closed}");
    })
    .await;
}
