//! Deliveries of the queue's events to the application.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use landfall::{Composer, Config, Handler, store::MemoryStore};
use landfall_hooks::{DeliveryError, HookName, HookNames, HookResponse, Message, Route, Transport};
use landfall_state::outbox::{Outbox, OutboxSettings};
use landfall_state::queue::{JobEnd, Queue, QueueError, Report};
use tokio::task::JoinHandle;

use super::harness::{Place, asked, everywhere, granted, started, until};

/// An application that receives events.
#[derive(Debug, Default)]
struct Application {
    heard: Mutex<Vec<Message>>,
    is_away: AtomicBool,
}

impl Application {
    fn heard(&self) -> Vec<Message> {
        self.heard.lock().unwrap().clone()
    }

    async fn hears(&self, events: usize) -> Vec<Message> {
        until(async || self.heard().len() >= events).await;
        self.heard()
    }
}

#[derive(Debug)]
struct Way(Arc<Application>);

#[async_trait]
impl Transport for Way {
    fn name(&self) -> &str {
        "http"
    }

    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        if self.0.is_away.load(Ordering::Relaxed) {
            return Err(DeliveryError::new("away"));
        }
        self.0.heard.lock().unwrap().push(message.clone());
        Ok(HookResponse::default())
    }
}

/// One of several processes on a database.
struct Node {
    queue: Queue,
    outbox: Outbox,
    delivering: JoinHandle<()>,
}

impl Node {
    async fn start(place: &Place, application: &Arc<Application>, limit: usize) -> Self {
        let mut settings = OutboxSettings::new(place.database.clone());
        settings.retry.min_backoff = Duration::from_millis(10);
        settings.retry.max_backoff = Duration::from_millis(100);
        settings.max_queued = limit;
        let route = Route {
            transport: Arc::new(Way(application.clone())),
            names: HookNames::JOB_EVENTS,
        };
        let outbox = Outbox::open(settings, vec![route]).await.unwrap();
        let parts = Composer::join(MemoryStore::new());
        let delivering = outbox
            .clone()
            .run(Handler::new(Config::new(parts)).unwrap());
        let mut settings = place.settings();
        settings.outbox = Some(outbox.clone());
        Self {
            queue: Queue::open(settings).await.unwrap(),
            outbox,
            delivering: tokio::spawn(delivering),
        }
    }

    async fn close(self) {
        self.queue.close().await;
        self.outbox.close().await;
        self.delivering.await.unwrap();
    }
}

fn names(heard: &[Message]) -> Vec<HookName> {
    heard.iter().map(|message| message.hook).collect()
}

