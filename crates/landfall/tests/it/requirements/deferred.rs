//! Creation with a deferred length.

use super::{DATA, everywhere, with_defaults};

const DEFER: (&str, &str) = ("Upload-Defer-Length", "1");

#[tokio::test]
async fn t_def_6_t_def_7_head_reports_a_deferred_length_until_it_is_known() {
    with_defaults(async |site| {
        let path = site.create_with(&[DEFER]).await;
        site.patch(&path, 0, "hello").await.expect(204);
        let reply = site.head(&path).await.expect(200);
        assert_eq!(reply.header("upload-defer-length"), Some("1"));
        assert_eq!(reply.header("upload-length"), None);
        assert_eq!(reply.number("upload-offset"), 5);
        let ask = site.patching(&path, 5).with("Upload-Length", "10");
        ask.body("wor").send().await.expect(204);
        let reply = site.head(&path).await.expect(200);
        assert_eq!(reply.header("upload-defer-length"), None);
        assert_eq!(
            (reply.number("upload-offset"), reply.number("upload-length")),
            (8, 10)
        );
        site.patch(&path, 8, "ld").await.expect(204);
        assert_eq!(site.bytes(&path).await, "helloworld");
    })
    .await;
}

#[tokio::test]
async fn t_def_2_t_def_3_only_1_defers() {
    with_defaults(async |site| {
        for bad in ["0", "2", "true", ""] {
            let reply = site.post(&[("Upload-Defer-Length", bad)]).await;
            reply.refused(400, "ERR_INVALID_UPLOAD_LENGTH_DEFER");
        }
        assert_eq!(site.uploads().await, 0);
    })
    .await;
}

#[tokio::test]
async fn t_def_5_e_11_length_never_changes_but_may_be_repeated() {
    with_defaults(async |site| {
        for path in [site.create(10).await, site.create_with(&[DEFER]).await] {
            let patch = |offset, length: &str, body: &str| {
                site.patching(&path, offset)
                    .with("Upload-Length", length)
                    .body(body)
                    .send()
            };
            patch(0, "10", "hello").await.expect(204);
            for other in ["9", "11", "0"] {
                patch(5, other, "x")
                    .await
                    .refused(400, "ERR_INVALID_UPLOAD_LENGTH");
            }
            assert_eq!(site.offset(&path).await, 5);
            // tus-js-client repeats it if the first request was interrupted.
            patch(5, "10", "world").await.expect(204);
            assert_eq!(site.head(&path).await.number("upload-length"), 10);
        }
    })
    .await;
}

#[tokio::test]
async fn e_12_length_below_the_offset_is_rejected() {
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
async fn e_13_length_is_kept_when_its_request_is_interrupted() {
    with_defaults(async |site| {
        let path = site.create_with(&[DEFER]).await;
        let ask = site
            .patching(&path, 0)
            .with("Upload-Length", "10")
            .with("Content-Length", "10");
        let mut open = ask.open().await;
        open.write("hello").await;
        site.until_offset(&path, 5).await;
        drop(open);
        let rest = site
            .patching(&path, 5)
            .with("Upload-Length", "10")
            .body("world");
        rest.send().await.expect(204);
        assert_eq!(site.bytes(&path).await, "helloworld");
    })
    .await;
}

#[tokio::test]
async fn e_6_length_without_bytes_may_complete_the_upload() {
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
async fn e_14_deferred_length_upload_cannot_exceed_the_max_size() {
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
