//! Blocking hooks: when they are called, and the effects of their decisions.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use landfall::{
    BoxError, Composer, Config,
    event::{Event, EventKinds, EventSink},
    hook::{ClientResponse, CreateDecision, Decision, Hook, HookPoints, RequestInfo},
    store::file::FileStore,
    upload::{Metadata, Snapshot, Upload},
};
use landfall_test_services::until;

use crate::harness::{AtEnd, DATA, Site, everywhere, id};

/// Answers creations with a closure.
struct OnCreate<F>(F);

impl<F> std::fmt::Debug for OnCreate<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnCreate")
    }
}

#[async_trait]
impl<F: Fn(&Upload) -> CreateDecision + Send + Sync + 'static> Hook for OnCreate<F> {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_create: true,
            ..HookPoints::default()
        }
    }

    async fn before_create(
        &self,
        _: &RequestInfo,
        upload: &Upload,
    ) -> Result<CreateDecision, BoxError> {
        Ok((self.0)(upload))
    }
}

fn on_create(
    config: &mut Config,
    answer: impl Fn(&Upload) -> CreateDecision + Send + Sync + 'static,
) {
    add(config, OnCreate(answer));
}

fn add(config: &mut Config, hook: impl Hook) {
    *config = config.clone().hook(hook);
}

fn creation(change: impl FnOnce(&mut CreateDecision)) -> CreateDecision {
    let mut creation = CreateDecision::allow();
    change(&mut creation);
    creation
}

async fn load(site: &Site, path: &str) -> Snapshot {
    site.parts.store().load(&id(path)).await.unwrap()
}

#[tokio::test]
async fn changes_apply_in_order_and_are_seen_by_the_next() {
    everywhere(
        |config| {
            on_create(config, |_| {
                CreateDecision::allow()
                    .metadata(Metadata::from_pairs([("filename", "first")]))
                    .label("tenant", "7")
                    .label("who", "first")
            });
            on_create(config, |upload| {
                let seen = upload.metadata.get_text("filename").unwrap();
                CreateDecision::allow()
                    .label("seen", seen)
                    .label("who", "second")
            });
        },
        async |site| {
            let path = site.create(5).await;
            let upload = load(site, &path).await.upload;
            let labels: Vec<_> = upload.labels.iter().collect();
            let text = format!("{labels:?}");
            assert_eq!(
                text,
                r#"[("seen", "first"), ("tenant", "7"), ("who", "second")]"#
            );
            // Labels are the application's: no client sees them.
            let head = site.head(&path).await;
            assert_eq!(head.header("upload-metadata"), Some("filename Zmlyc3Q="));
        },
    )
    .await;
}