const PLENTY: usize = 1_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_a_job_are_delivered_in_order() {
    everywhere(async |place| {
        // Events from before there was an outbox are not delivered.
        let before = place.queue().await;
        started(&before, asked("ann", "before", 5)).await;
        before.close().await;

        let application = Arc::default();
        let node = Node::start(&place, &application, PLENTY).await;
        let job = started(&node.queue, asked("ann", "a", 10)).await;
        let mut heard = application.hears(1).await;
        assert_eq!(names(&heard), [HookName::UploadStarted]);
        let message = heard.remove(0);
        let facts = message.job.as_ref().unwrap();
        assert_eq!(facts.subject.as_deref(), Some("ann"));
        assert_eq!((&*facts.request_id, &*facts.state), ("a", "started"));
        assert_eq!(facts.filename.as_deref(), Some("a.bin"));
        assert_eq!((facts.size, facts.offset), (Some(10), 0));
        assert_eq!(message.upload.id, format!("u{job}"));
        assert_eq!(message.upload.metadata["filename"], "a.bin");
        assert_eq!(message.ordering_key(), format!("job:{job}"));

        node.queue.report(Report {
            job,
            part: None,
            offset: 4,
            length: Some(10),
            at: std::time::SystemTime::now(),
        });
        application.hears(2).await;
        node.queue.finish(job, JobEnd::completed(10)).await.unwrap();
        let heard = application.hears(3).await;
        let story = [
            HookName::UploadStarted,
            HookName::UploadProgress,
            HookName::UploadCompleted,
        ];
        assert_eq!(names(&heard), story);
        assert!(
            heard
                .windows(2)
                .all(|two| two[0].sequence < two[1].sequence)
        );
        assert_eq!(heard[1].upload.offset, 4);
        assert!(heard[2].job.as_ref().unwrap().ended.is_some());

        // One that never had an upload.
        let (unused, token) = granted(&node.queue, asked("bob", "b", 1)).await;
        let end = JobEnd::Cancelled("not wanted".into());
        node.queue.finish(unused.id, end).await.unwrap();
        let heard = application.hears(4).await;
        assert_eq!(heard[3].hook, HookName::UploadCancelled);
        assert_eq!(heard[3].upload.id, "");
        assert_eq!(heard[3].subject(), "job/b");
        let reason = heard[3].job.as_ref().unwrap().reason.clone();
        assert_eq!(reason.as_deref(), Some("not wanted"));
        for message in &heard {
            let json = serde_json::to_string(message).unwrap();
            assert!(
                !json.contains("lft_") && !json.contains(token.reveal()),
                "{json}"
            );
        }
        node.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_several_nodes_are_delivered_once() {
    everywhere(async |place| {
        let application = Arc::default();
        let one = Node::start(&place, &application, PLENTY).await;
        let two = Node::start(&place, &application, PLENTY).await;
        for nth in 0..20 {
            let queue = if nth % 2 == 0 { &one.queue } else { &two.queue };
            started(queue, asked("ann", &format!("a{nth}"), 5)).await;
        }
        application.hears(20).await;
        one.close().await;
        for nth in 20..30 {
            started(&two.queue, asked("ann", &format!("a{nth}"), 5)).await;
        }
        let heard = application.hears(30).await;
        let ids: std::collections::BTreeSet<_> = heard.iter().map(|one| &one.id).collect();
        assert_eq!((ids.len(), heard.len()), (30, 30), "each once");
        two.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_outbox_refuses_grants_and_takes_the_ends_of_jobs() {
    everywhere(async |place| {
        let application: Arc<Application> = Arc::default();
        application.is_away.store(true, Ordering::Relaxed);
        let node = Node::start(&place, &application, 4).await;
        let mut jobs = Vec::new();
        for nth in 0..4 {
            jobs.push(started(&node.queue, asked("ann", &format!("a{nth}"), 5)).await);
        }
        until(async || node.outbox.is_full()).await;
        let refused = node.queue.grant(asked("ann", "more", 5)).await.unwrap_err();
        assert!(matches!(refused, QueueError::OutboxFull), "{refused}");
        for job in &jobs {
            let end = JobEnd::Failed("gone".into());
            assert!(node.queue.finish(*job, end).await.unwrap());
        }
        application.is_away.store(false, Ordering::Relaxed);
        let heard = application.hears(8).await;
        for job in &jobs {
            let lane = format!("job:{job}");
            let told = heard
                .iter()
                .filter(|message| message.ordering_key() == lane);
            let told: Vec<_> = told.map(|message| message.hook).collect();
            assert_eq!(told, [HookName::UploadStarted, HookName::UploadFailed]);
        }
        until(async || !node.outbox.is_full()).await;
        granted(&node.queue, asked("ann", "more", 5)).await;
        node.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_and_its_deliveries_are_committed_together() {
    everywhere(async |place| {
        let application: Arc<Application> = Arc::default();
        application.is_away.store(true, Ordering::Relaxed);
        let node = Node::start(&place, &application, PLENTY).await;
        let sql = "SELECT COUNT(*) AS n FROM outbox_deliveries";
        let (job, _) = granted(&node.queue, asked("ann", "a", 5)).await;
        assert_eq!(place.number(sql).await, 0);
        let start =
            landfall_state::queue::StartRequest::new(super::harness::upload("u"), None, "d");
        node.queue.start(job.id, start.clone()).await.unwrap();
        assert_eq!(place.number(sql).await, 1, "stored when the call returns");
        // A transaction that fails leaves neither.
        let (job, _) = granted(&node.queue, asked("ann", "b", 5)).await;
        let bad = landfall_state::sql::Statement::new("INSERT INTO nothing VALUES (1)");
        node.queue
            .start(job.id, start.with_statement(bad))
            .await
            .unwrap_err();
        assert_eq!(place.number(sql).await, 1);
        let events = "SELECT COUNT(*) AS n FROM queue_events";
        assert_eq!(place.number(events).await, 1);
        node.close().await;
    })
    .await;
}
