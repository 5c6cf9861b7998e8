//! Google Cloud Storage and Azure, from the request of a signature to the event, with a plain HTTP client.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use landfall::event::EventKind;
use landfall_direct::{Record, SentHeaders, Status};
use landfall_state::queue::{GrantLimits, JobState, NewKey, Token};
use serde_json::{Value, json};

use super::harness::{Harness, Reply};
use crate::uploads::harness::{Service, google, on, pattern, requester, send};

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        on!(google_cloud, Google: $($name),*);
        on!(azure, Azure: $($name),*);
    };
}

on_both!(
    files_are_sent_by_signed_put,
    uploads_continue_after_an_interruption,
    nothing_is_replaced,
    too_large_files_are_refused_or_removed,
    signatures_expire_and_cannot_be_changed,
    cancelled_uploads_leave_nothing,
    the_sweeper_completes_and_expires,
    granted_types_are_enforced,
    routes_of_s3_say_what_to_use,
    uppy_gets_a_put,
);

async fn start(service: Service) -> Harness {
    Harness::with(service, |_| {}, |_| {}).await
}

/// Returns the headers of a response to send with the file.
fn headers_of(reply: &Reply) -> HeaderMap {
    let headers = reply.json["headers"].as_object();
    let headers = headers.into_iter().flatten().map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        (
            name,
            HeaderValue::from_str(value.as_str().unwrap()).unwrap(),
        )
    });
    headers.collect()
}

async fn sign(harness: &Harness, body: Value) -> Reply {
    harness.post("/api/sign", &body).await.expect(200)
}

/// Sends a file as the response to a request of a signature says.
async fn put(signed: &Reply, bytes: impl Into<Bytes>) -> StatusCode {
    let url = signed.text_of("signed_request");
    let (status, _, body) = send(Method::PUT, &url, &headers_of(signed), bytes).await;
    if !status.is_success() {
        eprintln!("{status} {body:?}");
    }
    status
}

async fn complete(harness: &Harness, signed: &Reply) -> Reply {
    let url = json!({"url": signed.text_of("url")});
    harness.post("/api/complete", &url).await
}

async fn record(harness: &Harness, signed: &Reply) -> Arc<Record> {
    let direct = &harness.uploads.direct;
    let key = direct.key_of(&signed.text_of("url")).unwrap();
    direct.find(&requester("ann"), &key, None).await.unwrap()
}

async fn files_are_sent_by_signed_put(service: Service) {
    let harness = start(service).await;
    let signed = sign(
        &harness,
        json!({
            "file_name": "My  Holiday.PDF", "file_type": "application/pdf", "file_size": 5,
            "metadata": {"album": "Zürich  2026"}, "request_id": "r1",
        }),
    )
    .await;
    let names = [
        "expires",
        "file_type",
        "headers",
        "method",
        "signed_request",
        "url",
    ];
    assert_eq!(signed.names(), names);
    assert_eq!(
        (signed.text_of("method"), signed.text_of("file_type")),
        ("PUT".into(), "application/pdf".into())
    );
    assert_eq!(signed.json["expires"], 60);
    assert_eq!(complete(&harness, &signed).await.status, 409);
    assert_eq!(harness.job("r1").await.state, JobState::Started);
    // A file of another length is not accepted, or not completed.
    if service == Service::Google {
        assert_eq!(put(&signed, "hell").await, StatusCode::BAD_REQUEST);
    }
    assert!(put(&signed, "hello").await.is_success());

    let record = record(&harness, &signed).await;
    let wanted = match service {
        Service::Google => ("gcsstore", "Bucket"),
        _ => ("azurestore", "Container"),
    };
    assert_eq!(record.upload.storage["Type"], wanted.0);
    assert_eq!(record.upload.storage[wanted.1], harness.uploads.bucket);
    let done = complete(&harness, &signed).await.expect(200);
    let head = harness.uploads.head(&record).await.unwrap();
    assert_eq!((done.json["size"].as_u64(), head.size), (Some(5), 5));
    assert_eq!(done.text_of("etag"), head.etag);
    assert_eq!(done.text_of("location"), signed.text_of("url"));
    assert_eq!(head.content_type.as_deref(), Some("application/pdf"));
    let album = &head.metadata["album"];
    assert!(album.starts_with("=?UTF-8?B?"), "{album}");
    let job = harness.job("r1").await;
    assert_eq!((job.state, job.offset), (JobState::Completed, 5));
    assert_eq!(
        harness.uploads.emitted(&record),
        [EventKind::Created, EventKind::Completed]
    );
    // Once.
    let again = complete(&harness, &signed).await.expect(200);
    assert_eq!(again.json, done.json);
    assert_eq!(harness.uploads.emitted(&record).len(), 2);
    let asked = harness.uploads.hook.asked();
    assert_eq!(asked, ["create my__holiday.pdf", "finish 5"]);
    let other = harness.bob("POST", "/api/complete");
    let other = other.json(&json!({"url": signed.text_of("url")}));
    other.send().await.api_error(404, None, "no such upload");
}

