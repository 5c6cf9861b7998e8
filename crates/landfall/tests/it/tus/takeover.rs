//! Two concurrent requests for one upload.

use std::time::{Duration, Instant};

use landfall::{
    Composer, Config,
    store::file::{Durability, FileOptions, FileStore},
};

use super::{everywhere, with_defaults};
use crate::harness::{Site, id};

#[tokio::test]
async fn newer_append_wins_and_no_received_byte_is_lost() {
    with_defaults(async |site| {
        let (path, mut old) = site.half_sent().await;
        let asked = Instant::now();
        let reply = site.patch(&path, 5, "world").await.expect(204);
        assert_eq!(reply.number("upload-offset"), 10);
        let waited = asked.elapsed();
        // Without a takeover it would be rejected, and only after 20 s.
        assert!(waited < Duration::from_secs(5), "{waited:?}");
        old.reply().await.refused(423, "ERR_UPLOAD_INTERRUPTED");
        assert_eq!(site.bytes(&path).await, "helloworld");
    })
    .await;
}

#[tokio::test]
async fn outdated_offset_is_a_conflict() {
    with_defaults(async |site| {
        let (path, _old) = site.half_sent().await;
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
async fn wait_for_an_unresponsive_holder_is_bounded() {
    everywhere(
        |config| config.lease_wait = Duration::from_millis(200),
        async |site| {
            let path = site.create(5).await;
            let held = site.parts.locker().try_acquire(&id(&path)).await.unwrap();
            for ask in [
                site.patching(&path, 0).body("hello"),
                site.request("DELETE", &path),
            ] {
                let reply = ask.send().await.refused(423, "ERR_UPLOAD_LOCKED");
                assert!(reply.number("retry-after") >= 1);
            }
            // HEAD interrupts no request.
            assert_eq!(site.offset(&path).await, 0);
            drop(held);
            site.patch(&path, 0, "hello").await.expect(204);
        },
    )
    .await;
}

/// As under the lease, where the offset is checked before the length.
#[tokio::test]
async fn wrong_offset_of_a_complete_upload_that_is_held_is_a_conflict() {
    everywhere(
        |config| config.lease_wait = Duration::from_millis(200),
        async |site| {
            let path = site.create(5).await;
            site.patch(&path, 0, "hello").await.expect(204);
            let held = site.parts.locker().try_acquire(&id(&path)).await;
            for offset in [4, 9] {
                let ask = site.patching(&path, offset).with("Upload-Length", "7");
                let reply = ask.body("x").send().await;
                let reply = reply.refused(409, "ERR_MISMATCHED_OFFSET");
                assert_eq!(reply.number("upload-offset"), 5);
            }
            drop(held);
        },
    )
    .await;
}

#[tokio::test]
async fn head_reports_the_offset_and_interrupts_no_request() {
    with_defaults(async |site| {
        let path = site.create(10).await;
        let mut open = site.open_patch(&path, 0, 10).await;
        for (piece, offset) in [("he", 2), ("llo", 5), ("worl", 9)] {
            open.write(piece).await;
            site.until_offset(&path, offset).await;
            // Reported bytes can be read.
            let stored = site.bytes(&path).await;
            assert_eq!(stored, "helloworld"[..usize::try_from(offset).unwrap()]);
        }
        open.write("d").await;
        assert_eq!(open.reply().await.expect(204).number("upload-offset"), 10);
    })
    .await;
}

#[tokio::test]
async fn request_that_cannot_succeed_interrupts_no_other() {
    with_defaults(async |site| {
        let (path, mut open) = site.half_sent().await;
        for (ask, status) in [
            (site.patching(&path, 0).body("hello"), 409),
            (site.patching(&path, 3).body("lo"), 409),
            (site.patching(&path, 9).body("d"), 409),
            (site.patching(&path, 5).body("worlds"), 413),
            (
                site.patching(&path, 5)
                    .with("Upload-Length", "11")
                    .body("world"),
                400,
            ),
            (
                site.patching(&path, 5)
                    .with("Upload-Checksum", "sha1 x")
                    .body("world"),
                400,
            ),
            (
                site.request("PATCH", &path)
                    .with("Content-Type", "text/plain")
                    .with("Upload-Offset", "5")
                    .body("world"),
                415,
            ),
        ] {
            ask.send().await.expect(status);
        }
        open.write("world").await;
        open.reply().await.expect(204);
        assert_eq!(site.bytes(&path).await, "helloworld");
    })
    .await;
}

#[tokio::test]
async fn head_waits_for_bytes_in_flight() {
    with_defaults(async |site| {
        let path = site.create(100).await;
        let mut ghost = site.open_patch(&path, 0, 100).await;
        ghost.write("g").await;
        let (offset, ()) = tokio::join!(site.offset(&path), async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(5)).await;
                ghost.write("g").await;
            }
        });
        // The client is gone. An offset reported while it sent may be slightly outdated; the one
        // reported now is exact.
        // now holds.
        assert!((1..=11).contains(&offset), "{offset}");
        site.until_offset(&path, 11).await;
        let offset = site.offset(&path).await;
        let rest = "r".repeat(89);
        let reply = site.patch(&path, offset, &rest).await;
        assert_eq!(reply.expect(204).number("upload-offset"), 100);
        ghost.reply().await.refused(423, "ERR_UPLOAD_INTERRUPTED");
    })
    .await;
}

#[tokio::test]
async fn head_reports_the_committed_offset() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = FileOptions::default();
    options.durability = Durability::Every;
    let parts = Composer::join(FileStore::open(dir.path(), options).unwrap());
    let site = Site::start(Config::new(parts), Some(dir)).await;
    let (path, mut ghost) = site.half_sent().await;
    site.patch(&path, 5, "world").await.expect(204);
    ghost.reply().await.refused(423, "ERR_UPLOAD_INTERRUPTED");
    assert_eq!(site.bytes(&path).await, "helloworld");
}

#[tokio::test]
async fn body_without_a_length_is_taken_over_in_two_steps() {
    with_defaults(async |site| {
        let path = site.create(10).await;
        let ask = site.patching(&path, 0).with("Transfer-Encoding", "chunked");
        let mut ghost = ask.open().await;
        ghost.write("5\r\nhello\r\n").await;
        // A checksum may still arrive in a trailer, so the bytes are not reported.
        let offset = site.offset(&path).await;
        let offset = match site.patch(&path, offset, "world").await {
            reply if reply.status == 409 => reply.number("upload-offset"),
            reply => panic!("{reply:?}"),
        };
        assert_eq!(offset, 5);
        site.patch(&path, offset, "world").await.expect(204);
        ghost.reply().await.refused(423, "ERR_UPLOAD_INTERRUPTED");
        assert_eq!(site.bytes(&path).await, "helloworld");
    })
    .await;
}
