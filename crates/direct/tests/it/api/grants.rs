//! Upload tokens: who has one may make the one upload that was granted, in whichever way it travels.

use landfall_grants::{JobState, queue::JobEnd};
use serde_json::{Value, json};

use super::site::{Ask, Site, encoded, put};

/// Ways of a token.
fn ways(site: &Site, token: &str) -> Vec<Ask> {
    let body = json!({"filename": "holiday.mp4", "type": "video/mp4"});
    let with = |metadata: Value| {
        let mut body = body.clone();
        body["metadata"] = metadata;
        site.ask("POST", "/s3/multipart").json(&body)
    };
    let plain = || site.ask("POST", "/s3/multipart").json(&body);
    let mut beside = body.clone();
    beside["upload_token"] = token.into();
    vec![
        plain().with("upload-token", token),
        plain().with("authorization", &format!("Bearer {token}")),
        with(json!({ "upload_token": token })),
        with(json!({ "token": token })),
        site.ask("POST", "/s3/multipart").json(&beside),
        site.ask("POST", &format!("/t/{token}/s3/multipart"))
            .json(&body),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn one_upload_however_often_it_is_asked_for() {
    let site = Site::start().await;
    let token = site.grant(|new| new.request_id = "g1".into()).await;
    let other = site.grant(|_| {}).await;
    let (token, other) = (token.reveal(), other.reveal());
    let mut first: Option<Value> = None;
    for ask in ways(&site, token) {
        let reply = ask.send().await.expect(200);
        assert!(!reply.text.contains("lft_"), "{reply:?}");
        let first = first.get_or_insert_with(|| reply.json.clone());
        assert_eq!(*first, reply.json);
    }
    assert_eq!(site.uploads.hook.asked(), ["create holiday.mp4"]);
    let first = first.unwrap();
    let (key, id) = (
        first["key"].as_str().unwrap(),
        first["uploadId"].as_str().unwrap(),
    );
    let at = |what: &str| format!("/s3/multipart/{}{what}?key={}", encoded(id), encoded(key));
    // The token of another grant of the same caller is no use for it.
    for path in [at(""), at("/1")] {
        let foreign = site
            .ask("GET", &path)
            .with("upload-token", other)
            .send()
            .await;
        foreign.companion(404, "no such upload");
    }
    let signed = site
        .ask("GET", &format!("/t/{token}{}", at("/1")))
        .send()
        .await
        .expect(200);
    let tag = put(&signed.text_of("url"), &[], b"hello")
        .await
        .header("etag")
        .unwrap();
    let parts = json!({"parts": [{"PartNumber": 1, "ETag": tag}]});
    let ask = site
        .ask("POST", &at("/complete"))
        .with("upload-token", token);
    ask.json(&parts).send().await.expect(200);
    assert_eq!(site.job("g1").await.state, JobState::Completed);
    // Its answer may have been lost.
    let ask = site
        .ask("POST", "/api/complete_s3")
        .with("upload-token", token);
    let done = ask.json(&json!({})).send().await.expect(200);
    assert_eq!(done.json["size"], 5);
    // What it was granted to may use it as well.
    let named = json!({"request_id": "g1"});
    site.ann("POST", "/api/complete_s3")
        .json(&named)
        .send()
        .await
        .expect(200);
    site.bob("POST", "/api/complete_s3")
        .json(&named)
        .send()
        .await
        .expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_granted_binds() {
    let site = Site::start().await;
    let change = |new: &mut landfall_grants::queue::NewJob| {
        new.size = Some(5);
        new.filetype = Some("video/mp4".into());
    };
    let token = site.grant(change).await;
    let begin = async |body: Value| {
        let ask = site
            .ask("POST", "/s3/multipart")
            .with("upload-token", token.reveal());
        ask.json(&body).send().await
    };
    begin(json!({"filename": "a", "type": "video/mp4", "size": 6}))
        .await
        .expect(413);
    begin(json!({"filename": "a", "type": "video/mp4", "size": 4}))
        .await
        .expect(400);
    let ask = site
        .ask("POST", "/s3/multipart")
        .with("upload-token", token.reveal());
    let other = json!({"filename": "a", "metadata": {"upload_request_id": "other", "token": "x"}});
    ask.json(&other)
        .send()
        .await
        .companion(401, "no grant with this token");
    let reply = begin(json!({"filename": "a", "type": "video/mp4"}))
        .await
        .expect(200);
    assert!(reply.text_of("key").ends_with("/holiday.mp4"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_no_good() {
    let site = Site::start().await;
    for (end, status) in [
        (JobEnd::Expired, 410),
        (JobEnd::Cancelled("unwanted".into()), 410),
    ] {
        let token = site.grant(|new| new.request_id = format!("{end:?}")).await;
        let job = site.job(&format!("{end:?}")).await;
        site.uploads.queue.finish(job.id, end).await.unwrap();
        for ask in ways(&site, token.reveal()) {
            ask.send().await.companion(status, "");
        }
    }
    for ask in ways(&site, "lft_nobody-has-this") {
        let reply = ask.send().await.companion(401, "no grant with this token");
        assert!(reply.header("www-authenticate").is_some());
    }
    // Ten at once, then no more wrong ones from there, whichever kind of secret it is.
    for _ in 0..10 {
        site.ask("GET", "/t/lft_guess/s3/params?filename=a")
            .send()
            .await;
    }
    let reply = site
        .ask("GET", "/t/lft_guess/s3/params?filename=a")
        .send()
        .await;
    let reply = reply.companion(429, "too many wrong");
    assert!(reply.header("retry-after").is_some());
    // A valid key passes all the same.
    site.ann("GET", "/s3/params?filename=a")
        .send()
        .await
        .expect(200);
}
