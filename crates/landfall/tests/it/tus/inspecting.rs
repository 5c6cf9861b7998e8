//! HEAD and GET.

use super::with_defaults;

#[tokio::test]
async fn unknown_upload_has_no_offset() {
    with_defaults(async |site| {
        let long = format!("/files/{}", "a".repeat(300));
        let existing = site.create(5).await;
        let below = format!("{existing}/x");
        for path in [
            "/files/none",
            &long,
            &below,
            "/files/..",
            "/files/../x",
            "/files/.info",
            "/files/a%00b",
            "/files/%2e%2e%2fx",
            "/files/a//b",
            "/files/%zz",
            "/files/a%20b",
        ] {
            let before = site.files();
            for method in ["HEAD", "GET", "PATCH", "DELETE"] {
                let ask = site.request(method, path).with("Content-Type", super::DATA);
                let reply = ask.with("Upload-Offset", "0").send().await;
                let reply = reply.expect(404);
                assert_eq!(reply.header("upload-offset"), None, "{reply:?}");
                assert_eq!(reply.header("upload-length"), None, "{reply:?}");
            }
            assert_eq!(site.files(), before, "{path}");
        }
        // Other files of the store are not uploads.
        let reply = site.head(&format!("{existing}.info")).await;
        reply.expect(404);
    })
    .await;
}

#[tokio::test]
async fn error_responses_have_a_body_except_on_head() {
    with_defaults(async |site| {
        let reply = site.request("GET", "/files/none").send().await;
        let reply = reply.refused(404, "ERR_UPLOAD_NOT_FOUND");
        assert_eq!(
            reply.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        // The connection stays open after a HEAD without a body, so nothing may follow the head.
        let mut open = site.request("HEAD", "/files/none").open().await;
        open.reply().await.expect(404);
        open.write("HEAD /files/none HTTP/1.1\r\nHost: h\r\n\r\n")
            .await;
        open.reply().await.expect(404);
    })
    .await;
}
