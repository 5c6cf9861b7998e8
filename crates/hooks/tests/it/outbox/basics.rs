//! What an outbox promises while its process and its database live.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use landfall::{
    event::{EventKind, EventSink},
    upload::Upload,
};
use landfall_hooks::outbox::{Choice, Events, KeptState, Order, Outbox, Query, Route};
use landfall_hooks::{Message, message::EventHeaders};
use landfall_testkit::sink;

use super::site::{ALL, Place, Receiver, Site, Way, assert_in_order, event, everywhere, upload};

const LIFE: [EventKind; 3] = [
    EventKind::Created,
    EventKind::Completed,
    EventKind::Terminated,
];

#[tokio::test(flavor = "multi_thread")]
async fn it_is_a_sink() {
    conformance(Place::sqlite).await;
    #[cfg(feature = "postgres")]
    conformance(Place::postgres).await;
}

async fn conformance(place: fn() -> Place) {
    let kept = Mutex::new(Vec::new());
    sink::conformance(async || {
        let place = place();
        let site = Site::start(place.settings()).await;
        let receiver = site.receiver.clone();
        let sink = Arc::new(site.outbox.clone());
        kept.lock().unwrap().push((place, site));
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
async fn a_flapping_receiver_hears_everything_in_order() {
    const UPLOADS: usize = 3_334;
    everywhere(async |place| {
        let site = Arc::new(Site::start(place.settings()).await);
        site.receiver.fails_each.store(2, Ordering::Relaxed);
        let uploads: Vec<_> = (0..UPLOADS).map(|_| upload()).collect();
        let mut running = tokio::task::JoinSet::new();
        for part in uploads.chunks(UPLOADS / 40) {
            let (site, part) = (site.clone(), part.to_vec());
            running.spawn(async move {
                for upload in part {
                    site.announce_and_tell(&upload, &LIFE).await;
                }
            });
        }
        running.join_all().await;
        let arrived = site.receiver.until(3 * UPLOADS).await;
        assert_in_order(&arrived);
        let ids: HashSet<_> = arrived.iter().map(|message| message.id.as_str()).collect();
        assert_eq!(ids.len(), 3 * UPLOADS, "nothing was invented");
        // What arrived but wasn't answered arrives again.
        let delivered = || site.outbox.stats().routes[0].delivered;
        let began = Instant::now();
        while delivered() < 3 * UPLOADS as u64 {
            assert!(began.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        site.outbox.close().await;
        let stats = site.outbox.stats();
        assert!(stats.routes[0].failed > 3_000, "it didn't flap: {stats:?}");
        let all = Query {
            states: vec![KeptState::Announced, KeptState::Waiting, KeptState::Dead],
            ..Query::default()
        };
        let events = Events::open(&place.database).await.unwrap();
        assert_eq!(events.list(&all).await.unwrap(), []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_is_delivered_by_the_next_process() {
    everywhere(async |place| {
        let mut settings = place.settings();
        settings.first_wait = Duration::from_secs(600);
        settings.longest_wait = settings.first_wait;
        let site = Site::start(settings).await;
        site.receiver.set_down(true);
        let uploads: Vec<_> = (0..10).map(|_| upload()).collect();
        for upload in &uploads {
            site.announce_and_tell(upload, &LIFE).await;
        }
        while site.outbox.stats().routes[0].failed < 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        site.close().await;

        // It doesn't wait for what the one before would have waited for.

        let site = Site::start(place.settings()).await;
        let began = Instant::now();
        let arrived = site.receiver.until(30).await;
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_in_order(&arrived);
        for (upload, kind) in uploads.iter().zip([EventKind::Created; 10]) {
            let id = event(kind, upload).id();
            assert!(arrived.iter().any(|message| message.id == id));
        }
        site.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_outbox_refuses_creations_first() {
    everywhere(async |place| {
        let mut settings = place.settings();
        settings.limit = 10;
        let site = Site::start(settings).await;
        let announce =
            async |kind, upload: &Arc<Upload>| site.outbox.prepare(&[event(kind, upload)]).await;
        site.receiver.set_down(true);
        let uploads: Vec<_> = (0..10).map(|_| upload()).collect();
        for upload in &uploads {
            announce(EventKind::Created, upload).await.unwrap();
        }
        let refused = announce(EventKind::Created, &upload()).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the outbox is full: 10 events are stored, 10 are allowed"
        );
        // What has begun may end.
        for upload in &uploads {
            announce(EventKind::Completed, upload).await.unwrap();
        }
        let refused = announce(EventKind::Completed, &upload()).await.unwrap_err();
        assert!(refused.to_string().contains("20 are allowed"), "{refused}");
        assert_eq!(site.outbox.stats().refused, 2);
        // Again is free.
        announce(EventKind::Completed, &uploads[0]).await.unwrap();
        site.receiver.set_down(false);
        for upload in &uploads {
            for kind in [EventKind::Created, EventKind::Completed] {
                site.outbox.emit(event(kind, upload)).await;
            }
        }
        assert_in_order(&site.receiver.until(20).await);
        let began = Instant::now();
        while announce(EventKind::Created, &upload()).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        site.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_are_listed_tried_again_and_dropped() {
    everywhere(async |place| {
        let mut settings = place.settings();
        settings.give_up_after = Duration::from_millis(100);
        let site = Site::start(settings).await;
        site.receiver.set_down(true);
        let uploads: Vec<_> = (0..3).map(|_| upload()).collect();
        for upload in &uploads {
            site.announce_and_tell(upload, &LIFE[..2]).await;
        }
        let events = Events::open(&place.database).await.unwrap();
        let dead = Query::default();
        let began = Instant::now();
        while events.list(&dead).await.unwrap().len() < 6 {
            assert!(began.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut oldest = dead.clone();
        (oldest.order, oldest.limit) = (Order::Oldest, 1);
        let first = events.list(&oldest).await.unwrap().remove(0);
        assert_eq!(
            (first.state, first.route.as_str()),
            (KeptState::Dead, "http")
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

        let ids = |upload: &Arc<Upload>| {
            LIFE[..2]
                .iter()
                .map(|kind| event(*kind, upload).id())
                .collect()
        };
        let none = Choice::Ids(Vec::new());
        assert_eq!(events.drop(&none).await.unwrap(), 0);
        let of_outbox = site.outbox.events();
        assert_eq!(
            of_outbox.list(&dead).await.unwrap(),
            events.list(&dead).await.unwrap()
        );
        let first = Choice::DeadIds(ids(&uploads[0]));
        assert_eq!(of_outbox.drop(&first).await.unwrap(), 2);
        assert_eq!(
            events.drop(&Choice::DeadOf("grpc".into())).await.unwrap(),
            0
        );
        site.receiver.set_down(false);
        let began = Instant::now();
        assert_eq!(
            events.retry(&Choice::Ids(ids(&uploads[1]))).await.unwrap(),
            2
        );
        let arrived = site.receiver.until(2).await;
        assert!(began.elapsed() < Duration::from_secs(4), "a server notices");
        assert_in_order(&arrived);
        assert_eq!(
            events.retry(&Choice::DeadOf("http".into())).await.unwrap(),
            2
        );
        assert_in_order(&site.receiver.until(4).await);
        assert_eq!(events.drop(&Choice::AllDead).await.unwrap(), 0);
        let stats = site.outbox.stats();
        assert_eq!(stats.routes[0].given_up, 6);
        site.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_has_its_own_pace() {
    everywhere(async |place| {
        let (up, down) = (Arc::new(Receiver::default()), Arc::new(Receiver::default()));
        let route = |name, receiver: &Arc<Receiver>| Route {
            transport: Arc::new(Way(name, receiver.clone())),
            names: ALL,
        };
        let routes = vec![route("http", &up), route("nats", &down)];
        down.set_down(true);
        let outbox = Outbox::open(place.settings(), routes).await.unwrap();
        let parts = landfall::Composer::join(landfall::store::MemoryStore::new());
        let handler = landfall::Handler::new(landfall::Config::new(parts)).unwrap();
        let running = tokio::spawn(outbox.clone().run(handler));
        let uploads: Vec<_> = (0..20).map(|_| upload()).collect();
        for upload in &uploads {
            for kind in LIFE {
                let event = event(kind, upload);
                outbox.prepare(std::slice::from_ref(&event)).await.unwrap();
                outbox.emit(event).await;
            }
        }
        assert_in_order(&up.until(60).await);
        assert_eq!(down.ids().len(), 0);
        down.set_down(false);
        assert_in_order(&down.until(60).await);
        outbox.close().await;
        running.await.unwrap();
        let same = vec![route("http", &up), route("http", &down)];
        let error = Outbox::open(place.settings(), same).await.unwrap_err();
        assert_eq!(error.to_string(), "two routes are called \"http\"");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_removed_by_age_alone_and_leave_the_limit_to_others() {
    everywhere(async |place| {
        let mut settings = place.settings();
        settings.limit = 20;
        settings.give_up_after = Duration::ZERO;
        let site = Site::start(settings.clone()).await;
        site.receiver.set_down(true);
        for died in 0..30 {
            // More than may be stored, one after the other.
            site.announce_and_tell(&upload(), &LIFE[..1]).await;
            let began = Instant::now();
            while site.outbox.stats().routes[0].given_up <= died {
                assert!(began.elapsed() < Duration::from_secs(60));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            while site.outbox.is_full() {
                assert!(began.elapsed() < Duration::from_secs(60));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        let all = Query {
            limit: 1000,
            ..Query::default()
        };
        let events = Events::open(&place.database).await.unwrap();
        assert_eq!(events.list(&all).await.unwrap().len(), 30);
        site.close().await;

        let site = Site::start(settings.clone()).await;
        let stats = site.outbox.stats();
        assert_eq!((stats.buried, stats.rows, stats.bytes), (0, 0, 0));
        assert_eq!(stats.routes[0].dead, 30);
        site.close().await;
        settings.keep_dead = Duration::ZERO;
        let site = Site::start(settings).await;
        let stats = site.outbox.stats();
        assert_eq!((stats.buried, stats.routes[0].dead), (30, 0));
        site.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_bytes_refuses_creations_first() {
    everywhere(async |place| {
        let mut large = (*upload()).clone();
        large.metadata = landfall::upload::Metadata::from_pairs([("filename", "x".repeat(6000))]);
        let (first, second) = (Arc::new(large), upload());
        let message = Message::event(&event(EventKind::Created, &first), &EventHeaders::default());
        let bytes = serde_json::to_string(&message).unwrap().len();
        assert!(bytes > 6000);
        let mut settings = place.settings();
        settings.max_bytes = bytes * 3 / 2;
        let site = Site::start(settings).await;
        site.receiver.set_down(true);
        site.announce_and_tell(&first, &LIFE[..1]).await;
        assert!(!site.outbox.is_full());
        let mut other = (*first).clone();
        other.id = second.id.clone();
        let other = Arc::new(other);
        let created = [event(EventKind::Created, &other)];
        let refused = site.outbox.prepare(&created).await.unwrap_err();
        let refused = refused.to_string();
        let allowed = format!("{} are allowed", bytes * 3 / 2);
        assert!(refused.ends_with(&allowed), "{refused}");
        // Events of uploads that exist have twice as much.
        let completed = [event(EventKind::Completed, &first)];
        site.outbox.prepare(&completed).await.unwrap();
        assert!(site.outbox.is_full());
        let stats = site.outbox.stats();
        assert!(
            stats.bytes > bytes * 3 / 2 && stats.refused == 1,
            "{stats:?}"
        );
        site.receiver.set_down(false);
        site.outbox.emit(event(EventKind::Completed, &first)).await;
        site.receiver.until(2).await;
        let began = Instant::now();
        while site.outbox.prepare(&created).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        site.close().await;
    })
    .await;
}
