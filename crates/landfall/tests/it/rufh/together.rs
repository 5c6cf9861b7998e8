//! tus 1.0.0 and the draft on the same upload.

use landfall::Config;

use super::{
    AtEnd, NEWEST, TestResponse, append, assert_complete, create_of, everywhere, head,
    with_defaults,
};

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
        let assert_draft = |reply: &TestResponse| {
            for name in [
                "tus-resumable",
                "upload-metadata",
                "upload-expires",
                "upload-defer-length",
            ] {
                assert_eq!(reply.header(name), None, "{name} in {reply:?}");
            }
        };
        let of_draft = create_of(site, NEWEST, 10, "hel").await;
        let reply = plain("HEAD", &of_draft).await.expect(204);
        assert_complete(&reply, NEWEST, false);
        assert_draft(&reply);
        assert_eq!(reply.number("upload-offset"), 3);
        assert_eq!(reply.number("upload-length"), 10);
        assert!(reply.header("upload-limit").is_some());
        let reply = plain("GET", &of_draft).await.expect(200);
        assert_draft(&reply);
        assert_eq!(reply.body, "hel");
        let reply = plain("DELETE", &of_draft).await.expect(204);
        assert_draft(&reply);
        plain("DELETE", &of_draft).await.expect(404);
        head(site, NEWEST, &of_draft).await.expect(404);

        // Of a complete one, HEAD is that of the file, too.
        let path = super::creation(site, NEWEST, true)
            .body("hello")
            .send()
            .await;
        let path = path.expect(201).location();
        let reply = plain("HEAD", &path).await.expect(200);
        assert_complete(&reply, NEWEST, true);
        assert_draft(&reply);
        assert_eq!(reply.number("content-length"), 5);
        let got = plain("GET", &path).await.expect(200);
        for name in ["etag", "content-type", "content-length", "last-modified"] {
            assert_eq!(reply.header(name), got.header(name), "{name}");
        }
        assert_draft(&got);

        // OPTIONS is about the server.
        for path in ["/files/", &*path] {
            let reply = plain("OPTIONS", path).await.expect(200);
            assert!(reply.header("tus-version").is_some());
            assert!(reply.header("upload-limit").is_some());
        }

        let of_tus = site.create(10).await;
        let reply = plain("HEAD", &of_tus).await.expect(200);
        for name in ["upload-complete", "upload-limit"] {
            assert_eq!(reply.header(name), None);
        }
        assert_eq!(reply.header("tus-resumable"), Some("1.0.0"));
        let reply = plain("GET", &of_tus).await.expect(200);
        assert_eq!(reply.header("tus-resumable"), Some("1.0.0"));
        plain("DELETE", &of_tus).await.expect(412);
        site.head(&of_tus).await.expect(200);
    })
    .await;
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Protocol {
    Tus,
    /// Its version, and whether the last content ends the upload.
    Draft(u32, bool),
}

