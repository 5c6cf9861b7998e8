//! Concatenation, of finished and unfinished parts.

use landfall::event::{EventKind, EventKinds, channel};

use super::{DATA, Site, everywhere, with_defaults};
use crate::harness::id;

async fn join(site: &Site, parts: &[impl AsRef<str>]) -> String {
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    let list = format!("final;{}", parts.join(" "));
    site.create_with(&[("Upload-Concat", &list)]).await
}

async fn open_part(site: &Site, length: u64) -> String {
    let length = length.to_string();
    site.create_with(&[("Upload-Concat", "partial"), ("Upload-Length", &length)])
        .await
}

#[tokio::test]
async fn part_may_be_reused_within_limits() {
    with_defaults(async |site| {
        let (a, b) = (site.partial("ab").await, site.partial("c").await);
        let first = join(site, &[&a, &b]).await;
        assert_eq!(site.bytes(&first).await, "abc");
        let again = join(site, &[&b, &a]).await;
        assert_eq!(site.bytes(&again).await, "cab");
        let relative = a.strip_prefix("/files/").unwrap();
        let twice = join(site, &[&a, &b, relative, &b]).await;
        assert_eq!(site.bytes(&twice).await, "abcabc");
        let most = join(site, &[&a; 4]).await;
        assert_eq!(site.bytes(&most).await, "abababab");
        // Otherwise a short header could fill the disk.
        let count = site.uploads().await;
        for parts in [
            vec![&a; 5],
            vec![&a, &a, &a, &b, &a, &a, &a],
            vec![&b; 1000],
        ] {
            let list: Vec<&str> = parts.into_iter().map(String::as_str).collect();
            let list = format!("final;{}", list.join(" "));
            let reply = site.post(&[("Upload-Concat", &list)]).await;
            let reply = reply.refused(400, "ERR_INVALID_CONCAT");
            assert!(reply.body.contains("at most 4 times"), "{}", reply.body);
        }
        assert_eq!(site.uploads().await, count);
        // The parts stay as they are.
        assert_eq!(site.offset(&a).await, 2);
        let empty = site.partial("").await;
        let whole = join(site, &[&empty; 10]).await;
        assert_eq!(site.offset(&whole).await, 0);
    })
    .await;
}

#[tokio::test]
async fn repeated_parts_count_for_the_max_size() {
    everywhere(
        |config| config.limits.max_size = Some(9),
        async |site| {
            let part = site.partial("abc").await;
            assert_eq!(
                site.bytes(&join(site, &[&part; 3]).await).await,
                "abcabcabc"
            );
            let list = format!("final;{part} {part} {part} {part}");
            let reply = site.post(&[("Upload-Concat", &list)]).await;
            reply.refused(413, "ERR_MAX_SIZE_EXCEEDED");
        },
    )
    .await;
}

