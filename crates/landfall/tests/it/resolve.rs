//! Announcing what may happen, and finding out later whether it did.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use landfall::{
    BoxError, Resolution,
    event::{Event, EventKind, EventKinds, EventSink},
    hook::{ClientResponse, Decision},
};
use landfall_testkit::record::RecordingSink;

use crate::harness::{AtEnd, DATA, Site, everywhere, id};

/// A sink that can keep nothing while it is full.
#[derive(Debug, Clone, Default)]
struct Bounded {
    full: Arc<AtomicBool>,
    told: Arc<Mutex<Vec<EventKind>>>,
}

#[async_trait]
impl EventSink for Bounded {
    fn event_kinds(&self) -> EventKinds {
        EventKinds {
            completed: true,
            terminated: true,
            ..EventKinds::NONE
        }
    }

    async fn prepare(&self, _: &[Event]) -> Result<(), BoxError> {
        if self.full.load(Ordering::Relaxed) {
            return Err("the outbox is full".into());
        }
        Ok(())
    }

    async fn emit(&self, event: Event) {
        self.told.lock().unwrap().push(event.kind);
    }

    fn emit_progress(&self, _: Event) {}
}

#[tokio::test]
async fn an_effect_that_cannot_be_prepared_does_not_happen() {
    everywhere(
        |_| {},
        async |site| {
            let sink = Bounded::default();
            let site =
                Site::sharing_store(site, |config| *config = config.clone().sink(sink.clone()));
            let site = site.await;
            let path = site.create(5).await;
            site.patch(&path, 0, "hel").await.expect(204);

            sink.full.store(true, Ordering::Relaxed);
            let reply = site.post(&[("Upload-Length", "5")]).await.expect(503);
            assert!(reply.header("retry-after").is_some());
            let whole = site.request("POST", "/files/").with("Upload-Length", "5");
            let whole = whole.with("Content-Type", DATA).body("hello");
            whole.send().await.expect(503);
            site.patch(&path, 3, "lo").await.expect(503);
            site.delete(&path).await.expect(503);
            assert_eq!(site.uploads().await, 1);
            assert_eq!(site.offset(&path).await, 3);
            // A request that cannot complete the upload prepares nothing.
            site.patch(&path, 3, "l").await.expect(204);
            assert!(sink.told.lock().unwrap().is_empty());

            sink.full.store(false, Ordering::Relaxed);
            site.patch(&path, 4, "o").await.expect(204);
            assert_eq!(site.bytes(&path).await, "hello");
            site.delete(&path).await.expect(204);
            let told = sink.told.lock().unwrap().clone();
            assert_eq!(told, [EventKind::Completed, EventKind::Terminated]);
        },
    )
    .await;
}

fn happened(outcome: &Resolution) -> bool {
    matches!(outcome, Resolution::Happened(_))
}

#[tokio::test]
async fn prepared_events_are_resolved() {
    everywhere(
        |_| {},
        async |site| {
            let undecided = AtEnd::always(|| Decision::Fail(ClientResponse::default()));
            let (sink, decided) = (RecordingSink::default(), undecided);
            let site = Site::sharing_store(site, |config| {
                *config = config.clone().sink(sink.clone()).hook(decided.clone());
            });
            let site = site.await;
            let settle = async |kind, event: &Event| {
                let upload = &event.upload;
                let settled = site.handler.resolve(kind, &upload.id, upload.created).await;
                settled.unwrap()
            };
            let path = site.create(5).await;
            let created = sink.prepared().pop().unwrap();
            assert_eq!(created.kind, EventKind::Created);
            assert!(happened(&settle(EventKind::Created, &created).await));
            let Resolution::DidNotHappen = settle(EventKind::Completed, &created).await else {
                panic!("it has no bytes yet");
            };
            let Resolution::DidNotHappen = settle(EventKind::Terminated, &created).await else {
                panic!("it is there");
            };

            // All bytes are stored, but no event was emitted: resolving does that.
            site.patch(&path, 0, "hello").await.expect(423);
            let kinds = || sink.kinds(&id(&path));
            assert_eq!(kinds(), [EventKind::Created]);
            let settled = site.handler.resolve(
                EventKind::Completed,
                &created.upload.id,
                created.upload.created,
            );
            assert!(settled.await.is_err());
            decided.decide(Decision::allow);
            assert!(happened(&settle(EventKind::Completed, &created).await));
            assert_eq!(kinds(), [EventKind::Created, EventKind::Completed]);
            assert!(happened(&settle(EventKind::Completed, &created).await));
            assert_eq!(kinds().len(), 2);

            // Another upload with the same id is not meant.
            let mut other = (*created.upload).clone();
            other.created = None;
            let settled = site.handler.resolve(EventKind::Created, &other.id, None);
            assert!(matches!(settled.await.unwrap(), Resolution::DidNotHappen));
            let settled = site.handler.resolve(EventKind::Terminated, &other.id, None);
            assert!(matches!(settled.await.unwrap(), Resolution::Happened(None)));

            let lease = site.parts.locker();
            let lease = lease.acquire(&id(&path), Duration::from_secs(5)).await;
            let Resolution::Busy = settle(EventKind::Created, &created).await else {
                panic!("another request has it");
            };
            drop(lease);

            site.delete(&path).await.expect(204);
            let gone = settle(EventKind::Terminated, &created).await;
            assert!(matches!(gone, Resolution::Happened(None)));
            assert!(matches!(
                settle(EventKind::Created, &created).await,
                Resolution::DidNotHappen
            ));
        },
    )
    .await;
}

