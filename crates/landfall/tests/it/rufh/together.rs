//! tus 1.0.0 and the draft on the same upload.

use super::{NEWEST, append, assert_complete, create, create_of, head, with_defaults};

#[tokio::test]
async fn uploads_of_tus_are_completed_by_the_draft() {
    with_defaults(async |site| {
        let defer = [("Upload-Defer-Length", "1")];
        for path in [site.create(10).await, site.create_with(&defer).await] {
            site.patch(&path, 0, "hello").await.expect(204);
            let reply = head(site, NEWEST, &path).await.expect(204);
            assert_complete(&reply, NEWEST, false);
            let reply = append(site, NEWEST, &path, 5, true)
                .body("world")
                .send()
                .await
                .expect(201);
            assert_complete(&reply, NEWEST, true);
            assert_eq!(site.bytes(&path).await, "helloworld");
        }
        let path = site.create(5).await;
        let reply = append(site, NEWEST, &path, 0, false)
            .body("hello")
            .send()
            .await
            .expect(201);
        assert_complete(&reply, NEWEST, true);
    })
    .await;
}

#[tokio::test]
async fn uploads_of_the_draft_are_completed_by_tus() {
    with_defaults(async |site| {
        for chunked in [false, true] {
            let path = create_of(site, NEWEST, 10, "hel").await;
            let reply = site.head(&path).await.expect(200);
            assert_eq!(reply.number("upload-length"), 10);
            let patch = |offset, data| {
                let sent = site.patching(&path, offset);
                match chunked {
                    true => sent.chunked(&[data], &[]).send(),
                    false => sent.body(data).send(),
                }
            };
            patch(3, "lo").await.expect(204);
            let reply = head(site, NEWEST, &path).await.expect(204);
            assert_complete(&reply, NEWEST, false);
            patch(5, "world").await.expect(204);
            let reply = head(site, NEWEST, &path).await.expect(204);
            assert_complete(&reply, NEWEST, true);
        }
        let path = create(site, NEWEST, "hello").await;
        let reply = site.head(&path).await.expect(200);
        assert_eq!(reply.header("upload-defer-length"), Some("1"));
        let sent = site.patching(&path, 5).with("Upload-Length", "10");
        sent.body("world").send().await.expect(204);
        assert_complete(&head(site, NEWEST, &path).await.expect(204), NEWEST, true);
    })
    .await;
}

#[tokio::test]
async fn the_end_is_not_forgotten_over_a_restart() {
    with_defaults(async |site| {
        let path = create_of(site, NEWEST, 5, "hello").await;
        let again = crate::harness::Site::sharing_store(site, |_| {}).await;
        assert_complete(
            &head(&again, NEWEST, &path).await.expect(204),
            NEWEST,
            false,
        );
        append(&again, NEWEST, &path, 5, true)
            .body("")
            .send()
            .await
            .expect(201);
        let again = crate::harness::Site::sharing_store(site, |_| {}).await;
        assert_complete(&head(&again, NEWEST, &path).await.expect(204), NEWEST, true);
    })
    .await;
}

#[tokio::test]
async fn requests_without_a_sign_follow_the_protocol_that_created_the_upload() {
    with_defaults(async |site| {
        let plain = |method: &str, path: &str| {
            let sent = site.request(method, path).without("Tus-Resumable");
            sent.send()
        };
        let of_draft = create_of(site, NEWEST, 10, "hel").await;
        let reply = plain("HEAD", &of_draft).await.expect(200);
        assert_complete(&reply, NEWEST, false);
        assert_eq!(reply.number("upload-offset"), 3);
        assert!(reply.header("upload-limit").is_some());
        plain("DELETE", &of_draft).await.expect(204);
        plain("DELETE", &of_draft).await.expect(404);
        head(site, NEWEST, &of_draft).await.expect(404);

        let of_tus = site.create(10).await;
        let reply = plain("HEAD", &of_tus).await.expect(200);
        assert_eq!(reply.header("upload-complete"), None);
        plain("DELETE", &of_tus).await.expect(412);
        site.head(&of_tus).await.expect(200);
    })
    .await;
}
