//! OPTIONS, versions, methods.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use landfall::{
    Composer, Config, ConfigError, Handler,
    hook::{CreateDecision, Hook, HookPoints, RequestInfo},
    service::Cors,
    store::MemoryStore,
    upload::{Upload, UploadId},
};

use super::{Site, everywhere, with_defaults};

#[tokio::test]
async fn t_core_31_t_core_4_t_core_32_options_reports_version_and_extensions() {
    with_defaults(async |site| {
        for path in ["/files/", "/files", "/files/none"] {
            let reply = site
                .request("OPTIONS", path)
                .without("Tus-Resumable")
                .send()
                .await
                .expect(200);
            assert_eq!(reply.header("tus-version"), Some("1.0.0"));
            assert_eq!(
                reply.header("tus-extension"),
                Some(
                    "creation,creation-with-upload,termination,concatenation,\
                     concatenation-unfinished,creation-defer-length,checksum,checksum-trailer"
                )
            );
            assert_eq!(reply.body, "");
        }
    })
    .await;
}

#[tokio::test]
async fn t_core_8_t_cre_2_t_def_1_t_cwu_1_t_trm_1_t_cat_1_only_supported_extensions_are_offered() {
    type Change = fn(Composer) -> Composer;
    let without: [(&str, Change); 3] = [
        ("termination", Composer::without_terminator),
        ("concatenation", Composer::without_concatenator),
        ("creation-defer-length", Composer::without_length_deferrer),
    ];
    for (token, change) in without {
        let change = |config: &mut Config| config.store = change(config.store.clone());
        everywhere(change, async |site: &Site| {
            let offered = site.request("OPTIONS", "/files/").send().await.expect(200);
            let offered = offered.header("tus-extension").unwrap();
            let mut tokens = offered.split(',');
            assert!(
                tokens.clone().all(|other| !other.starts_with(token)),
                "{offered}"
            );
            // T-CWU-2: never without creation.
            assert!(tokens.clone().any(|other| other == "creation"), "{offered}");
            assert!(
                tokens.any(|other| other == "creation-with-upload"),
                "{offered}"
            );
        })
        .await;
    }
    // An extension that is not offered does not work.
    everywhere(
        |config| config.store = config.store.clone().without_terminator(),
        async |site| {
            let path = site.create(5).await;
            let reply = site.delete(&path).await.expect(405);
            assert_eq!(reply.header("allow"), Some("OPTIONS, GET, HEAD, PATCH"));
            site.head(&path).await.expect(200);
        },
    )
    .await;
    everywhere(
        |config| (config.disable_download, config.disable_termination) = (true, true),
        async |site| {
            let path = site.create(5).await;
            let reply = site.request("GET", &path).send().await.expect(405);
            assert_eq!(reply.header("allow"), Some("OPTIONS, HEAD, PATCH"));
        },
    )
    .await;
    everywhere(
        |config| config.store = config.store.clone().without_concatenator(),
        async |site| {
            site.post(&[("Upload-Concat", "partial"), ("Upload-Length", "5")])
                .await
                .refused(400, "ERR_CONCATENATION_UNSUPPORTED");
        },
    )
    .await;
    everywhere(
        |config| config.store = config.store.clone().without_length_deferrer(),
        async |site| {
            site.post(&[("Upload-Defer-Length", "1")])
                .await
                .refused(501, "ERR_NOT_IMPLEMENTED");
        },
    )
    .await;
}

#[tokio::test]
async fn t_core_9_t_core_10_e_61_max_size_is_reported_if_set() {
    everywhere(
        |config| config.limits.max_size = Some(1000),
        async |site| {
            let reply = site.request("OPTIONS", "/files/").send().await;
            assert_eq!(reply.number("tus-max-size"), 1000);
        },
    )
    .await;
    with_defaults(async |site| {
        let reply = site.request("OPTIONS", "/files/").send().await;
        assert_eq!(reply.header("tus-max-size"), None);
    })
    .await;
}

#[tokio::test]
async fn t_sum_1_t_sum_8_t_sum_9_t_sum_10_t_trl_1_checksums_are_offered() {
    with_defaults(async |site| {
        let reply = site.request("OPTIONS", "/files/").send().await;
        assert_eq!(
            reply.header("tus-checksum-algorithm"),
            Some("sha1,md5,sha256,sha512,crc32,crc32c,blake3,xxh3")
        );
        let offered = reply.header("tus-extension").unwrap();
        assert!(offered.contains("checksum,checksum-trailer"), "{offered}");
    })
    .await;
}

