//! Requests whose response is lost and that come again, also at another process, and decisions that are made
//! at the second time.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use landfall::{
    BoxError, Config, Handler,
    event::EventKind,
    hook::{ClientResponse, CreateDecision, Decision, Hook, HookPoints, RequestInfo},
    upload::{Snapshot, Upload, UploadId},
};

use super::{
    assert_content,
    client::{self, Creation, Response},
    open,
};
use crate::{record::RecordingSink, test_data};

const LENGTH: u64 = 30_000;

fn bytes(seed: u64) -> Bytes {
    test_data::bytes(seed, LENGTH as usize)
}

/// Chooses the id that the metadata contains, and decides about completion once it may.
#[derive(Debug, Clone, Default)]
struct Application(Arc<AtomicBool>);

impl Application {
    fn is_down(&self, is_down: bool) {
        self.0.store(is_down, Relaxed);
    }
}

#[async_trait]
impl Hook for Application {
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
        let mut decision = CreateDecision::allow();
        if let Some(name) = upload.metadata.get_text("id") {
            decision.id = Some(UploadId::new(&name)?);
        }
        Ok(decision)
    }

    async fn before_finish(&self, _: &RequestInfo, _: &Snapshot) -> Result<Decision, BoxError> {
        match self.0.load(Relaxed) {
            true => Err("the application is down".into()),
            false => Ok(Decision::Allow(ClientResponse::default().header(
                http::HeaderName::from_static("x-decision"),
                http::HeaderValue::from_static("kept"),
            ))),
        }
    }
}

struct Site {
    config: Config,
    application: Application,
    record: RecordingSink,
    /// Two processes with the same store.
    handlers: [Handler; 2],
}

impl Site {
    fn new(config: &Config) -> Self {
        let (application, record) = (Application::default(), RecordingSink::default());
        let config = config.clone().hook(application.clone());
        let config = config.sink(record.clone());
        Self {
            handlers: [open(&config), open(&config)],
            application,
            record,
            config,
        }
    }

    /// The first process shuts down, and another one takes its place.
    async fn restart(&mut self) {
        self.handlers[0].shutdown().await;
        self.handlers[0] = open(&self.config);
    }

    fn completed(&self) -> Vec<UploadId> {
        let events = self.record.events().into_iter();
        let completed = events.filter(|event| event.kind == EventKind::Completed);
        completed.map(|event| event.upload.id.clone()).collect()
    }

    /// Those that were created and not removed.
    fn existing(&self) -> BTreeSet<UploadId> {
        let mut ids = BTreeSet::new();
        for event in self.record.events() {
            match event.kind {
                EventKind::Created => ids.insert(event.upload.id.clone()),
                EventKind::Terminated => ids.remove(&event.upload.id),
                _ => false,
            };
        }
        ids
    }

    async fn partial(&self, seed: u64) -> UploadId {
        let id = client::create_partial(&self.handlers[0], LENGTH).await;
        let body = client::body(bytes(seed));
        let appended = client::append(&self.handlers[0], &id, 0, LENGTH, body).await;
        appended.expect(204);
        id
    }
}

#[track_caller]
fn assert_passes(response: &Response, statuses: &[u16]) {
    assert!(
        statuses.contains(&response.status.as_u16()),
        "{response:?} does not let clients ask again"
    );
    assert!(response.number("retry-after").is_some(), "{response:?}");
}

pub(super) async fn a_creation_with_the_id_of_the_application_is_answered_again(config: &Config) {
    let mut site = Site::new(config);
    let regular = Creation::of(LENGTH).id("regular");
    let mut creations = vec![regular.clone(), Creation::of(0).id("empty")];
    let mut others = vec![
        Creation::of(LENGTH + 1).id("regular"),
        regular.clone().meta("name", "other"),
    ];
    if config.store.concatenator().is_some() {
        creations.push(Creation::of(LENGTH).id("partial").concat("partial"));
        others.push(regular.clone().concat("partial"));
    }
    for creation in &creations {
        let id = creation.send(&site.handlers[0]).await.expect(201).id();
        site.restart().await;
        for handler in &site.handlers {
            let again = creation.send(handler).await.expect(201);
            assert_eq!(again.id(), id, "another upload was created");
        }
        let with_content = creation.clone().content(bytes(1));
        if creation.length > 0 {
            // Bytes that the client sent with it count from the next request on.
            let again = with_content.send(&site.handlers[0]).await.expect(201);
            assert_eq!((again.id(), again.number("upload-offset")), (id, Some(0)));
        }
    }
    for other in others {
        other.send(&site.handlers[1]).await.expect(409);
    }
    assert_eq!(site.existing().len(), creations.len());
    assert_eq!(site.completed().len(), 1, "the empty one, once");
    let id = regular.send(&site.handlers[0]).await.expect(201).id();
    let half = client::body(bytes(1).slice(..10));
    let appended = client::append(&site.handlers[0], &id, 0, 10, half).await;
    appended.expect(204);
    for handler in &site.handlers {
        regular.send(handler).await.expect(409);
        assert_eq!(client::offset(handler, &id).await, Some(10));
    }
}

