//! What the bucket says.

use landfall_grants::JobState;
use serde_json::{Value, json};

use super::site::{Reply, SECRET, Site, encoded, put};

async fn tell(site: &Site, body: &Value) -> Reply {
    let ask = site.ask("POST", "/api/s3_events");
    let ask = ask.with("authorization", &format!("Bearer {SECRET}"));
    // SNS says that it sends text.
    let ask = ask.with("content-type", "text/plain; charset=UTF-8");
    ask.body(body.to_string()).send().await
}

fn record(site: &Site, key: &str) -> Value {
    json!({"Records": [{
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": site.uploads.bucket}, "object": {"key": encoded(key).replace("%20", "+")}},
    }]})
}

/// A file that its client has sent and says nothing of.
async fn silent(site: &Site, id: &str) -> String {
    let body = json!({"file_name": "My File", "file_type": "a/b", "request_id": id});
    let signed = site
        .ann("POST", "/api/sign_s3")
        .json(&body)
        .send()
        .await
        .expect(200);
    let sent = put(
        &signed.text_of("signed_request"),
        &[("content-type", "a/b")],
        b"hello",
    )
    .await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let key = site.uploads.direct.key_of(&signed.text_of("url"));
    key.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_arrived_is_complete() {
    let site = Site::start().await;
    let key = silent(&site, "r1").await;
    let notice = record(&site, &key);
    for _ in 0..2 {
        let reply = tell(&site, &notice).await.expect(200);
        assert_eq!(reply.json["told"], 1);
    }
    assert_eq!(site.job("r1").await.state, JobState::Completed);
    let finishes = site.uploads.hook.asked();
    let finishes = finishes.iter().filter(|asked| asked.starts_with("finish"));
    assert_eq!(finishes.count(), 1);

    let key = silent(&site, "r2").await;
    let wrapped = json!({
        "Type": "Notification", "TopicArn": "t", "Message": record(&site, &key).to_string(),
    });
    tell(&site, &wrapped).await.expect(200);
    assert_eq!(site.job("r2").await.state, JobState::Completed);

    let key = silent(&site, "r3").await;
    let minio = json!({
        "EventName": "s3:ObjectCreated:Put", "Key": format!("{}/{key}", site.uploads.bucket),
    });
    tell(&site, &minio).await.expect(200);
    assert_eq!(site.job("r3").await.state, JobState::Completed);

    let key = silent(&site, "r4").await;
    let bridge = json!({
        "detail-type": "Object Created", "source": "aws.s3",
        "detail": {"bucket": {"name": site.uploads.bucket}, "object": {"key": key}},
    });
    tell(&site, &bridge).await.expect(200);
    assert_eq!(site.job("r4").await.state, JobState::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_only_hints() {
    let site = Site::start().await;
    let body = json!({"file_name": "a", "file_type": "a/b", "request_id": "r1"});
    let signed = site
        .ann("POST", "/api/sign_s3")
        .json(&body)
        .send()
        .await
        .expect(200);
    let key = site.uploads.direct.key_of(&signed.text_of("url")).unwrap();
    // Nothing is there; nor elsewhere.
    for key in [&*key, "uploads/none/of/ours"] {
        tell(&site, &record(&site, key)).await.expect(200);
    }
    assert_eq!(site.job("r1").await.state, JobState::Started);
    for nothing in [
        json!({"Event": "s3:TestEvent", "Bucket": "b"}),
        json!({"Type": "SubscriptionConfirmation", "TopicArn": "t", "SubscribeURL": "http://127.0.0.1:1/x"}),
        json!({"Records": []}),
    ] {
        let reply = tell(&site, &nothing).await.expect(200);
        assert_eq!(reply.json, json!({"told": 0, "concerned": 0}));
    }
    for nonsense in [
        json!({}),
        json!([]),
        json!({"Type": "Notification", "Message": "?"}),
    ] {
        tell(&site, &nonsense).await.seed(400, None, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_knows_the_secret_is_heard() {
    let site = Site::start().await;
    let notice = json!({"Records": []}).to_string();
    let ask = |path: &str| site.ask("POST", path).body(notice.clone());
    ask(&format!("/api/s3_events?token={SECRET}"))
        .send()
        .await
        .expect(200);
    ask(&format!("/t/{SECRET}/api/s3_events"))
        .send()
        .await
        .expect(200);
    for wrong in [
        ask("/api/s3_events"),
        ask("/api/s3_events?token="),
        ask("/api/s3_events?token=the-secret-of-notification"),
        ask("/api/s3_events").key(&site.ann),
        ask("/api/s3_events").with("authorization", SECRET),
    ] {
        wrong.send().await.seed(401, None, "secret");
    }
    let large = site.ask("POST", &format!("/api/s3_events?token={SECRET}"));
    let large = large.body(" ".repeat((1 << 20) + 1)).send().await;
    large.seed(413, None, "1048576");
    let off = Site::with(
        crate::uploads::site::Service::Garage,
        |_| {},
        |api| api.events_secret = None,
    )
    .await;
    let reply = off
        .ask("POST", "/api/s3_events?token=x")
        .body("{}")
        .send()
        .await;
    reply.seed(404, None, "-direct-notifications-secret");
}