#[tokio::test]
async fn the_first_denial_wins() {
    let asked = Arc::new(AtomicUsize::new(0));
    let second = asked.clone();
    everywhere(
        move |config| {
            let refusal = || CreateDecision::deny(ClientResponse::text(402, "pay first"));
            on_create(config, move |_| refusal());
            let second = second.clone();
            on_create(config, move |_| {
                second.fetch_add(1, Ordering::Relaxed);
                CreateDecision::deny(ClientResponse::text(403, "never"))
            });
        },
        async |site| {
            let reply = site.post(&[("Upload-Length", "5")]).await.expect(402);
            assert_eq!(reply.body, "pay first");
            assert_eq!(site.uploads().await, 0);
        },
    )
    .await;
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_smallest_size_applies_to_late_and_unknown_lengths() {
    everywhere(
        |config| {
            config.limits.max_size = Some(100);
            for max in [20, 10, 1000] {
                on_create(config, move |_| {
                    creation(|answer| answer.max_size = Some(max))
                });
            }
        },
        async |site| {
            let reply = site.post(&[("Upload-Length", "11")]).await;
            let reply = reply.refused(413, "ERR_MAX_SIZE_EXCEEDED");
            assert!(reply.body.contains("10 bytes"), "{}", reply.body);
            assert_eq!(site.uploads().await, 0);
            site.create(10).await;

            let path = site.create_with(&[("Upload-Defer-Length", "1")]).await;
            let late = site.patching(&path, 0).with("Upload-Length", "11");
            late.body("hello").send().await.expect(413);
            let large = site.patching(&path, 0).body("hello world");
            large.send().await.expect(413);
            site.patch(&path, 0, "hello").await.expect(204);
            let end = site.patching(&path, 5).with("Upload-Length", "10");
            end.body("world").send().await.expect(204);
        },
    )
    .await;
}

#[tokio::test]
async fn types_that_are_not_allowed_are_rejected_with_415() {
    everywhere(
        |config| {
            on_create(config, |_| {
                creation(|answer| answer.content_types = vec!["image/*".into()])
            });
        },
        async |site| {
            let typed = |base64: &str| format!("filetype {base64}");
            let png = typed("aW1hZ2UvcG5n");
            site.create_with(&[("Upload-Length", "5"), ("Upload-Metadata", &png)])
                .await;
            let html = typed("dGV4dC9odG1s");
            let headers = [("Upload-Length", "5"), ("Upload-Metadata", &*html)];
            let reply = site.post(&headers).await.expect(415);
            assert!(reply.body.contains("text/html"), "{}", reply.body);
            site.post(&[("Upload-Length", "5")]).await.expect(415);
        },
    )
    .await;
}

fn final_response() -> ClientResponse {
    let name = http::HeaderName::from_static("x-invoice");
    let mut reply =
        ClientResponse::text(200, "thank you").header(name, http::HeaderValue::from_static("17"));
    for cookie in ["a=1", "b=2"] {
        let value = http::HeaderValue::from_static(cookie);
        reply.headers.append(http::header::SET_COOKIE, value);
    }
    // None of these is a hook's to say.
    for name in [
        "upload-offset",
        "upload-expires",
        "upload-metadata",
        "tus-resumable",
        "tus-extension",
        "cache-control",
        "content-length",
    ] {
        let name = http::HeaderName::from_static(name);
        reply = reply.header(name, http::HeaderValue::from_static("99"));
    }
    reply
}

#[tokio::test]
async fn the_answer_at_the_end_is_kept_and_repeated_also_after_a_restart() {
    everywhere(
        |_| {},
        async |site| {
            let hook = AtEnd::answering([Decision::Allow(final_response())]);
            let asked = Site::sharing_store(site, |config| add(config, hook.clone())).await;
            let path = asked.create(5).await;
            asked.patch(&path, 0, "hel").await.expect(204);
            assert_eq!(hook.asked(), 0);
            // Nothing is served that the hook has not seen.
            let early = asked.request("GET", &path).send().await;
            early.refused(400, "ERR_INCOMPLETE_UPLOAD");
            asked.patch(&path, 3, "lo").await.expect(200);
            let restarted = Site::sharing_store(site, |config| add(config, hook.clone())).await;
            for server in [&asked, &restarted] {
                let again = server.patch(&path, 5, "").await.expect(200);
                assert_eq!(again.body, "thank you");
                assert_eq!(again.header("x-invoice"), Some("17"));
                assert_eq!(again.all("set-cookie"), ["a=1", "b=2"]);
                assert_eq!(again.header("upload-expires"), None);
                assert_eq!(again.header("upload-metadata"), None);
                assert_eq!(again.header("tus-extension"), None);
                assert_eq!(again.header("tus-resumable"), Some("1.0.0"));
                assert_eq!(again.header("cache-control"), Some("no-store"));
                assert_eq!(again.header("upload-offset"), Some("5"));
                let head = server.head(&path).await.expect(200);
                assert_eq!(head.header("x-invoice"), None);
            }
            assert_eq!(hook.asked(), 1);
        },
    )
    .await;
}

#[tokio::test]
async fn a_question_that_got_no_answer_comes_again_and_no_byte_is_lost() {
    everywhere(
        |_| {},
        async |site| {
            let hook = AtEnd::answering([
                Decision::Fail(ClientResponse::text(503, "the scanner is busy")),
                Decision::Fail(ClientResponse::default()),
                Decision::Allow(final_response()),
            ]);
            let asked = Site::sharing_store(site, |config| add(config, hook.clone())).await;
            let path = asked.create(5).await;
            let reply = asked.patch(&path, 0, "hello").await.expect(503);
            assert_eq!(reply.body, "the scanner is busy");
            let reply = asked.patch(&path, 5, "").await;
            reply.refused(423, "ERR_COMPLETION_PENDING");
            asked.patch(&path, 5, "").await.expect(200);
            assert_eq!(hook.asked(), 3);
            assert_eq!(asked.request("GET", &path).send().await.body, "hello");
        },
    )
    .await;
}

#[tokio::test]
async fn uploads_completed_before_the_hook_was_added_call_no_hook() {
    everywhere(
        |_| {},
        async |site| {
            let before = site.create(5).await;
            site.patch(&before, 0, "hello").await.expect(204);
            let half = site.create(5).await;
            site.patch(&half, 0, "hel").await.expect(204);

            let hook = AtEnd::default();
            let asked = Site::sharing_store(site, |config| add(config, hook.clone())).await;
            asked.head(&before).await.expect(200);
            asked.patch(&before, 5, "").await.expect(204);
            asked.handler.sweeper().run(|_| {}).await.unwrap();
            assert_eq!(hook.asked(), 0);
            // One that was begun then is another matter.
            asked.patch(&half, 3, "lo").await.expect(204);
            assert_eq!(hook.asked(), 1);
            asked.patch(&half, 5, "").await.expect(204);
            assert_eq!(hook.asked(), 1);
        },
    )
    .await;
}

#[tokio::test]
async fn uploads_completed_by_tusd_call_no_hook() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("old"), "hello").unwrap();
    std::fs::write(path("half"), "hel").unwrap();
    for name in ["old", "half"] {
        let info = format!(
            r#"{{"ID":"{name}","Size":5,"SizeIsDeferred":false,"Offset":0,"MetaData":{{}},"IsPartial":false,"IsFinal":false,"PartialUploads":null,"Storage":{{"Type":"filestore","Path":"{}"}}}}"#,
            path(name).display()
        );
        std::fs::write(path(&format!("{name}.info")), info).unwrap();
    }
    let store = FileStore::new(dir.path()).unwrap();
    let hook = AtEnd::default();
    let config = Config::new(Composer::join(store)).hook(hook.clone());
    let site = Site::start(config, None).await;
    site.head("/files/old").await.expect(200);
    site.patch("/files/old", 5, "").await.expect(204);
    assert_eq!(hook.asked(), 0);
    site.patch("/files/half", 3, "lo").await.expect(204);
    assert_eq!(hook.asked(), 1);
}

