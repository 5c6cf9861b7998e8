//! HEAD and GET.

use super::{everywhere, with_defaults};

#[tokio::test]
async fn t_core_13_t_core_14_t_core_17_t_core_18_head_reports_offset_and_length() {
    with_defaults(async |site| {
        let path = site.create(10).await;
        for offset in [0, 5] {
            let reply = site.head(&path).await.expect(200);
            assert_eq!(reply.number("upload-offset"), offset);
            assert_eq!(reply.number("upload-length"), 10);
            assert_eq!(reply.header("cache-control"), Some("no-store"));
            assert_eq!(reply.header("upload-defer-length"), None);
            site.patch(&path, offset, "hello").await.expect(204);
        }
        // Complete: HEAD still reports it.
        let reply = site.head(&path).await.expect(200);
        assert_eq!(
            (reply.number("upload-offset"), reply.number("upload-length")),
            (10, 10)
        );
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    })
    .await;
}

#[tokio::test]
async fn t_core_15_t_core_16_e_33_e_59_unknown_upload_has_no_offset() {
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
            for method in ["HEAD", "GET", "PATCH", "DELETE"] {
                let ask = site.request(method, path).with("Content-Type", super::DATA);
                let reply = ask.with("Upload-Offset", "0").send().await;
                let reply = reply.expect(404);
                assert_eq!(reply.header("upload-offset"), None, "{reply:?}");
                assert_eq!(reply.header("upload-length"), None, "{reply:?}");
            }
        }
        // Other files of the store are not uploads.
        let reply = site.head(&format!("{existing}.info")).await;
        reply.expect(404);
    })
    .await;
}

#[tokio::test]
async fn e_60_head_and_error_responses_are_not_cacheable() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        for (status, ask) in [
            (200, site.request("HEAD", &path)),
            (404, site.request("HEAD", "/files/none")),
            (404, site.request("GET", "/files/none")),
            (409, site.patching(&path, 2)),
        ] {
            let reply = ask.send().await.expect(status);
            assert_eq!(reply.header("cache-control"), Some("no-store"), "{reply:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn e_57_error_responses_have_a_body_except_on_head() {
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

#[tokio::test]
async fn e_49_get_serves_stored_bytes_without_active_content() {
    with_defaults(async |site| {
        // filename a.html, filetype text/html
        let metadata = "filename YS5odG1s,filetype dGV4dC9odG1s";
        let path = site
            .create_with(&[("Upload-Length", "10"), ("Upload-Metadata", metadata)])
            .await;
        site.patch(&path, 0, "<scri").await.expect(204);
        for body in ["<scri", "<script>ab"] {
            let reply = site.request("GET", &path).send().await.expect(200);
            assert_eq!(reply.body, body);
            assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
            let disposition = reply.header("content-disposition").unwrap();
            assert!(disposition.starts_with("attachment"), "{disposition}");
            if body.len() < 10 {
                site.patch(&path, 5, "pt>ab").await.expect(204);
            }
        }
    })
    .await;
    everywhere(
        |config| config.store = config.store.clone().without_reader(),
        async |site| {
            let path = site.create(5).await;
            site.request("GET", &path).send().await.expect(405);
        },
    )
    .await;
}