/// Of a session of Google.
const GRANULE: usize = 256 << 10;

async fn uploads_continue_after_an_interruption(service: Service) {
    let harness = start(service).await;
    let bytes = pattern(3, GRANULE + 10);
    let signed = sign(
        &harness,
        json!({
            "file_name": "film.bin", "file_type": "video/x-film", "file_size": bytes.len(),
            "metadata": {"part": "one"}, "resumable": true,
        }),
    )
    .await;
    let (url, headers) = (signed.text_of("signed_request"), headers_of(&signed));
    assert_eq!(signed.json["expires"], 3600);
    if service == Service::Google {
        send_in_session(&signed, &url, &headers, &bytes).await;
    } else {
        send_in_blocks(&signed, &url, &headers, &bytes).await;
    }
    let done = complete(&harness, &signed).await.expect(200);
    assert_eq!(done.json["size"], bytes.len());
    let record = record(&harness, &signed).await;
    let head = harness.uploads.head(&record).await.unwrap();
    assert_eq!(head.content_type.as_deref(), Some("video/x-film"));
    assert_eq!(head.metadata["part"], "one");
    assert_eq!(
        harness.uploads.emitted(&record),
        [EventKind::Created, EventKind::Completed]
    );
    if service == Service::Google {
        let stored = google().bytes(&record.object.bucket, &record.object.key);
        assert_eq!(stored, Some(bytes));
    }
}

async fn send_in_session(signed: &Reply, url: &str, headers: &HeaderMap, bytes: &Bytes) {
    assert_eq!(signed.text_of("method"), "POST");
    let (status, answered, body) = send(Method::POST, url, headers, "").await;
    assert_eq!(status, 201, "{body:?}");
    let session = answered["location"].to_str().unwrap();
    let total = bytes.len();
    let range = |range: &str| {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_str(&format!("bytes {range}/{total}")).unwrap();
        headers.insert("content-range", value);
        headers
    };
    let first = bytes.slice(..GRANULE);
    let chunk = range(&format!("0-{}", GRANULE - 1));
    let (status, ..) = send(Method::PUT, session, &chunk, first).await;
    assert_eq!(status, 308);
    // The client does not know whether the chunk has arrived, and asks.
    let (status, answered, _) = send(Method::PUT, session, &range("*"), "").await;
    assert_eq!(status, 308);
    let stored: usize = answered["range"].to_str().unwrap()["bytes=0-".len()..]
        .parse()
        .unwrap();
    let rest = range(&format!("{}-{}", stored + 1, total - 1));
    let rest = send(Method::PUT, session, &rest, bytes.slice(stored + 1..)).await;
    assert_eq!(rest.0, 200, "{:?}", rest.2);
}

async fn send_in_blocks(signed: &Reply, url: &str, headers: &HeaderMap, bytes: &Bytes) {
    assert_eq!(signed.text_of("method"), "PUT");
    let none = HeaderMap::new();
    let block = |id: &str| format!("{url}&comp=block&blockid={id}");
    let parts = [bytes.slice(..GRANULE), bytes.slice(GRANULE..)];
    for (id, part) in ["AAAA", "AAAB"].into_iter().zip(parts) {
        // The response of the first attempt is lost.
        for _ in 0..2 {
            let (status, _, body) = send(Method::PUT, &block(id), &none, part.clone()).await;
            assert_eq!(status, 201, "{body:?}");
        }
    }
    let list = "<BlockList><Latest>AAAA</Latest><Latest>AAAB</Latest></BlockList>";
    let commit = format!("{url}&comp=blocklist");
    let (status, _, body) = send(Method::PUT, &commit, headers, list).await;
    assert_eq!(status, 201, "{body:?}");
    let (status, ..) = send(Method::PUT, &commit, headers, list).await;
    assert!(matches!(status.as_u16(), 409 | 412), "{status}");
}

