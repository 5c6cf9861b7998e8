//! Hooks and events of uploads by the draft.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use landfall::{
    BoxError, Config,
    event::{Event, EventKind, EventKinds, EventSink},
    hook::{ClientResponse, CreateDecision, Decision, Hook, HookPoints, RequestInfo},
    upload::{Snapshot, Upload},
};

use super::{NEWEST, append, assert_complete, create, creation, everywhere, head};
use crate::harness::Site;

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
            true => Decision::Deny(ClientResponse::text(422, "not this one")),
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
async fn r_76_r_77_the_hook_gives_the_final_response_once() {
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