/// The lengths of parts become known after the creation of the final upload.
#[tokio::test]
async fn repeated_parts_that_wait_are_limited_when_they_are_known() {
    with_defaults(async |site| {
        for (count, status) in [(4, 200), (5, 400)] {
            let defer = [("Upload-Concat", "partial"), ("Upload-Defer-Length", "1")];
            let part = site.create_with(&defer).await;
            let joined = join(site, &vec![&*part; count]).await;
            site.head(&joined).await.expect(200);
            let sent = site.patching(&part, 0).with("Upload-Length", "5");
            sent.body("hel").send().await.expect(204);
            site.head(&joined).await.expect(status);
            site.patch(&part, 3, "lo").await.expect(204);
            loop {
                let reply = site.head(&joined).await.expect(status);
                if status == 400 || reply.header("upload-offset").is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            if status == 200 {
                assert_eq!(site.bytes(&joined).await, "hello".repeat(count));
                continue;
            }
            let stored = site.parts.store().load(&id(&joined)).await.unwrap();
            assert_eq!(stored.offset, 0);
            site.delete(&joined).await.expect(204);
        }
    })
    .await;
}

#[tokio::test]
async fn a_final_upload_takes_no_bytes_while_its_lease_is_taken() {
    with_defaults(async |site| {
        let part = site.partial("hello").await;
        let joined = join(site, &[&part]).await;
        let _lease = site.parts.locker().try_acquire(&id(&joined)).await;
        for offset in [0, 5, 9] {
            let reply = site.patch(&joined, offset, "x").await;
            reply.refused(403, "ERR_MODIFY_FINAL");
        }
    })
    .await;
}

#[tokio::test]
async fn final_upload_is_gone_after_removal_of_a_part() {
    with_defaults(async |site| {
        let (a, b) = (site.partial("hello").await, open_part(site, 5).await);
        let joined = join(site, &[&a, &b]).await;
        let head = site.head(&joined).await.expect(200);
        assert_eq!(head.header("upload-offset"), None);
        // Although it counted as complete, and another part is missing.
        site.delete(&a).await.expect(204);
        site.head(&joined).await.expect(410);
        site.patch(&b, 0, "world").await.expect(204);
        for method in ["HEAD", "GET"] {
            let reply = site.request(method, &joined).send().await.expect(410);
            assert_eq!(reply.header("upload-offset"), None);
        }
        site.patch(&joined, 0, "x").await.expect(403);
    })
    .await;
}

#[tokio::test]
async fn only_parts_of_this_server_can_be_concatenated() {
    with_defaults(async |site| {
        let part = site.partial("hello").await;
        let whole = site.create(0).await;
        let joined = join(site, &[&part]).await;
        let count = site.uploads().await;
        for (url, status) in [
            ("/files/none".into(), 404),
            (format!("http://{}/files/none", site.address), 404),
            (whole, 400),
            (joined, 400),
            (format!("http://elsewhere.example{part}"), 400),
            (format!("//elsewhere.example{part}"), 400),
            (format!("//{}/files/none", site.address), 404),
            ("//elsewhere.example".into(), 400),
            (format!("ftp://{}{part}", site.address), 400),
            (part.replace("/files/", "/other/"), 400),
            ("/".into(), 400),
        ] {
            let list = format!("final;{part} {url}");
            let reply = site.post(&[("Upload-Concat", &list)]).await;
            assert_eq!(reply.status, status, "{url}: {reply:?}");
        }
        assert_eq!(site.uploads().await, count);
        // Percent-encoding is decoded once.
        let last = part.chars().last().unwrap();
        let escaped = format!("{}%{:02x}", &part[..part.len() - 1], u32::from(last));
        assert_eq!(site.bytes(&join(site, &[&escaped]).await).await, "hello");
        let own = format!("//{}{part}", site.address);
        assert_eq!(site.bytes(&join(site, &[&own]).await).await, "hello");
        // A reverse proxy may have changed the host.
        let list = format!("final;https://up.example{part}");
        for proxy in [
            ("Via", "1.1 p"),
            ("X-Forwarded-Host", "up.example"),
            ("Forwarded", "for=x"),
        ] {
            let reply = site.post(&[("Upload-Concat", &list), proxy]).await;
            reply.expect(201);
        }
    })
    .await;
}

#[tokio::test]
async fn declared_length_must_be_the_sum() {
    with_defaults(async |site| {
        let (part, other) = (site.partial("hello").await, site.partial("world").await);
        let list = format!("final;{part} {other}");
        let post = async |length| {
            site.post(&[("Upload-Concat", &list), ("Upload-Length", length)])
                .await
        };
        for wrong in ["9", "11", "0"] {
            post(wrong).await.refused(400, "ERR_INVALID_UPLOAD_LENGTH");
        }
        assert_eq!(site.uploads().await, 2);
        post("10").await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn sum_known_late_is_checked_before_concatenation() {
    everywhere(
        |config| config.limits.max_size = Some(9),
        async |site| {
            let defer = [("Upload-Concat", "partial"), ("Upload-Defer-Length", "1")];
            let part = site.create_with(&defer).await;
            let joined = join(site, &[&site.partial("world").await, &part]).await;
            let ask = site.patching(&part, 0).with("Upload-Length", "5");
            ask.body("hello").send().await.expect(204);
            for _ in 0..2 {
                let reply = site.request("GET", &joined).send().await;
                reply.refused(413, "ERR_MAX_SIZE_EXCEEDED");
                let stored = site.parts.store().load(&id(&joined)).await.unwrap();
                assert_eq!(stored.offset, 0);
            }
            site.delete(&joined).await.expect(204);
        },
    )
    .await;
}

#[tokio::test]
async fn final_upload_with_bytes_is_rejected() {
    with_defaults(async |site| {
        let list = format!("final;{}", site.partial("hello").await);
        let ask = site.request("POST", "/files/").with("Upload-Concat", &list);
        let ask = ask.with("Content-Type", DATA);
        ask.clone()
            .body("x")
            .send()
            .await
            .refused(403, "ERR_MODIFY_FINAL");
        ask.clone()
            .chunked(&["x"], &[])
            .send()
            .await
            .refused(403, "ERR_MODIFY_FINAL");
        assert_eq!(site.uploads().await, 1);
        // Some HTTP libraries set a type on every request.
        ask.body("").send().await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn hooks_and_events_mark_partial_uploads() {
    let (sink, mut events) = channel(
        EventKinds {
            completed: true,
            ..EventKinds::default()
        },
        16,
    );
    everywhere(
        move |config| *config = config.clone().sink(sink.clone()),
        async |site| {
            let part = site.partial("hello").await;
            join(site, &[&part]).await;
        },
    )
    .await;
    let mut finals = 0;
    while let Some(event) = events.next().await {
        assert_eq!(event.kind, EventKind::Completed);
        match &event.upload.kind {
            landfall::upload::UploadKind::Final { .. } => finals += 1,
            kind => assert_eq!(*kind, landfall::upload::UploadKind::Partial),
        }
    }
    assert_eq!(finals, 2);
}
