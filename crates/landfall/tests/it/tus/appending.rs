//! PATCH.

use landfall_test_services::until;

use super::{DATA, with_defaults};
use crate::harness::id;

#[tokio::test]
async fn checks_have_a_fixed_order() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        let list = format!("final;{}", site.partial("ab").await);
        let joined = site.create_with(&[("Upload-Concat", &list)]).await;
        let bad_all = |path: &str| {
            let ask = site
                .request("PATCH", path)
                .with("Content-Type", "text/plain");
            ask.with("Upload-Offset", "x").with("Upload-Length", "y")
        };
        // Version, existence, final upload, type, offset's form, offset, length, size.
        bad_all("/files/none")
            .without("Tus-Resumable")
            .send()
            .await
            .expect(412);
        bad_all("/files/none").send().await.expect(404);
        bad_all(&joined).send().await.expect(403);
        bad_all(&path).send().await.expect(415);
        let typed = |offset, length| {
            let ask = site.request("PATCH", &path).with("Content-Type", DATA);
            ask.with("Upload-Offset", offset)
                .with("Upload-Length", length)
                .body("too long")
        };
        typed("x", "y")
            .send()
            .await
            .refused(400, "ERR_INVALID_OFFSET");
        typed("3", "7").send().await.expect(409);
        typed("0", "7")
            .send()
            .await
            .refused(400, "ERR_INVALID_UPLOAD_LENGTH");
        typed("0", "5").send().await.expect(413);
        assert_eq!(site.offset(&path).await, 0);
    })
    .await;
}

#[tokio::test]
async fn too_long_body_is_rejected() {
    with_defaults(async |site| {
        let path = site.create(10).await;
        site.patch(&path, 0, "hello").await.expect(204);
        // Detected in the head: nothing is stored.
        site.patch(&path, 5, "world!")
            .await
            .refused(413, "ERR_UPLOAD_SIZE_EXCEEDED");
        assert_eq!(site.offset(&path).await, 5);
        // Detected in the body: likewise, and nothing completes later.
        let checksum = ("Upload-Checksum", "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        for fields in [&[][..], &[checksum], &[("Trailer", "Upload-Checksum")]] {
            let sent = site.patching(&path, 5).with_all(fields);
            let reply = sent.chunked(&["wor", "ld", "!"], &[]).send().await;
            reply.refused(413, "ERR_UPLOAD_SIZE_EXCEEDED");
            assert_eq!(site.offset(&path).await, 5);
        }
        assert_eq!(site.handler.stats().finished, 0);
        site.patch(&path, 5, "world").await.expect(204);
        assert_eq!(site.bytes(&path).await, "helloworld");
        // A length that the rejected request states does not count, either.
        let path = site.create_with(&[("Upload-Defer-Length", "1")]).await;
        let sent = site.patching(&path, 0).with("Upload-Length", "5");
        let reply = sent.chunked(&["hel", "lo", "!"], &[]).send().await;
        reply.refused(413, "ERR_UPLOAD_SIZE_EXCEEDED");
        let reply = site.head(&path).await.expect(200);
        assert_eq!(reply.number("upload-offset"), 0);
        assert_eq!(reply.header("upload-defer-length"), Some("1"));
    })
    .await;
}

/// The byte that would complete the upload is not stored before the body has ended: a crash, or another
/// server, must not see a complete upload of a request that is then rejected.
#[tokio::test]
async fn an_upload_is_not_complete_before_its_body_has_ended() {
    with_defaults(async |site| {
        for is_rejected in [true, false] {
            let path = site.create(10).await;
            site.patch(&path, 0, "hello").await.expect(204);
            let sent = site.patching(&path, 5).with("Transfer-Encoding", "chunked");
            let mut open = sent.open().await;
            open.write("5\r\nworld\r\n").await;
            let stored = async || site.parts.store().load(&id(&path)).await.unwrap().offset;
            until(async || stored().await >= 9).await;
            assert_eq!(stored().await, 9);
            if is_rejected {
                open.write("1\r\n!\r\n").await;
                open.reply().await.expect(413);
                assert_eq!(site.offset(&path).await, 5);
                continue;
            }
            open.write("0\r\n\r\n").await;
            let reply = open.reply().await.expect(204);
            assert_eq!(reply.number("upload-offset"), 10);
            assert_eq!(site.bytes(&path).await, "helloworld");
        }
    })
    .await;
}
