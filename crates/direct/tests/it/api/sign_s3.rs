//! `POST /api/sign_s3`, followed by a PUT.

use landfall_direct::DirectSettings;
use landfall_state::queue::JobState;
use serde_json::{Value, json};

use super::harness::{Harness, Reply, put};
use crate::uploads::harness::{Service, on_each};

on_each!(a_signed_put_is_completed);

async fn a_signed_put_is_completed(service: Service) {
    let harness = Harness::with(service, |_| {}, |_| {}).await;
    let body = json!({"file_name": " My File.PDF", "file_type": "application/pdf"});
    let signed = harness.post("/api/sign_s3", &body).await;
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
    let early = harness.post("/api/complete_s3", &named).await;
    early.api_error(409, None, "has not arrived yet");
    let sent = put(&request, &[("content-type", "application/pdf")], b"hello").await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let done = harness.post("/api/complete_s3", &named).await;
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
        let again = harness.post("/api/complete_s3", &named).await;
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
    let sign = async |body: Value| signed(&harness, body).await;
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

/// The type that Chromium's `MediaRecorder` gives a recording.
#[tokio::test(flavor = "multi_thread")]
async fn the_type_of_a_recording_is_signed_as_it_came() {
    let harness = Harness::start().await;
    for kind in ["video/webm;codecs=vp9,opus", "Video/X-Matroska;codecs=avc1"] {
        let body = json!({"file_name": "recording.webm", "file_type": kind});
        let signed = signed(&harness, body).await;
        assert_eq!(signed.text_of("file_type"), kind);
        let url = signed.text_of("signed_request");
        let other = put(&url, &[("content-type", "video/webm")], b"hello").await;
        assert_eq!(other.status, 403, "{other:?}");
        let sent = put(&url, &[("content-type", kind)], b"hello").await;
        assert_eq!(sent.status, 200, "{sent:?}");
        let named = json!({ "url": signed.text_of("url") });
        let done = harness.post("/api/complete_s3", &named).await.expect(200);
        assert_eq!(harness.type_of(&done.text_of("key")).await, kind);
    }
}

async fn signed(harness: &Harness, body: Value) -> Reply {
    let signed = harness.post("/api/sign_s3", &body).await;
    signed.expect(200)
}

/// A client that sends `Content-Type` and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn only_sent_headers_are_signed() {
    let harness = Harness::strict().await;
    for (name, kind, wanted) in [
        ("My File.PDF", "application/pdf", "application/pdf"),
        (" two  blanks & ü.TXT ", "", "text/plain"),
        ("without-an-extension", "", "application/octet-stream"),
    ] {
        let body = json!({"file_name": name, "file_type": kind});
        let signed = signed(&harness, body).await;
        assert_eq!(signed.names(), ["file_type", "signed_request", "url"]);
        assert_eq!(signed.text_of("file_type"), wanted);
        let url = signed.text_of("signed_request");
        let sent = put(&url, &[("content-type", wanted)], b"hello").await;
        assert_eq!(sent.status, 200, "{name}: {sent:?}");
        let named = json!({"url": signed.text_of("url")});
        let done = harness.ann("POST", "/api/complete_s3").json(&named);
        assert_eq!(done.send().await.expect(200).json["size"], 5);
    }
}

/// Browsers send the type of a `File`, or none, if the page sets none.
#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_nobody_states_is_not_signed() {
    let harness = Harness::strict().await;
    for stated in [json!(""), json!(null), json!("null")] {
        let body = json!({"file_name": "a.txt", "file_type": stated});
        let url = signed(&harness, body).await.text_of("signed_request");
        for headers in [&[][..], &[("content-type", "text/x-other")]] {
            let sent = put(&url, headers, b"hello").await;
            assert_eq!(sent.status, 200, "{headers:?}: {sent:?}");
        }
    }
    // Stated by the client, or by a grant.
    let token = harness
        .grant(|job| job.filetype = Some("image/png".into()))
        .await;
    for body in [
        json!({"file_name": "a.png", "file_type": "image/png"}),
        json!({"file_name": "holiday.mp4", "upload_token": token.reveal()}),
        json!({"file_name": "a.png", "send_headers": true}),
    ] {
        let signed = signed(&harness, body.clone()).await;
        assert_eq!(signed.text_of("file_type"), "image/png");
        let url = signed.text_of("signed_request");
        let other = put(&url, &[("content-type", "text/html")], b"hello").await;
        assert_eq!(other.status, 403, "{body}: {other:?}");
    }
    // Restricted by the rules, or chosen by the operator.
    let image = |settings: &mut DirectSettings| {
        settings.objects.headers.content_type = Some("image/webp".into());
    };
    let harness = Harness::strict_with(image).await;
    let signed = signed(&harness, json!({"file_name": "a.png"})).await;
    assert_eq!(signed.text_of("file_type"), "image/webp");
    let other = put(&signed.text_of("signed_request"), &[], b"hello").await;
    assert_eq!(other.status, 403, "{other:?}");
}

