//! `POST /api/sign_s3`, followed by a PUT.

use landfall_queue::JobState;
use serde_json::json;

use super::harness::{Harness, put};
use crate::uploads::harness::{Service, on_both};

on_both!(a_signed_put_is_completed);

async fn a_signed_put_is_completed(service: Service) {
    let harness = Harness::with(service, |_| {}, |_| {}).await;
    let body = json!({"file_name": " My File.PDF", "file_type": "application/pdf"});
    let signed = harness.ann("POST", "/api/sign_s3").json(&body).send().await;
    let signed = signed.expect(200);
    assert_eq!(signed.names(), ["file_type", "signed_request", "url"]);
    assert_eq!(signed.text_of("file_type"), "application/pdf");
    let url = signed.text_of("url");
    assert!(
        url.ends_with("/my_file.pdf") && url.contains("/uploads/"),
        "{url}"
    );
    let request = signed.text_of("signed_request");
    assert!(request.contains("X-Amz-Expires=60&"), "{request}");

    let named = json!({ "url": url });
    let early = harness
        .ann("POST", "/api/complete_s3")
        .json(&named)
        .send()
        .await;
    early.api_error(409, None, "has not arrived yet");
    let sent = put(&request, &[("content-type", "application/pdf")], b"hello").await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let done = harness
        .ann("POST", "/api/complete_s3")
        .json(&named)
        .send()
        .await;
    let done = done.expect(200);
    assert_eq!(done.names(), ["etag", "key", "location", "size", "state"]);
    assert_eq!(
        (done.text_of("state"), &done.json["size"]),
        ("completed".into(), &json!(5))
    );
    assert_eq!(done.text_of("location"), url);
    let key = done.text_of("key");
    assert_eq!(harness.object(&key).await.unwrap(), "hello");

    // Repeatedly, by each of its names and by the signed URL.
    for named in [json!({ "key": key }), json!({ "url": request }), named] {
        let again = harness
            .ann("POST", "/api/complete_s3")
            .json(&named)
            .send()
            .await;
        assert_eq!(again.expect(200).json, done.json);
        let other = harness
            .bob("POST", "/api/complete_s3")
            .json(&named)
            .send()
            .await;
        other.api_error(404, None, "there is no such upload");
    }
    assert_eq!(
        harness.uploads.hook.asked(),
        ["create my_file.pdf", "finish 5"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_headers_are_enforced() {
    let harness = Harness::start().await;
    let sign = async |body: serde_json::Value| {
        let signed = harness.ann("POST", "/api/sign_s3").json(&body).send().await;
        signed.expect(200)
    };
    // A missing type is guessed by the name.
    for (name, kind) in [
        ("a.PNG", "image/png"),
        ("a.nothing", "application/octet-stream"),
    ] {
        for stated in [json!(""), json!(null)] {
            let signed = sign(json!({"file_name": name, "file_type": stated})).await;
            assert_eq!(signed.text_of("file_type"), kind);
        }
    }
    let signed =
        sign(json!({"file_name": "a.txt", "file_type": "text/plain", "file_size": 5})).await;
    let url = signed.text_of("signed_request");
    let other = put(&url, &[("content-type", "text/html")], b"hello").await;
    assert_eq!(other.status, 403, "{other:?}");
    let longer = put(&url, &[("content-type", "text/plain")], b"hello!").await;
    assert_eq!(longer.status, 403, "{longer:?}");
    let right = put(&url, &[("content-type", "text/plain")], b"hello").await;
    assert_eq!(right.status, 200, "{right:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_request_ids_return_the_same_upload() {
    let harness = Harness::start().await;
    let sign = async |name: &str| {
        let body = json!({"file_name": name, "file_type": "", "request_id": "r1", "metadata": {"album": 7}});
        harness.ann("POST", "/api/sign_s3").json(&body).send().await
    };
    let first = sign("a.bin").await.expect(200);
    assert_eq!(
        sign("a.bin").await.expect(200).text_of("url"),
        first.text_of("url")
    );
    sign("b.bin").await.expect(409);
    let job = harness.job("r1").await;
    assert_eq!(job.state, JobState::Started);
    assert_eq!(job.metadata["album"], "7");

    let body = json!({"request_id": "r1", "uploaded": 3});
    let reply = harness
        .ann("POST", "/api/progress_s3")
        .json(&body)
        .send()
        .await;
    assert_eq!(reply.expect(204).text, "");
    harness
        .bob("POST", "/api/progress_s3")
        .json(&body)
        .send()
        .await
        .expect(404);
    let kind = [("content-type", "application/octet-stream")];
    let sent = put(&first.text_of("signed_request"), &kind, b"hello").await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let named = json!({"request_id": "r1"});
    let done = harness
        .ann("POST", "/api/complete_s3")
        .json(&named)
        .send()
        .await;
    assert_eq!(done.expect(200).json["size"], 5);
    assert_eq!(harness.job("r1").await.state, JobState::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_invalid_field() {
    let harness = Harness::start().await;
    let sign = async |body: &serde_json::Value| {
        harness.ann("POST", "/api/sign_s3").json(body).send().await
    };
    for (body, field, words) in [
        (json!({"file_type": ""}), "file_name", "is required"),
        (json!({"file_name": "  "}), "file_name", "must not be empty"),
        (json!({"file_name": ".."}), "file_name", ""),
        (
            json!({"file_name": "a", "file_type": "text/plain; charset=utf-8"}),
            "file_type",
            "white space",
        ),
        (
            json!({"file_name": "a", "file_size": "big"}),
            "file_size",
            "number of bytes",
        ),
        (
            json!({"file_name": "a", "file_size": 6_u64 << 30}),
            "file_size",
            "",
        ),
        (
            json!({"file_name": "a", "request_id": ""}),
            "request_id",
            "visible",
        ),
    ] {
        sign(&body).await.api_error(400, Some(field), words);
    }
    let request = || harness.ann("POST", "/api/sign_s3");
    request()
        .body("{}")
        .send()
        .await
        .api_error(415, None, "Content-Type");
    let request = || request().with("content-type", "application/json");
    request()
        .body("{")
        .send()
        .await
        .api_error(400, None, "not valid JSON");
    request()
        .body("[]")
        .send()
        .await
        .api_error(400, None, "JSON object");
    request()
        .body("x".repeat(200_000))
        .send()
        .await
        .api_error(413, None, "102400");
    let nobody = harness
        .request("POST", "/api/sign_s3")
        .json(&json!({"file_name": "a"}))
        .send()
        .await;
    let nobody = nobody.api_error(401, None, "authentication required");
    assert_eq!(nobody.header("www-authenticate").as_deref(), Some("Bearer"));
    let wrong = harness
        .request("POST", "/api/sign_s3")
        .with("authorization", "Bearer lfk_wrong");
    wrong
        .json(&json!({"file_name": "a"}))
        .send()
        .await
        .expect(401);
    for body in [json!({}), json!({"key": 7}), json!({"key": "uploads/none"})] {
        let status = if body["key"].is_string() { 404 } else { 400 };
        let reply = harness
            .ann("POST", "/api/complete_s3")
            .json(&body)
            .send()
            .await;
        reply.expect(status);
    }
    let elsewhere = json!({"url": "https://elsewhere.example/bucket/uploads/x"});
    let reply = harness
        .ann("POST", "/api/complete_s3")
        .json(&elsewhere)
        .send()
        .await;
    reply.api_error(400, Some("url"), "not the URL of a file");
    let reply = harness.ann("GET", "/api/sign_s3").send().await;
    let reply = reply.api_error(405, None, "method");
    assert_eq!(reply.header("allow").as_deref(), Some("POST"));
}
