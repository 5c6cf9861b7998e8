//! `POST /s3/presign`, with the requests of Uppy 6.

use serde_json::{Value, json};

use super::harness::{Harness, Reply, TestRequest, post_form, put};
use crate::uploads::harness::{Service, on_each};

on_each!(clients_can_create_and_complete_multipart_uploads);

async fn presign(harness: &Harness, body: Value) -> Reply {
    harness.post("/s3/presign", &body).await
}

/// Creates the client's request to S3.
fn to_s3(harness: &Harness, method: &str, url: &str) -> TestRequest {
    // It does not go to the server.
    harness.request(method, "").at(url)
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_are_presigned() {
    let harness = Harness::start().await;
    let prefix = harness.uploads.direct.client_key_prefix("ann");
    let body = json!({"method": "PUT", "key": "1f-my photo.png", "contentType": "image/png"});
    let form = presign(&harness, body).await.expect(200);
    assert_eq!(form.names(), ["fields", "key", "url"]);
    let key = format!("{prefix}1f-my photo.png");
    assert_eq!(form.text_of("key"), key);
    assert_eq!(form.json["fields"]["key"], key);
    let sent = post_form(&form.text_of("url"), &form.json["fields"], b"hello").await;
    assert!(sent.status < 300, "{sent:?}");
    assert_eq!(harness.object(&key).await.unwrap(), "hello");

    // Clients before 6.3 send no type.
    let body = json!({"method": "PUT", "key": "2f-a.png", "expiresIn": 900});
    let signed = presign(&harness, body).await.expect(200);
    assert_eq!(signed.text_of("key"), format!("{prefix}2f-a.png"));
    let url = signed.text_of("url");
    assert!(url.contains("X-Amz-Expires=900&"), "{url}");
    let sent = put(&url, &[("content-type", "image/whatever")], b"hello").await;
    assert_eq!(sent.status, 200, "{sent:?}");
    // With and without the prefix of the key.
    for key in ["2f-a.png", &*format!("{prefix}2f-a.png")] {
        let named = json!({ "key": key });
        let done = harness.post("/api/complete_s3", &named).await;
        assert_eq!(done.expect(200).json["size"], 5);
        let other = harness
            .bob("POST", "/api/complete_s3")
            .json(&named)
            .send()
            .await;
        other.expect(404);
    }
}

async fn clients_can_create_and_complete_multipart_uploads(service: Service) {
    let harness = Harness::with(service, |_| {}, |_| {}).await;
    let begin = presign(&harness, json!({"method": "POST", "key": "3f-film.bin"}))
        .await
        .expect(200);
    let key = begin.text_of("key");
    assert!(
        key.starts_with(&harness.uploads.direct.client_key_prefix("ann")),
        "{key}"
    );
    let request = to_s3(&harness, "POST", &begin.text_of("url")).with("content-type", "video/mp4");
    let created = request.send().await;
    assert_eq!(created.status, 200, "{created:?}");
    let id = created.text.split("<UploadId>").nth(1).unwrap();
    let id = id.split("</UploadId>").next().unwrap().to_owned();

    let part = json!({"method": "PUT", "key": key, "uploadId": id, "partNumber": 1});
    let other = harness.bob("POST", "/s3/presign").json(&part).send().await;
    other.companion(404, "no such upload");
    let signed = presign(&harness, part).await.expect(200);
    let sent = put(&signed.text_of("url"), &[], b"hello").await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let tag = sent.header("etag").unwrap();

    let list = json!({"method": "GET", "key": "3f-film.bin", "uploadId": id});
    let signed = presign(&harness, list).await.expect(200);
    let listed = to_s3(&harness, "GET", &signed.text_of("url")).send().await;
    assert!(
        listed.text.contains("<PartNumber>1</PartNumber>"),
        "{listed:?}"
    );

    let complete = json!({"method": "POST", "key": key, "uploadId": id});
    let signed = presign(&harness, complete).await.expect(200);
    let xml = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>\
         </CompleteMultipartUpload>"
    );
    let request =
        to_s3(&harness, "POST", &signed.text_of("url")).with("content-type", "application/xml");
    let done = request.body(xml).send().await;
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(harness.object(&key).await.unwrap(), "hello");
    let named = json!({ "key": key });
    let done = harness.post("/api/complete_s3", &named).await;
    assert_eq!(done.expect(200).json["size"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_can_abort_multipart_uploads() {
    let harness = Harness::start().await;
    let begin = presign(&harness, json!({"method": "POST", "key": "4f"}))
        .await
        .expect(200);
    let created = to_s3(&harness, "POST", &begin.text_of("url")).send().await;
    let id = created.text.split("<UploadId>").nth(1).unwrap();
    let id = id.split("</UploadId>").next().unwrap();
    let key = begin.text_of("key");
    let abort = json!({"method": "DELETE", "key": key, "uploadId": id});
    let signed = presign(&harness, abort).await.expect(200);
    let dropped = to_s3(&harness, "DELETE", &signed.text_of("url"))
        .send()
        .await;
    assert_eq!(dropped.status, 204, "{dropped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unsupported_requests_are_not_signed() {
    let harness = Harness::start().await;
    presign(&harness, json!({}))
        .await
        .companion(400, "method and key are required");
    presign(&harness, json!({"method": "GET", "key": "a"}))
        .await
        .companion(400, "Unsupported operation");
    presign(&harness, json!({"method": "DELETE", "key": "a"}))
        .await
        .companion(403, "cannot be deleted");
    for key in ["../a", "a/../b", "a//b", "a/", "a\nb"] {
        let body = json!({"method": "PUT", "key": key});
        presign(&harness, body).await.companion(400, "");
    }
    // Another principal's key is only a name below the own prefix.
    let theirs = format!("{}a", harness.uploads.direct.client_key_prefix("bob"));
    let reply = presign(&harness, json!({"method": "PUT", "key": theirs}))
        .await
        .expect(200);
    let own = harness.uploads.direct.client_key_prefix("ann");
    assert!(reply.text_of("key").starts_with(&own), "{reply:?}");
    for method in ["PUT", "GET", "POST", "DELETE"] {
        let body = json!({"method": method, "key": "a", "uploadId": "x", "partNumber": null});
        let status = if method == "PUT" { 400 } else { 404 };
        presign(&harness, body).await.companion(status, "");
    }
    let nobody = harness
        .request("POST", "/s3/presign")
        .json(&json!({"method": "PUT", "key": "a"}));
    nobody
        .send()
        .await
        .companion(401, "authentication required");
}
