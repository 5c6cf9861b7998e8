//! Creations that leave nothing, and URLs of uploads.

use landfall::{Composer, Config, LocationStyle, service::Forwarded, store::MemoryStore};

use super::{DATA, everywhere, with_defaults};
use crate::harness::id;

/// A client does not know the URL of a creation that was rejected.
#[tokio::test]
async fn a_rejected_creation_leaves_nothing() {
    const LENGTH: (&str, &str) = ("Upload-Length", "5");
    const TYPE: (&str, &str) = ("Content-Type", DATA);
    const TUS: [&[(&str, &str)]; 8] = [
        &[],
        &[("Upload-Length", "-1")],
        &[("Upload-Length", "11")],
        &[("Upload-Defer-Length", "2")],
        &[LENGTH, ("Upload-Metadata", "a YQ==,a YQ==")],
        &[LENGTH, ("Upload-Concat", "final")],
        &[LENGTH, TYPE, ("Upload-Checksum", "crc32 AAAAAA==")],
        &[LENGTH, TYPE, ("Upload-Checksum", "md4 AAAA")],
    ];
    const PART: (&str, &str) = ("Upload-Complete", "?0");
    const WHOLE: (&str, &str) = ("Upload-Complete", "?1");
    const DRAFT: [&[(&str, &str)]; 11] = [
        &[("Upload-Complete", "true")],
        &[PART, ("Upload-Length", "3")],
        &[WHOLE, ("Upload-Length", "3")],
        &[PART, LENGTH, ("Upload-Defer-Length", "1")],
        &[PART, ("Upload-Concat", "partial")],
        &[WHOLE, ("Upload-Concat", "final;/files/a")],
        &[WHOLE, ("Upload-Offset", "5")],
        &[WHOLE, ("Upload-Incomplete", "?1")],
        &[WHOLE, ("Content-Digest", "sha-256=:AAAA:")],
        &[
            PART,
            (
                "Content-Digest",
                "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
            ),
        ],
        &[
            PART,
            ("Upload-Draft-Interop-Version", "3"),
            ("Upload-Incomplete", "?0"),
        ],
    ];
    everywhere(
        |config| config.limits.max_size = Some(10),
        async |site| {
            let post = site.request("POST", "/files/");
            let tus = TUS.map(|fields| (post.clone().with_all(fields), "hallo"));
            let draft = post.clone().without("Tus-Resumable");
            // In chunks, its bytes are there when the end is seen.
            let short = draft.clone().with_all(&[WHOLE, ("Upload-Length", "9")]);
            short.body("hallo").send().await.expect(400);
            let draft = DRAFT.map(|fields| (draft.clone().with_all(fields), "hallo"));
            let long = post.with_all(&[LENGTH, TYPE]);
            let all = tus.into_iter().chain(draft).chain([(long, "hello!")]);
            for (sent, data) in all {
                // Detected in the head, and in the content.
                for sent in [
                    sent.clone().body(data),
                    sent.chunked(&["h", &data[1..]], &[]),
                ] {
                    let reply = sent.clone().send().await;
                    assert!((400..500).contains(&reply.status), "{sent:?}: {reply:?}");
                    assert_eq!(reply.header("location"), None, "{sent:?}");
                    assert_eq!(site.uploads().await, 0, "{sent:?}");
                    assert_eq!(site.files(), [""; 0], "{sent:?}");
                }
            }
        },
    )
    .await;
}

#[tokio::test]
async fn creation_without_space_leaves_nothing() {
    let full = |config: &mut Config| {
        config.store = Composer::join(MemoryStore::with_capacity(3));
    };
    everywhere(full, async |site| {
        let ask = site.request("POST", "/files/").with("Upload-Length", "5");
        let reply = ask.with("Content-Type", DATA).body("hello").send().await;
        let reply = reply.refused(507, "ERR_STORAGE_FULL");
        assert!(reply.number("retry-after") > 0);
        assert_eq!(site.uploads().await, 0);
        // An upload with a known URL keeps the bytes that fit.
        let path = site.create(5).await;
        site.patch(&path, 0, "hello")
            .await
            .refused(507, "ERR_STORAGE_FULL");
        let stored = usize::try_from(site.offset(&path).await).unwrap();
        assert_eq!(site.bytes(&path).await, "hello"[..stored]);
        assert!(stored <= 3, "{stored}");
    })
    .await;
}

#[tokio::test]
async fn interrupted_creation_keeps_received_bytes() {
    with_defaults(async |site| {
        let ask = site.request("POST", "/files/").with("Upload-Length", "10");
        let mut open = ask
            .with("Content-Type", DATA)
            .with("Content-Length", "10")
            .open()
            .await;
        open.write("hello").await;
        while site.uploads().await == 0 {
            tokio::task::yield_now().await;
        }
        let enumerator = site.parts.enumerator().unwrap();
        let page = enumerator.page(None, 10).await.unwrap();
        let path = format!("/files/{}", page.uploads[0].upload.id);
        site.until_offset(&path, 5).await;
        drop(open);
        // The old request releases the lease; no other request may write before.
        site.patch(&path, 5, "world").await.expect(204);
        assert_eq!(site.bytes(&path).await, "helloworld");
    })
    .await;
}

#[tokio::test]
async fn location_is_correct_behind_proxies() {
    everywhere(
        |config| config.location = LocationStyle::Relative,
        async |site| {
            let reply = site.post(&[("Upload-Length", "5")]).await.expect(201);
            assert!(reply.header("location").unwrap().starts_with("/files/"));
            site.head(&reply.location()).await.expect(200);
        },
    )
    .await;
    let proxy = [
        ("Upload-Length", "5"),
        ("X-Forwarded-Host", "up.example.org"),
        ("X-Forwarded-Proto", "https"),
    ];
    everywhere(
        |config| config.forwarded = Forwarded::Trust,
        async |site| {
            let reply = site.post(&proxy).await.expect(201);
            let id = id(&reply.location());
            let expected = format!("https://up.example.org/files/{id}");
            assert_eq!(reply.header("location"), Some(&*expected));
        },
    )
    .await;
    // Any client can send these headers, so they are ignored unless trusted.
    with_defaults(async |site| {
        let reply = site.post(&proxy).await.expect(201);
        let expected = format!("http://{}{}", site.address, reply.location());
        assert_eq!(reply.header("location"), Some(&*expected));
    })
    .await;
}

#[tokio::test]
async fn location_behind_any_prefix_is_resolved() {
    everywhere(
        |config| config.forwarded = Forwarded::Trust,
        async |site| {
            for (prefix, kept) in [
                ("/files", true),
                ("/x/files/y/", true),
                ("/a%20b", true),
                // These would change the meaning of the rest of the URL.
                ("/a?b", false),
                ("/a#b", false),
                ("//evil.example", false),
                ("evil", false),
            ] {
                let headers = [
                    ("Upload-Length", "0"),
                    ("Upload-Concat", "partial"),
                    ("X-Forwarded-Prefix", prefix),
                ];
                let reply = site.post(&headers).await.expect(201);
                let location = reply.header("location").unwrap();
                let host = format!("http://{}", site.address);
                let start = format!("{host}{}/files/", prefix.trim_end_matches('/'));
                assert_eq!(location.starts_with(&start), kept, "{location}");
                assert!(
                    kept || location.starts_with(&format!("{host}/files/")),
                    "{location}"
                );
                let list = format!("final;{location}");
                let headers = [("Upload-Concat", &*list), ("X-Forwarded-Prefix", prefix)];
                site.post(&headers).await.expect(201);
            }
        },
    )
    .await;
}
