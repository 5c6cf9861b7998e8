//! Requests as Apple's URLSession sends them: the whole upload in one request with `Upload-Complete: ?1` and
//! `Content-Length`; after a lost connection HEAD, and the rest in one PATCH. The fields of the application are
//! in all of them.

use super::{NEWEST, PARTIAL, assert_complete, everywhere, head};
use crate::harness::{Site, TestRequest};

const DIGEST: &str = "sha-256=:k2oYXKqiZrucvpgengXLeM1zKwsygOuURBK7b4+PB68=:";

fn sent(site: &Site, version: Option<&str>, method: &str, path: &str) -> TestRequest {
    let sent = site.request(method, path).without("Tus-Resumable");
    let sent = sent.with("Repr-Digest", DIGEST);
    match version {
        Some(version) => sent.with("Upload-Draft-Interop-Version", version),
        None => sent,
    }
}

#[tokio::test]
async fn urlsession_uploads_in_one_request_and_resumes_with_head_and_patch() {
    let expiring = |config: &mut landfall::Config| {
        config.lifetimes.unfinished = Some(std::time::Duration::from_secs(3600));
    };
    everywhere(expiring, async |site| {
        for version in [Some("6"), Some("8"), None] {
            for method in ["POST", "PUT"] {
                let whole = || {
                    let sent = sent(site, version, method, "/files/");
                    sent.with("Content-Type", "video/quicktime")
                        .with("Upload-Complete", "?1")
                };
                let reply = whole().body("helloworld").send().await.expect(201);
                assert_complete(&reply, NEWEST, true);
                assert_eq!(reply.header("upload-draft-interop-version"), version);
                let path = reply.location();
                assert_eq!(site.bytes(&path).await, "helloworld");
                site.delete(&path).await.expect(204);

                let mut open = whole().with("Content-Length", "10").open().await;
                open.write("hello").await;
                let path = loop {
                    if let Some(path) = only_upload(site).await
                        && head(site, NEWEST, &path).await.number("upload-offset") == 5
                    {
                        break path;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                };
                drop(open);
                let inspected = sent(site, version, "HEAD", &path)
                    .with("Content-Type", "video/quicktime")
                    .with("Content-Length", "0");
                let reply = inspected.send().await;
                assert!([200, 204].contains(&reply.status), "{reply:?}");
                assert_eq!(reply.number("upload-offset"), 5);
                let rest = sent(site, version, "PATCH", &path)
                    .with("Content-Type", PARTIAL)
                    .with("Upload-Complete", "?1")
                    .with("Upload-Offset", "5");
                let reply = rest.body("world").send().await;
                assert!([201, 204].contains(&reply.status), "{reply:?}");
                assert_complete(&reply, NEWEST, true);
                assert_eq!(site.bytes(&path).await, "helloworld");
                site.delete(&path).await.expect(204);
            }
        }
    })
    .await;
}

async fn only_upload(site: &Site) -> Option<String> {
    let page = site.parts.enumerator().unwrap().page(None, 10).await;
    let uploads = page.unwrap().uploads;
    assert!(uploads.len() <= 1, "{uploads:?}");
    uploads
        .first()
        .map(|found| format!("/files/{}", found.upload.id))
}
