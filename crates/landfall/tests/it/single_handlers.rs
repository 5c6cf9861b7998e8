//! Handlers of single operations, for routes whose methods are not those of tus.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use landfall::{Config, Handler, store::MemoryStore};

fn request(method: &str, headers: &[(&str, &str)], body: &'static str) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(method)
        .uri("/anything")
        .header("Tus-Resumable", "1.0.0");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .unwrap()
}

#[tokio::test]
async fn operations_do_not_depend_on_the_method() {
    let mut config = Config::new(MemoryStore::new());
    config.base_path = "/files/".into();
    let uploads = Handler::new(config).unwrap();

    let created = uploads
        .create(request("PUT", &[("Upload-Length", "5")], ""))
        .await;
    assert_eq!(created.status(), StatusCode::CREATED);
    let location = created.headers()["location"].to_str().unwrap();
    let id = location.rsplit('/').next().unwrap();

    let content = [
        ("Content-Type", "application/offset+octet-stream"),
        ("Upload-Offset", "0"),
    ];
    let appended = uploads.append(id, request("POST", &content, "hello")).await;
    assert_eq!(appended.status(), StatusCode::NO_CONTENT);

    let inspected = uploads.inspect(id, request("GET", &[], "")).await;
    assert_eq!(inspected.headers()["upload-offset"], "5");
    assert_eq!(inspected.headers()["content-length"], "0");

    let downloaded = uploads.download(id, request("POST", &[], "")).await;
    let bytes = downloaded.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(bytes, "hello");

    let options = uploads.options(request("GET", &[], "")).await;
    assert!(options.headers().contains_key("tus-extension"));

    let removed = uploads.terminate(id, request("POST", &[], "")).await;
    assert_eq!(removed.status(), StatusCode::NO_CONTENT);
    let gone = uploads.inspect(id, request("HEAD", &[], "")).await;
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_disabled_operation_is_rejected() {
    let mut config = Config::new(MemoryStore::new());
    config.disable_termination = true;
    let uploads = Handler::new(config).unwrap();
    let response = uploads.terminate("some-id", request("POST", &[], "")).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}
