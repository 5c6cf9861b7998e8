//! Responses of hooks for clients.

use landfall::hook::{ClientResponse, Decision};
use serde_json::json;

use super::harness::{Harness, put};
use crate::uploads::harness::refuse;

#[tokio::test(flavor = "multi_thread")]
async fn responses_of_hooks_reach_clients() {
    let harness = Harness::start().await;
    let body = json!({"file_name": "a", "file_type": "a/b"});
    let sign = async || harness.post("/api/sign_s3", &body).await;
    harness
        .uploads
        .hook
        .next("create", refuse("not on Fridays"));
    sign().await.api_error(422, None, "not on Fridays");
    harness.uploads.hook.next("create", Err("down".into()));
    let failed = sign().await;
    assert!(failed.status >= 500, "{failed:?}");
    assert!(!failed.text.contains("down"), "{failed:?}");

    let signed = sign().await.expect(200);
    let url = signed.text_of("signed_request");
    let sent = put(&url, &[("content-type", "a/b")], b"hello").await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let complete = async || {
        let named = json!({"url": signed.text_of("url")});
        harness.post("/api/complete_s3", &named).await
    };
    harness.uploads.hook.next("finish", Err("down".into()));
    let failed = complete().await;
    assert!(failed.status >= 500, "{failed:?}");
    let words = ClientResponse::text(200, "thank you").header(
        http::HeaderName::from_static("x-mine"),
        http::HeaderValue::from_static("1"),
    );
    harness
        .uploads
        .hook
        .next("finish", Ok(Decision::Allow(words)));
    for _ in 0..2 {
        let done = complete().await.expect(200);
        assert_eq!(done.text_of("message"), "thank you");
        assert_eq!(done.header("x-mine").as_deref(), Some("1"));
        assert_eq!(done.text_of("state"), "completed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_files_are_removed() {
    let harness = Harness::start().await;
    let body = json!({"file_name": "a", "file_type": "a/b"});
    let signed = harness.post("/api/sign_s3", &body).await.expect(200);
    let url = signed.text_of("signed_request");
    put(&url, &[("content-type", "a/b")], b"hello").await;
    harness.uploads.hook.next("finish", refuse("a virus"));
    let named = json!({"url": signed.text_of("url")});
    let complete = async || harness.post("/api/complete_s3", &named).await;
    complete().await.api_error(422, None, "a virus");
    complete().await.expect(410);
    let key = harness
        .uploads
        .direct
        .key_of(&signed.text_of("url"))
        .unwrap();
    assert_eq!(harness.object(&key).await, None);
}