/// Between two requests, another node may find out that the first did not complete the upload, and forget its event.
#[tokio::test]
async fn every_request_that_may_complete_an_upload_prepares_the_event_once_under_its_lease() {
    everywhere(
        |_| {},
        async |site| {
            let sink = RecordingSink::default();
            let site =
                Site::sharing_store(site, |config| *config = config.clone().sink(sink.clone()));
            let site = site.await;
            let prepared = |path: &str| {
                let mut events = sink.prepared();
                events.retain(|event| {
                    event.upload.id == id(path) && event.kind == EventKind::Completed
                });
                events.len()
            };
            let at_once = site.request("POST", "/files/").with("Upload-Length", "5");
            let at_once = at_once.with("Content-Type", DATA).body("hello");
            let path = at_once.send().await.expect(201).location();
            assert_eq!(prepared(&path), 1);

            let path = site.create(5).await;
            assert_eq!(prepared(&path), 0);
            let cut = site.patching(&path, 0).chunked(&["hel"], &[]);
            cut.send().await.expect(204);
            assert_eq!(prepared(&path), 1);
            site.patch(&path, 3, "lo").await.expect(204);
            assert_eq!(prepared(&path), 2);

            let cut = site.request("POST", "/files/").with("Upload-Length", "5");
            let cut = cut.with("Content-Type", DATA).chunked(&["hel"], &[]);
            let path = cut.send().await.expect(201).location();
            site.patch(&path, 3, "lo").await.expect(204);
            assert_eq!(prepared(&path), 2);

            // A creation without bytes has no lease before the upload exists.
            let path = site.create(0).await;
            assert_eq!(prepared(&path), 2);

            let parts = [site.partial("he").await, site.partial("llo").await];
            let concat = format!("final;{} {}", parts[0], parts[1]);
            let path = site.create_with(&[("Upload-Concat", &concat)]).await;
            assert_eq!(prepared(&path), 1);
        },
    )
    .await;
}

#[tokio::test]
async fn a_fact_has_one_id_and_numbers_grow() {
    everywhere(
        |_| {},
        async |site| {
            let sink = RecordingSink::default();
            let site =
                Site::sharing_store(site, |config| *config = config.clone().sink(sink.clone()));
            let site = site.await;
            for _ in 0..2 {
                let path = site.create(5).await;
                site.patch(&path, 0, "hello").await.expect(204);
                site.delete(&path).await.expect(204);
            }
            let told = sink.events();
            let told = told
                .iter()
                .filter(|event| event.kind != EventKind::Progress);
            let told: Vec<_> = told.collect();
            assert_eq!(told.len(), 6);
            for (n, event) in told.iter().enumerate() {
                let announced = sink.prepared();
                let same = announced.iter().filter(|other| other.id() == event.id());
                assert!(same.clone().count() >= 1);
                assert!(same.clone().all(|other| other.kind == event.kind));
                assert!(same.clone().all(|other| other.sequence < event.sequence));
                for later in &told[n + 1..] {
                    assert_ne!(later.id(), event.id());
                    assert!(later.sequence > event.sequence);
                }
            }
        },
    )
    .await;
}
