//! Idempotency keys, upload tokens, and removals.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use landfall::{
    BoxError, Config, Handler,
    event::{Event, EventKind, EventKinds, EventSink, TerminationReason},
    hook::{
        ClientResponse, CreateDecision, Decision, Hook, HookPoints, IdempotencyError,
        IdempotencyKey, RequestInfo,
    },
    store::MemoryStore,
    upload::{Snapshot, Upload, UploadId},
};

use crate::harness::{DATA, Site, everywhere, id};

type Noted = Arc<Mutex<Option<UploadId>>>;

/// A claim that all creations share.
#[derive(Debug, Clone)]
struct One {
    key: UploadId,
    noted: Noted,
    lost: bool,
    /// Whether `stored_id` looks; otherwise `store_id` finds the other upload.
    looks: bool,
    /// By this creation.
    found: Arc<AtomicBool>,
}

impl One {
    fn new() -> Self {
        Self::with(true)
    }

    fn with(looks: bool) -> Self {
        Self {
            key: UploadId::new("one").unwrap(),
            noted: Noted::default(),
            lost: false,
            looks,
            found: Arc::default(),
        }
    }
}

#[async_trait]
impl IdempotencyKey for One {
    fn key(&self) -> Option<&UploadId> {
        Some(&self.key)
    }

    async fn stored_id(&self) -> Result<Option<UploadId>, IdempotencyError> {
        let noted = self.noted.lock().unwrap().clone();
        Ok(noted.filter(|_| self.looks))
    }

    async fn store_id(&self, upload: &mut Upload) -> Result<Option<UploadId>, IdempotencyError> {
        if self.lost {
            return Err(IdempotencyError::lost(ClientResponse::text(
                410, "too late",
            )));
        }
        let noted = self.noted.lock().unwrap().clone();
        if !self.looks && noted.is_some() && !self.found.swap(true, Relaxed) {
            return Ok(noted);
        }
        // Long enough for others to come in between, if they could.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        upload.labels.insert("noted".into(), "yes".into());
        *self.noted.lock().unwrap() = Some(upload.id.clone());
        Ok(None)
    }
}

/// Sets an idempotency key for every creation, and records its calls.
#[derive(Debug)]
struct Claims {
    claim: One,
    length: Option<u64>,
    seen: Arc<Mutex<Vec<RequestInfo>>>,
}

#[async_trait]
impl Hook for Claims {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_create: true,
            before_finish: true,
            ..HookPoints::default()
        }
    }

    async fn before_create(
        &self,
        request: &RequestInfo,
        _: &Upload,
    ) -> Result<CreateDecision, BoxError> {
        self.seen.lock().unwrap().push(request.clone());
        let mut creation = CreateDecision::allow();
        creation.idempotency = Some(Arc::new(One {
            found: Arc::default(),
            ..self.claim.clone()
        }));
        creation.length = self.length;
        Ok(creation)
    }

    async fn before_finish(&self, _: &RequestInfo, found: &Snapshot) -> Result<Decision, BoxError> {
        Ok(match found.upload.metadata.get("refuse") {
            Some(_) => Decision::Deny(ClientResponse::text(422, "no")),
            None => Decision::allow(),
        })
    }
}

fn claims(config: &mut Config, claim: &One, length: Option<u64>) -> Arc<Mutex<Vec<RequestInfo>>> {
    let seen = Arc::<Mutex<Vec<_>>>::default();
    *config = config.clone().hook(Claims {
        claim: claim.clone(),
        length,
        seen: seen.clone(),
    });
    seen
}

#[tokio::test]
async fn ten_at_once_make_one_upload() {
    for looks in [true, false] {
        everywhere(
            |config| {
                claims(config, &One::with(looks), None);
            },
            async |site| {
                let all = (0..10).map(|_| {
                    let ask = site.request("POST", "/files/").with("Upload-Length", "5");
                    tokio::spawn(async move { ask.send().await.expect(201).location() })
                });
                let mut paths = Vec::new();
                for one in all.collect::<Vec<_>>() {
                    paths.push(one.await.unwrap());
                }
                paths.dedup();
                assert_eq!(paths.len(), 1, "{paths:?}");
                assert_eq!(site.uploads().await, 1);
                let found = site.parts.store().load(&id(&paths[0])).await.unwrap();
                assert_eq!(found.upload.labels["noted"], "yes");
            },
        )
        .await;
    }
}

#[tokio::test]
async fn a_creation_that_was_killed_halfway_is_made_anew() {
    for looks in [true, false] {
        everywhere(
            |config| {
                claims(config, &One::with(looks), None);
            },
            async |site| {
                let Some(dir) = site.dir() else { return };
                let first = site.create(5).await;
                // As a process leaves it that is killed before it has written the description.
                std::fs::write(dir.join(format!("{}.info", id(&first))), "").unwrap();
                let second = site.create(5).await;
                assert_ne!(second, first);
                assert_eq!(site.create(5).await, second);
            },
        )
        .await;
    }
}

#[tokio::test]
async fn a_lost_answer_is_given_again_with_the_offset() {
    for looks in [true, false] {
        everywhere(
            |config| {
                claims(config, &One::with(looks), None);
            },
            async |site| {
                let creation = [("Upload-Length", "11"), ("Content-Type", DATA)];
                let first = site
                    .request("POST", "/files/")
                    .with_all(&creation)
                    .body("hello")
                    .send();
                let first = first.await.expect(201);
                assert_eq!(first.header("upload-offset"), Some("5"));
                let path = first.location();
                site.patch(&path, 5, " wo").await.expect(204);
                // Its body is not read.
                let again = site
                    .request("POST", "/files/")
                    .with_all(&creation)
                    .body("HELLO")
                    .send();
                let again = again.await.expect(201);
                assert_eq!(again.header("upload-offset"), Some("8"));
                assert_eq!(again.location(), path);
                site.patch(&path, 8, "rld").await.expect(204);
                assert_eq!(site.bytes(&path).await, "hello world");
            },
        )
        .await;
    }
}

