//! Companion's routes, with the requests of @uppy/aws-s3 of Uppy 4, 5 and 6.

use landfall_direct::{SmallFiles, StsSettings};
use landfall_objects::Cloud as _;
use landfall_state::queue::JobState;
use serde_json::{Value, json};

use super::harness::{Harness, Reply, encoded, post_form, put};
use crate::uploads::harness::{MIB, Service, on_each, pattern};

on_each!(
    small_files_are_sent_by_a_form,
    multipart_uploads_are_completed
);

/// The request of Uppy 4 and 5 before a small file.
const PARAMS: &str = "/s3/params?filename=my+photo+%C3%BC.png&type=image%2Fpng\
    &metadata%5Bname%5D=my+photo+%C3%BC.png&metadata%5Btype%5D=image%2Fpng&metadata%5Balbum%5D=7";

async fn small_files_are_sent_by_a_form(service: Service) {
    let harness = Harness::with(service, |_| {}, |_| {}).await;
    let request = harness
        .ann("GET", PARAMS)
        .with("accept", "application/json");
    let reply = request.send().await.expect(200);
    assert_eq!(reply.names(), ["expires", "fields", "method", "url"]);
    assert_eq!(
        (reply.text_of("method"), &reply.json["expires"]),
        ("POST".into(), &json!(3600))
    );
    let (url, fields) = (reply.text_of("url"), &reply.json["fields"]);
    // Uppy 6 appends the key to the URL and uses that as the location.
    assert!(url.ends_with('/'), "{url}");
    assert_eq!(fields["success_action_status"], "201");
    let key = fields["key"].as_str().unwrap();
    let sent = post_form(&url, fields, b"hello").await;
    assert_eq!(sent.status, 201, "{sent:?}");
    assert_eq!(harness.object(key).await.unwrap(), "hello");
    let named = json!({ "key": key });
    let done = harness.post("/api/complete_s3", &named).await;
    assert_eq!(done.expect(200).json["size"], 5);
}

/// Uppy's Webcam plugin passes on the type that a browser's recorder gives.
#[tokio::test(flavor = "multi_thread")]
async fn recordings_keep_their_type() {
    const RECORDING: &str = "video/webm;codecs=vp9,opus";
    let harness = Harness::start().await;
    let params = "/s3/params?filename=webcam.webm&type=video%2Fwebm%3Bcodecs%3Dvp9%2Copus\
        &metadata%5Btype%5D=video%2Fwebm%3Bcodecs%3Dvp9%2Copus";
    let reply = harness.get(params).await.expect(200);
    let fields = &reply.json["fields"];
    assert_eq!(fields["content-type"], RECORDING);
    let sent = post_form(&reply.text_of("url"), fields, b"hello").await;
    assert_eq!(sent.status, 201, "{sent:?}");
    let key = fields["key"].as_str().unwrap();
    assert_eq!(harness.type_of(key).await, RECORDING);

    let of_file = json!({"filename": "webcam.webm", "type": RECORDING});
    let (key, id) = created(&harness, of_file).await;
    let tag = self::sent(&harness, &id, &key, 1, b"hello").await;
    let parts = json!([{"PartNumber": 1, "ETag": tag}]);
    complete(&harness, &id, &key, &parts).await.expect(200);
    assert_eq!(harness.type_of(&key).await, RECORDING);
}

async fn created(harness: &Harness, more: Value) -> (String, String) {
    let mut body = json!({
        "filename": "film.bin", "type": "video/mp4",
        "metadata": {"name": "film.bin", "type": "video/mp4", "relativePath": null, "stars": 5},
    });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let reply = harness.post("/s3/multipart", &body).await;
    let reply = reply.expect(200);
    assert_eq!(reply.names(), ["bucket", "key", "uploadId"]);
    assert_eq!(reply.text_of("bucket"), harness.uploads.bucket);
    (reply.text_of("key"), reply.text_of("uploadId"))
}

/// Returns a path of a multipart upload.
fn at(id: &str, what: &str, key: &str) -> String {
    format!("/s3/multipart/{}{what}?key={}", encoded(id), encoded(key))
}

