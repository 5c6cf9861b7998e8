//! Guarantees without crashes.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use landfall::{
    event::{EventKind, EventSink},
    upload::Upload,
};
use landfall_hooks::{EventHeaders, Message, Route};
use landfall_state::outbox::{
    Changed, EventGroup, EventSelection, EventState, Events, Outbox, Query, SortOrder,
};
use landfall_test_services::until;
use landfall_testkit::sink;

use super::harness::{
    ALL, Harness, Receiver, Running, TestDatabase, TestTransport, assert_in_order, event,
    in_any_state, on_each_database, prepare_and_emit, upload,
};

const LIFECYCLE: [EventKind; 3] = [
    EventKind::Created,
    EventKind::Completed,
    EventKind::Terminated,
];

#[tokio::test(flavor = "multi_thread")]
async fn outbox_conforms_to_event_sink() {
    conformance(TestDatabase::sqlite).await;
    #[cfg(feature = "postgres")]
    conformance(TestDatabase::postgres).await;
}

async fn conformance(database: fn() -> TestDatabase) {
    let kept = Mutex::new(Vec::new());
    sink::conformance(async || {
        let database = database();
        let harness = Harness::start(database.settings()).await;
        let receiver = harness.receiver.clone();
        let sink = Arc::new(harness.outbox.clone());
        kept.lock().unwrap().push((database, harness));
        sink::Subject {
            sink,
            listener: Box::new(move || {
                let receiver = receiver.clone();
                Box::pin(async move { receiver.ids() })
            }),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flapping_receiver_gets_every_event_in_order() {
    const UPLOADS: usize = 3_334;
    on_each_database(async |database| {
        let harness = Arc::new(Harness::start(database.settings()).await);
        harness.receiver.fails_each.store(2, Ordering::Relaxed);
        let uploads: Vec<_> = (0..UPLOADS).map(|_| upload()).collect();
        let mut running = tokio::task::JoinSet::new();
        for part in uploads.chunks(UPLOADS / 40) {
            let (harness, part) = (harness.clone(), part.to_vec());
            running.spawn(async move {
                for upload in part {
                    harness.prepare_and_emit(&upload, &LIFECYCLE).await;
                }
            });
        }
        running.join_all().await;
        let received = harness.receiver.until(3 * UPLOADS).await;
        assert_in_order(&received);
        let ids: HashSet<_> = received.iter().map(|message| message.id.as_str()).collect();
        assert_eq!(ids.len(), 3 * UPLOADS, "nothing was invented");
        // Events whose response was lost are delivered again.
        let delivered = || harness.outbox.stats().routes[0].delivered;
        until(async || delivered() >= 3 * UPLOADS as u64).await;
        harness.outbox.close().await;
        let stats = harness.outbox.stats();
        assert!(stats.routes[0].failed > 3_000, "it didn't flap: {stats:?}");
        let events = Events::open(&database.database).await.unwrap();
        assert_eq!(events.list(&in_any_state()).await.unwrap(), []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_events_are_delivered_after_a_restart() {
    on_each_database(async |database| {
        let mut settings = database.settings();
        settings.retry.min_backoff = Duration::from_secs(600);
        settings.retry.max_backoff = settings.retry.min_backoff;
        let harness = Harness::start(settings).await;
        harness.receiver.set_down(true);
        let uploads: Vec<_> = (0..10).map(|_| upload()).collect();
        for upload in &uploads {
            harness.prepare_and_emit(upload, &LIFECYCLE).await;
        }
        until(async || harness.outbox.stats().routes[0].failed >= 10).await;
        harness.close().await;

        // A restart ends the backoff.

        let harness = Harness::start(database.settings()).await;
        let began = Instant::now();
        let received = harness.receiver.until(30).await;
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_in_order(&received);
        for (upload, kind) in uploads.iter().zip([EventKind::Created; 10]) {
            let id = event(kind, upload).id();
            assert!(received.iter().any(|message| message.id == id));
        }
        harness.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_outbox_rejects_creations_first() {
    on_each_database(async |database| {
        let mut settings = database.settings();
        settings.max_queued = 10;
        let harness = Harness::start(settings).await;
        let announce =
            async |kind, upload: &Arc<Upload>| harness.outbox.prepare(&[event(kind, upload)]).await;
        harness.receiver.set_down(true);
        let uploads: Vec<_> = (0..10).map(|_| upload()).collect();
        for upload in &uploads {
            announce(EventKind::Created, upload).await.unwrap();
        }
        let refused = announce(EventKind::Created, &upload()).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the outbox is full: 10 deliveries are queued, the limit is 10"
        );
        // Existing uploads can be completed.
        for upload in &uploads {
            announce(EventKind::Completed, upload).await.unwrap();
        }
        let refused = announce(EventKind::Completed, &upload()).await.unwrap_err();
        assert!(refused.to_string().contains("the limit is 20"), "{refused}");
        assert_eq!(harness.outbox.stats().rejected_requests, 2);
        // Preparing it again takes no capacity.
        announce(EventKind::Completed, &uploads[0]).await.unwrap();
        harness.receiver.set_down(false);
        for upload in &uploads {
            for kind in [EventKind::Created, EventKind::Completed] {
                harness.outbox.emit(event(kind, upload)).await;
            }
        }
        assert_in_order(&harness.receiver.until(20).await);
        until(async || announce(EventKind::Created, &upload()).await.is_ok()).await;
        harness.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_retried_and_deleted() {
    on_each_database(async |database| {
        let mut settings = database.settings();
        settings.retry.retry_for = Duration::from_millis(100);
        let harness = Harness::start(settings).await;
        harness.receiver.set_down(true);
        let uploads: Vec<_> = (0..3).map(|_| upload()).collect();
        for upload in &uploads {
            harness.prepare_and_emit(upload, &LIFECYCLE[..2]).await;
        }
        let events = Events::open(&database.database).await.unwrap();
        let dead = Query::default();
        until(async || events.list(&dead).await.unwrap().len() >= 6).await;
        let mut oldest = dead.clone();
        (oldest.order, oldest.limit) = (SortOrder::Oldest, 1);
        let first = events.list(&oldest).await.unwrap().remove(0);
        assert_eq!(
            (first.state, first.route.as_str()),
            (EventState::Dead, "http")
        );
        assert!(first.attempts > 1, "{first:?}");
        assert_eq!(first.error.as_deref(), Some("the receiver is down"));
        assert!(first.message.is_some());
        let of_one = Query {
            upload: Some(uploads[1].id.to_string()),
            ..dead.clone()
        };
        assert_eq!(events.list(&of_one).await.unwrap().len(), 2);
        let elsewhere = Query {
            route: Some("grpc".into()),
            ..dead.clone()
        };
        assert_eq!(events.list(&elsewhere).await.unwrap(), []);

        let groups = events.failed().await.unwrap();
        assert_eq!(groups.iter().map(|one| one.count).sum::<u64>(), 6);
        let group = groups[0].group.clone();
        assert_eq!(group.error, "the receiver is down");
        let of_group = Query {
            group: Some(group.clone()),
            ..dead.clone()
        };
        let members = events.list(&of_group).await.unwrap();
        assert_eq!(members.len() as u64, groups[0].count);
        assert!(members.iter().all(|one| one.event == group.event));
        let other = EventGroup {
            error: "another".into(),
            ..group.clone()
        };
        assert_eq!(group.state, EventState::Dead);
        let other = EventSelection::Group(other);
        assert_eq!(events.retry(&other).await.unwrap().count, 0);

        let ids = |upload: &Arc<Upload>| {
            LIFECYCLE[..2]
                .iter()
                .map(|kind| event(*kind, upload).id())
                .collect()
        };
        let dead_of = |route: &str| EventSelection::Dead(Some(route.into()));
        let none = EventSelection::Ids(Vec::new());
        assert_eq!(events.delete(&none).await.unwrap().count, 0);
        let of_outbox = harness.outbox.events();
        assert_eq!(
            of_outbox.list(&dead).await.unwrap(),
            events.list(&dead).await.unwrap()
        );
        let first = EventSelection::DeadIds(ids(&uploads[0]));
        let deleted = of_outbox.delete(&first).await.unwrap();
        let of_first = [uploads[0].id.to_string()].into();
        assert_eq!((deleted.count, deleted.uploads), (2, of_first));
        assert_eq!(events.delete(&dead_of("grpc")).await.unwrap().count, 0);
        harness.receiver.set_down(false);
        let before = events.list(&dead).await.unwrap();
        let began = Instant::now();
        assert_eq!(
            events
                .retry(&EventSelection::Ids(ids(&uploads[1])))
                .await
                .unwrap(),
            Changed {
                count: 2,
                uploads: [uploads[1].id.to_string()].into()
            }
        );
        let received = harness.receiver.until(2).await;
        assert!(began.elapsed() < Duration::from_secs(4), "a server notices");
        assert_in_order(&received);
        harness.until_idle().await;
        let delivered = events.history(uploads[1].id.as_str(), 50).await.unwrap();
        assert_eq!(delivered.len(), 2);
        for event in delivered {
            let before = before.iter().find(|one| one.id == event.id).unwrap();
            assert_eq!(event.attempts, before.attempts + 1);
            assert_eq!(event.created_at, before.created_at);
        }
        assert_eq!(events.retry(&dead_of("http")).await.unwrap().count, 2);
        assert_in_order(&harness.receiver.until(4).await);
        assert_eq!(
            events
                .delete(&EventSelection::Dead(None))
                .await
                .unwrap()
                .count,
            0
        );
        let stats = harness.outbox.stats();
        assert_eq!(stats.routes[0].dead_lettered, 6);
        harness.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_route_does_not_delay_others() {
    on_each_database(async |database| {
        let (up, down) = (Arc::new(Receiver::default()), Arc::new(Receiver::default()));
        let route = |name, receiver: &Arc<Receiver>| Route {
            transport: Arc::new(TestTransport(name, receiver.clone())),
            names: ALL,
        };
        let routes = vec![route("http", &up), route("nats", &down)];
        down.set_down(true);
        let running = Running::start(database.settings(), routes).await;
        for upload in (0..20).map(|_| upload()) {
            for kind in LIFECYCLE {
                prepare_and_emit(&running.outbox, event(kind, &upload)).await;
            }
        }
        assert_in_order(&up.until(60).await);
        assert_eq!(down.ids().len(), 0);
        down.set_down(false);
        assert_in_order(&down.until(60).await);
        running.close().await;
        let same = vec![route("http", &up), route("http", &down)];
        let error = Outbox::open(database.settings(), same).await.unwrap_err();
        assert_eq!(error.to_string(), "two routes have the name \"http\"");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_purged_by_age_and_do_not_count_toward_limits() {
    on_each_database(async |database| {
        let mut settings = database.settings();
        settings.max_queued = 20;
        settings.retry.retry_for = Duration::ZERO;
        let harness = Harness::start(settings.clone()).await;
        harness.receiver.set_down(true);
        for died in 0..30 {
            // More than the limit, one at a time.
            harness.prepare_and_emit(&upload(), &LIFECYCLE[..1]).await;
            harness.until_dead(died + 1).await;
            until(async || !harness.outbox.is_full()).await;
        }
        let all = Query {
            limit: 1000,
            ..Query::default()
        };
        let events = Events::open(&database.database).await.unwrap();
        assert_eq!(events.list(&all).await.unwrap().len(), 30);
        harness.close().await;

        let harness = Harness::start(settings.clone()).await;
        let stats = harness.outbox.stats();
        assert_eq!((stats.dead_purged, stats.queued, stats.bytes), (0, 0, 0));
        assert_eq!(stats.routes[0].dead, 30);
        harness.close().await;
        settings.dead_letter_retention = Duration::ZERO;
        let harness = Harness::start(settings).await;
        let stats = harness.outbox.stats();
        assert_eq!((stats.dead_purged, stats.routes[0].dead), (30, 0));
        harness.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn byte_limit_rejects_creations_first() {
    on_each_database(async |database| {
        let mut large = (*upload()).clone();
        large.metadata = landfall::upload::Metadata::from_pairs([("filename", "x".repeat(6000))]);
        let (first, second) = (Arc::new(large), upload());
        let message = Message::event(&event(EventKind::Created, &first), &EventHeaders::default());
        let bytes = serde_json::to_string(&message).unwrap().len();
        assert!(bytes > 6000);
        let mut settings = database.settings();
        settings.max_bytes = bytes * 3 / 2;
        let harness = Harness::start(settings).await;
        harness.receiver.set_down(true);
        harness.prepare_and_emit(&first, &LIFECYCLE[..1]).await;
        assert!(!harness.outbox.is_full());
        let mut other = (*first).clone();
        other.id = second.id.clone();
        let other = Arc::new(other);
        let created = [event(EventKind::Created, &other)];
        let refused = harness.outbox.prepare(&created).await.unwrap_err();
        let refused = refused.to_string();
        let allowed = format!("the limit is {}", bytes * 3 / 2);
        assert!(refused.ends_with(&allowed), "{refused}");
        // Events of existing uploads have twice the limit.
        let completed = [event(EventKind::Completed, &first)];
        harness.outbox.prepare(&completed).await.unwrap();
        assert!(harness.outbox.is_full());
        let stats = harness.outbox.stats();
        assert!(
            stats.bytes > bytes * 3 / 2 && stats.rejected_requests == 1,
            "{stats:?}"
        );
        harness.receiver.set_down(false);
        harness
            .outbox
            .emit(event(EventKind::Completed, &first))
            .await;
        harness.receiver.until(2).await;
        until(async || harness.outbox.prepare(&created).await.is_ok()).await;
        harness.close().await;
    })
    .await;
}