#[tokio::test]
async fn a_stored_id_without_an_upload_is_created() {
    for looks in [true, false] {
        everywhere(
            |config| {
                let claim = One::with(looks);
                *claim.noted.lock().unwrap() = Some(UploadId::new("never-made").unwrap());
                claims(config, &claim, None);
            },
            async |site| {
                let path = site.create(5).await;
                assert_ne!(id(&path).as_str(), "never-made");
                assert_eq!(site.create(5).await, path);
            },
        )
        .await;
    }
}

#[tokio::test]
async fn a_lost_key_returns_its_response() {
    everywhere(
        |config| {
            let claim = One {
                lost: true,
                ..One::new()
            };
            claims(config, &claim, None);
        },
        async |site| {
            let reply = site.post(&[("Upload-Length", "5")]).await.expect(410);
            assert_eq!(reply.body, "too late");
            assert_eq!(site.uploads().await, 0);
        },
    )
    .await;
}

#[tokio::test]
async fn a_hook_sets_the_length_that_was_left_for_later() {
    everywhere(
        |config| {
            claims(config, &One::new(), Some(5));
        },
        async |site| {
            let path = site.create_with(&[("Upload-Defer-Length", "1")]).await;
            assert_eq!(site.head(&path).await.header("upload-length"), Some("5"));
            let other = site
                .patching(&path, 0)
                .with("Upload-Length", "6")
                .body("hello!");
            other.send().await.expect(400);
            let same = site
                .patching(&path, 0)
                .with("Upload-Length", "5")
                .body("hello");
            same.send().await.expect(204);
        },
    )
    .await;
}

#[tokio::test]
async fn tokens_go_no_further_than_the_hook() {
    // `token bGZ0X3g=` is `lft_x`.
    for (name, value) in [
        ("Upload-Token", "lft_x"),
        ("Authorization", "Bearer lft_x"),
        ("Upload-Metadata", "filename YQ==,token bGZ0X3g="),
    ] {
        let mut config = Config::new(landfall::Composer::join(MemoryStore::new()));
        let seen = claims(&mut config, &One::new(), None);
        let site = Site::start(config, None).await;
        let path = site
            .create_with(&[("Upload-Length", "5"), (name, value)])
            .await;
        let requests = seen.lock().unwrap().clone();
        assert_eq!(requests[0].token.as_ref().unwrap().as_str(), "lft_x");
        for secret in ["lft_x", "bGZ0X3g"] {
            assert!(!format!("{requests:?}").contains(secret), "{requests:?}");
            let found = site.parts.store().load(&id(&path)).await.unwrap();
            assert!(!format!("{found:?}").contains(secret));
        }
        assert!(
            site.head(&path)
                .await
                .header("upload-metadata")
                .is_none_or(|kept| kept == "filename YQ==")
        );
    }
}

#[derive(Debug, Clone, Default)]
struct Removals(Arc<Mutex<Vec<Option<TerminationReason>>>>);

#[async_trait]
impl EventSink for Removals {
    fn event_kinds(&self) -> EventKinds {
        EventKinds::ALL
    }

    async fn emit(&self, event: Event) {
        if event.kind == EventKind::Terminated {
            self.0.lock().unwrap().push(event.reason);
        }
    }

    fn emit_progress(&self, _: Event) {}
}

#[tokio::test]
async fn removals_say_why() {
    let mut config = Config::new(landfall::Composer::join(MemoryStore::new()));
    claims(&mut config, &One::new(), None);
    let removals = Removals::default();
    let config = config.sink(removals.clone());
    let site = Site::start(config, None).await;
    let handler: Handler = site.handler.clone();

    let path = site.create(5).await;
    site.request("DELETE", &path).send().await.expect(204);

    let path = site.create(5).await;
    assert!(handler.remove(&id(&path)).await.unwrap());
    assert!(!handler.remove(&id(&path)).await.unwrap());

    let path = site
        .create_with(&[("Upload-Length", "2"), ("Upload-Metadata", "refuse")])
        .await;
    site.patch(&path, 0, "no").await.expect(422);

    let bad = [
        ("Upload-Length", "2"),
        ("Content-Type", DATA),
        ("Upload-Checksum", "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ];
    site.request("POST", "/files/")
        .with_all(&bad)
        .body("no")
        .send()
        .await
        .expect(460);
    let told = removals.0.lock().unwrap().clone();
    let all = [
        TerminationReason::Client,
        TerminationReason::Application,
        TerminationReason::Hook,
        TerminationReason::RolledBack,
    ];
    assert_eq!(told, all.map(Some));
}

#[tokio::test]
async fn the_application_removes_an_upload_during_a_write() {
    everywhere(
        |_| {},
        async |site| {
            let path = site.create(1 << 20).await;
            let mut writing = site.open_patch(&path, 0, 1000000).await;
            writing.write("begun").await;
            site.until_offset(&path, 5).await;
            assert!(site.handler.remove(&id(&path)).await.unwrap());
            assert!(writing.reply().await.status >= 400);
            assert_eq!(site.head(&path).await.status, 404);
            assert!(site.handler.get(&id(&path)).await.unwrap().is_none());
        },
    )
    .await;
}
