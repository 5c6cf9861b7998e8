//! Creation with a deferred length.

use super::{DATA, everywhere, with_defaults};

const DEFER: (&str, &str) = ("Upload-Defer-Length", "1");

#[tokio::test]
async fn length_below_the_offset_is_rejected() {
    everywhere(
        |config| config.limits.max_size = Some(100),
        async |site| {
            let path = site.create_with(&[DEFER]).await;
            site.patch(&path, 0, "hello").await.expect(204);
            for (length, body, status) in [("4", "", 400), ("6", "ab", 400), ("101", "a", 413)] {
                let ask = site
                    .patching(&path, 5)
                    .with("Upload-Length", length)
                    .body(body);
                ask.send().await.expect(status);
                let reply = site.head(&path).await;
                assert_eq!(reply.number("upload-offset"), 5);
                assert_eq!(reply.header("upload-defer-length"), Some("1"));
            }
        },
    )
    .await;
}

#[tokio::test]
async fn another_length_is_rejected() {
    with_defaults(async |site| {
        for path in [site.create(10).await, site.create_with(&[DEFER]).await] {
            let sent = site.patching(&path, 0).with("Upload-Length", "10");
            sent.body("hello").send().await.expect(204);
            for other in ["9", "11", "0"] {
                let sent = site.patching(&path, 5).with("Upload-Length", other);
                let reply = sent.body("x").send().await;
                reply.refused(400, "ERR_INVALID_UPLOAD_LENGTH");
            }
            assert_eq!(site.offset(&path).await, 5);
        }
    })
    .await;
}

#[tokio::test]
async fn length_without_bytes_may_complete_the_upload() {
    with_defaults(async |site| {
        let path = site.create_with(&[DEFER]).await;
        site.patch(&path, 0, "hello").await.expect(204);
        assert_eq!(site.handler.stats().finished, 0);
        let ask = site.patching(&path, 5).with("Upload-Length", "5").body("");
        assert_eq!(ask.send().await.expect(204).number("upload-offset"), 5);
        assert_eq!(site.handler.stats().finished, 1);
    })
    .await;
}

#[tokio::test]
async fn deferred_length_upload_cannot_exceed_the_max_size() {
    everywhere(
        |config| config.limits.max_size = Some(10),
        async |site| {
            let path = site.create_with(&[DEFER]).await;
            site.patch(&path, 0, "hello").await.expect(204);
            let known = site.patch(&path, 5, "world!").await;
            known.refused(413, "ERR_UPLOAD_SIZE_EXCEEDED");
            assert_eq!(site.offset(&path).await, 5);
            let unknown = site
                .patching(&path, 5)
                .chunked(&["world", "!!"], &[])
                .send()
                .await;
            unknown.refused(413, "ERR_UPLOAD_SIZE_EXCEEDED");
            assert!(site.offset(&path).await <= 10);
            let post = site
                .request("POST", "/files/")
                .with_all(&[DEFER, ("Content-Type", DATA)]);
            post.body("hello world")
                .send()
                .await
                .refused(413, "ERR_UPLOAD_SIZE_EXCEEDED");
        },
    )
    .await;
}
