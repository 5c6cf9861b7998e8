//! Creation (section 4.2).

use landfall::{
    hook::{ClientResponse, CreateDecision},
    upload::UploadId,
};

use super::{
    NEWEST, VERSIONS, append, assert_complete, assert_problem, complete, create, create_of,
    creation, everywhere, head, request, with_defaults,
};

#[tokio::test]
async fn r_40_r_50_whole_uploads_are_created_by_one_request() {
    with_defaults(async |site| {
        for version in VERSIONS {
            for method in ["POST", "PUT"] {
                let sent = request(site, version, method, "/files/");
                let sent = sent.with_all(&[complete(version, true)]).body("hello");
                let reply = sent.send().await.expect(201);
                assert_complete(&reply, version, true);
                assert_eq!(reply.number("upload-offset"), 5);
                assert_eq!(
                    reply.number("upload-draft-interop-version"),
                    u64::from(version)
                );
                assert_eq!(reply.header("tus-resumable"), None);
                assert_eq!(site.bytes(&reply.location()).await, "hello");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn r_18_chunked_content_has_the_length_at_its_end() {
    with_defaults(async |site| {
        let sent = creation(site, NEWEST, true).chunked(&["hello", "world"], &[]);
        let reply = sent.send().await.expect(201);
        assert_complete(&reply, NEWEST, true);
        let reply = head(site, NEWEST, &reply.location()).await.expect(204);
        assert_complete(&reply, NEWEST, true);
        assert_eq!(reply.number("upload-length"), 10);
    })
    .await;
}

#[tokio::test]
async fn r_51_r_10_r_11_parts_complete_an_upload_with_upload_complete_alone() {
    with_defaults(async |site| {
        for version in 7..=NEWEST {
            for length in [None, Some("10")] {
                let sent = creation(site, version, false);
                let sent = match length {
                    Some(length) => sent.with("Upload-Length", length),
                    None => sent,
                };
                let reply = sent.body("").send().await.expect(201);
                assert_complete(&reply, version, false);
                assert_eq!(reply.header("upload-limit"), Some("min-size=0"));
                let path = reply.location();
                for (offset, data) in [(0, "hello"), (5, "world")] {
                    let sent = append(site, version, &path, offset, false).body(data);
                    let reply = sent.send().await.expect(204);
                    assert_complete(&reply, version, false);
                    assert_eq!(reply.number("upload-offset"), offset + 5);
                }
                let reply = head(site, version, &path).await.expect(204);
                assert_complete(&reply, version, false);
                assert_eq!(reply.number("upload-offset"), 10);
                assert_eq!(reply.header("upload-length"), length);
                let sent = append(site, version, &path, 10, true).body("");
                let reply = sent.send().await.expect(201);
                assert_complete(&reply, version, true);
                assert_eq!(reply.location(), path);
                let reply = head(site, version, &path).await.expect(204);
                assert_complete(&reply, version, true);
                assert_eq!(reply.number("upload-length"), 10);
                assert_eq!(site.bytes(&path).await, "helloworld");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn old_versions_complete_at_the_known_length() {
    with_defaults(async |site| {
        for version in 3..=6 {
            let path = create_of(site, version, 10, "").await;
            let sent = append(site, version, &path, 0, false).body("hello");
            let reply = sent.send().await.expect(201);
            assert_complete(&reply, version, false);
            let sent = append(site, version, &path, 5, false).body("world");
            let reply = sent.send().await.expect(204);
            assert_complete(&reply, version, true);
            let reply = head(site, version, &path).await.expect(204);
            assert_complete(&reply, version, true);
        }
    })
    .await;
}

#[tokio::test]
async fn r_44_empty_uploads_are_complete_at_once() {
    with_defaults(async |site| {
        let reply = creation(site, NEWEST, true)
            .body("")
            .send()
            .await
            .expect(201);
        assert_complete(&reply, NEWEST, true);
        assert_eq!(site.bytes(&reply.location()).await, "");
    })
    .await;
}

#[tokio::test]
async fn r_45_representation_fields_become_metadata() {
    with_defaults(async |site| {
        let sent = creation(site, NEWEST, true)
            .with("Content-Type", "Text/Plain; charset=utf-8")
            .with(
                "Content-Disposition",
                "inline; filename*=UTF-8''%e2%82%ac.txt",
            )
            .with("Content-Language", "de")
            .with("Upload-Metadata", "filename d3Jvbmc=,tag eA==");
        let path = sent.body("x").send().await.expect(201).location();
        let upload = site
            .parts
            .store()
            .load(&crate::harness::id(&path))
            .await
            .unwrap()
            .upload;
        let text = |key| upload.metadata.get_text(key).map(String::from);
        assert_eq!(text("filename").as_deref(), Some("€.txt"));
        assert_eq!(text("filetype").as_deref(), Some("text/plain"));
        assert_eq!(text("content-language").as_deref(), Some("de"));
        assert_eq!(text("tag").as_deref(), Some("x"));
    })
    .await;
}

#[tokio::test]
async fn r_16_r_17_lengths_that_disagree_create_nothing() {
    with_defaults(async |site| {
        for (is_complete, length, data) in [(true, "11", "helloworld"), (false, "3", "hello")] {
            let sent = creation(site, NEWEST, is_complete).with("Upload-Length", length);
            let reply = sent.body(data).send().await.expect(400);
            assert_problem(&reply, Some("inconsistent-upload-length"));
            // Too long content ends the upload.
            assert_complete(&reply, NEWEST, length == "3");
        }
        assert_eq!(site.uploads().await, 0);
    })
    .await;
}

#[tokio::test]
async fn r_32_rejections_by_a_limit_name_the_limits() {
    let small = |config: &mut landfall::Config| config.limits.max_size = Some(4);
    everywhere(small, async |site| {
        let reply = creation(site, NEWEST, true)
            .body("hello")
            .send()
            .await
            .expect(413);
        assert_problem(&reply, None);
        assert_eq!(reply.header("upload-limit"), Some("min-size=0, max-size=4"));
        assert_complete(&reply, NEWEST, true);
        let sent = creation(site, NEWEST, true).chunked(&["hello"], &[]);
        let reply = sent.send().await.expect(413);
        assert_eq!(reply.header("upload-limit"), Some("min-size=0, max-size=4"));
        assert_eq!(site.uploads().await, 0);
        let path = create(site, NEWEST, "hel").await;
        let reply = append(site, NEWEST, &path, 3, true)
            .body("lo")
            .send()
            .await
            .expect(413);
        assert_eq!(reply.header("upload-limit"), Some("min-size=0, max-size=4"));
        assert_eq!(reply.number("upload-offset"), 3);
    })
    .await;
}

#[tokio::test]
async fn r_28_r_29_options_has_the_limits() {
    with_defaults(async |site| {
        for path in ["/files/", "/files/unknown"] {
            let reply = request(site, NEWEST, "OPTIONS", path)
                .send()
                .await
                .expect(200);
            assert_eq!(reply.header("upload-limit"), Some("min-size=0"));
            assert_eq!(reply.header("tus-version"), Some("1.0.0"));
        }
    })
    .await;
    let limited = |config: &mut landfall::Config| config.limits.max_size = Some(7);
    everywhere(limited, async |site| {
        let reply = site.request("OPTIONS", "/files/").send().await.expect(200);
        assert_eq!(reply.header("upload-limit"), Some("min-size=0, max-size=7"));
    })
    .await;
}

#[tokio::test]
async fn unknown_versions_get_whole_uploads_only() {
    with_defaults(async |site| {
        for version in ["2", "11", "abc", "\"6\"", "3,4", "3.0"] {
            let sent = |is_complete| {
                let sent = site.request("POST", "/files/").without("Tus-Resumable");
                sent.with("Upload-Draft-Interop-Version", version)
                    .with_all(&[complete(NEWEST, is_complete)])
                    .body("hello")
            };
            let reply = sent(true).send().await.expect(201);
            assert!(reply.header("location").is_some());
            // An ordinary request: the client and the server know no common protocol.
            for name in [
                "upload-draft-interop-version",
                "upload-complete",
                "upload-offset",
                "upload-limit",
                "tus-resumable",
            ] {
                assert_eq!(reply.header(name), None, "{name}");
            }
            let before = site.uploads().await;
            let reply = sent(false).send().await.expect(400);
            assert_problem(&reply, None);
            assert_eq!(site.uploads().await, before);
        }
        let sent = creation(site, 6, true).with("Upload-Draft-Interop-Version", "6");
        let reply = sent.body("hello").send().await.expect(201);
        assert_eq!(
            reply.header("upload-draft-interop-version"),
            None,
            "sent twice"
        );
    })
    .await;
}

/// The harness passes requests for `/photos/…` to the handler, as a route of the application.
#[tokio::test]
async fn r_40_uploads_are_created_at_urls_of_the_application() {
    let named = |config: &mut landfall::Config| {
        *config = config.clone().before_create(|request, _| async move {
            let name = request.uri.path().trim_start_matches('/');
            Ok(match UploadId::new(name) {
                Ok(id) => CreateDecision::allow().id(id),
                Err(error) => CreateDecision::deny(ClientResponse::text(400, error.to_string())),
            })
        });
    };
    everywhere(named, async |site| {
        for (method, path) in [("PUT", "/photos/a.jpg"), ("POST", "/photos/2026/b.jpg")] {
            let sent = request(site, NEWEST, method, path).with_all(&[complete(NEWEST, false)]);
            let reply = sent.clone().body("hello").send().await.expect(201);
            assert_complete(&reply, NEWEST, false);
            let location = reply.location();
            assert_eq!(location, format!("/files{path}"));
            let reply = append(site, NEWEST, &location, 5, true)
                .body("world")
                .send();
            assert_complete(&reply.await.expect(201), NEWEST, true);
            assert_eq!(site.bytes(&location).await, "helloworld");
            let reply = sent.body("again").send().await.expect(409);
            assert_eq!(assert_problem(&reply, None)["code"], "ERR_UPLOAD_EXISTS");
        }
        let sent = request(site, NEWEST, "PUT", "/photos/c.jpg");
        let sent = sent.with_all(&[complete(NEWEST, true)]).body("whole");
        assert_complete(&sent.send().await.expect(201), NEWEST, true);
        let reply = request(site, NEWEST, "OPTIONS", "/photos/d.jpg")
            .send()
            .await;
        assert_eq!(reply.header("upload-limit"), Some("min-size=0"));
        // Without a valid Upload-Complete it is a request of tus, which has no PUT.
        let sent = site.request("PUT", "/photos/d.jpg").body("plain");
        sent.send().await.expect(405);
        // Below the base path, the URL is that of an upload.
        let sent = request(site, NEWEST, "PUT", "/files/d.jpg").with_all(&[complete(NEWEST, true)]);
        sent.body("whole").send().await.expect(405);
    })
    .await;
}