/// Requests as programs send them.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_read_leniently() {
    let harness = Harness::strict().await;
    let path = "/api/sign_s3";
    let body = json!({
        "file_name": "a.txt", "file_type": null, "file_size": "5", "metadata": null,
        "request_id": 17, "lastModified": 1_795_197_600_250_u64, "user": {"id": 7},
    });
    let mut urls = Vec::new();
    for (path, kind) in [
        (path, Some("application/json; charset=utf-8")),
        ("/api/sign_s3/", Some("application/json;charset=UTF-8")),
        ("//api/sign_s3", None),
    ] {
        let mut request = harness.ann("POST", path).body(body.to_string());
        if let Some(kind) = kind {
            request = request.with("content-type", kind);
        }
        urls.push(request.send().await.expect(200).text_of("url"));
    }
    urls.dedup();
    assert_eq!(urls.len(), 1, "{urls:?}");
    assert_eq!(harness.job("17").await.size, Some(5));
    let named = json!({"request_id": 17});
    let early = harness.ann("POST", "/api/complete_s3").json(&named);
    early
        .send()
        .await
        .api_error(409, None, "has not arrived yet");
}

/// Keys with these are signed, sent and found.
#[tokio::test(flavor = "multi_thread")]
async fn names_may_have_any_characters() {
    let harness = Harness::strict().await;
    for name in [
        "100% + #1 & more?.txt",
        "it's \"quoted\" <b>.txt",
        "Übergrößen – 日本語 👍.txt",
        "semi;colon=equals,comma@at!.txt",
        "..hidden...txt",
        "C:\\fakepath\\photo.txt",
        "tilde~^`|{}[].txt",
        "Icon\r.txt",
    ] {
        let body = json!({"file_name": name, "file_type": "text/plain"});
        let signed = signed(&harness, body).await;
        let kind = [("content-type", "text/plain")];
        let sent = put(&signed.text_of("signed_request"), &kind, b"hello").await;
        assert_eq!(sent.status, 200, "{name}: {sent:?}");
        let named = json!({"url": signed.text_of("url")});
        let done = harness.ann("POST", "/api/complete_s3").json(&named);
        let done = done.send().await.expect(200);
        let object = harness.object(&done.text_of("key")).await;
        assert_eq!(object.as_deref(), Some(&b"hello"[..]), "{name}");
    }
}

/// A client that sends the headers of the response can have its object protected.
#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_signed_for_clients_that_send_them() {
    let harness = Harness::strict().await;
    let body = json!({
        "file_name": "a.txt", "file_type": "text/plain", "send_headers": true, "request_id": "r1"
    });
    let once = signed(&harness, body).await;
    assert_eq!(once.json["headers"], json!({"if-none-match": "*"}));
    let url = once.text_of("signed_request");
    let kind = ("content-type", "text/plain");
    let without = put(&url, &[kind], b"hello").await;
    assert_eq!(without.status, 403, "{without:?}");
    let headers = [kind, ("if-none-match", "*")];
    assert_eq!(put(&url, &headers, b"hello").await.status, 200);
    assert_eq!(put(&url, &headers, b"virus").await.status, 412);

    // A signature without the condition for the same object would undo this.
    for send in [json!(null), json!(false)] {
        let body = json!({
            "file_name": "a.txt", "file_type": "text/plain", "send_headers": send, "request_id": "r1"
        });
        let reply = harness.post("/api/sign_s3", &body).await;
        reply.api_error(409, None, "with this id");
    }
    let body = json!({"file_name": "a.txt", "send_headers": "yes"});
    let reply = harness.post("/api/sign_s3", &body).await;
    reply.api_error(400, Some("send_headers"), "true or false");
}

