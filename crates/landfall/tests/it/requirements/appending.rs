//! PATCH.

use super::{DATA, with_defaults};
use crate::harness::id;

#[tokio::test]
async fn t_core_1_t_core_19_t_core_25_t_core_26_appends_add_up() {
    with_defaults(async |site| {
        let path = site.create(11).await;
        for (offset, data, next) in [(0, "hello", 5), (5, " ", 6), (6, "world", 11)] {
            let reply = site.patch(&path, offset, data).await.expect(204);
            assert_eq!(reply.number("upload-offset"), next);
            assert_eq!(reply.header("content-length"), None);
        }
        assert_eq!(site.bytes(&path).await, "hello world");
    })
    .await;
}

#[tokio::test]
async fn t_core_21_e_5_upload_data_has_a_specific_content_type() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        let patch = |content_type| {
            let ask = site.request("PATCH", &path).with("Upload-Offset", "0");
            ask.with("Content-Type", content_type).body("hello").send()
        };
        for bad in [
            "text/plain",
            "application/octet-stream",
            "application/offset+octet-streams",
        ] {
            patch(bad).await.refused(415, "ERR_INVALID_CONTENT_TYPE");
        }
        let none = site
            .request("PATCH", &path)
            .with("Upload-Offset", "0")
            .body("hello");
        none.send().await.refused(415, "ERR_INVALID_CONTENT_TYPE");
        assert_eq!(site.offset(&path).await, 0);
        patch("Application/Offset+Octet-Stream; charset=x")
            .await
            .expect(204);
    })
    .await;
}

#[tokio::test]
async fn e_54_encoded_bodies_are_rejected() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        let encoded = site
            .patching(&path, 0)
            .with("Content-Encoding", "gzip")
            .body("hello");
        encoded
            .send()
            .await
            .refused(415, "ERR_UNSUPPORTED_CONTENT_ENCODING");
        assert_eq!(site.offset(&path).await, 0);
    })
    .await;
}

#[tokio::test]
async fn t_core_2_e_3_malformed_offset_is_rejected() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        for bad in [
            "",
            "-1",
            "+0",
            "0.0",
            "0e0",
            "x",
            "9223372036854775808",
            "0, 0",
        ] {
            let ask = site.request("PATCH", &path).with("Content-Type", DATA);
            let reply = ask.with("Upload-Offset", bad).body("hello").send().await;
            reply.refused(400, "ERR_INVALID_OFFSET");
        }
        let none = site
            .request("PATCH", &path)
            .with("Content-Type", DATA)
            .body("hello");
        none.send().await.refused(400, "ERR_INVALID_OFFSET");
        let twice = site
            .patching(&path, 0)
            .with("Upload-Offset", "0")
            .body("hello");
        twice.send().await.refused(400, "ERR_INVALID_OFFSET");
        assert_eq!(site.offset(&path).await, 0);
    })
    .await;
}

#[tokio::test]
async fn t_core_23_e_59_wrong_offset_is_a_conflict_and_changes_nothing() {
    with_defaults(async |site| {
        let path = site.create(10).await;
        site.patch(&path, 0, "hello").await.expect(204);
        for wrong in [0, 4, 6, 10, 11, i64::MAX.unsigned_abs()] {
            let reply = site.patch(&path, wrong, "xxxxx").await;
            let reply = reply.refused(409, "ERR_MISMATCHED_OFFSET");
            assert_eq!(reply.number("upload-offset"), 5);
        }
        assert_eq!(site.bytes(&path).await, "hello");
        site.patch(&path, 5, "world").await.expect(204);
        assert_eq!(site.bytes(&path).await, "helloworld");
    })
    .await;
}

#[tokio::test]
async fn t_core_27_append_to_an_unknown_upload_is_404() {
    with_defaults(async |site| {
        let before = site.files();
        site.patch("/files/none", 0, "x")
            .await
            .refused(404, "ERR_UPLOAD_NOT_FOUND");
        site.patch("/files/a/b/none", 0, "x")
            .await
            .refused(404, "ERR_UPLOAD_NOT_FOUND");
        assert_eq!(site.uploads().await, 0);
        assert_eq!(site.files(), before);
    })
    .await;
}

#[tokio::test]
async fn e_4_checks_have_a_fixed_order() {
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
async fn e_6_e_7_empty_append_is_accepted_even_on_a_complete_upload() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        assert_eq!(
            site.patch(&path, 0, "")
                .await
                .expect(204)
                .number("upload-offset"),
            0
        );
        site.patch(&path, 0, "hello").await.expect(204);
        for _ in 0..2 {
            let reply = site.patch(&path, 5, "").await.expect(204);
            assert_eq!(reply.number("upload-offset"), 5);
            let reply = site
                .patching(&path, 5)
                .chunked(&[], &[])
                .send()
                .await
                .expect(204);
            assert_eq!(reply.number("upload-offset"), 5);
        }
        site.patch(&path, 5, "!")
            .await
            .refused(413, "ERR_UPLOAD_SIZE_EXCEEDED");
        site.patching(&path, 5)
            .chunked(&["!"], &[])
            .send()
            .await
            .expect(413);
        site.patch(&path, 4, "").await.expect(409);
        assert_eq!(site.bytes(&path).await, "hello");
        // It was completed before.
        assert_eq!(site.handler.stats().finished, 1);
    })
    .await;
}

#[tokio::test]
async fn e_8_e_9_too_long_body_is_rejected() {
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
        // Of a rejected creation nothing is left (E-22).
        let before = site.uploads().await;
        let sent = site.request("POST", "/files/").with("Upload-Length", "5");
        let sent = sent.with("Content-Type", DATA);
        for sent in [
            sent.clone().body("hello!"),
            sent.chunked(&["hel", "lo!"], &[]),
        ] {
            let reply = sent.send().await;
            reply.refused(413, "ERR_UPLOAD_SIZE_EXCEEDED");
        }
        assert_eq!(site.uploads().await, before);
    })
    .await;
}

/// The byte that would complete the upload is not stored before the body has ended: a crash, or another
/// server, must not see a complete upload of a request that is then rejected.
#[tokio::test]
async fn e_8_an_upload_is_not_complete_before_its_body_has_ended() {
    with_defaults(async |site| {
        for is_rejected in [true, false] {
            let path = site.create(10).await;
            site.patch(&path, 0, "hello").await.expect(204);
            let sent = site.patching(&path, 5).with("Transfer-Encoding", "chunked");
            let mut open = sent.open().await;
            open.write("5\r\nworld\r\n").await;
            let stored = async || site.parts.store().load(&id(&path)).await.unwrap().offset;
            while stored().await < 9 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
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

#[tokio::test]
async fn e_53_chunked_bodies_are_accepted() {
    with_defaults(async |site| {
        let path = site.create(10).await;
        let ask = site.patching(&path, 0).chunked(&["h", "ello", "wor"], &[]);
        assert_eq!(ask.send().await.expect(204).number("upload-offset"), 8);
        site.patching(&path, 8)
            .chunked(&["ld"], &[])
            .send()
            .await
            .expect(204);
        assert_eq!(site.bytes(&path).await, "helloworld");
    })
    .await;
}
