//! Interrupted requests, content beyond the length, and cancellation.

use landfall::Config;

use super::{
    Finishing, NEWEST, VERSIONS, append, assert_complete, assert_problem, create, create_of,
    creation, everywhere, head, request, with_defaults,
};

#[tokio::test]
async fn r_56_r_57_received_bytes_of_a_cut_request_are_kept() {
    with_defaults(async |site| {
        let path = create(site, NEWEST, "").await;
        for (at, chunked) in [(0, false), (5, true)] {
            let sent = append(site, NEWEST, &path, at, true);
            let sent = match chunked {
                true => sent.with("Transfer-Encoding", "chunked"),
                false => sent.with("Content-Length", "100"),
            };
            let mut open = sent.open().await;
            open.write(if chunked { "5\r\nhello\r\n" } else { "hello" })
                .await;
            while head(site, NEWEST, &path)
                .await
                .expect(204)
                .number("upload-offset")
                != at + 5
            {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                if chunked {
                    break;
                }
            }
            drop(open);
        }
        let reply = loop {
            let reply = head(site, NEWEST, &path).await.expect(204);
            if reply.number("upload-offset") == 10 {
                break reply;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        };
        assert_complete(&reply, NEWEST, false);
    })
    .await;
}

/// The response says whether the upload has ended.
#[tokio::test]
async fn r_19_content_beyond_the_length_ends_the_upload() {
    const DIGEST: &str = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
    let hook = Finishing::default();
    let added = hook.clone();
    let change = move |config: &mut Config| *config = config.clone().hook(added.clone());
    everywhere(change, async |site| {
        for version in VERSIONS {
            for case in 0..16 {
                let [is_last, is_chunked, has_digest, is_stated] =
                    [1, 2, 4, 8].map(|bit| case & bit != 0);
                let path = match is_stated {
                    true => create(site, version, "he").await,
                    false => create_of(site, version, 5, "he").await,
                };
                let mut sent = append(site, version, &path, 2, is_last);
                if has_digest {
                    sent = sent.with("Content-Digest", DIGEST);
                }
                if is_stated {
                    sent = sent.with("Upload-Length", "5");
                }
                let sent = match is_chunked {
                    true => sent.chunked(&["l", "lo", "!"], &[]),
                    false => sent.body("llo!"),
                };
                let reply = sent.send().await.expect(400);
                println!("version {version}, case {case}: {reply:?}");
                assert_problem(&reply, Some("inconsistent-upload-length"));
                if version >= 7 {
                    assert_complete(&reply, version, true);
                    assert_eq!(reply.header("upload-offset"), None);
                    head(site, version, &path).await.expect(404);
                    continue;
                }
                assert_complete(&reply, version, false);
                assert_eq!(reply.number("upload-offset"), 2);
                let reply = head(site, version, &path).await.expect(204);
                assert_complete(&reply, version, false);
                assert_eq!(reply.number("upload-offset"), 2);
                let stated = reply.header("upload-length");
                assert_eq!(stated, (!is_stated).then_some("5"));
                request(site, version, "DELETE", &path)
                    .send()
                    .await
                    .expect(204);
            }
        }
        assert_eq!(site.uploads().await, 0);
        assert_eq!(hook.calls(), 0);
    })
    .await;
}

/// A request at another offset, or to a complete upload, ends nothing.
#[tokio::test]
async fn content_beyond_the_length_ends_no_other_upload() {
    with_defaults(async |site| {
        let path = create_of(site, NEWEST, 10, "").await;
        let sent = append(site, NEWEST, &path, 0, false).with("Content-Length", "9");
        let mut running = sent.open().await;
        running.write("hello").await;
        while head(site, NEWEST, &path).await.number("upload-offset") != 5 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        for offset in [0, 4, 6, 9] {
            let sent = append(site, NEWEST, &path, offset, true).body("hello, world!");
            let reply = sent.send().await.expect(409);
            assert_complete(&reply, NEWEST, false);
        }
        running.write("worl").await;
        running.reply().await.expect(204);
        let sent = append(site, NEWEST, &path, 9, true).body("d");
        sent.send().await.expect(201);
        for is_chunked in [false, true] {
            let sent = append(site, NEWEST, &path, 10, true);
            let sent = match is_chunked {
                true => sent.chunked(&["!"], &[]),
                false => sent.body("!"),
            };
            let reply = sent.send().await.expect(400);
            assert_complete(&reply, NEWEST, false);
            assert_eq!(reply.number("upload-offset"), 10);
        }
        assert_eq!(site.bytes(&path).await, "helloworld");
    })
    .await;
}

#[tokio::test]
async fn r_16_the_last_content_reaches_the_length() {
    with_defaults(async |site| {
        for chunked in [false, true] {
            let path = create_of(site, NEWEST, 10, "").await;
            let sent = append(site, NEWEST, &path, 0, true);
            let sent = match chunked {
                true => sent.chunked(&["hello"], &[]),
                false => sent.body("hello"),
            };
            let reply = sent.send().await.expect(400);
            assert_problem(&reply, Some("inconsistent-upload-length"));
            let reply = head(site, NEWEST, &path).await.expect(204);
            assert_complete(&reply, NEWEST, false);
            assert_eq!(reply.number("upload-offset"), if chunked { 5 } else { 0 });
        }
    })
    .await;
}

#[tokio::test]
async fn r_12_r_79_complete_uploads_take_no_data_and_repeat_the_response() {
    with_defaults(async |site| {
        let reply = creation(site, NEWEST, true)
            .body("hello")
            .send()
            .await
            .expect(201);
        let path = reply.location();
        let reply = append(site, NEWEST, &path, 5, true)
            .body("")
            .send()
            .await
            .expect(201);
        assert_complete(&reply, NEWEST, true);
        for (is_complete, data) in [(false, ""), (false, "x"), (true, "x")] {
            let reply = append(site, NEWEST, &path, 5, is_complete)
                .body(data)
                .send()
                .await
                .expect(400);
            assert_complete(&reply, NEWEST, false);
        }
        append(site, NEWEST, &path, 4, true)
            .body("")
            .send()
            .await
            .expect(409);
        assert_eq!(site.bytes(&path).await, "hello");
    })
    .await;
}

#[tokio::test]
async fn r_84_r_85_cancelled_uploads_are_removed() {
    with_defaults(async |site| {
        for version in 3..=NEWEST {
            let path = create(site, version, "hello").await;
            request(site, version, "DELETE", &path)
                .send()
                .await
                .expect(204);
            head(site, version, &path).await.expect(404);
            let reply = append(site, version, &path, 5, true)
                .body("x")
                .send()
                .await
                .expect(404);
            assert_problem(&reply, None);
            assert_complete(&reply, version, false);
        }
        assert_eq!(site.uploads().await, 0);
    })
    .await;
}

#[tokio::test]
async fn r_91_a_new_append_ends_the_older_one() {
    with_defaults(async |site| {
        let path = create(site, NEWEST, "").await;
        let sent = append(site, NEWEST, &path, 0, false).with("Content-Length", "100");
        let mut older = sent.open().await;
        older.write("hello").await;
        while head(site, NEWEST, &path)
            .await
            .expect(204)
            .number("upload-offset")
            != 5
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let reply = append(site, NEWEST, &path, 5, true)
            .body("world")
            .send()
            .await
            .expect(201);
        assert_complete(&reply, NEWEST, true);
        let reply = older.reply().await.expect(409);
        assert_complete(&reply, NEWEST, false);
        assert_eq!(site.bytes(&path).await, "helloworld");
    })
    .await;
}

#[tokio::test]
async fn r_16_a_creation_has_the_stated_length() {
    with_defaults(async |site| {
        for version in VERSIONS {
            for is_chunked in [true, false] {
                for is_last in [true, false] {
                    let sent = creation(site, version, is_last).with("Upload-Length", "5");
                    let sent = match is_chunked {
                        true => sent.chunked(&["hel", "lo!"], &[]),
                        false => sent.body("hello!"),
                    };
                    let reply = sent.send().await.expect(400);
                    assert_problem(&reply, Some("inconsistent-upload-length"));
                    // Nothing is left that a client could resume.
                    assert_complete(&reply, version, true);
                    assert_eq!(reply.header("location"), None);
                }
            }
        }
        assert_eq!(site.uploads().await, 0);
        let sent = creation(site, NEWEST, true).with("Upload-Length", "5");
        let reply = sent.chunked(&["hell"], &[]).send().await.expect(400);
        assert_problem(&reply, Some("inconsistent-upload-length"));
        assert_complete(&reply, NEWEST, false);
    })
    .await;
}

#[tokio::test]
async fn re_6_head_and_delete_have_no_fields_of_an_upload() {
    with_defaults(async |site| {
        for version in 3..=NEWEST {
            let path = create_of(site, version, 5, "hel").await;
            for (name, value) in [("Upload-Offset", "3"), ("Upload-Complete", "?0")] {
                for method in ["HEAD", "DELETE"] {
                    let sent = request(site, version, method, &path).with(name, value);
                    match (version, method) {
                        (..=6, _) => drop(sent.send().await.expect(400)),
                        (_, "HEAD") => drop(sent.send().await.expect(204)),
                        _ => {}
                    }
                }
            }
            head(site, version, &path).await.expect(204);
        }
    })
    .await;
}