/// Moves the finished file away, as a hook or as a sink.
#[derive(Debug)]
struct Mover;

impl Mover {
    fn take(upload: &Upload) {
        std::fs::remove_file(&upload.storage["Path"]).unwrap();
        std::fs::remove_file(&upload.storage["InfoPath"]).unwrap();
    }
}

#[async_trait]
impl Hook for Mover {
    fn points(&self) -> HookPoints {
        AtEnd::default().points()
    }

    async fn before_finish(&self, _: &RequestInfo, done: &Snapshot) -> Result<Decision, BoxError> {
        Self::take(&done.upload);
        Ok(Decision::Allow(final_response()))
    }
}

#[async_trait]
impl EventSink for Mover {
    fn event_kinds(&self) -> EventKinds {
        EventKinds {
            completed: true,
            ..EventKinds::NONE
        }
    }

    async fn emit(&self, event: Event) {
        Self::take(&event.upload);
    }

    fn emit_progress(&self, _: Event) {}
}

#[tokio::test]
async fn hooks_and_sinks_may_move_the_finished_file() {
    let dir = tempfile::tempdir().unwrap();
    let parts = || Composer::join(FileStore::new(dir.path()).unwrap());
    for config in [
        Config::new(parts()).hook(Mover),
        Config::new(parts()).sink(Mover),
    ] {
        let status = if config.hooks.is_empty() { 204 } else { 200 };
        let site = Site::start(config, None).await;
        let path = site.create(5).await;
        site.patch(&path, 0, "hello").await.expect(status);
        site.head(&path).await.expect(404);
        let whole = site.request("POST", "/files/").with("Upload-Length", "5");
        let whole = whole.with("Content-Type", DATA).body("hello");
        let created = whole.send().await;
        assert!(matches!(created.status, 200 | 201), "{created:?}");
        site.head(&created.location()).await.expect(404);
    }
    let mut left = std::fs::read_dir(dir.path()).unwrap();
    assert!(left.all(|entry| entry.unwrap().file_name() == ".landfall"));
}

/// Waits until it is notified.
#[derive(Debug, Default, Clone)]
struct Slow(Arc<tokio::sync::Notify>);

#[async_trait]
impl Hook for Slow {
    fn points(&self) -> HookPoints {
        AtEnd::default().points()
    }

    async fn before_finish(&self, _: &RequestInfo, _: &Snapshot) -> Result<Decision, BoxError> {
        self.0.notified().await;
        Ok(Decision::allow())
    }
}

#[tokio::test]
async fn a_slow_hook_does_not_block_other_uploads() {
    everywhere(
        |_| {},
        async |site| {
            let slow = Slow::default();
            let site = Site::sharing_store(site, |config| {
                config.limits.max_transfers = 1;
                add(config, slow.clone());
            });
            let site = site.await;
            let path = site.create(5).await;
            let whole = site.patching(&path, 0).with("Content-Length", "5");
            let mut thinking = whole.open().await;
            thinking.write("hello").await;
            let other = site.create(9).await;
            // The first needs its slot no more as soon as its bytes are stored.
            until(async || site.patch(&other, 0, "by").await.status != 503).await;
            assert_eq!(site.offset(&other).await, 2);
            slow.0.notify_one();
            thinking.reply().await.expect(204);
        },
    )
    .await;
}