#[tokio::test]
async fn t_core_34_e_2_options_ignores_the_version() {
    with_defaults(async |site| {
        let ask = site.request("OPTIONS", "/files/").without("Tus-Resumable");
        ask.with("Tus-Resumable", "9.9.9").send().await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn t_core_5_every_response_has_the_version() {
    everywhere(
        |config| config.limits.max_size = Some(1000),
        async |site| {
            let path = site.create(5).await;
            let (first, second) = (site.partial("a").await, site.partial("b").await);
            let list = format!("final;{first} {second}");
            let joined = site.create_with(&[("Upload-Concat", &list)]).await;
            let sha1 = "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=";
            for (status, ask) in [
                (200, site.request("OPTIONS", "/files/")),
                (200, site.request("HEAD", &path)),
                (200, site.request("GET", &joined)),
                (
                    201,
                    site.request("POST", "/files/").with("Upload-Length", "5"),
                ),
                (400, site.request("POST", "/files/")),
                (403, site.patching(&joined, 2)),
                (404, site.request("HEAD", "/files/none")),
                (404, site.request("DELETE", "/files/none")),
                (405, site.request("PUT", &path)),
                (409, site.patching(&path, 3)),
                (
                    412,
                    site.request("POST", "/files/").without("Tus-Resumable"),
                ),
                (
                    413,
                    site.request("POST", "/files/")
                        .with("Upload-Length", "1001"),
                ),
                (415, site.request("PATCH", &path).with("Upload-Offset", "0")),
                (
                    460,
                    site.patching(&path, 0)
                        .with("Upload-Checksum", sha1)
                        .body("x"),
                ),
                (204, site.patching(&path, 0).body("hello")),
                (204, site.request("DELETE", &path)),
            ] {
                let reply = ask.send().await.expect(status);
                assert_eq!(reply.header("tus-resumable"), Some("1.0.0"), "{reply:?}");
            }
        },
    )
    .await;
}

#[tokio::test]
async fn t_core_6_t_core_7_other_versions_are_rejected_without_effect() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        for version in ["0.2.2", "1.0.1", "2.0.0", "x"] {
            for ask in [
                site.request("POST", "/files/").with("Upload-Length", "5"),
                site.patching(&path, 0).body("hello"),
                site.request("DELETE", &path),
                site.request("HEAD", &path),
                site.request("GET", &path),
            ] {
                let ask = ask.without("Tus-Resumable").with("Tus-Resumable", version);
                let reply = ask.send().await.expect(412);
                assert_eq!(reply.header("tus-version"), Some("1.0.0"), "{reply:?}");
            }
        }
        assert_eq!(site.uploads().await, 1);
        assert_eq!(site.offset(&path).await, 0);
    })
    .await;
}

#[tokio::test]
async fn e_1_version_is_optional_only_on_head_and_get() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        for ask in [
            site.request("POST", "/files/").with("Upload-Length", "5"),
            site.patching(&path, 0).body("hello"),
            site.request("DELETE", &path),
        ] {
            let reply = ask.without("Tus-Resumable").send().await;
            let reply = reply.refused(412, "ERR_UNSUPPORTED_VERSION");
            assert_eq!(reply.header("tus-version"), Some("1.0.0"));
        }
        assert_eq!(site.uploads().await, 1);
        assert_eq!(site.offset(&path).await, 0);
        site.request("HEAD", &path)
            .without("Tus-Resumable")
            .send()
            .await
            .expect(200);
        site.request("GET", &path)
            .without("Tus-Resumable")
            .send()
            .await
            .expect(200);
    })
    .await;
}

