//! Creation, creation with upload, metadata.

use landfall::{Composer, Config, LocationStyle, service::Forwarded, store::MemoryStore};

use super::{DATA, everywhere, with_defaults};
use crate::harness::id;

#[tokio::test]
async fn t_cre_1_t_cre_7_t_cre_8_t_cre_9_new_upload_has_a_url_and_offset_0() {
    with_defaults(async |site| {
        let reply = site.post(&[("Upload-Length", "5")]).await.expect(201);
        let location = reply.header("location").unwrap();
        assert!(
            location.starts_with(&format!("http://{}/files/", site.address)),
            "{location}"
        );
        assert_eq!(reply.header("upload-offset"), None);
        assert_eq!(reply.body, "");
        assert_eq!(site.offset(&reply.location()).await, 0);
    })
    .await;
}

#[tokio::test]
async fn t_cre_5_e_18_upload_of_0_bytes_is_complete_at_once() {
    with_defaults(async |site| {
        let path = site.create(0).await;
        let reply = site.head(&path).await.expect(200);
        assert_eq!(
            (reply.number("upload-offset"), reply.number("upload-length")),
            (0, 0)
        );
        assert_eq!(site.handler.stats().finished, 1);
        assert_eq!(site.bytes(&path).await, "");
    })
    .await;
}

#[tokio::test]
async fn t_cre_6_too_large_upload_is_rejected() {
    everywhere(
        |config| config.limits.max_size = Some(10),
        async |site| {
            site.post(&[("Upload-Length", "11")])
                .await
                .refused(413, "ERR_MAX_SIZE_EXCEEDED");
            assert_eq!(site.uploads().await, 0);
            site.create(10).await;
        },
    )
    .await;
}

#[tokio::test]
async fn e_10_e_3_creation_needs_one_valid_length() {
    with_defaults(async |site| {
        let both = [("Upload-Length", "5"), ("Upload-Defer-Length", "1")];
        site.post(&both)
            .await
            .refused(400, "ERR_AMBIGUOUS_UPLOAD_LENGTH");
        site.post(&[])
            .await
            .refused(400, "ERR_INVALID_UPLOAD_LENGTH");
        for bad in ["-1", "+5", "5.0", "1e3", "", "9223372036854775808", "x"] {
            let reply = site.post(&[("Upload-Length", bad)]).await;
            reply.refused(400, "ERR_INVALID_UPLOAD_LENGTH");
        }
        assert_eq!(site.uploads().await, 0);
    })
    .await;
}

#[tokio::test]
async fn t_cre_10_t_cre_17_t_cre_18_e_16_head_returns_metadata_exactly() {
    with_defaults(async |site| {
        for sent in [
            "filename d29ybGQucGRm,is_confidential",
            "b Yg,a YQ==", // in their order, padded or not
            "empty ,bare",
            "bytes /wD+",
        ] {
            let path = site
                .create_with(&[("Upload-Length", "5"), ("Upload-Metadata", sent)])
                .await;
            for offset in [0, 5] {
                let reply = site.head(&path).await.expect(200);
                assert_eq!(reply.header("upload-metadata"), Some(sent));
                if offset == 0 {
                    site.patch(&path, 0, "hello").await.expect(204);
                }
            }
        }
        let path = site
            .create_with(&[("Upload-Length", "5"), ("Upload-Metadata", "")])
            .await;
        assert_eq!(site.head(&path).await.header("upload-metadata"), None);
    })
    .await;
}

#[tokio::test]
async fn e_15_e_17_malformed_metadata_is_rejected() {
    with_defaults(async |site| {
        for bad in [
            "a YQ==,a YQ==",
            "a ,,b",
            "a _-_-",
            "a YQ== YQ==",
            "n\u{e9} YQ==",
            "a ?",
        ] {
            let reply = site
                .post(&[("Upload-Length", "5"), ("Upload-Metadata", bad)])
                .await;
            reply.refused(400, "ERR_INVALID_METADATA");
        }
        assert_eq!(site.uploads().await, 0);
    })
    .await;
}

