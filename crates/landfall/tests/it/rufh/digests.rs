//! Digests (RFC 9530).

use landfall::{event::EventKind, upload::Completion};

use super::{
    NEWEST, append, assert_complete, assert_problem, create, creation, everywhere, head,
    hooks::{Events, Gate, with_gate},
    request, with_defaults,
};
use crate::harness::{Site, id};

const HELLO: &str = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";

#[tokio::test]
async fn digests_of_the_whole_are_verified_at_the_end() {
    let (gate, events) = (Gate::default(), Events::default());
    for is_watched in [false, true] {
        let change = |config: &mut landfall::Config| {
            if is_watched {
                with_gate(&gate, &events)(config);
            }
        };
        everywhere(change, async |site| {
            for version in [3, 6, NEWEST] {
                let right = |data| {
                    creation(site, version, true)
                        .with("Repr-Digest", HELLO)
                        .body(data)
                };
                let reply = right("hello").send().await;
                assert!(reply.status < 300, "{reply:?}");
                let reply = right("hallo").send().await.expect(400);
                let body = assert_problem(&reply, None);
                assert_eq!(body["code"], "ERR_DIGEST_MISMATCH");
                assert_complete(&reply, version, true);
                assert_eq!(reply.header("location"), None);
            }
            assert_eq!(site.uploads().await, 3);
            for (last, status) in [("lo", 200..300), ("la", 400..401)] {
                // With the creation, with an append, and with the empty end.
                for stated_at in 0..3 {
                    let at = |step, sent: crate::harness::TestRequest| match step == stated_at {
                        true => sent.with("Repr-Digest", HELLO),
                        false => sent,
                    };
                    let sent = at(0, creation(site, NEWEST, false).body("hel"));
                    let path = sent.send().await.expect(201).location();
                    let site = &Site::sharing_store(site, change).await;
                    let sent = at(1, append(site, NEWEST, &path, 3, false).body(last));
                    sent.send().await.expect(204);
                    let sent = at(2, append(site, NEWEST, &path, 5, true).body(""));
                    let reply = sent.send().await;
                    assert!(status.contains(&reply.status), "{reply:?}");
                    assert_complete(&reply, NEWEST, true);
                    let is_removed = status.start == 400;
                    let reply = head(site, NEWEST, &path).await;
                    reply.expect(if is_removed { 404 } else { 204 });
                }
            }
        })
        .await;
    }
    let finished = std::mem::take(&mut *gate.finished.lock().unwrap());
    let completed = |one: &&(EventKind, u64)| one.0 == EventKind::Completed;
    let completed = events.0.lock().unwrap().iter().filter(completed).count();
    // On both stores, over both versions of HTTP: three whole uploads and three in parts.
    assert_eq!((finished.len(), completed), (24, 24));
}

#[tokio::test]
async fn a_digest_of_the_whole_cannot_change() {
    with_defaults(async |site| {
        let path = create(site, NEWEST, "").await;
        let sent = |digest: &str| {
            let sent = append(site, NEWEST, &path, 0, true).with("Repr-Digest", digest);
            sent.body("hello")
        };
        let other = HELLO.replace("LPJN", "MPJN");
        append(site, NEWEST, &path, 0, false)
            .with("Repr-Digest", &other)
            .body("")
            .send()
            .await
            .expect(204);
        let reply = sent(HELLO).send().await.expect(400);
        assert_eq!(assert_problem(&reply, None)["code"], "ERR_INVALID_DIGEST");
        assert_complete(&reply, NEWEST, false);
        sent("sha-256=:AAAA:").send().await.expect(400);
        assert_eq!(head(site, NEWEST, &path).await.number("upload-offset"), 0);
        // Others are not known, and so not stated.
        sent("md5=:AAAA:").send().await.expect(400);
        head(site, NEWEST, &path).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn uploads_of_tus_are_verified_when_the_draft_stated_the_digest() {
    with_defaults(async |site| {
        for (data, status) in [("hello", 204), ("hallo", 400)] {
            let sent = creation(site, NEWEST, false).with("Upload-Length", "5");
            let sent = sent.with("Repr-Digest", HELLO).body("");
            let path = sent.send().await.expect(201).location();
            site.patch(&path, 0, data).await.expect(status);
            let status = if status == 204 { 200 } else { 404 };
            site.head(&path).await.expect(status);
        }
    })
    .await;
}

/// As after a crash between the last byte and the verification.
#[tokio::test]
async fn a_verification_that_did_not_run_is_made_up_for() {
    with_defaults(async |site| {
        for (data, status) in [("hello", 204), ("hallo", 400)] {
            let sent = creation(site, NEWEST, false).with("Upload-Length", "5");
            let sent = sent.with("Repr-Digest", HELLO).body(data);
            let path = sent.send().await.expect(201).location();
            let store = site.parts.store();
            let found = store.load(&id(&path)).await.unwrap();
            let mut upload = (*found.upload).clone();
            assert_eq!(upload.completion, Completion::Pending);
            upload.awaits_end = false;
            let lease = site.parts.locker().try_acquire(&upload.id).await.unwrap();
            store.save(&upload, lease.fence()).await.unwrap();
            drop(lease);
            let site = &Site::sharing_store(site, |_| {}).await;
            let reply = head(site, NEWEST, &path).await.expect(status);
            assert_complete(&reply, NEWEST, true);
            let status = if status == 204 { 204 } else { 404 };
            head(site, NEWEST, &path).await.expect(status);
        }
    })
    .await;
}

#[tokio::test]
async fn wanted_digests_are_returned_where_they_are_known() {
    with_defaults(async |site| {
        const WANT: (&str, &str) = ("Want-Repr-Digest", "sha-256=1");
        let sent = creation(site, NEWEST, true).with("Repr-Digest", HELLO);
        let reply = sent
            .with_all(&[WANT])
            .body("hello")
            .send()
            .await
            .expect(201);
        assert_eq!(reply.header("repr-digest"), Some(HELLO));
        let path = reply.location();
        for method in ["HEAD", "GET"] {
            let sent = request(site, NEWEST, method, &path);
            let reply = sent.clone().send().await.expect(204);
            assert_eq!(reply.header("repr-digest"), None);
            let reply = sent.with_all(&[WANT]).send().await.expect(204);
            assert_eq!(reply.header("repr-digest"), Some(HELLO));
        }
        // The file itself, and the upload as clients of tus see it.
        for method in ["HEAD", "GET"] {
            let sent = site.request(method, &path).with_all(&[WANT]);
            let reply = sent.with("Range", "bytes=1-2").send().await;
            assert_eq!(reply.header("repr-digest"), Some(HELLO));
        }
        let sent = append(site, NEWEST, &path, 5, true).with_all(&[WANT]);
        let reply = sent.body("").send().await.expect(201);
        assert_eq!(reply.header("repr-digest"), Some(HELLO));
        let sent = creation(site, NEWEST, false).with("Repr-Digest", HELLO);
        let reply = sent.with_all(&[WANT]).body("hel").send().await.expect(201);
        assert_eq!(reply.header("repr-digest"), None, "not verified yet");
        let reply = site.request("OPTIONS", "/files/").send().await.expect(200);
        for name in ["want-content-digest", "want-repr-digest"] {
            assert_eq!(reply.header(name), Some("sha-256=10, sha-512=9"));
        }
    })
    .await;
}
