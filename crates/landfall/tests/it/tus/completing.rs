//! The state of an upload that other requests see during its completion.

use std::sync::Arc;

use async_trait::async_trait;
use landfall::{
    BoxError, Config,
    hook::{ClientResponse, Decision, Hook, HookPoints, RequestInfo},
    upload::{Completion, Snapshot},
};
use tokio::sync::Semaphore;

use crate::harness::{DATA, Site, everywhere, id};

/// A completion hook that decides when the test lets it.
#[derive(Debug, Clone)]
struct SlowDecision {
    called: Arc<Semaphore>,
    decide: Arc<Semaphore>,
    allow: bool,
}

#[async_trait]
impl Hook for SlowDecision {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_finish: true,
            ..HookPoints::default()
        }
    }

    async fn before_finish(&self, _: &RequestInfo, _: &Snapshot) -> Result<Decision, BoxError> {
        self.called.add_permits(1);
        self.decide.acquire().await?.forget();
        Ok(if self.allow {
            Decision::Allow(ClientResponse::default())
        } else {
            Decision::Deny(ClientResponse::text(422, "infected"))
        })
    }
}

/// Runs `test` on each store while the hook has not decided about a complete upload; then lets the
/// hook decide.
async fn while_undecided(
    allow: bool,
    test: impl AsyncFn(&Site, &str),
    then: impl AsyncFn(&Site, &str),
) {
    let hook = SlowDecision {
        called: Arc::new(Semaphore::new(0)),
        decide: Arc::new(Semaphore::new(0)),
        allow,
    };
    let added = hook.clone();
    let change = move |config: &mut Config| *config = config.clone().hook(added.clone());
    everywhere(change, async |site| {
        let path = site.create(5).await;
        let ask = site.patching(&path, 0).with("Content-Length", "5");
        let mut patch = ask.open().await;
        patch.write("hello").await;
        hook.called.acquire().await.unwrap().forget();
        test(site, &path).await;
        // The client disconnects; the hook decides nevertheless.
        drop(patch);
        test(site, &path).await;
        hook.decide.add_permits(1);
        then(site, &path).await;
    })
    .await;
}

/// Nobody sees a complete upload. A client is told an offset from which it waits for the end.
async fn is_locked(site: &Site, path: &str) {
    let reply = site.request("GET", path).send().await.expect(423);
    assert_eq!(reply.number("retry-after"), 1);
    let told = site.offset(path).await;
    assert!(told < 5, "{told}");
    assert!(site.offset(path).await > told);
    // The application sees that it is not finished.
    let found = site.handler.get(&id(path)).await.unwrap().unwrap();
    assert_eq!(found.upload.completion, Completion::Pending);
}

#[tokio::test]
async fn undecided_completion_is_not_visible() {
    while_undecided(false, is_locked, async |site, path| {
        loop {
            let status = site.head(path).await.status;
            if status == 404 {
                break;
            }
            assert_eq!(status, 200);
            tokio::task::yield_now().await;
        }
        site.request("GET", path).send().await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn an_upload_is_complete_for_readers_once_hooks_have_accepted_it() {
    while_undecided(true, is_locked, async |site, path| {
        site.until_offset(path, 5).await;
        assert_eq!(site.bytes(path).await, "hello");
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_came_with_its_creation_is_undecided_too() {
    let hook = SlowDecision {
        called: Arc::new(Semaphore::new(0)),
        decide: Arc::new(Semaphore::new(0)),
        allow: false,
    };
    let added = hook.clone();
    let change = move |config: &mut Config| *config = config.clone().hook(added.clone());
    everywhere(change, async |site| {
        let ask = site.request("POST", "/files/").with("Upload-Length", "5");
        let ask = ask.with("Content-Type", DATA).with("Content-Length", "5");
        let mut post = ask.open().await;
        post.write("hello").await;
        hook.called.acquire().await.unwrap().forget();
        let enumerator = site.parts.enumerator().unwrap();
        let page = enumerator.page(None, 10).await.unwrap();
        let path = format!("/files/{}", page.uploads[0].upload.id);
        is_locked(site, &path).await;
        hook.decide.add_permits(1);
        assert_eq!(post.reply().await.expect(422).body, "infected");
        site.head(&path).await.expect(404);
    })
    .await;
}

/// One status for all: the request that waits is told as the one that was first, and so are all that come later.
#[tokio::test]
async fn a_denial_has_one_status() {
    let hook = SlowDecision {
        called: Arc::new(Semaphore::new(0)),
        decide: Arc::new(Semaphore::new(0)),
        allow: false,
    };
    let added = hook.clone();
    let change = move |config: &mut Config| {
        *config = config.clone().hook(added.clone());
        config.lifetimes.unfinished = Some(std::time::Duration::from_secs(3600));
    };
    everywhere(change, async |site| {
        let path = site.create(5).await;
        let mut first = site.open_patch(&path, 0, 5).await;
        first.write("hello").await;
        hook.called.acquire().await.unwrap().forget();
        let by_draft = |method: &str, offset: &str| {
            let ask = site.request(method, &path).without("Tus-Resumable");
            let ask = ask.with("Upload-Draft-Interop-Version", "10");
            let ask = ask.with("Content-Type", "application/partial-upload");
            ask.with("Upload-Offset", offset)
                .with("Upload-Complete", "?1")
        };
        let waits = by_draft("PATCH", "5").with("Content-Length", "0");
        let mut second = waits.open().await;
        let told = site.offset(&path).await;
        assert_eq!(told, 0);
        let mut third = site.open_patch(&path, told, 5).await;
        third.write("hello").await;
        // They wait for the decision, as all of their requests are received.
        site.head(&path).await.expect(200);
        hook.decide.add_permits(1);
        for open in [&mut first, &mut second, &mut third] {
            assert_eq!(open.reply().await.expect(422).body, "infected");
        }
        by_draft("PATCH", "5").body("").send().await.expect(422);
        for method in ["HEAD", "GET"] {
            by_draft(method, "5").send().await.expect(422);
            site.request(method, &path).send().await.expect(422);
        }
    })
    .await;
}