/// An upload is complete for every protocol, or for none, and not before its hook has decided.
#[tokio::test]
async fn all_protocols_agree_on_completion() {
    use Protocol::{Draft, Tus};
    let hook = AtEnd::default();
    let added = hook.clone();
    let change = move |config: &mut Config| *config = config.clone().hook(added.clone());
    everywhere(change, async |site| {
        let creators = [Tus, Draft(6, false), Draft(NEWEST, false)];
        let fillers = [
            Tus,
            Draft(6, false),
            Draft(6, true),
            Draft(NEWEST, false),
            Draft(NEWEST, true),
        ];
        for creator in creators {
            for (filler, is_chunked) in fillers.iter().flat_map(|it| [(*it, false), (*it, true)]) {
                println!("{creator:?}, then {filler:?}, chunked: {is_chunked}");
                let before = hook.asked();
                let path = match creator {
                    Tus => site.create(5).await,
                    Draft(version, _) => create_of(site, version, 5, "").await,
                };
                let sent = match filler {
                    Tus => site.patching(&path, 0),
                    Draft(version, is_last) => append(site, version, &path, 0, is_last),
                };
                let sent = match is_chunked {
                    true => sent.chunked(&["hel", "lo"], &[]),
                    false => sent.body("hello"),
                };
                let reply = sent.send().await;
                assert!([201, 204].contains(&reply.status), "{reply:?}");
                // Only a version with an explicit end can leave it open.
                let waits = creator == Draft(NEWEST, false) && filler == Draft(NEWEST, false);
                if waits {
                    assert_complete(&reply, NEWEST, false);
                    for _ in 0..2 {
                        let reply = site.head(&path).await.expect(423);
                        assert!(reply.header("retry-after").is_some());
                        assert_eq!(reply.header("upload-offset"), None);
                        for version in [6, NEWEST] {
                            let reply = head(site, version, &path).await.expect(204);
                            assert_complete(&reply, version, false);
                            assert_eq!(reply.number("upload-offset"), 5);
                        }
                        let sent = site.request("HEAD", &path).without("Tus-Resumable");
                        assert_complete(&sent.send().await.expect(204), NEWEST, false);
                    }
                    assert_eq!(hook.asked(), before);
                    // Clients of tus can say no more than this.
                    let sent = site.patching(&path, 5);
                    let sent = match is_chunked {
                        true => sent.chunked(&[], &[]),
                        false => sent.body(""),
                    };
                    assert_eq!(sent.send().await.expect(204).number("upload-offset"), 5);
                }
                assert_eq!(hook.asked(), before + 1);
                let reply = site.head(&path).await.expect(200);
                assert_eq!(reply.number("upload-offset"), 5);
                for version in [6, NEWEST] {
                    let reply = head(site, version, &path).await.expect(204);
                    assert_complete(&reply, version, true);
                }
                let sent = site.request("HEAD", &path).without("Tus-Resumable");
                let reply = sent.send().await.expect(200);
                let flag = (creator != Tus).then_some("?1");
                assert_eq!(reply.header("upload-complete"), flag);
                assert_eq!(site.bytes(&path).await, "hello");
                assert_eq!(hook.asked(), before + 1);
            }
        }
    })
    .await;
}

/// Each field of the other protocol is read, or rejected, or has no effect that a client could miss.
#[tokio::test]
async fn fields_of_the_other_protocol_are_not_lost() {
    with_defaults(async |site| {
        // A part would become a file.
        for concat in ["partial", "final;/files/a", "x"] {
            for is_last in [false, true] {
                let sent = super::creation(site, NEWEST, is_last).with("Upload-Concat", concat);
                let reply = sent.body("hello").send().await.expect(400);
                let code = &super::assert_problem(&reply, None)["code"];
                assert_eq!(code, "ERR_INVALID_CONCAT");
            }
        }
        let sent = super::creation(site, NEWEST, false).with("Upload-Length", "5");
        let sent = sent.with("Upload-Defer-Length", "1").body("hello");
        sent.send().await.expect(400);
        assert_eq!(site.uploads().await, 0);
        let sent = super::creation(site, NEWEST, false)
            .with("Upload-Defer-Length", "1")
            .with("Upload-Metadata", "name dw==");
        let path = sent.body("").send().await.expect(201).location();
        let reply = site.head(&path).await.expect(200);
        assert_eq!(reply.header("upload-defer-length"), Some("1"));
        assert_eq!(reply.header("upload-metadata"), Some("name dw=="));

        // URLSession adds the fields of the draft to requests of tus clients.
        let of_draft = [
            ("Upload-Draft-Interop-Version", "6"),
            ("Upload-Complete", "?1"),
        ];
        let sent = site.request("POST", "/files/").with("Upload-Length", "5");
        let reply = sent.with_all(&of_draft).body("").send().await.expect(201);
        assert_eq!(reply.header("upload-complete"), None);
        let path = reply.location();
        let sent = site.patching(&path, 0).with_all(&of_draft).body("hel");
        sent.send().await.expect(204);
        assert_eq!(site.offset(&path).await, 3);
    })
    .await;
}
