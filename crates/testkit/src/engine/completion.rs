//! Checks a completion while a hook decides on it: nobody sees a complete upload, and a denial leaves nothing.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use landfall::{
    BoxError, Config, Handler,
    hook::{ClientResponse, Decision, Hook, HookPoints, RequestInfo},
    upload::{Snapshot, UploadId},
};
use tokio::{sync::Notify, task::JoinHandle, time::timeout};

use super::{
    client::{self, LIMIT, Response},
    open,
};
use crate::test_data;

const LENGTH: u64 = 50_000;
const STATUS: u16 = 422;

#[derive(Debug, Clone, Default)]
struct SlowHook {
    is_called: Arc<Notify>,
    may_decide: Arc<Notify>,
    denies: bool,
}

impl SlowHook {
    async fn upload(&self, handler: &Handler) -> (UploadId, JoinHandle<Response>) {
        let id = client::create_empty(handler, LENGTH).await;
        let (sender, target) = (handler.clone(), id.clone());
        let response = tokio::spawn(async move {
            let body = client::body(test_data::bytes(1, LENGTH as usize));
            client::append(&sender, &target, 0, LENGTH, body).await
        });
        let called = timeout(LIMIT, self.is_called.notified()).await;
        assert!(called.is_ok(), "the hook was not called within {LIMIT:?}");
        (id, response)
    }
}

#[async_trait]
impl Hook for SlowHook {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_finish: true,
            ..HookPoints::default()
        }
    }

    async fn before_finish(&self, _: &RequestInfo, _: &Snapshot) -> Result<Decision, BoxError> {
        self.is_called.notify_one();
        self.may_decide.notified().await;
        Ok(match self.denies {
            true => Decision::Deny(ClientResponse::text(STATUS, "not this one")),
            false => Decision::allow(),
        })
    }
}

/// 423, or an offset from which the client waits for the decision.
fn assert_undecided(response: &Response) {
    let reason = "a reader got an answer although the hook may still deny the upload";
    if let Some(offset) = response.number("upload-offset") {
        assert!(offset < LENGTH, "{reason}");
        return;
    }
    assert_eq!(response.status.as_u16(), 423, "{reason}");
    assert!(response.number("retry-after").is_some(), "{response:?}");
}

pub(super) async fn readers_wait_while_a_hook_decides_about_completion(config: &Config) {
    let hook = SlowHook::default();
    let config = config.clone().hook(hook.clone());
    // The other one knows of the upload only from the store.
    let (handler, other) = (open(&config), open(&config));
    let (id, response) = hook.upload(&handler).await;
    for reader in [&handler, &other] {
        assert_undecided(&client::head(reader, &id).await);
        if config.store.reader().is_some() {
            let got = client::get(reader, &id).await;
            assert!(!got.status.is_success(), "{got:?} served its bytes");
        }
    }
    hook.may_decide.notify_one();
    response.await.expect("a response").expect(204);
    for reader in [&handler, &other] {
        assert_eq!(client::offset(reader, &id).await, Some(LENGTH));
    }
    let again = timeout(Duration::from_millis(100), hook.is_called.notified()).await;
    assert!(again.is_err(), "another call for a complete upload");
}

pub(super) async fn a_denied_completion_leaves_nothing(config: &Config) {
    let hook = SlowHook {
        denies: true,
        ..SlowHook::default()
    };
    let config = config.clone().hook(hook.clone());
    let (handler, other) = (open(&config), open(&config));
    let (id, response) = hook.upload(&handler).await;
    hook.may_decide.notify_one();
    response.await.expect("a response").expect(STATUS);
    for reader in [&handler, &other] {
        client::head(reader, &id).await.expect(404);
    }
}
