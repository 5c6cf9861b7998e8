//! Bucket notifications.

use landfall_state::queue::JobState;
use serde_json::{Value, json};

use super::harness::{Harness, Reply, SECRET, encoded, put};

async fn notify(harness: &Harness, body: &Value) -> Reply {
    let request = harness.request("POST", "/api/s3_events");
    let request = request.with("authorization", &format!("Bearer {SECRET}"));
    // The content type of SNS.
    let request = request.with("content-type", "text/plain; charset=UTF-8");
    request.body(body.to_string()).send().await
}

fn record(harness: &Harness, key: &str) -> Value {
    json!({"Records": [{
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": harness.uploads.bucket}, "object": {"key": encoded(key).replace("%20", "+")}},
    }]})
}

/// Uploads a file without completing it.
async fn silent(harness: &Harness, id: &str) -> String {
    let body = json!({"file_name": "My File", "file_type": "a/b", "request_id": id});
    let signed = harness.post("/api/sign_s3", &body).await.expect(200);
    let sent = put(
        &signed.text_of("signed_request"),
        &[("content-type", "a/b")],
        b"hello",
    )
    .await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let key = harness.uploads.direct.key_of(&signed.text_of("url"));
    key.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_complete_uploads() {
    let harness = Harness::start().await;
    let key = silent(&harness, "r1").await;
    let notice = record(&harness, &key);
    for _ in 0..2 {
        let reply = notify(&harness, &notice).await.expect(200);
        assert_eq!(reply.json["received"], 1);
    }
    assert_eq!(harness.job("r1").await.state, JobState::Completed);
    let finishes = harness.uploads.hook.asked();
    let finishes = finishes.iter().filter(|asked| asked.starts_with("finish"));
    assert_eq!(finishes.count(), 1);

    let key = silent(&harness, "r2").await;
    let wrapped = json!({
        "Type": "Notification", "TopicArn": "t", "Message": record(&harness, &key).to_string(),
    });
    notify(&harness, &wrapped).await.expect(200);
    assert_eq!(harness.job("r2").await.state, JobState::Completed);

    let key = silent(&harness, "r3").await;
    let minio = json!({
        "EventName": "s3:ObjectCreated:Put", "Key": format!("{}/{key}", harness.uploads.bucket),
    });
    notify(&harness, &minio).await.expect(200);
    assert_eq!(harness.job("r3").await.state, JobState::Completed);

    let key = silent(&harness, "r4").await;
    let bridge = json!({
        "detail-type": "Object Created", "source": "aws.s3",
        "detail": {"bucket": {"name": harness.uploads.bucket}, "object": {"key": key}},
    });
    notify(&harness, &bridge).await.expect(200);
    assert_eq!(harness.job("r4").await.state, JobState::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_without_an_object_change_nothing() {
    let harness = Harness::start().await;
    let body = json!({"file_name": "a", "file_type": "a/b", "request_id": "r1"});
    let signed = harness.post("/api/sign_s3", &body).await.expect(200);
    let key = harness
        .uploads
        .direct
        .key_of(&signed.text_of("url"))
        .unwrap();
    // There is no object, here or elsewhere.
    for key in [&*key, "uploads/none/of/ours"] {
        notify(&harness, &record(&harness, key)).await.expect(200);
    }
    assert_eq!(harness.job("r1").await.state, JobState::Started);
    for nothing in [
        json!({"Event": "s3:TestEvent", "Bucket": "b"}),
        json!({"Type": "SubscriptionConfirmation", "TopicArn": "t", "SubscribeURL": "http://127.0.0.1:1/x"}),
        json!({"Records": []}),
    ] {
        let reply = notify(&harness, &nothing).await.expect(200);
        assert_eq!(reply.json, json!({"received": 0, "matched": 0}));
    }
    for nonsense in [
        json!({}),
        json!([]),
        json!({"Type": "Notification", "Message": "?"}),
    ] {
        notify(&harness, &nonsense).await.api_error(400, None, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_need_the_secret() {
    let harness = Harness::start().await;
    let notice = json!({"Records": []}).to_string();
    let request = |path: &str| harness.request("POST", path).body(notice.clone());
    request(&format!("/api/s3_events?token={SECRET}"))
        .send()
        .await
        .expect(200);
    request(&format!("/t/{SECRET}/api/s3_events"))
        .send()
        .await
        .expect(200);
    for wrong in [
        request("/api/s3_events"),
        request("/api/s3_events?token="),
        request("/api/s3_events?token=the-secret-of-notification"),
        request("/api/s3_events").key(&harness.ann),
        request("/api/s3_events").with("authorization", SECRET),
    ] {
        wrong.send().await.api_error(401, None, "secret");
    }
    let large = harness.request("POST", &format!("/api/s3_events?token={SECRET}"));
    let large = large.body(" ".repeat((1 << 20) + 1)).send().await;
    large.api_error(413, None, "1048576");
    let off = Harness::with(
        crate::uploads::harness::Service::Garage,
        |_| {},
        |api| api.notifications_secret = None,
    )
    .await;
    let reply = off
        .request("POST", "/api/s3_events?token=x")
        .body("{}")
        .send()
        .await;
    reply.api_error(404, None, "-direct-notifications-secret");
}
