//! What is offered, methods, and what caches may keep.

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

use super::{everywhere, with_defaults};

const ALL: &str = "creation,creation-with-upload,termination,concatenation,\
                   concatenation-unfinished,creation-defer-length,checksum,checksum-trailer";

/// What the store or the settings do not support is not offered, and rejected.
#[tokio::test]
async fn only_what_is_supported_is_offered() {
    type Request = (&'static str, &'static [(&'static str, &'static str)], u16);
    type Row = (
        fn(&mut Config),
        &'static [&'static str],
        &'static str,
        Request,
    );
    const PARTIAL: &[(&str, &str)] = &[("Upload-Concat", "partial"), ("Upload-Length", "5")];
    let rows: [Row; 7] = [
        (
            |_| {},
            &[],
            "OPTIONS, GET, HEAD, PATCH, DELETE",
            ("PUT", &[], 405),
        ),
        (
            |config| config.store = config.store.clone().without_terminator(),
            &["termination"],
            "OPTIONS, GET, HEAD, PATCH",
            ("DELETE", &[], 405),
        ),
        (
            |config| config.disable_termination = true,
            &["termination"],
            "OPTIONS, GET, HEAD, PATCH",
            ("DELETE", &[], 405),
        ),
        (
            |config| config.store = config.store.clone().without_concatenator(),
            &["concatenation", "concatenation-unfinished"],
            "OPTIONS, GET, HEAD, PATCH, DELETE",
            ("POST", PARTIAL, 400),
        ),
        (
            |config| config.store = config.store.clone().without_length_deferrer(),
            &["creation-defer-length"],
            "OPTIONS, GET, HEAD, PATCH, DELETE",
            ("POST", &[("Upload-Defer-Length", "1")], 501),
        ),
        (
            |config| config.store = config.store.clone().without_reader(),
            // A trailer that was not announced is verified by reading the body back.
            &[],
            "OPTIONS, HEAD, PATCH, DELETE",
            ("GET", &[], 405),
        ),
        (
            |config| config.disable_download = true,
            &[],
            "OPTIONS, HEAD, PATCH, DELETE",
            ("GET", &[], 405),
        ),
    ];
    for (change, missing, allowed, (method, fields, status)) in rows {
        everywhere(change, async |site| {
            let offered = site.request("OPTIONS", "/files/").send().await.expect(200);
            let expected: Vec<_> = ALL
                .split(',')
                .filter(|one| !missing.contains(one))
                .collect();
            assert_eq!(offered.header("tus-extension"), Some(&*expected.join(",")));
            assert_eq!(offered.header("tus-max-size"), None);
            let path = site.create(5).await;
            let reply = site.request("PUT", &path).send().await.expect(405);
            assert_eq!(reply.header("allow"), Some(allowed));
            let path = if method == "POST" { "/files/" } else { &*path };
            let sent = site.request(method, path).with_all(fields);
            sent.send().await.expect(status);
        })
        .await;
    }
}

#[tokio::test]
async fn original_method_decides_whether_a_body_follows() {
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
async fn trailing_slash_of_the_base_path_is_optional() {
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
async fn only_finished_files_are_cacheable() {
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
            (404, site.request("HEAD", "/files/none")),
            (409, site.patching(&path, 3)),
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
async fn download_of_unfinished_uploads_can_be_disabled() {
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