/// Encryption is not dropped because a client does not know of it.
#[tokio::test(flavor = "multi_thread")]
async fn objects_that_need_headers_are_not_signed_without_them() {
    let needs = |settings: &mut DirectSettings| {
        settings.objects.headers.cache_control = Some("max-age=60".into());
        settings.objects.headers.tagging = Some("a=1".into());
    };
    let harness = Harness::strict_with(needs).await;
    let mut body = json!({"file_name": "a.txt", "file_type": "text/plain", "request_id": "r1"});
    let ask = async |body: &Value| harness.post("/api/sign_s3", body).await;
    for _ in 0..2 {
        let reply = ask(&body).await;
        reply.api_error(400, Some("send_headers"), "cache-control");
    }
    let presigned = json!({"method": "PUT", "key": "a.txt"});
    let reply = harness.ann("POST", "/s3/presign").json(&presigned);
    reply.send().await.companion(400, "cache-control");
    // Mended, with the same id.
    body["send_headers"] = true.into();
    let signed = ask(&body).await.expect(200);
    let headers = json!({"cache-control": "max-age=60", "if-none-match": "*"});
    assert_eq!(signed.json["headers"], headers);
    let headers = [
        ("content-type", "text/plain"),
        ("cache-control", "max-age=60"),
        ("if-none-match", "*"),
    ];
    let sent = put(&signed.text_of("signed_request"), &headers, b"hello").await;
    assert_eq!(sent.status, 200, "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_request_ids_return_the_same_upload() {
    let harness = Harness::start().await;
    let sign = async |name: &str| {
        let body = json!({"file_name": name, "file_type": "", "request_id": "r1", "metadata": {"album": 7}});
        harness.post("/api/sign_s3", &body).await
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
    let reply = harness.post("/api/progress_s3", &body).await;
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
    let done = harness.post("/api/complete_s3", &named).await;
    assert_eq!(done.expect(200).json["size"], 5);
    assert_eq!(harness.job("r1").await.state, JobState::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_invalid_field() {
    let harness = Harness::start().await;
    let sign = async |body: &serde_json::Value| harness.post("/api/sign_s3", body).await;
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
    for foreign in [
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
    ] {
        let request = request().with("content-type", foreign).body("{}");
        request.send().await.api_error(415, None, "Content-Type");
    }
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
    let wrong = || {
        let request = harness.request("POST", "/api/sign_s3");
        request.with("authorization", "Bearer lfk_wrong")
    };
    wrong().json(&json!({})).send().await.expect(401);
    for (kind, body) in [
        ("application/json", "{"),
        ("application/json", "[]"),
        ("text/plain", "{}"),
    ] {
        let request = wrong().with("content-type", kind).body(body);
        request.send().await.expect(401);
    }
    // Nor without any, on each route.
    for (method, path) in [
        ("POST", "/api/sign_s3"),
        ("POST", "/api/complete_s3"),
        ("POST", "/api/progress_s3"),
        ("GET", "/s3/params"),
        ("POST", "/s3/multipart"),
        ("POST", "/s3/presign"),
        ("GET", "/s3/multipart/id"),
        ("GET", "/s3/multipart/id/x"),
        ("GET", "/s3/multipart/id/batch"),
        ("POST", "/s3/multipart/id/complete"),
        ("DELETE", "/s3/multipart/id"),
    ] {
        let mut request = harness.request(method, path);
        if method == "POST" {
            request = request.json(&json!({}));
        }
        let reply = request.send().await;
        assert_eq!(reply.status, 401, "{method} {path}: {reply:?}");
    }
    for body in [json!({}), json!({"key": 7}), json!({"key": "uploads/none"})] {
        let status = if body["key"].is_string() { 404 } else { 400 };
        let reply = harness.post("/api/complete_s3", &body).await;
        reply.expect(status);
    }
    let elsewhere = json!({"url": "https://elsewhere.example/bucket/uploads/x"});
    let reply = harness.post("/api/complete_s3", &elsewhere).await;
    reply.api_error(400, Some("url"), "not the URL of a file");
    let reply = harness.get("/api/sign_s3").await;
    let reply = reply.api_error(405, None, "method");
    assert_eq!(reply.header("allow").as_deref(), Some("POST"));
}