async fn nothing_is_replaced(service: Service) {
    let harness = start(service).await;
    let body = || json!({"file_name": "a.txt", "file_type": "text/plain"});
    let signed = sign(&harness, body()).await;
    assert!(put(&signed, "hello").await.is_success());
    let refused = match service {
        Service::Google => 412,
        // Rights on the blob end with its creation.
        _ => 403,
    };
    assert_eq!(put(&signed, "other").await, refused);
    complete(&harness, &signed).await.expect(200);
    assert_eq!(put(&signed, "other").await, refused);
    // Without the condition, too.
    let mut headers = headers_of(&signed);
    headers.remove("x-goog-if-generation-match");
    headers.remove("if-none-match");
    let url = signed.text_of("signed_request");
    let (status, ..) = send(Method::PUT, &url, &headers, "other").await;
    assert_eq!(status, if refused == 412 { 400 } else { 403 });
    let record = record(&harness, &signed).await;
    assert_eq!(harness.uploads.head(&record).await.unwrap().size, 5);
    // The name of another file is no obstacle.
    let other = sign(&harness, body()).await;
    assert_ne!(other.text_of("url"), signed.text_of("url"));
    assert!(put(&other, "hello").await.is_success());
}

async fn too_large_files_are_refused_or_removed(service: Service) {
    let limit = |settings: &mut landfall_direct::DirectSettings| settings.objects.max_object = 8;
    let harness = Harness::with(service, limit, |_| {}).await;
    let body = json!({"file_name": "a", "file_size": 9});
    let refused = harness.post("/api/sign", &body).await;
    refused.api_error(400, Some("file_size"), "8 bytes");
    let signed = sign(&harness, json!({"file_name": "a", "request_id": "large"})).await;
    let sent = put(&signed, "123456789").await;
    if service == Service::Google {
        assert_eq!(sent, 400, "the size is signed");
        assert!(put(&signed, "12345678").await.is_success());
        complete(&harness, &signed).await.expect(200);
    } else {
        assert!(sent.is_success());
        let done = complete(&harness, &signed).await;
        done.api_error(413, None, "9 bytes exceed the limit of 8 bytes");
        let record = record(&harness, &signed).await;
        assert_eq!(harness.uploads.head(&record).await, None);
        assert_eq!(harness.job("large").await.state, JobState::Failed);
    }
    // Sessions and blocks are not limited by a signature.
    let body = json!({"file_name": "b", "resumable": true});
    let signed = sign(&harness, body).await;
    let (url, headers) = (signed.text_of("signed_request"), headers_of(&signed));
    if service == Service::Google {
        let (_, answered, _) = send(Method::POST, &url, &headers, "").await;
        let session = answered["location"].to_str().unwrap();
        let none = HeaderMap::new();
        let (status, ..) = send(Method::PUT, session, &none, "123456789").await;
        assert_eq!(status, 200);
    } else {
        let mut headers = headers.clone();
        headers.insert("x-ms-blob-type", HeaderValue::from_static("BlockBlob"));
        let (status, ..) = send(Method::PUT, &url, &headers, "123456789").await;
        assert_eq!(status, 201);
    }
    complete(&harness, &signed).await.api_error(413, None, "");
    let record = record(&harness, &signed).await;
    assert_eq!(harness.uploads.head(&record).await, None);
}

