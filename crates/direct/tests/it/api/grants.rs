//! Upload tokens: the bearer can make the granted upload, in any transfer mode.

use landfall_state::queue::{JobEnd, JobState};
use serde_json::{Value, json};

use super::harness::{Harness, TestRequest, encoded, put};

/// Returns requests with a token in all supported places.
fn mode(harness: &Harness, token: &str) -> Vec<TestRequest> {
    let body = json!({"filename": "holiday.mp4", "type": "video/mp4"});
    let with = |metadata: Value| {
        let mut body = body.clone();
        body["metadata"] = metadata;
        harness.request("POST", "/s3/multipart").json(&body)
    };
    let plain = || harness.request("POST", "/s3/multipart").json(&body);
    let mut beside = body.clone();
    beside["upload_token"] = token.into();
    vec![
        plain().with("upload-token", token),
        plain().with("authorization", &format!("Bearer {token}")),
        with(json!({ "upload_token": token })),
        with(json!({ "token": token })),
        harness.request("POST", "/s3/multipart").json(&beside),
        harness
            .request("POST", &format!("/t/{token}/s3/multipart"))
            .json(&body),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_requests_with_a_token_open_one_upload() {
    let harness = Harness::start().await;
    let token = harness.grant(|new| new.request_id = "g1".into()).await;
    let other = harness.grant(|_| {}).await;
    let (token, other) = (token.reveal(), other.reveal());
    let mut first: Option<Value> = None;
    for request in mode(&harness, token) {
        let reply = request.send().await.expect(200);
        assert!(!reply.text.contains("lft_"), "{reply:?}");
        let first = first.get_or_insert_with(|| reply.json.clone());
        assert_eq!(*first, reply.json);
    }
    assert_eq!(harness.uploads.hook.asked(), ["create holiday.mp4"]);
    let first = first.unwrap();
    let (key, id) = (
        first["key"].as_str().unwrap(),
        first["uploadId"].as_str().unwrap(),
    );
    let at = |what: &str| format!("/s3/multipart/{}{what}?key={}", encoded(id), encoded(key));
    // The token of another grant of the same principal is rejected.
    for path in [at(""), at("/1")] {
        let other = harness
            .request("GET", &path)
            .with("upload-token", other)
            .send()
            .await;
        other.companion(404, "no such upload");
    }
    let signed = harness
        .request("GET", &format!("/t/{token}{}", at("/1")))
        .send()
        .await
        .expect(200);
    let tag = put(&signed.text_of("url"), &[], b"hello")
        .await
        .header("etag")
        .unwrap();
    let parts = json!({"parts": [{"PartNumber": 1, "ETag": tag}]});
    let request = harness
        .request("POST", &at("/complete"))
        .with("upload-token", token);
    request.json(&parts).send().await.expect(200);
    assert_eq!(harness.job("g1").await.state, JobState::Completed);
    // The response may have been lost.
    let request = harness
        .request("POST", "/api/complete_s3")
        .with("upload-token", token);
    let done = request.json(&json!({})).send().await.expect(200);
    assert_eq!(done.json["size"], 5);
    // The principal of the grant can use it as well.
    let named = json!({"request_id": "g1"});
    harness.post("/api/complete_s3", &named).await.expect(200);
    harness
        .bob("POST", "/api/complete_s3")
        .json(&named)
        .send()
        .await
        .expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_are_enforced() {
    let harness = Harness::start().await;
    let change = |new: &mut landfall_state::queue::NewJob| {
        new.size = Some(5);
        new.filetype = Some("video/mp4".into());
    };
    let token = harness.grant(change).await;
    let begin = async |body: Value| {
        let request = harness
            .request("POST", "/s3/multipart")
            .with("upload-token", token.reveal());
        request.json(&body).send().await
    };
    begin(json!({"filename": "a", "type": "video/mp4", "size": 6}))
        .await
        .expect(413);
    begin(json!({"filename": "a", "type": "video/mp4", "size": 4}))
        .await
        .expect(400);
    let request = harness
        .request("POST", "/s3/multipart")
        .with("upload-token", token.reveal());
    let other = json!({"filename": "a", "metadata": {"upload_request_id": "other", "token": "x"}});
    request
        .json(&other)
        .send()
        .await
        .companion(401, "no grant with this token");
    let reply = begin(json!({"filename": "a", "type": "video/mp4"}))
        .await
        .expect(200);
    assert!(reply.text_of("key").ends_with("/holiday.mp4"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_tokens_are_rejected() {
    let harness = Harness::start().await;
    for (end, status) in [
        (JobEnd::Expired, 410),
        (JobEnd::Cancelled("unwanted".into()), 410),
    ] {
        let token = harness
            .grant(|new| new.request_id = format!("{end:?}"))
            .await;
        let job = harness.job(&format!("{end:?}")).await;
        harness.uploads.queue.finish(job.id, end).await.unwrap();
        for request in mode(&harness, token.reveal()) {
            request.send().await.companion(status, "");
        }
    }
    for request in mode(&harness, "lft_nobody-has-this") {
        let reply = request
            .send()
            .await
            .companion(401, "no grant with this token");
        assert!(reply.header("www-authenticate").is_some());
    }
    // After ten failures, wrong secrets of any kind are rejected from this address.
    for _ in 0..10 {
        harness
            .request("GET", "/t/lft_guess/s3/params?filename=a")
            .send()
            .await;
    }
    let reply = harness
        .request("GET", "/t/lft_guess/s3/params?filename=a")
        .send()
        .await;
    let reply = reply.companion(429, "too many wrong");
    assert!(reply.header("retry-after").is_some());
    // A valid key is accepted nevertheless.
    harness.get("/s3/params?filename=a").await.expect(200);
}