#[tokio::test]
async fn t_core_11_e_39_method_override_applies_to_methods_that_are_not_safe() {
    with_defaults(async |site| {
        let path = site.create(10).await;
        let over = |real: &str, named| {
            site.request(real, &path)
                .with("X-HTTP-Method-Override", named)
        };
        for offset in ["0", "5"] {
            let ask = over("POST", "PATCH")
                .with("Content-Type", super::DATA)
                .with("Upload-Offset", offset);
            ask.body("hello").send().await.expect(204);
        }
        // A GET or HEAD for a proxy must stay one.
        for named in ["OPTIONS", "DELETE", "HEAD", "PATCH", "BREW"] {
            let reply = over("GET", named).send().await.expect(200);
            assert_eq!(reply.body, "hellohello", "{named}");
            let reply = over("HEAD", named).send().await.expect(200);
            assert_eq!(reply.number("upload-offset"), 10, "{named}");
        }
        for real in ["POST", "PUT", "PATCH", "DELETE"] {
            let reply = over(real, "HEAD").send().await.expect(200);
            assert_eq!(reply.number("upload-offset"), 10, "{real}");
            for named in ["PUT", "BREW", "patch", ""] {
                let reply = over(real, named).send().await;
                reply.refused(400, "ERR_INVALID_METHOD");
            }
            let created = site.create(5).await;
            let sent = site.request(real, &created);
            let sent = sent.with("X-HTTP-Method-Override", "PATCH");
            let sent = sent
                .with("Content-Type", super::DATA)
                .with("Upload-Offset", "0");
            sent.body("hello").send().await.expect(204);
            assert_eq!(site.bytes(&created).await, "hello", "{real}");
            let sent = site.request(real, &created);
            let sent = sent.with("X-HTTP-Method-Override", "DELETE");
            sent.clone()
                .without("Tus-Resumable")
                .send()
                .await
                .expect(412);
            sent.send().await.expect(204);
            site.head(&created).await.expect(404);
            let sent = site.request(real, "/files/").with("Upload-Length", "5");
            let sent = sent.with("X-HTTP-Method-Override", "POST");
            sent.send().await.expect(201);
        }
        assert_eq!(site.offset(&path).await, 10);
    })
    .await;
}

#[tokio::test]
async fn e_39_original_method_decides_whether_a_body_follows() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        site.patch(&path, 0, "hello").await.expect(204);
        for (real, named, status, length) in [
            ("POST", "HEAD", 200, "0"),
            ("HEAD", "GET", 200, "5"),
            ("HEAD", "DELETE", 200, "5"),
            ("HEAD", "HEAD", 200, "5"),
        ] {
            let request = Request::builder()
                .method(real)
                .uri(&path)
                .header("Tus-Resumable", "1.0.0")
                .header("X-HTTP-Method-Override", named)
                .body(Empty::<Bytes>::new())
                .unwrap();
            // Without the HTTP server, which would correct it.
            let reply = site.handler.handle(request).await;
            assert_eq!(reply.status(), status);
            assert_eq!(
                reply.headers()["content-length"],
                length,
                "{real} as {named}"
            );
            assert!(
                reply
                    .into_body()
                    .collect()
                    .await
                    .unwrap()
                    .to_bytes()
                    .is_empty()
            );
        }
    })
    .await;
}

#[tokio::test]
async fn e_39_preflight_is_not_overridden_and_unknown_names_are_rejected() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        let over = |real: &str, named| {
            site.request(real, &path)
                .with("X-HTTP-Method-Override", named)
        };
        over("OPTIONS", "DELETE").send().await.expect(200);
        for unknown in ["delete", "BREW", "TRACE"] {
            over("POST", unknown)
                .send()
                .await
                .refused(400, "ERR_INVALID_METHOD");
        }
        site.head(&path).await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn e_50_other_methods_are_not_allowed() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        for method in ["PUT", "POST", "TRACE", "BREW"] {
            let reply = site.request(method, &path).send().await.expect(405);
            let allow = Some("OPTIONS, GET, HEAD, PATCH, DELETE");
            assert_eq!(reply.header("allow"), allow);
        }
        for method in ["PUT", "GET", "PATCH", "DELETE"] {
            let reply = site.request(method, "/files/").send().await.expect(405);
            assert_eq!(reply.header("allow"), Some("OPTIONS, POST"));
        }
    })
    .await;
}

#[tokio::test]
async fn e_52_trailing_slash_of_the_base_path_is_optional() {
    with_defaults(async |site| {
        for path in ["/files", "/files/"] {
            let ask = site.request("POST", path).with("Upload-Length", "5");
            let location = ask.send().await.expect(201).location();
            site.head(&location).await.expect(200);
            site.head(&format!("{location}/")).await.expect(200);
        }
        site.request("POST", "/filesx")
            .with("Upload-Length", "5")
            .send()
            .await
            .expect(404);
    })
    .await;
}

