//! `POST /s3/presign`, with the requests that Uppy 6 makes of what it is answered.

use serde_json::{Value, json};

use super::site::{Ask, Reply, Site, post_form, put};
use crate::uploads::site::{Service, on_both};

on_both!(a_multipart_upload_of_the_clients_own);

async fn presign(site: &Site, body: Value) -> Reply {
    site.ann("POST", "/s3/presign").json(&body).send().await
}

/// A request to S3 as the client sends it.
fn to_s3(site: &Site, method: &str, url: &str) -> Ask {
    // What is asked for there has nothing to do with the server.
    site.ask(method, "").at(url)
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files() {
    let site = Site::start().await;
    let prefix = site.uploads.direct.own_prefix("ann");
    let body = json!({"method": "PUT", "key": "1f-my photo.png", "contentType": "image/png"});
    let form = presign(&site, body).await.expect(200);
    assert_eq!(form.names(), ["fields", "key", "url"]);
    let key = format!("{prefix}1f-my photo.png");
    assert_eq!(form.text_of("key"), key);
    assert_eq!(form.json["fields"]["key"], key);
    let sent = post_form(&form.text_of("url"), &form.json["fields"], b"hello").await;
    assert!(sent.status < 300, "{sent:?}");
    assert_eq!(site.object(&key).await.unwrap(), "hello");

    // Clients before 6.3 say no type and send whichever they like.
    let body = json!({"method": "PUT", "key": "2f-a.png", "expiresIn": 900});
    let signed = presign(&site, body).await.expect(200);
    assert_eq!(signed.text_of("key"), format!("{prefix}2f-a.png"));
    let url = signed.text_of("url");
    assert!(url.contains("X-Amz-Expires=900&"), "{url}");
    let sent = put(&url, &[("content-type", "image/whatever")], b"hello").await;
    assert_eq!(sent.status, 200, "{sent:?}");
    // By either spelling of its key.
    for key in ["2f-a.png", &*format!("{prefix}2f-a.png")] {
        let named = json!({ "key": key });
        let done = site
            .ann("POST", "/api/complete_s3")
            .json(&named)
            .send()
            .await;
        assert_eq!(done.expect(200).json["size"], 5);
        let foreign = site
            .bob("POST", "/api/complete_s3")
            .json(&named)
            .send()
            .await;
        foreign.expect(404);
    }
}

async fn a_multipart_upload_of_the_clients_own(service: Service) {
    let site = Site::with(service, |_| {}, |_| {}).await;
    let begin = presign(&site, json!({"method": "POST", "key": "3f-film.bin"}))
        .await
        .expect(200);
    let key = begin.text_of("key");
    assert!(
        key.starts_with(&site.uploads.direct.own_prefix("ann")),
        "{key}"
    );
    let ask = to_s3(&site, "POST", &begin.text_of("url")).with("content-type", "video/mp4");
    let begun = ask.send().await;
    assert_eq!(begun.status, 200, "{begun:?}");
    let id = begun.text.split("<UploadId>").nth(1).unwrap();
    let id = id.split("</UploadId>").next().unwrap().to_owned();

    let part = json!({"method": "PUT", "key": key, "uploadId": id, "partNumber": 1});
    let other = site.bob("POST", "/s3/presign").json(&part).send().await;
    other.companion(404, "no such upload");
    let signed = presign(&site, part).await.expect(200);
    let sent = put(&signed.text_of("url"), &[], b"hello").await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let tag = sent.header("etag").unwrap();

    let list = json!({"method": "GET", "key": "3f-film.bin", "uploadId": id});
    let signed = presign(&site, list).await.expect(200);
    let listed = to_s3(&site, "GET", &signed.text_of("url")).send().await;
    assert!(
        listed.text.contains("<PartNumber>1</PartNumber>"),
        "{listed:?}"
    );

    let complete = json!({"method": "POST", "key": key, "uploadId": id});
    let signed = presign(&site, complete).await.expect(200);
    let xml = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>\
         </CompleteMultipartUpload>"
    );
    let ask = to_s3(&site, "POST", &signed.text_of("url")).with("content-type", "application/xml");
    let done = ask.body(xml).send().await;
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(site.object(&key).await.unwrap(), "hello");
    let named = json!({ "key": key });
    let done = site
        .ann("POST", "/api/complete_s3")
        .json(&named)
        .send()
        .await;
    assert_eq!(done.expect(200).json["size"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_by_its_client() {
    let site = Site::start().await;
    let begin = presign(&site, json!({"method": "POST", "key": "4f"}))
        .await
        .expect(200);
    let begun = to_s3(&site, "POST", &begin.text_of("url")).send().await;
    let id = begun.text.split("<UploadId>").nth(1).unwrap();
    let id = id.split("</UploadId>").next().unwrap();
    let key = begin.text_of("key");
    let abort = json!({"method": "DELETE", "key": key, "uploadId": id});
    let signed = presign(&site, abort).await.expect(200);
    let dropped = to_s3(&site, "DELETE", &signed.text_of("url")).send().await;
    assert_eq!(dropped.status, 204, "{dropped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_signed() {
    let site = Site::start().await;
    presign(&site, json!({}))
        .await
        .companion(400, "method and key are required");
    presign(&site, json!({"method": "GET", "key": "a"}))
        .await
        .companion(400, "Unsupported operation");
    presign(&site, json!({"method": "DELETE", "key": "a"}))
        .await
        .companion(403, "not deleted");
    for key in ["../a", "a/../b", "a//b", "a/", "a\nb"] {
        let body = json!({"method": "PUT", "key": key});
        presign(&site, body).await.companion(400, "");
    }
    // Another's key is only a name below one's own.
    let theirs = format!("{}a", site.uploads.direct.own_prefix("bob"));
    let reply = presign(&site, json!({"method": "PUT", "key": theirs}))
        .await
        .expect(200);
    let own = site.uploads.direct.own_prefix("ann");
    assert!(reply.text_of("key").starts_with(&own), "{reply:?}");
    for method in ["PUT", "GET", "POST", "DELETE"] {
        let body = json!({"method": method, "key": "a", "uploadId": "x", "partNumber": null});
        let status = if method == "PUT" { 400 } else { 404 };
        presign(&site, body).await.companion(status, "");
    }
    let nobody = site
        .ask("POST", "/s3/presign")
        .json(&json!({"method": "PUT", "key": "a"}));
    nobody.send().await.companion(401, "nobody knows");
    let off = Site::with(
        Service::Garage,
        |settings| settings.sign_requests = false,
        |_| {},
    )
    .await;
    presign(&off, json!({"method": "PUT", "key": "a"}))
        .await
        .companion(404, "-direct-sign-requests");
}