#[tokio::test]
async fn t_cre_16_filenames_in_headers_are_escaped() {
    with_defaults(async |site| {
        // filename: a"\r\nX-Evil: 1   filetype: text/html\r\nX-Evil: 1
        let metadata = "filename YSINClgtRXZpbDogMQ==,filetype dGV4dC9odG1sDQpYLUV2aWw6IDE=";
        let path = site
            .create_with(&[("Upload-Length", "2"), ("Upload-Metadata", metadata)])
            .await;
        site.patch(&path, 0, "ab").await.expect(204);
        for method in ["GET", "HEAD"] {
            let reply = site.request(method, &path).send().await.expect(200);
            assert_eq!(reply.header("x-evil"), None);
            let disposition = reply.header("content-disposition").unwrap();
            assert!(disposition.starts_with("attachment;filename=\"a\\\"__X-Evil: 1\""));
        }
    })
    .await;
}

#[tokio::test]
async fn t_cwu_1_t_cwu_5_t_cwu_6_creation_may_have_bytes() {
    with_defaults(async |site| {
        for (body, complete) in [("hello", true), ("hel", false), ("", false)] {
            let ask = site.request("POST", "/files/").with("Upload-Length", "5");
            let reply = ask
                .with("Content-Type", DATA)
                .body(body)
                .send()
                .await
                .expect(201);
            assert_eq!(reply.number("upload-offset"), body.len() as u64);
            let path = reply.location();
            assert_eq!(site.offset(&path).await, body.len() as u64);
            if !complete {
                let rest = &"hello"[body.len()..];
                site.patch(&path, body.len() as u64, rest).await.expect(204);
            }
            assert_eq!(site.bytes(&path).await, "hello");
        }
    })
    .await;
}

#[tokio::test]
async fn t_cwu_7_e_23_e_22_rules_of_patch_apply_and_a_rejection_leaves_nothing() {
    with_defaults(async |site| {
        let post = || {
            site.request("POST", "/files/")
                .with("Upload-Length", "5")
                .with("Content-Type", DATA)
        };
        post()
            .body("hello!")
            .send()
            .await
            .refused(413, "ERR_UPLOAD_SIZE_EXCEEDED");
        let over = post().chunked(&["hello", "!"], &[]).send().await;
        over.refused(413, "ERR_UPLOAD_SIZE_EXCEEDED");
        let wrong = post()
            .with("Upload-Checksum", "crc32 AAAAAA==")
            .body("hello")
            .send()
            .await;
        wrong.refused(460, "ERR_CHECKSUM_MISMATCH");
        let unknown = post()
            .with("Upload-Checksum", "md4 AAAA")
            .body("hello")
            .send()
            .await;
        unknown.refused(400, "ERR_UNSUPPORTED_CHECKSUM_ALGORITHM");
        assert_eq!(site.uploads().await, 0);
        // sha1 of "hello"
        let right = "sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00=";
        let reply = post()
            .with("Upload-Checksum", right)
            .body("hello")
            .send()
            .await
            .expect(201);
        assert_eq!(reply.number("upload-offset"), 5);
    })
    .await;
}

#[tokio::test]
async fn e_22_creation_without_space_leaves_nothing() {
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
async fn e_19_body_of_another_type_is_ignored() {
    with_defaults(async |site| {
        for content_type in ["text/plain", "application/octet-stream"] {
            let ask = site.request("POST", "/files/").with("Upload-Length", "5");
            let reply = ask
                .with("Content-Type", content_type)
                .body("hello")
                .send()
                .await;
            let reply = reply.expect(201);
            assert_eq!(reply.header("upload-offset"), None);
            assert_eq!(site.offset(&reply.location()).await, 0);
        }
    })
    .await;
}

#[tokio::test]
async fn e_21_interrupted_creation_keeps_received_bytes() {
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
async fn t_cre_8_e_51_location_is_correct_behind_proxies() {
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
async fn e_51_location_behind_any_prefix_is_resolved() {
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