async fn sent(harness: &Harness, id: &str, key: &str, number: u32, body: &[u8]) -> String {
    let path = at(id, &format!("/{number}"), key);
    let signed = harness.get(&path).await.expect(200);
    assert_eq!(signed.names(), ["expires", "url"]);
    assert_eq!(signed.json["expires"], 3600);
    let reply = put(&signed.text_of("url"), &[], body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.header("etag").unwrap()
}

async fn complete(harness: &Harness, id: &str, key: &str, parts: &Value) -> Reply {
    let body = json!({ "parts": parts });
    let path = at(id, "/complete", key);
    harness.post(&path, &body).await
}

async fn multipart_uploads_are_completed(service: Service) {
    let harness = Harness::with(service, |_| {}, |_| {}).await;
    let (key, id) = created(&harness, json!({})).await;
    let (first, second) = (pattern(1, 5 * MIB), pattern(2, 100));
    let mut tags = vec![sent(&harness, &id, &key, 1, &first).await];

    // After a reload, the client lists the parts.
    let listed = harness.get(&at(&id, "", &key)).await.expect(200);
    let listed = listed.json.as_array().unwrap().clone();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(
        (&listed[0]["PartNumber"], &listed[0]["Size"]),
        (&json!(1), &json!(5 * MIB))
    );
    assert_eq!(listed[0]["ETag"], tags[0].as_str());
    assert!(tags[0].starts_with('"'), "{tags:?}");

    let batch = format!("{}&partNumbers=2,3,10000", at(&id, "/batch", &key));
    let batch = harness.get(&batch).await.expect(200);
    let urls = batch.json["presignedUrls"].as_object().unwrap();
    assert_eq!(urls.len(), 3, "{urls:?}");
    let reply = put(urls["2"].as_str().unwrap(), &[], &second).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    tags.push(reply.header("etag").unwrap());

    // Uppy 6 removes the quotes of entity tags of parts it has just sent.
    let parts = json!([
        {"PartNumber": 1, "ETag": tags[0]},
        {"PartNumber": 2, "ETag": tags[1].trim_matches('"')},
    ]);
    let other = harness.bob("POST", &at(&id, "/complete", &key));
    other
        .json(&json!({ "parts": parts }))
        .send()
        .await
        .companion(404, "no such upload");
    let mut wrong = parts.clone();
    wrong[1]["ETag"] = "\"00000000000000000000000000000000\"".into();
    complete(&harness, &id, &key, &wrong)
        .await
        .companion(400, "");
    let done = complete(&harness, &id, &key, &parts).await.expect(200);
    assert_eq!(done.names(), ["bucket", "key", "location"]);
    assert_eq!(done.text_of("key"), key);
    assert!(done.text_of("location").ends_with(&key), "{done:?}");
    let again = complete(&harness, &id, &key, &parts).await.expect(200);
    assert_eq!(again.json, done.json);
    let object = harness.object(&key).await.unwrap();
    assert_eq!(object, [first, second].concat());
    harness
        .get(&at(&id, "/3", &key))
        .await
        .companion(409, "complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_can_abort_multipart_uploads() {
    let harness = Harness::start().await;
    let (key, id) = created(&harness, json!({"request_id": "r1"})).await;
    sent(&harness, &id, &key, 1, b"hello").await;
    let path = at(&id, "", &key);
    harness
        .bob("DELETE", &path)
        .send()
        .await
        .companion(404, "no such upload");
    let dropped = harness.delete(&path).await.expect(200);
    assert_eq!(dropped.text, "{}");
    assert_eq!(harness.job("r1").await.state, JobState::Cancelled);
    let object = (&*harness.uploads.bucket, &*key);
    let left = harness
        .uploads
        .client
        .list_multiparts(object.0, object.1, None, 10)
        .await;
    assert_eq!(left.unwrap().uploads, []);
    harness.get(&path).await.companion(410, "cancelled");
    harness.get(&at(&id, "/1", &key)).await.companion(410, "");
    let parts = json!([{"PartNumber": 1, "ETag": "x"}]);
    complete(&harness, &id, &key, &parts)
        .await
        .companion(410, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_are_enforced() {
    let harness = Harness::start().await;
    for more in [json!({"size": 10}), json!({"metadata": {"size": "10"}})] {
        let (key, id) = created(&harness, more).await;
        harness
            .get(&at(&id, "/2", &key))
            .await
            .companion(400, "part");
        let tag = sent(&harness, &id, &key, 1, b"hello world").await;
        let parts = json!([{"PartNumber": 1, "ETag": tag}]);
        complete(&harness, &id, &key, &parts)
            .await
            .companion(413, "exceed");
        complete(&harness, &id, &key, &parts)
            .await
            .companion(410, "");
        assert_eq!(harness.object(&key).await, None);
    }
    let (key, id) = created(&harness, json!({"size": 10})).await;
    let tag = sent(&harness, &id, &key, 1, b"hello").await;
    let parts = json!([{"PartNumber": 1, "ETag": tag}]);
    complete(&harness, &id, &key, &parts)
        .await
        .companion(400, "");
    let reply = harness.get(&format!("{PARAMS}&size=5")).await.expect(200);
    let (url, fields) = (reply.text_of("url"), &reply.json["fields"]);
    let longer = post_form(&url, fields, b"hello!").await;
    assert_eq!(longer.status, 400, "{longer:?}");
    let right = post_form(&url, fields, b"hello").await;
    assert_eq!(right.status, 201, "{right:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_requests_are_rejected() {
    let harness = Harness::start().await;
    let (key, id) = created(&harness, json!({})).await;
    let at = |what: &str| at(&id, what, &key);
    let numbers = "between 1 and 10000";
    let much: String = (0..65).map(|n| format!("&metadata[{n}]=x")).collect();
    let mut gets = vec![
        (
            "/s3/params".into(),
            400,
            "\"filename\" query parameter is required",
        ),
        ("/s3/params?filename=".into(), 400, "filename"),
        ("/s3/params?filename=a&filename=b".into(), 400, "filename"),
        ("/s3/params?filename=a&type=a%0Ab".into(), 400, "media type"),
        (format!("/s3/params?filename=a{much}"), 400, "metadata"),
        (at("/batch"), 400, "comma separated"),
        (self::at("other", "/1", &key), 404, "no such upload"),
        (self::at(&id, "/1", "other"), 404, "no such upload"),
        ("/s3/nothing".into(), 404, "nothing at this path"),
    ];
    for what in ["", "/1", "/batch?partNumbers=1"] {
        let bare = format!("/s3/multipart/{}{what}", encoded(&id));
        gets.push((bare, 400, "key must be passed"));
    }
    for number in ["0", "x", "10001", "1.5"] {
        gets.push((at(&format!("/{number}")), 400, numbers));
        let batch = format!("{}&partNumbers=1,{number}", at("/batch"));
        gets.push((batch, 400, numbers));
    }
    for (path, status, words) in gets {
        harness.get(&path).await.companion(status, words);
    }
    let much = "x".repeat(110_000);
    for (body, status, words) in [
        (json!({}), 400, "\"filename\" field is required"),
        (json!({"filename": ""}), 400, "filename"),
        (
            json!({"filename": "a", "type": 7}),
            400,
            "content type must be a string",
        ),
        (json!({"filename": "a", "metadata": 7}), 400, "metadata"),
        (
            json!({"filename": "a", "type": "", "metadata": {"x": much}}),
            413,
            "102400",
        ),
    ] {
        let reply = harness.post("/s3/multipart", &body).await;
        reply.companion(status, words);
    }
    let array = "array of {ETag, PartNumber}";
    for (parts, words) in [
        (json!(null), array),
        (json!(7), array),
        (json!([{"PartNumber": "1", "ETag": "a"}]), array),
        (json!([]), ""),
        (json!([{"PartNumber": 1, "ETag": "x"}]), ""),
    ] {
        let reply = complete(&harness, &id, &key, &parts).await;
        reply.companion(400, words);
    }
    // Another principal's upload looks like a missing one.
    let batch = format!("{}&partNumbers=1", at("/batch"));
    for path in [at(""), at("/1"), batch] {
        let reply = harness.bob("GET", &path).send().await;
        reply.companion(404, "no such upload");
    }
    let reply = harness.delete("/s3/params").await.companion(405, "method");
    assert_eq!(reply.header("allow").as_deref(), Some("GET"));
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_can_be_sent_by_put() {
    let harness = Harness::with(
        Service::Garage,
        |settings| settings.small_files = SmallFiles::Put,
        |_| {},
    )
    .await;
    let reply = harness.get(PARAMS).await.expect(200);
    assert_eq!(
        reply.names(),
        ["expires", "fields", "headers", "method", "url"]
    );
    assert_eq!(reply.text_of("method"), "PUT");
    assert_eq!(reply.json["fields"], json!({}));
    assert_eq!(reply.json["headers"]["content-type"], "image/png");
    let headers = reply.json["headers"].as_object().unwrap();
    let names = headers.iter().map(|(name, value)| {
        let name: &'static str = name.clone().leak();
        (name, value.as_str().unwrap())
    });
    let sent = put(&reply.text_of("url"), &names.collect::<Vec<_>>(), b"hello").await;
    assert_eq!(sent.status, 200, "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_in_the_path_are_accepted() {
    let harness = Harness::start().await;
    // Uppy 6 keeps the slash at the end of its `companionEndpoint`.
    for slash in ["", "/"] {
        let base = format!("/t/{}{slash}", harness.ann.reveal());
        let reply = harness
            .request("GET", &format!("{base}{PARAMS}"))
            .send()
            .await
            .expect(200);
        let (url, fields) = (reply.text_of("url"), &reply.json["fields"]);
        assert_eq!(post_form(&url, fields, b"hello").await.status, 201);
        let body =
            json!({"filename": "film.bin", "type": "video/mp4", "metadata": {"name": "film.bin"}});
        let request = harness
            .request("POST", &format!("{base}/s3/multipart"))
            .json(&body);
        let created = request.send().await.expect(200);
        let (key, id) = (created.text_of("key"), created.text_of("uploadId"));
        let path = format!("{base}{}", at(&id, "/1", &key));
        let signed = harness.request("GET", &path).send().await.expect(200);
        let sent = put(&signed.text_of("url"), &[], b"hello").await;
        let tag = sent.header("etag").unwrap();
        let parts = json!({"parts": [{"PartNumber": 1, "ETag": tag.trim_matches('"')}]});
        let path = format!("{base}{}", at(&id, "/complete", &key));
        let done = harness
            .request("POST", &path)
            .json(&parts)
            .send()
            .await
            .expect(200);
        assert!(done.json["location"].is_string(), "{done:?}");
    }
    for token in ["lfk_wrong", "lft_wrong", "%00", "a%20b"] {
        let path = format!("/t/{token}{PARAMS}");
        harness.request("GET", &path).send().await.expect(401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_credentials_have_companions_format() {
    let off = Harness::start().await;
    off.get("/s3/sts").await.companion(404, "-direct-sts");
    off.request("GET", "/s3/sts")
        .send()
        .await
        .companion(401, "authentication required");
    let endpoint = Service::Moto.access().endpoint;
    let sts = StsSettings {
        endpoint: Some(endpoint),
        role: None,
        lifetime: std::time::Duration::from_secs(3600),
    };
    let harness = Harness::with(Service::Moto, |settings| settings.sts = Some(sts), |_| {}).await;
    let reply = harness.get("/s3/sts").await.expect(200);
    assert_eq!(reply.names(), ["bucket", "credentials", "prefix", "region"]);
    let credentials = &reply.json["credentials"];
    for (pascal, camel) in [
        ("AccessKeyId", "accessKeyId"),
        ("SecretAccessKey", "secretAccessKey"),
        ("SessionToken", "sessionToken"),
        ("Expiration", "expiration"),
    ] {
        assert!(credentials[pascal].is_string(), "{reply:?}");
        assert_eq!(credentials[pascal], credentials[camel]);
    }
    assert_eq!(reply.text_of("bucket"), harness.uploads.bucket);
    assert_eq!(
        reply.text_of("prefix"),
        harness.uploads.direct.client_key_prefix("ann")
    );
    // Uppy 4 and 5 create these uploads here, and sign the parts on their own.
    let (key, id) = created(&harness, json!({})).await;
    assert!(key.starts_with(&reply.text_of("prefix")), "{key}");
    let tag = sent(&harness, &id, &key, 1, b"hello").await;
    let parts = json!([{"PartNumber": 1, "ETag": tag}]);
    complete(&harness, &id, &key, &parts).await.expect(200);
    let other = harness.bob("GET", "/s3/sts").send().await.expect(200);
    assert_ne!(other.text_of("prefix"), reply.text_of("prefix"));
}