async fn signatures_expire_and_cannot_be_changed(service: Service) {
    let harness = start(service).await;
    let signed = sign(&harness, json!({"file_name": "a", "file_type": "a/b"})).await;
    let (url, headers) = (signed.text_of("signed_request"), headers_of(&signed));
    let status = async |url: &str, headers: &HeaderMap| {
        let (status, ..) = send(Method::PUT, url, headers, "hello").await;
        status.as_u16()
    };
    let (name, other) = match service {
        Service::Google => ("X-Goog-Signature=", "00"),
        _ => ("sig=", "AAAA"),
    };
    let at = url.find(name).unwrap() + name.len();
    let forged = format!("{}{other}{}", &url[..at], &url[at + other.len()..]);
    assert_eq!(status(&forged, &headers).await, 403);
    let elsewhere = url.replacen("uploads/", "0ploads/", 1);
    assert_eq!(status(&elsewhere, &headers).await, 403);
    if service == Service::Google {
        for name in headers.keys() {
            let mut fewer = headers.clone();
            fewer.remove(name);
            assert_eq!(status(&url, &fewer).await, 400, "{name}");
            let mut changed = headers.clone();
            changed.insert(name, HeaderValue::from_static("1,2"));
            assert_eq!(status(&url, &changed).await, 403, "{name}");
        }
    }
    let record = record(&harness, &signed).await;
    let lifetime = Duration::from_secs(1);
    let brief = harness
        .uploads
        .direct
        .presign_upload(&record, lifetime, SentHeaders::All);
    let brief = brief.await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let expired = status(&brief.url, &brief.headers).await;
    assert!(matches!(expired, 400 | 403), "{expired}");
    assert_eq!(harness.uploads.head(&record).await, None);
    assert_eq!(status(&url, &headers).await / 100, 2);
}

async fn cancelled_uploads_leave_nothing(service: Service) {
    let harness = start(service).await;
    let signed = sign(&harness, json!({"file_name": "a"})).await;
    assert!(put(&signed, "hello").await.is_success());
    let record = record(&harness, &signed).await;
    harness.uploads.cancel(&record).await.unwrap();
    assert_eq!(harness.uploads.head(&record).await, None);
    assert_eq!(harness.uploads.now(&record).await.status, Status::Removed);
    let wanted = [EventKind::Created, EventKind::Terminated];
    assert_eq!(harness.uploads.emitted(&record), wanted);
    complete(&harness, &signed).await.api_error(410, None, "");
    if service == Service::Azure {
        // Blocks are removed, too: the service would bill them for a week.
        let signed = sign(&harness, json!({"file_name": "b", "resumable": true})).await;
        let url = signed.text_of("signed_request");
        let block = format!("{url}&comp=block&blockid=AAAA");
        let (status, ..) = send(Method::PUT, &block, &HeaderMap::new(), "hello").await;
        assert_eq!(status, 201);
        let record = self::record(&harness, &signed).await;
        harness.uploads.cancel(&record).await.unwrap();
        let list = "<BlockList><Latest>AAAA</Latest></BlockList>";
        let commit = format!("{url}&comp=blocklist");
        let (status, ..) = send(Method::PUT, &commit, &headers_of(&signed), list).await;
        assert_eq!(status, 400, "the block is gone");
        assert_eq!(harness.uploads.head(&record).await, None);
    }
}

async fn the_sweeper_completes_and_expires(service: Service) {
    let soon = |settings: &mut landfall_direct::DirectSettings| {
        settings.check_interval = Duration::from_millis(12);
        settings.idle_timeout = Duration::from_millis(500);
    };
    let harness = Harness::with(service, soon, |_| {}).await;
    let sent = sign(&harness, json!({"file_name": "a"})).await;
    assert!(put(&sent, "hello").await.is_success());
    let idle = sign(&harness, json!({"file_name": "b", "resumable": true})).await;
    let (sent, idle) = (record(&harness, &sent).await, record(&harness, &idle).await);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let report = harness.uploads.direct.sweep().await.unwrap();
    assert_eq!((report.completed, report.check_failures), (1, 0));
    assert_eq!(harness.uploads.now(&sent).await.status, Status::Completed);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let report = harness.uploads.direct.sweep().await.unwrap();
    assert_eq!((report.expired, report.check_failures), (1, 0));
    assert_eq!(harness.uploads.job(&idle).await.state, JobState::Expired);
}

