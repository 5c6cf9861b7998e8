//! Interrupted requests, content beyond the length, and cancellation.

use landfall::Config;
use landfall_test_services::until;

use super::{
    AtEnd, NEWEST, VERSIONS, append, assert_complete, assert_problem, create, create_of,
    everywhere, head, request, with_defaults,
};

/// The response says whether the upload has ended.
#[tokio::test]
async fn content_beyond_the_length_ends_the_upload() {
    const DIGEST: &str = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
    let hook = AtEnd::default();
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
        assert_eq!(hook.asked(), 0);
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
        until(async || head(site, NEWEST, &path).await.number("upload-offset") == 5).await;
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