pub(super) async fn an_append_is_answered_again_or_its_offset_is_known(config: &Config) {
    let mut site = Site::new(config);
    let id = client::create_empty(&site.handlers[0], LENGTH).await;
    let half = LENGTH / 2;
    let (first, rest) = (
        bytes(1).slice(..half as usize),
        bytes(1).slice(half as usize..),
    );
    for (offset, part) in [(0, first), (half, rest)] {
        let body = client::body(part.clone());
        let appended = client::append(&site.handlers[0], &id, offset, half, body).await;
        appended.expect(204);
        site.restart().await;
        for handler in &site.handlers {
            let body = client::body(part.clone());
            let again = client::append(handler, &id, offset, half, body).await;
            let again = again.expect(409);
            assert_eq!(again.number("upload-offset"), Some(offset + half));
            assert_eq!(client::offset(handler, &id).await, Some(offset + half));
        }
    }
    for handler in &site.handlers {
        let body = client::body(Bytes::new());
        let again = client::append(handler, &id, LENGTH, 0, body).await;
        let again = again.expect(204);
        assert_eq!(again.headers["x-decision"], "kept");
    }
    assert_eq!(site.completed(), std::slice::from_ref(&id));
    assert_content(&site.config, &site.handlers[1], &id, &bytes(1)).await;
}

pub(super) async fn a_removed_upload_stays_removed(config: &Config) {
    let mut site = Site::new(config);
    let named = Creation::of(LENGTH).id("named");
    let first = named.send(&site.handlers[0]).await.expect(201).id();
    client::delete(&site.handlers[0], &first).await.expect(204);
    site.restart().await;
    for handler in &site.handlers {
        client::delete(handler, &first).await.expect(404);
        client::head(handler, &first).await.expect(404);
    }
    // The name is free again.
    named.send(&site.handlers[1]).await.expect(201);
    assert_eq!(site.existing().len(), 1);
}

pub(super) async fn a_final_upload_is_answered_again(config: &Config) {
    let mut site = Site::new(config);
    let parts = [site.partial(0).await, site.partial(1).await];
    let [first, second] = [&parts[0], &parts[1]];
    let list = Creation::joining(&parts).meta("name", "whole");
    // Two at once, as after the time limit of a proxy.
    let [one, other] = &site.handlers;
    let (sent, again) = tokio::join!(list.send(one), list.send(other));
    let id = sent.expect(201).id();
    assert_eq!(again.expect(201).id(), id, "a second copy");
    site.restart().await;
    for handler in &site.handlers {
        let again = list.send(handler).await.expect(201);
        assert_eq!(again.id(), id, "a second copy");
        assert_eq!(again.headers["x-decision"], "kept");
    }
    assert_eq!(site.completed().iter().filter(|one| **one == id).count(), 1);
    let whole = [bytes(0), bytes(1)].concat();
    assert_content(&site.config, &site.handlers[0], &id, &whole).await;

    let others = [
        Creation::joining(&parts).meta("name", "other"),
        Creation::joining(&[second.clone(), first.clone()]).meta("name", "whole"),
    ];
    for other in others {
        assert_ne!(other.send(&site.handlers[0]).await.expect(201).id(), id);
    }
    // A part that is named again.
    let again = [first, second, first].map(Clone::clone);
    let again = Creation::joining(&again);
    let id = again.send(&site.handlers[0]).await.expect(201).id();
    site.restart().await;
    for handler in &site.handlers {
        assert_eq!(again.send(handler).await.expect(201).id(), id);
    }
    let whole = [bytes(0), bytes(1), bytes(0)].concat();
    assert_content(&site.config, &site.handlers[1], &id, &whole).await;
    // One that waits for its parts.
    let open = client::create_partial(&site.handlers[0], LENGTH).await;
    let waiting = Creation::joining(&[first.clone(), open]);
    let id = waiting.send(&site.handlers[1]).await.expect(201).id();
    assert_eq!(waiting.send(&site.handlers[1]).await.expect(201).id(), id);
}

pub(super) async fn a_completion_is_decided_when_the_application_is_back(config: &Config) {
    let mut site = Site::new(config);
    site.application.is_down(true);
    let id = client::create_empty(&site.handlers[0], LENGTH).await;
    let body = client::body(bytes(1));
    let appended = client::append(&site.handlers[0], &id, 0, LENGTH, body).await;
    assert_passes(&appended, &[423]);
    site.restart().await;
    for handler in &site.handlers {
        assert_passes(&client::head(handler, &id).await, &[423]);
        if config.store.reader().is_some() {
            assert_passes(&client::get(handler, &id).await, &[423]);
        }
        let body = client::body(Bytes::new());
        let again = client::append(handler, &id, LENGTH, 0, body).await;
        assert_passes(&again, &[423]);
    }
    assert_eq!(site.completed(), []);
    site.application.is_down(false);
    for handler in &site.handlers {
        assert_eq!(client::offset(handler, &id).await, Some(LENGTH));
    }
    assert_eq!(site.completed(), std::slice::from_ref(&id));
    assert_content(&site.config, &site.handlers[1], &id, &bytes(1)).await;
}

/// Its client does not learn the URL and creates another one.
pub(super) async fn a_creation_whose_completion_fails_leaves_nothing(config: &Config) {
    let mut site = Site::new(config);
    let mut creations = vec![
        Creation::of(LENGTH).content(bytes(1)),
        Creation::of(LENGTH).id("whole").content(bytes(1)),
        Creation::of(0),
        Creation::of(0).id("empty"),
    ];
    if config.store.concatenator().is_some() {
        let parts = [site.partial(0).await, site.partial(1).await];
        creations.push(Creation::joining(&parts));
        creations.push(Creation::joining(&parts).id("joined"));
    }
    for creation in &creations {
        let (before, completed) = (site.existing(), site.completed());
        site.application.is_down(true);
        for _ in 0..2 {
            assert_passes(&creation.send(&site.handlers[0]).await, &[500]);
            assert_eq!(site.existing(), before, "what {creation:?} left");
        }
        site.restart().await;
        site.application.is_down(false);
        assert_eq!(site.completed(), completed, "what completed alone");
        let id = creation.send(&site.handlers[0]).await.expect(201).id();
        assert_eq!(site.completed().strip_prefix(&*completed), Some(&[id][..]));
    }
}