async fn granted_types_are_enforced(service: Service) {
    let harness = start(service).await;
    let token = harness.grant(|new| {
        (new.size, new.filetype) = (Some(5), Some("video/mp4".into()));
    });
    let token = token.await;
    let request = harness.request("POST", "/api/sign");
    let request = request.with("upload-token", token.reveal());
    let signed = request
        .json(&json!({"file_name": "x"}))
        .send()
        .await
        .expect(200);
    assert_eq!(signed.text_of("file_type"), "video/mp4");
    let mut headers = headers_of(&signed);
    let name = match service {
        Service::Google => "content-type",
        _ => "x-ms-blob-content-type",
    };
    headers.insert(name, HeaderValue::from_static("text/html"));
    let url = signed.text_of("signed_request");
    let (status, ..) = send(Method::PUT, &url, &headers, "hello").await;
    let done = async || {
        let request = harness.request("POST", "/api/complete");
        let request = request.with("upload-token", token.reveal());
        request.json(&json!({})).send().await
    };
    if service == Service::Google {
        assert_eq!(status, 403, "the type is signed");
        assert!(put(&signed, "hello").await.is_success());
        done().await.expect(200);
    } else {
        assert_eq!(status, 201);
        done()
            .await
            .api_error(410, None, "the type \"text/html\" is not accepted");
        let record = record(&harness, &signed).await;
        assert_eq!(harness.uploads.head(&record).await, None);
    }
    // The types of a policy.
    let key = Token::api_key();
    let limits = GrantLimits {
        allowed_types: vec!["image/*".into()],
        ..GrantLimits::default()
    };
    let new = NewKey {
        hash: key.hash(),
        name: "ann".into(),
        subject: "ann".into(),
        limits,
        is_admin: false,
        expires_at: None,
    };
    harness.uploads.queue.add_key(new).await.unwrap();
    let body = |kind: &str| json!({"file_name": "x", "file_type": kind});
    let ask = |kind: &str| {
        let request = harness.request("POST", "/api/sign").key(&key);
        request.json(&body(kind))
    };
    assert!(ask("text/html").send().await.status >= 400);
    ask("image/png").send().await.expect(200);
}

async fn routes_of_s3_say_what_to_use(service: Service) {
    let harness = start(service).await;
    let file = json!({"filename": "film.bin", "type": "a/b"});
    let wanted = "use POST /api/sign";
    for reply in [
        harness.post("/s3/multipart", &file).await,
        harness.get("/s3/multipart/x?key=a").await,
        harness.get("/s3/multipart/x/1?key=a").await,
        harness.delete("/s3/multipart/x?key=a").await,
        harness.get("/s3/sts").await,
        harness
            .post("/s3/presign", &json!({"method": "PUT", "key": "a"}))
            .await,
    ] {
        reply.companion(501, wanted);
    }
    let body = json!({"file_name": "a", "file_type": "a/b"});
    let old = harness.post("/api/sign_s3", &body).await;
    old.api_error(501, None, wanted);
    assert_eq!(harness.uploads.hook.asked(), [] as [&str; 0]);
    // Nothing is left of them.
    assert_eq!(harness.uploads.used("ann").await, 0);
}

/// Uppy 4 and 5 with `shouldUseMultipart: false`.
async fn uppy_gets_a_put(service: Service) {
    let harness = start(service).await;
    let path = "/s3/params?filename=a.png&type=image%2Fpng&metadata%5Bname%5D=a.png&size=5";
    let given = harness.get(path).await.expect(200);
    assert_eq!(
        given.names(),
        ["expires", "fields", "headers", "method", "url"]
    );
    assert_eq!(given.text_of("method"), "PUT");
    let url = given.text_of("url");
    let (status, _, body) = send(Method::PUT, &url, &headers_of(&given), "hello").await;
    assert!(status.is_success(), "{body:?}");
    let url = json!({"url": url});
    let done = harness.post("/api/complete_s3", &url).await;
    assert_eq!(done.expect(200).json["size"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_has_the_same_route() {
    let harness = Harness::strict().await;
    let body = json!({"file_name": "a.txt", "file_type": "text/plain", "file_size": 5});
    let signed = sign(&harness, body.clone()).await;
    assert_eq!(signed.text_of("method"), "PUT");
    assert_eq!(
        signed.json["headers"],
        json!({"content-type": "text/plain", "if-none-match": "*"})
    );
    assert_eq!(put(&signed, "hello").await, 200);
    assert_eq!(put(&signed, "other").await, 412);
    complete(&harness, &signed).await.expect(200);
    let mut resumable = body;
    resumable["resumable"] = true.into();
    let refused = harness.post("/api/sign", &resumable).await;
    refused.api_error(501, None, "use multipart uploads");
    resumable["resumable"] = "yes".into();
    let refused = harness.post("/api/sign", &resumable).await;
    refused.api_error(400, Some("resumable"), "true or false");
}
