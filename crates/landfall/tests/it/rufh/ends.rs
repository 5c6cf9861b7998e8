//! Interrupted requests, content beyond the length, and cancellation.

use super::{
    NEWEST, append, assert_complete, assert_problem, create, create_of, creation, head, request,
    with_defaults,
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

#[tokio::test]
async fn r_19_content_beyond_the_length_ends_the_upload() {
    with_defaults(async |site| {
        for version in 7..=NEWEST {
            for chunked in [false, true] {
                let path = create_of(site, version, 5, "").await;
                let sent = append(site, version, &path, 0, false);
                let sent = match chunked {
                    true => sent.chunked(&["hello!"], &[]),
                    false => sent.body("hello!"),
                };
                let reply = sent.send().await.expect(400);
                assert_problem(&reply, Some("inconsistent-upload-length"));
                assert_complete(&reply, version, false);
                head(site, version, &path).await.expect(404);
            }
        }
        let path = create_of(site, 6, 5, "").await;
        append(site, 6, &path, 0, false)
            .body("hello!")
            .send()
            .await
            .expect(400);
        head(site, 6, &path).await.expect(204);
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
async fn r_16_a_creation_without_content_length_has_the_stated_length() {
    with_defaults(async |site| {
        for content in ["hell", "hello!"] {
            let reply = creation(site, NEWEST, true)
                .with("Upload-Length", "5")
                .chunked(&[content], &[])
                .send()
                .await
                .expect(400);
            assert_problem(&reply, Some("inconsistent-upload-length"));
            assert_complete(&reply, NEWEST, false);
        }
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
