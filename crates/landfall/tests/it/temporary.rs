//! Temporary errors have a status after which clients wait: 423 on HEAD, and otherwise a status that they repeat a request after.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use landfall::{
    BoxError, Composer, Config,
    event::{Event, EventKinds, EventSink},
    hook::{Access, ClientResponse, Decision, Hook, HookPoints, RequestInfo},
    lease::{Lease, LeaseError, Locker, MemoryLocker},
    store::MemoryStore,
    upload::{Snapshot, UploadId},
};
use landfall_testkit::fault::{Failure, Fault, FaultStore, Faults, StoreCall};

use crate::harness::{Site, TestResponse, everywhere};

#[track_caller]
fn passes(reply: &TestResponse, statuses: &[u16]) {
    assert!(statuses.contains(&reply.status), "{reply:?}");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    assert_eq!(reply.header("upload-offset"), None, "{reply:?}");
}

#[tokio::test]
async fn errors_of_the_store_lose_no_upload() {
    let faults = Faults::none();
    let store = FaultStore::new(MemoryStore::new(), faults.clone());
    let site = Site::start(Config::new(Composer::join(store)), None).await;
    let path = site.create(100).await;
    for failure in [Failure::Full, Failure::Io, Failure::Unavailable] {
        let fail = |call| faults.plan(call, Fault::Before(failure));
        fail(StoreCall::Load);
        passes(&site.head(&path).await, &[423]);
        let overriding = site.request("POST", &path);
        let overriding = overriding.with("X-HTTP-Method-Override", "HEAD");
        fail(StoreCall::Load);
        passes(&overriding.send().await, &[423]);
        for call in [StoreCall::Resume, StoreCall::Commit] {
            let offset = site.offset(&path).await;
            fail(call);
            passes(&site.patch(&path, offset, "a").await, &[500, 503, 507]);
        }
        let offset = site.offset(&path).await;
        site.patch(&path, offset, "a").await.expect(204);
        fail(StoreCall::Create);
        let reply = site.post(&[("Upload-Length", "5")]).await;
        passes(&reply, &[500, 503, 507]);
        let removed = site.create(5).await;
        fail(StoreCall::Terminate);
        passes(&site.delete(&removed).await, &[500, 503, 507]);
        site.delete(&removed).await.expect(204);
    }
    assert_eq!(faults.happened(), 3 * 6);
}

/// Decides about access as it is told.
#[derive(Debug, Clone, Default)]
struct Door(Arc<Mutex<Option<Result<Decision, String>>>>);

#[async_trait]
impl Hook for Door {
    fn points(&self) -> HookPoints {
        HookPoints {
            on_access: true,
            ..HookPoints::default()
        }
    }

    async fn on_access(&self, _: &RequestInfo, _: &Access) -> Result<Decision, BoxError> {
        let decision = self.0.lock().unwrap().clone();
        Ok(decision.unwrap_or_else(|| Ok(Decision::allow()))?)
    }
}

#[tokio::test]
async fn an_access_hook_that_cannot_decide_loses_no_upload() {
    let door = Door::default();
    let change = |config: &mut Config| *config = config.clone().hook(door.clone());
    everywhere(change, async |site| {
        let decide = |decision| *door.0.lock().unwrap() = decision;
        decide(None);
        let path = site.create(5).await;
        let text = |status| ClientResponse::text(status, "later");
        for decision in [
            Err("no answer".to_owned()),
            Ok(Decision::Fail(ClientResponse::default())),
            Ok(Decision::Fail(text(503))),
            Ok(Decision::Deny(text(503))),
            Ok(Decision::Deny(text(429))),
        ] {
            decide(Some(decision));
            passes(&site.head(&path).await, &[423]);
            passes(&site.patch(&path, 0, "hello").await, &[500, 503, 429]);
            let reply = site.post(&[("Upload-Length", "5")]).await;
            passes(&reply, &[500, 503, 429]);
        }
        for status in [401, 403, 404, 410] {
            decide(Some(Ok(Decision::Deny(text(status)))));
            for reply in [site.head(&path).await, site.patch(&path, 0, "hello").await] {
                assert_eq!(reply.status, status);
                assert_eq!(reply.header("retry-after"), None, "a refusal is final");
            }
        }
        decide(None);
        assert_eq!(site.offset(&path).await, 0);
    })
    .await;
}

