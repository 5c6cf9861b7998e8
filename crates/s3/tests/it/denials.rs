//! Denials at completion, which are repeated.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use landfall::{
    Config, Handler,
    hook::{ClientResponse, Decision},
    service::ResponseBody,
    upload::UploadId,
};
use landfall_s3::{S3Options, S3Store, UploadIds};
use landfall_test_services::{Access, Moto};

use crate::support::{client, options};

/// A server that denies uploads of six bytes.
fn server(access: &Access, options: &S3Options) -> Handler {
    let store = S3Store::new(client(access), options.clone()).unwrap();
    let mut config = Config::new(store).before_finish(|_, done| async move {
        Ok(match done.offset {
            6 => Decision::Deny(ClientResponse::text(422, "not six")),
            _ => Decision::allow(),
        })
    });
    config.lifetimes.unfinished = Some(std::time::Duration::from_secs(3600));
    Handler::new(config).unwrap()
}

async fn send(
    handler: &Handler,
    method: Method,
    path: &str,
    fields: &[(&str, &str)],
    data: &'static str,
) -> Response<ResponseBody> {
    let mut request = Request::builder().method(method).uri(path);
    request = request.header("Upload-Draft-Interop-Version", "10");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let body = Full::new(Bytes::from_static(data.as_bytes()));
    handler.handle(request.body(body).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn denials_are_repeated_by_other_processes() {
    let moto = Moto::shared();
    for ids in [UploadIds::default(), UploadIds::Plain] {
        let mut options = options(&moto.bucket("denials"));
        options.ids = ids;
        let handler = server(&moto.access(), &options);
        let part = [("Upload-Complete", "?0")];
        let created = send(&handler, Method::POST, "/files/", &part, "six").await;
        assert_eq!(created.status(), StatusCode::CREATED);
        let path = created.headers()["location"].to_str().unwrap().to_owned();
        let last = [
            ("Upload-Complete", "?1"),
            ("Upload-Offset", "3"),
            ("Content-Type", "application/partial-upload"),
        ];
        let denied = send(&handler, Method::PATCH, &path, &last, "six").await;
        assert_eq!(denied.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let id = UploadId::new(path.strip_prefix("/files/").unwrap()).unwrap();
        let other = server(&moto.access(), &options);
        for handler in [&handler, &other] {
            for method in [Method::HEAD, Method::PATCH] {
                let reply = send(handler, method, &path, &last, "").await;
                assert_eq!(reply.status(), StatusCode::UNPROCESSABLE_ENTITY);
                assert_eq!(reply.headers()["upload-complete"], "?1");
            }
            assert!(handler.get(&id).await.unwrap().is_none());
        }
        assert!(other.remove(&id).await.unwrap());
        let other = server(&moto.access(), &options);
        let reply = send(&other, Method::HEAD, &path, &[], "").await;
        assert_eq!(reply.status(), StatusCode::NOT_FOUND);
    }
}
