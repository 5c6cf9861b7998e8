//! Hooks and events of uploads by the draft.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use landfall::{
    BoxError, Config,
    event::{Event, EventKind, EventKinds, EventSink},
    hook::{ClientResponse, CreateDecision, Decision, Hook, HookPoints, RequestInfo},
    upload::{Snapshot, Upload, UploadId},
};
use landfall_test_services::until;

use super::{NEWEST, append, assert_complete, create, creation, everywhere, head, request};
use crate::harness::{Site, TestResponse, id};

/// Denies creations of `denied` bytes, and completions that it is set to deny.
#[derive(Debug, Clone, Default)]
pub(super) struct Gate {
    pub(super) denies_end: bool,
    pub(super) finished: Arc<Mutex<Vec<u64>>>,
}

#[async_trait]
impl Hook for Gate {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_create: true,
            before_finish: true,
            ..HookPoints::default()
        }
    }

    async fn before_create(
        &self,
        _: &RequestInfo,
        upload: &Upload,
    ) -> Result<CreateDecision, BoxError> {
        Ok(match upload.length {
            Some(13) => CreateDecision::deny(ClientResponse::text(403, "not thirteen")),
            _ => CreateDecision::allow(),
        })
    }

    async fn before_finish(&self, _: &RequestInfo, done: &Snapshot) -> Result<Decision, BoxError> {
        self.finished.lock().unwrap().push(done.offset);
        Ok(match self.denies_end {
            true => Decision::Deny(ClientResponse::text(422, "not this one").header(
                HeaderName::from_static("x-reason"),
                HeaderValue::from_static("a virus"),
            )),
            false => Decision::Allow(ClientResponse::text(200, "thank you")),
        })
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Events(pub(super) Arc<Mutex<Vec<(EventKind, u64)>>>);

#[async_trait]
impl EventSink for Events {
    fn event_kinds(&self) -> EventKinds {
        EventKinds {
            created: true,
            completed: true,
            terminated: true,
            expired: true,
            ..EventKinds::NONE
        }
    }

    fn emit_progress(&self, _: Event) {}

    async fn emit(&self, event: Event) {
        self.0.lock().unwrap().push((event.kind, event.offset));
    }
}

pub(super) fn with_gate(gate: &Gate, events: &Events) -> impl Fn(&mut Config) {
    let (gate, events) = (gate.clone(), events.clone());
    move |config| *config = config.clone().hook(gate.clone()).sink(events.clone())
}

#[tokio::test]
async fn the_hook_gives_the_final_response_once() {
    let (gate, events) = (Gate::default(), Events::default());
    everywhere(with_gate(&gate, &events), async |site| {
        let whole = creation(site, NEWEST, true).body("hello");
        let chunked = creation(site, NEWEST, true).chunked(&["hello"], &[]);
        for sent in [whole, chunked] {
            let reply = sent.send().await.expect(200);
            assert_complete(&reply, NEWEST, true);
            assert_eq!(reply.body, "thank you");
            assert_eq!(std::mem::take(&mut *gate.finished.lock().unwrap()), [5]);
            let expected = [(EventKind::Created, 0), (EventKind::Completed, 5)];
            assert_eq!(std::mem::take(&mut *events.0.lock().unwrap()), expected);
        }
        for length in [None, Some("10")] {
            let sent = creation(site, NEWEST, false);
            let sent = match length {
                Some(length) => sent.with("Upload-Length", length),
                None => sent,
            };
            let path = sent.body("hello").send().await.expect(201).location();
            append(site, NEWEST, &path, 5, false)
                .body("world")
                .send()
                .await
                .expect(204);
            assert!(gate.finished.lock().unwrap().is_empty());
            let again = Site::sharing_store(site, with_gate(&gate, &events)).await;
            for _ in 0..2 {
                let reply = append(&again, NEWEST, &path, 10, true)
                    .body("")
                    .send()
                    .await
                    .expect(200);
                assert_complete(&reply, NEWEST, true);
                assert_eq!(reply.body, "thank you");
            }
            assert_eq!(std::mem::take(&mut *gate.finished.lock().unwrap()), [10]);
            let expected = [(EventKind::Created, 0), (EventKind::Completed, 10)];
            assert_eq!(std::mem::take(&mut *events.0.lock().unwrap()), expected);
        }
    })
    .await;
}

#[tokio::test]
async fn denials_are_final() {
    let (gate, events) = (
        Gate {
            denies_end: true,
            ..Gate::default()
        },
        Events::default(),
    );
    everywhere(with_gate(&gate, &events), async |site| {
        let reply = creation(site, NEWEST, true)
            .body("thirteen byte")
            .send()
            .await
            .expect(403);
        assert_complete(&reply, NEWEST, true);
        assert_eq!(
            (reply.header("location"), reply.body.as_str()),
            (None, "not thirteen")
        );
        let path = create(site, NEWEST, "hello").await;
        let reply = append(site, NEWEST, &path, 5, true)
            .body("")
            .send()
            .await
            .expect(422);
        assert_complete(&reply, NEWEST, true);
        assert_eq!(reply.body, "not this one");
        head(site, NEWEST, &path).await.expect(404);
        assert_eq!(site.uploads().await, 0);
    })
    .await;
}

fn denying(config: &mut Config, gate: &Gate, events: &Events) {
    with_gate(gate, events)(config);
    config.lifetimes.unfinished = Some(Duration::from_secs(3600));
}

#[tokio::test]
async fn a_denial_is_repeated_to_a_client_that_missed_it() {
    let gate = Gate {
        denies_end: true,
        ..Gate::default()
    };
    let events = Events::default();
    let change = |config: &mut Config| denying(config, &gate, &events);
    everywhere(change, async |site| {
        let by_tus = site.create(5).await;
        let reply = site.patch(&by_tus, 0, "hello").await;
        assert_denied(&reply, "not this one");
        let by_draft = create(site, NEWEST, "hello").await;
        let sent = append(site, NEWEST, &by_draft, 5, true).body("");
        let reply = sent.clone().send().await;
        assert_denied(&reply, "not this one");
        assert_complete(&reply, NEWEST, true);
        for (number, path) in [by_tus, by_draft].into_iter().enumerate() {
            // Also after a restart.
            let again = &Site::sharing_store(site, change).await;
            for site in [site, again] {
                let reply = append(site, NEWEST, &path, 5, true).body("").send().await;
                assert_denied(&reply, "not this one");
                assert_complete(&reply, NEWEST, true);
                for method in ["HEAD", "GET"] {
                    let reply = request(site, NEWEST, method, &path).send().await;
                    assert_denied(&reply, "");
                    assert_complete(&reply, NEWEST, true);
                }
                assert_denied(&site.patch(&path, 0, "hello").await, "not this one");
                assert_denied(&site.head(&path).await, "");
                let reply = site.request("GET", &path).send().await;
                assert_denied(&reply, "not this one");
                // For all others it is removed.
                assert!(site.handler.get(&id(&path)).await.unwrap().is_none());
                site.delete(&path).await.expect(404);
            }
            let stored = site.parts.store().load(&id(&path)).await.unwrap();
            assert_eq!(stored.offset, 0);
            if number == 0 {
                assert!(site.handler.remove(&id(&path)).await.unwrap());
            } else {
                let ended = Site::sharing_store(site, |config| {
                    denying(config, &gate, &events);
                    config.lifetimes.unfinished = Some(Duration::ZERO);
                });
                let sweeper = ended.await.handler.sweeper();
                // The lifetime ends with a whole second.
                until(async || sweeper.run(|_| {}).await.unwrap().removed > 0).await;
            }
            site.head(&path).await.expect(404);
        }
        assert_eq!(site.uploads().await, 0);
        assert_eq!(std::mem::take(&mut *gate.finished.lock().unwrap()), [5, 5]);
        let expected = [(EventKind::Created, 0), (EventKind::Terminated, 5)];
        let emitted = std::mem::take(&mut *events.0.lock().unwrap());
        assert_eq!(emitted, [expected, expected].concat());
    })
    .await;
}

/// An application that names uploads itself can use the name of a denied one.
#[tokio::test]
async fn the_id_of_a_denied_upload_can_be_used_again() {
    let gate = Gate {
        denies_end: true,
        ..Gate::default()
    };
    let change = |config: &mut Config| {
        denying(config, &gate, &Events::default());
        *config = config.clone().before_create(|_, _| async {
            Ok(CreateDecision::allow().id(UploadId::new("report").unwrap()))
        });
    };
    everywhere(change, async |site| {
        for data in ["hello", "world"] {
            let reply = creation(site, NEWEST, true).body(data).send().await;
            assert_denied(&reply, "not this one");
            assert_denied(&head(site, NEWEST, "/files/report").await, "");
        }
        let path = create(site, NEWEST, "hello").await;
        let reply = head(site, NEWEST, &path).await.expect(204);
        assert_eq!(reply.number("upload-offset"), 5);
    })
    .await;
}

#[track_caller]
fn assert_denied(reply: &TestResponse, body: &str) {
    let found = (reply.status, reply.header("x-reason"), &*reply.body);
    assert_eq!(found, (422, Some("a virus"), body), "{reply:?}");
}