#[tokio::test]
async fn e_60_only_finished_files_are_cacheable() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        site.patch(&path, 0, "he").await.expect(204);
        let unfinished = site.request("GET", &path).send().await.expect(200);
        assert_eq!(unfinished.header("cache-control"), Some("no-store"));
        for (status, ask) in [
            (200, site.request("OPTIONS", &path)),
            (
                200,
                site.request("POST", &path)
                    .with("X-HTTP-Method-Override", "OPTIONS"),
            ),
            (200, site.request("HEAD", &path)),
            (
                201,
                site.request("POST", "/files/").with("Upload-Length", "5"),
            ),
            (204, site.patching(&path, 2).body("llo")),
            (404, site.request("GET", "/files/none")),
            (404, site.request("GET", "/elsewhere")),
            (405, site.request("PUT", &path)),
            (416, site.request("GET", &path).with("Range", "bytes=9-")),
        ] {
            let reply = ask.send().await.expect(status);
            assert_eq!(reply.header("cache-control"), Some("no-store"), "{reply:?}");
        }
        let finished = site.request("GET", &path).send().await.expect(200);
        assert_eq!(finished.header("cache-control"), None);
        let etag = finished.header("etag").unwrap();
        let ask = site.request("GET", &path).with("If-None-Match", etag);
        assert_eq!(ask.send().await.expect(304).header("cache-control"), None);
    })
    .await;
}

#[tokio::test]
async fn e_49_download_of_unfinished_uploads_can_be_disabled() {
    everywhere(
        |config| config.disable_unfinished_download = true,
        async |site| {
            let path = site.create(5).await;
            site.patch(&path, 0, "hell").await.expect(204);
            site.request("GET", &path)
                .send()
                .await
                .refused(400, "ERR_INCOMPLETE_UPLOAD");
            site.patch(&path, 4, "o").await.expect(204);
            assert_eq!(site.bytes(&path).await, "hello");
        },
    )
    .await;
}

#[tokio::test]
async fn an_id_that_is_used_again_is_another_file_to_caches() {
    let named = |config: &mut landfall::Config| {
        config.hooks.push(std::sync::Arc::new(SameId));
    };
    everywhere(named, async |site| {
        let mut etags = Vec::new();
        for body in ["hello", "world"] {
            let path = site.create(5).await;
            site.patch(&path, 0, body).await.expect(204);
            let reply = site.request("GET", &path).send().await.expect(200);
            // Responses under access hooks must not be in shared caches.
            assert_eq!(reply.header("cache-control"), Some("private"));
            etags.push(reply.header("etag").unwrap().to_owned());
            if body == "hello" {
                site.delete(&path).await.expect(204);
            }
        }
        assert_ne!(etags[0], etags[1]);
        let ask = site.request("GET", "/files/same");
        let reply = ask.with("If-None-Match", &etags[0]).send().await;
        assert_eq!(reply.expect(200).body, "world");
    })
    .await;
}

/// Gives every upload the same id.
#[derive(Debug)]
struct SameId;

#[async_trait::async_trait]
impl Hook for SameId {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_create: true,
            on_access: true,
            ..HookPoints::default()
        }
    }

    async fn before_create(
        &self,
        _request: &RequestInfo,
        _upload: &Upload,
    ) -> Result<CreateDecision, landfall::BoxError> {
        Ok(CreateDecision::allow().id(UploadId::new("same")?))
    }
}

#[test]
fn credentials_require_explicit_origins() {
    let build = |cors: Cors| {
        let mut config = Config::new(Composer::join(MemoryStore::new()));
        config.cors = Some(cors.allow_credentials(true));
        Handler::new(config).map(|_| ())
    };
    let refused = Err(ConfigError::CredentialsForAnyOrigin);
    assert_eq!(build(Cors::default()), refused);
    assert_eq!(build(Cors::default().allow_origin(|_| true)), refused);
    let named = Cors::default().allow_origin(|origin| origin == "https://app.example");
    assert_eq!(build(named), Ok(()));
}

#[tokio::test]
async fn a_response_to_no_origin_is_not_for_pages() {
    with_defaults(async |site| {
        let path = site.create(0).await;
        let reply = site.request("GET", &path).send().await.expect(200);
        assert_eq!(reply.header("vary"), Some("Origin"));
        assert_eq!(reply.header("access-control-allow-origin"), None);
    })
    .await;
}
