//! Unavailability of the bucket or the database.

use landfall_s3::client::Client;
use landfall_test_services::{
    Garage, Proxy,
    proxy::{Fault, Operation, Rule},
};
use serde_json::json;

use super::harness::{Harness, Reply, SECRET, encoded, put};
use crate::uploads::harness::{Service, bucket_by, settings};

/// Creates a server whose connection to S3 goes through a proxy, without retries. Its clients
/// connect directly.
async fn behind(proxy: &Proxy) -> Harness {
    let mut proxied = settings(&Garage::shared().access().through_proxy(proxy));
    proxied.calls.limits.attempts = 1;
    let client = Client::new(proxied).unwrap();
    let bucket = bucket_by(client, Service::Garage);
    Harness::with(Service::Garage, |settings| settings.bucket = bucket, |_| {}).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_bucket_is_reported() {
    let proxy = Proxy::start(&Garage::shared().access());
    let harness = behind(&proxy).await;
    let body = json!({"file_name": "a", "file_type": "a/b"});
    let sign = async || harness.post("/api/sign_s3", &body).await;
    let signed = sign().await.expect(200);
    let film = json!({"filename": "film.bin", "type": "a/b"});
    let begin = async || harness.post("/s3/multipart", &film).await;
    let created = begin().await.expect(200);
    let (id, key) = (created.text_of("uploadId"), created.text_of("key"));
    let path = |what: &str| format!("/s3/multipart/{}{what}?key={}", encoded(&id), encoded(&key));

    proxy.inject(Rule::on(Operation::ListParts), Fault::SLOW_DOWN);
    let slow = harness.get(&path("")).await;
    let slow = slow.companion(503, "storage is not available");
    assert!(slow.header("retry-after").is_some());

    proxy.kill();
    let hidden = |reply: &Reply| assert!(!reply.text.contains("127.0.0.1"), "{reply:?}");
    for reply in [
        begin().await.companion(503, "storage is not available"),
        harness.get(&path("")).await.companion(503, ""),
    ] {
        hidden(&reply);
    }
    // A cancelled upload stays cancelled; its data is removed later.
    harness.delete(&path("")).await.expect(200);
    harness.get(&path("/1")).await.companion(410, "");
    // Requests that need no S3 continue, and so do uploads.
    sign().await.expect(200);
    let kind = [("content-type", "a/b")];
    let sent = put(&signed.text_of("signed_request"), &kind, b"hello").await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let named = json!({"url": signed.text_of("url")});
    let complete = async || {
        let request = harness.ann("POST", "/api/complete_s3").json(&named);
        request.send().await
    };
    complete()
        .await
        .api_error(503, None, "storage is not available");
    // The sender has to repeat the notification.
    let object = harness
        .uploads
        .direct
        .key_of(&signed.text_of("url"))
        .unwrap();
    let notice = json!({"Records": [{
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": harness.uploads.bucket}, "object": {"key": object}},
    }]});
    let tell = async || {
        let request = harness.request("POST", &format!("/api/s3_events?token={SECRET}"));
        request.json(&notice).send().await
    };
    tell()
        .await
        .api_error(503, None, "send the notification again");
    proxy.revive();
    tell().await.expect(200);
    assert_eq!(complete().await.expect(200).json["size"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_database_is_reported() {
    let harness = Harness::start().await;
    let film = json!({"filename": "film.bin", "type": "a/b"});
    let created = harness.post("/s3/multipart", &film).await;
    let created = created.expect(200);
    let (id, key) = (created.text_of("uploadId"), created.text_of("key"));
    let path = format!("/s3/multipart/{}/1?key={}", encoded(&id), encoded(&key));
    harness.get(&path).await.expect(200);
    harness.uploads.queue.close().await;
    let request = harness.ann("POST", "/s3/multipart").json(&film);
    request.send().await.companion(503, "not available");
    let params = harness.get("/s3/params?filename=a").await;
    let params = params.companion(503, "not available");
    assert!(params.header("retry-after").is_some());
}
