//! Published events of the upload queue.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use landfall::event::EventSink;
use landfall_hooks::{HookName, HookNames, Message, Route};
use landfall_state::outbox::{
    EventState, Events, Outbox, OutboxError, OutboxSettings, Query, SortOrder,
};
use landfall_state::sql::{Connections, Durability};
use landfall_test_services::until;

use super::harness::{
    ALL, Receiver, Running, TestTransport, assert_in_order, in_states, insert, job_event,
    on_each_database,
};

/// An outbox with a receiver of job events.
struct Queue {
    running: Running,
    outbox: Outbox,
    connections: Connections,
    receiver: Arc<Receiver>,
}

impl Queue {
    async fn start(mut settings: OutboxSettings) -> Self {
        let connections = settings.database.open(Durability::PowerLoss).await.unwrap();
        settings.connections = Some(connections.share());
        let receiver = Arc::new(Receiver::default());
        let route = |name, receiver: &Arc<Receiver>, names| Route {
            transport: Arc::new(TestTransport(name, receiver.clone())),
            names,
        };
        let deaf = Arc::default();
        let routes = vec![
            route("http", &receiver, HookNames::JOB_EVENTS),
            // This route receives no job events.
            route("grpc", &deaf, ALL),
        ];
        let running = Running::start(settings, routes).await;
        Self {
            outbox: running.outbox.clone(),
            running,
            connections,
            receiver,
        }
    }

    async fn insert(&self, messages: &[Message], commits: bool) {
        insert(&self.outbox, &self.connections, messages, commits).await;
    }
}

const LIFECYCLE: [HookName; 3] = [
    HookName::UploadStarted,
    HookName::UploadProgress,
    HookName::UploadCompleted,
];

/// Returns the events of `jobs` interleaved jobs.
fn lives(jobs: u64) -> Vec<Message> {
    let each = (0..3_u64).flat_map(|step| (0..jobs).map(move |job| (step, job)));
    let hook = |step| LIFECYCLE[usize::try_from(step).unwrap()];
    each.map(|(step, job)| job_event(hook(step), job, step * jobs + job + 1))
        .collect()
}

/// Asserts that the events of each job arrived in order, ignoring duplicates.
fn assert_jobs_in_order(received: &[Message]) {
    let mut jobs = received.to_vec();
    for message in &mut jobs {
        message.upload.id = message.ordering_key().into_owned();
    }
    assert_in_order(&jobs);
}

#[tokio::test(flavor = "multi_thread")]
async fn inserted_events_arrive_in_order_per_job() {
    on_each_database(async |database| {
        let queue = Queue::start(database.settings()).await;
        assert_eq!(queue.outbox.names(), HookNames::JOB_EVENTS.union(ALL));
        assert!(!queue.outbox.event_kinds().progress);
        queue.receiver.fails_each.store(3, Ordering::Relaxed);
        for part in lives(200).chunks(50) {
            queue.insert(part, true).await;
        }
        // Outdated progress may be skipped, other events may not.
        let terminal = |received: Vec<Message>| {
            let ends = received.into_iter();
            let ends = ends.filter(|one| one.hook == HookName::UploadCompleted);
            ends.map(|one| one.id).collect::<HashSet<_>>().len()
        };
        until(async || terminal(queue.receiver.messages()) >= 200).await;
        let received = queue.receiver.messages();
        assert_jobs_in_order(&received);
        let job = received[0].job.as_ref().unwrap();
        assert_eq!(job.filename.as_deref(), Some("a.png"));
        until(async || queue.outbox.stats().queued == 0).await;
        queue.running.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inserted_events_are_stored_once() {
    on_each_database(async |database| {
        let mut settings = database.settings();
        settings.retry.min_backoff = Duration::from_secs(600);
        settings.retry.max_backoff = settings.retry.min_backoff;
        let queue = Queue::start(settings).await;
        queue.receiver.set_down(true);
        let all = lives(4);
        queue.insert(&all, true).await;
        let events = Events::open(&database.database).await.unwrap();
        let waiting = Query {
            order: SortOrder::Oldest,
            ..in_states(&[EventState::Pending])
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
        // The caller does not know whether its first transaction was committed.
        queue.insert(&all, true).await;
        assert_eq!(events.list(&waiting).await.unwrap().len(), 12);
        queue.running.close().await;

        let queue = Queue::start(database.settings()).await;
        let received = queue.receiver.until(12).await;
        assert_jobs_in_order(&received);
        queue.running.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_progress_is_replaced_by_newer_progress() {
    on_each_database(async |database| {
        let mut settings = database.settings();
        settings.retry.min_backoff = Duration::from_secs(600);
        settings.retry.max_backoff = settings.retry.min_backoff;
        let queue = Queue::start(settings).await;
        queue.receiver.set_down(true);
        let started = job_event(HookName::UploadStarted, 7, 1);
        queue.insert(&[started], true).await;
        until(async || queue.outbox.stats().routes[0].failed > 0).await;
        for nth in 2..100 {
            let of_both =
                [7, 8].map(|job| job_event(HookName::UploadProgress, job, 2 * nth + job % 2));
            queue.insert(&of_both, true).await;
        }
        let ended = job_event(HookName::UploadCancelled, 7, 1000);
        queue.insert(&[ended], true).await;
        let events = Events::open(&database.database).await.unwrap();
        let mut waiting = in_states(&[EventState::Pending]);
        waiting.upload = Some("job:7".into());
        let kept = events.list(&waiting).await.unwrap();
        let mut numbers: Vec<_> = kept
            .iter()
            .map(|one| one.message.as_ref().unwrap().sequence)
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 199, 1000]);
        // A tried event stays until it is delivered.
        waiting.upload = Some("job:8".into());
        assert!(events.list(&waiting).await.unwrap().len() <= 3);
        assert!(
            queue.outbox.stats().queued <= 6,
            "{:?}",
            queue.outbox.stats()
        );
        queue.running.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inserted_events_are_delivered_after_the_commit() {
    on_each_database(async |database| {
        let mut settings = database.settings();
        settings.max_queued = 5;
        let queue = Queue::start(settings).await;
        let outbox = queue.outbox.clone();
        queue.receiver.set_down(true);
        queue.insert(&lives(2), false).await;
        // More than the limit, and duplicates: a full outbox accepts them all.
        let events = lives(4);
        for _ in 0..2 {
            queue.insert(&events, true).await;
        }
        // Newer progress replaces progress that no node has tried to deliver.
        for sequence in [100, 101] {
            let newer = job_event(HookName::UploadProgress, 9, sequence);
            queue.insert(&[newer], true).await;
        }
        queue.receiver.set_down(false);
        let mut wanted = events;
        wanted.push(job_event(HookName::UploadProgress, 9, 101));
        let received = queue.receiver.until(wanted.len()).await;
        assert_jobs_in_order(&received);
        for one in &wanted {
            assert!(
                received.iter().any(|received| received.id == one.id),
                "{one:?}"
            );
        }
        // Blocking hooks are not stored, and a closed outbox accepts nothing.
        let unwanted = outbox.insert_statements(&[job_event(HookName::PreGrant, 1, 200)]);
        assert_eq!(unwanted.unwrap(), []);
        queue.running.close().await;
        let closed = outbox.insert_statements(&lives(1)).unwrap_err();
        assert!(matches!(closed, OutboxError::Closed), "{closed}");
    })
    .await;
}