/// A hook, a sink and a locker; each can be away.
#[derive(Debug, Clone)]
struct Backend {
    hook: Arc<AtomicBool>,
    sink: Arc<AtomicBool>,
    leases: Arc<AtomicBool>,
    locker: Arc<MemoryLocker>,
}

fn answer(is_away: &AtomicBool) -> Result<(), BoxError> {
    match is_away.load(Relaxed) {
        true => Err("no connection".into()),
        false => Ok(()),
    }
}

#[async_trait]
impl Hook for Backend {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_finish: true,
            ..HookPoints::default()
        }
    }

    async fn before_finish(&self, _: &RequestInfo, _: &Snapshot) -> Result<Decision, BoxError> {
        answer(&self.hook)?;
        Ok(Decision::allow())
    }
}

#[async_trait]
impl EventSink for Backend {
    fn event_kinds(&self) -> EventKinds {
        EventKinds {
            completed: true,
            ..EventKinds::NONE
        }
    }

    async fn prepare(&self, _: &[Event]) -> Result<(), BoxError> {
        answer(&self.sink)
    }

    async fn emit(&self, _: Event) {}

    fn emit_progress(&self, _: Event) {}
}

#[async_trait]
impl Locker for Backend {
    async fn acquire_at(
        &self,
        id: &UploadId,
        offset: Option<u64>,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        answer(&self.leases).map_err(LeaseError::Unavailable)?;
        self.locker.acquire_at(id, offset, wait).await
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        answer(&self.leases).map_err(LeaseError::Unavailable)?;
        self.locker.try_acquire(id).await
    }
}

async fn with_backend(faults: Faults) -> (Site, Backend) {
    let backend = Backend {
        hook: Arc::default(),
        sink: Arc::default(),
        leases: Arc::default(),
        locker: Arc::new(MemoryLocker::new()),
    };
    let store = FaultStore::new(MemoryStore::new(), faults);
    let parts = Composer::join(store).with_locker(backend.clone());
    let config = Config::new(parts)
        .hook(backend.clone())
        .sink(backend.clone());
    (Site::start(config, None).await, backend)
}

/// Its client gets no URL, and creates another one: both would complete.
#[tokio::test]
async fn nothing_remains_of_an_empty_upload_whose_creation_fails() {
    let faults = Faults::none();
    let (site, backend) = with_backend(faults.clone()).await;
    let post = async || passes(&site.post(&[("Upload-Length", "0")]).await, &[500, 503]);
    for away in [&backend.hook, &backend.sink] {
        away.store(true, Relaxed);
        post().await;
        away.store(false, Relaxed);
        assert_eq!(site.uploads().await, 0);
    }
    for call in [StoreCall::Create, StoreCall::Load] {
        faults.plan(call, Fault::Before(Failure::Unavailable));
        post().await;
        assert_eq!(site.uploads().await, 0, "{call:?}");
    }
    site.create(0).await;
    assert_eq!(site.uploads().await, 1);
}

#[tokio::test]
async fn an_undecided_completion_waits_for_hooks_database_and_leases() {
    let (site, backend) = with_backend(Faults::none()).await;
    let path = site.create(5).await;
    backend.hook.store(true, Relaxed);
    let reply = site.patch(&path, 0, "hello").await;
    passes(&reply, &[423]);
    reply.refused(423, "ERR_COMPLETION_PENDING");
    for away in [&backend.hook, &backend.sink, &backend.leases] {
        backend.hook.store(false, Relaxed);
        away.store(true, Relaxed);
        passes(&site.head(&path).await, &[423]);
        passes(&site.patch(&path, 5, "").await, &[423, 503]);
        passes(&site.request("GET", &path).send().await, &[423, 503]);
        away.store(false, Relaxed);
    }
    assert_eq!(site.offset(&path).await, 5);
    site.patch(&path, 5, "").await.expect(204);
}
