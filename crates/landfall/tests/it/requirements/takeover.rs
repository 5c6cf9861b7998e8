//! Two requests for one upload.

use std::time::{Duration, Instant};

use super::{everywhere, with_defaults};
use crate::site::id;

#[tokio::test]
async fn e_37_the_newer_append_wins_and_nothing_received_is_lost() {
    with_defaults(async |site| {
        let path = site.create(10).await;
        let mut old = site
            .patching(&path, 0)
            .with("Content-Length", "10")
            .open()
            .await;
        old.write("hello").await;
        site.until_offset(&path, 5).await;
        let asked = Instant::now();
        let reply = site.patch(&path, 5, "world").await.expect(204);
        assert_eq!(reply.number("upload-offset"), 10);
        let waited = asked.elapsed();
        // Without a takeover it would be refused, and only after 20 s.
        assert!(waited < Duration::from_secs(5), "{waited:?}");
        old.reply().await.refused(400, "ERR_UPLOAD_INTERRUPTED");
        assert_eq!(site.bytes(&path).await, "helloworld");
    })
    .await;
}

#[tokio::test]
async fn e_37_an_offset_that_moved_is_a_conflict() {
    with_defaults(async |site| {
        let path = site.create(10).await;
        let mut old = site
            .patching(&path, 0)
            .with("Content-Length", "10")
            .open()
            .await;
        old.write("hello").await;
        site.until_offset(&path, 5).await;
        let reply = site
            .patch(&path, 3, "xxxxx")
            .await
            .refused(409, "ERR_MISMATCHED_OFFSET");
        assert_eq!(reply.number("upload-offset"), 5);
        assert_eq!(site.bytes(&path).await, "hello");
    })
    .await;
}

#[tokio::test]
async fn e_37_a_holder_that_does_not_let_go_is_waited_for_not_long() {
    everywhere(
        |config| config.lease_wait = Duration::from_millis(200),
        async |site| {
            let path = site.create(5).await;
            let held = site
                .parts
                .get_locker()
                .try_acquire(&id(&path))
                .await
                .unwrap();
            for ask in [
                site.patching(&path, 0).body("hello"),
                site.ask("DELETE", &path),
            ] {
                let reply = ask.send().await.refused(423, "ERR_UPLOAD_LOCKED");
                assert!(reply.number("retry-after") >= 1);
            }
            // Asking how far it got needs nobody's leave.
            assert_eq!(site.offset(&path).await, 0);
            drop(held);
            site.patch(&path, 0, "hello").await.expect(204);
        },
    )
    .await;
}

#[tokio::test]
async fn e_38_head_tells_a_true_offset_and_stops_nobody() {
    with_defaults(async |site| {
        let path = site.create(10).await;
        let mut open = site
            .patching(&path, 0)
            .with("Content-Length", "10")
            .open()
            .await;
        for (piece, offset) in [("he", 2), ("llo", 5), ("worl", 9)] {
            open.write(piece).await;
            site.until_offset(&path, offset).await;
            // What is told can be read.
            let stored = site.bytes(&path).await;
            assert_eq!(stored, "helloworld"[..usize::try_from(offset).unwrap()]);
        }
        open.write("d").await;
        assert_eq!(open.reply().await.expect(204).number("upload-offset"), 10);
    })
    .await;
}
