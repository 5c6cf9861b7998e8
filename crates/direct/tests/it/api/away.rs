//! The bucket or the database is away: what clients are told, and what goes on.

use landfall_s3::client::Client;
use landfall_test_services::{
    Garage, Proxy,
    proxy::{Fault, Operation, Rule},
};
use serde_json::json;

use super::site::{Reply, SECRET, Site, encoded, put};
use crate::uploads::site::{Service, settings};

/// A server that reaches S3 by way of a proxy, and gives up at once; its clients have a way of their own.
async fn behind(proxy: &Proxy) -> Site {
    let mut proxied = settings(&Garage::shared().access().via(proxy));
    proxied.attempts = 1;
    let client = Client::new(proxied).unwrap();
    Site::with(Service::Garage, |settings| settings.client = client, |_| {}).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bucket() {
    let proxy = Proxy::start(&Garage::shared().access());
    let site = behind(&proxy).await;
    let body = json!({"file_name": "a", "file_type": "a/b"});
    let sign = async || site.ann("POST", "/api/sign_s3").json(&body).send().await;
    let signed = sign().await.expect(200);
    let film = json!({"filename": "film.bin", "type": "a/b"});
    let begin = async || site.ann("POST", "/s3/multipart").json(&film).send().await;
    let begun = begin().await.expect(200);
    let (id, key) = (begun.text_of("uploadId"), begun.text_of("key"));
    let path = |what: &str| format!("/s3/multipart/{}{what}?key={}", encoded(&id), encoded(&key));

    proxy.inject(Rule::on(Operation::ListParts), Fault::SLOW_DOWN);
    let slow = site.ann("GET", &path("")).send().await;
    let slow = slow.companion(503, "storage is not available");
    assert!(slow.header("retry-after").is_some());

    proxy.kill();
    let hidden = |reply: &Reply| assert!(!reply.text.contains("127.0.0.1"), "{reply:?}");
    for reply in [
        begin().await.companion(503, "storage is not available"),
        site.ann("GET", &path("")).send().await.companion(503, ""),
    ] {
        hidden(&reply);
    }
    // Dropped is dropped; what there is of it goes later.
    site.ann("DELETE", &path("")).send().await.expect(200);
    site.ann("GET", &path("/1")).send().await.companion(410, "");
    // What needs no S3 goes on, and so do those who send.
    sign().await.expect(200);
    let kind = [("content-type", "a/b")];
    let sent = put(&signed.text_of("signed_request"), &kind, b"hello").await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let named = json!({"url": signed.text_of("url")});
    let complete = async || {
        let ask = site.ann("POST", "/api/complete_s3").json(&named);
        ask.send().await
    };
    complete().await.seed(503, None, "storage is not available");
    // Whoever told of it is to do so again.
    let place = site.uploads.direct.key_of(&signed.text_of("url")).unwrap();
    let notice = json!({"Records": [{
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": site.uploads.bucket}, "object": {"key": place}},
    }]});
    let tell = async || {
        let ask = site.ask("POST", &format!("/api/s3_events?token={SECRET}"));
        ask.json(&notice).send().await
    };
    tell().await.seed(503, None, "send it again");
    proxy.revive();
    tell().await.expect(200);
    assert_eq!(complete().await.expect(200).json["size"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database() {
    let site = Site::start().await;
    let film = json!({"filename": "film.bin", "type": "a/b"});
    let begun = site.ann("POST", "/s3/multipart").json(&film).send().await;
    let begun = begun.expect(200);
    let (id, key) = (begun.text_of("uploadId"), begun.text_of("key"));
    let path = format!("/s3/multipart/{}/1?key={}", encoded(&id), encoded(&key));
    site.ann("GET", &path).send().await.expect(200);
    site.uploads.queue.close().await;
    let ask = site.ann("POST", "/s3/multipart").json(&film);
    ask.send().await.companion(503, "not available");
    let params = site.ann("GET", "/s3/params?filename=a").send().await;
    let params = params.companion(503, "not available");
    assert!(params.header("retry-after").is_some());
}
