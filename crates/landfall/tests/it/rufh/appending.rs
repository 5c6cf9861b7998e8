//! Appending (section 4.4).

use super::{
    DATA, NEWEST, PARTIAL, append, assert_complete, assert_problem, complete, create, create_of,
    head, request, with_defaults,
};

#[tokio::test]
async fn r_73_r_74_another_offset_is_a_conflict() {
    with_defaults(async |site| {
        let path = create(site, NEWEST, "hello").await;
        for offset in [0, 4, 6, 1000] {
            let sent = append(site, NEWEST, &path, offset, true).body("world");
            let reply = sent.send().await.expect(409);
            let body = assert_problem(&reply, Some("mismatching-upload-offset"));
            assert_eq!(body["expected-offset"], 5);
            assert_eq!(body["provided-offset"], offset);
            assert_complete(&reply, NEWEST, false);
            assert_eq!(reply.number("upload-offset"), 5);
        }
    })
    .await;
}

#[tokio::test]
async fn r_70_data_has_the_media_type_of_the_draft() {
    with_defaults(async |site| {
        for version in 3..=NEWEST {
            let path = create_of(site, version, 9, "").await;
            for media_type in [Some("text/plain"), Some(DATA), None] {
                let sent = request(site, version, "PATCH", &path).with("Upload-Offset", "0");
                let sent = sent.with_all(&[complete(version, true)]);
                let sent = match media_type {
                    Some(media_type) => sent.with("Content-Type", media_type),
                    None => sent,
                };
                if version < 6 && media_type != Some(DATA) {
                    continue;
                }
                let reply = sent.body("hello").send().await.expect(415);
                assert_eq!(reply.header("accept-patch"), Some(PARTIAL));
                assert_complete(&reply, version, false);
                assert_eq!(reply.number("upload-offset"), 0);
            }
        }
        let path = create_of(site, 5, 5, "").await;
        let sent = append(site, 5, &path, 0, true).with("Content-Type", "image/png");
        sent.body("hello").send().await.expect(204);
        let reply = site
            .patching(&site.create(5).await, 0)
            .without("Content-Type");
        reply
            .with("Content-Type", PARTIAL)
            .body("hello")
            .send()
            .await
            .expect(415);
    })
    .await;
}

#[tokio::test]
async fn r_71_r_72_malformed_fields_change_nothing() {
    with_defaults(async |site| {
        for version in 3..=NEWEST {
            let path = create(site, version, "hello").await;
            for offset in [
                None,
                Some("+5"),
                Some("5.0"),
                Some("\"5\""),
                Some("1000000000000000"),
            ] {
                let sent = request(site, version, "PATCH", &path).with("Content-Type", PARTIAL);
                let sent = sent.with_all(&[complete(version, true)]);
                let sent = match offset {
                    Some(offset) => sent.with("Upload-Offset", offset),
                    None => sent,
                };
                let reply = sent.body("world").send().await.expect(400);
                assert_problem(&reply, None);
                assert_complete(&reply, version, false);
                assert_eq!(reply.number("upload-offset"), 5);
            }
            let (name, _) = complete(version, true);
            for value in ["true", "1", "?2", "?1, ?1"] {
                let sent = request(site, version, "PATCH", &path).with("Content-Type", PARTIAL);
                let sent = sent.with("Upload-Offset", "5").with(name, value);
                sent.body("world").send().await.expect(400);
            }
            let reply = head(site, version, &path).await.expect(204);
            assert_eq!(reply.number("upload-offset"), 5);
            let sent = request(site, version, "PATCH", &path).with("Content-Type", PARTIAL);
            let sent = sent.with("Upload-Offset", "5").body("world");
            // Up to version 6, data without the field is the last.
            let status = if version <= 6 { 204 } else { 400 };
            sent.send().await.expect(status);
        }
    })
    .await;
}

#[tokio::test]
async fn r_15_r_16_lengths_never_change() {
    with_defaults(async |site| {
        let path = create_of(site, NEWEST, 10, "").await;
        let sent = append(site, NEWEST, &path, 0, false).with("Upload-Length", "11");
        let reply = sent.body("hello").send().await.expect(400);
        assert_problem(&reply, Some("inconsistent-upload-length"));
        let path = create(site, NEWEST, "").await;
        let sent = append(site, NEWEST, &path, 0, false).with("Upload-Length", "5");
        let reply = sent.body("hello").send().await.expect(204);
        assert_complete(&reply, NEWEST, false);
        let reply = head(site, NEWEST, &path).await.expect(204);
        assert_complete(&reply, NEWEST, false);
        assert_eq!(reply.number("upload-length"), 5);
        let sent = append(site, NEWEST, &path, 5, true).body("");
        assert_complete(&sent.send().await.expect(201), NEWEST, true);
    })
    .await;
}
