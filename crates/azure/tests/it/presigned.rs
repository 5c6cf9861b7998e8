//! URLs for others, used by a plain HTTP client.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use landfall_objects::ErrorKind;
use landfall_test_services::{Azurite, http1::send};

use crate::{Container, client};

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn blobs_are_written_and_read() {
    let container = Container::new();
    let object = container.blob("folder/a b+ü%");
    let url = container
        .client
        .presign_upload(&object, true, HOUR)
        .await
        .unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("x-ms-blob-type", HeaderValue::from_static("BlockBlob"));
    let (status, _, body) = send(Method::PUT, &url, &headers, "hello").await;
    assert_eq!(status, StatusCode::CREATED, "{body:?}");
    let none = HeaderMap::new();
    let (status, ..) = send(Method::GET, &url, &none, "").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "it may only create");
    let (status, ..) = send(Method::PUT, &url, &headers, "again").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "it may replace nothing");
    let block = format!("{url}&comp=block&blockid=AAAA");
    let (status, ..) = send(Method::PUT, &block, &none, "block").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "it may send no blocks");

    let disposition = "attachment; filename=\"a b&c.txt\"";
    let url = container
        .client
        .presign_download(&object, "text/x-test", disposition, HOUR);
    let url = url.await.unwrap();
    let (status, answered, body) = send(Method::GET, &url, &none, "").await;
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"hello"[..]));
    assert_eq!(answered["content-type"], "text/x-test");
    assert_eq!(answered["content-disposition"], disposition);
    let (status, ..) = send(Method::PUT, &url, &headers, "other").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "it may only read");
    let other = url.replacen("folder", "f0lder", 1);
    let (status, ..) = send(Method::GET, &other, &none, "").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "one blob");
    let expired = container
        .client
        .presign_download(&object, "", "", Duration::ZERO)
        .await
        .unwrap();
    let (status, ..) = send(Method::GET, &expired, &none, "").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "expired");
}

#[tokio::test]
async fn a_signature_cannot_sign() {
    let container = Container::new();
    let signature = client(("AZURE_STORAGE_SAS_TOKEN", Azurite::SAS), None);
    let signed = signature
        .presign_download(&container.blob("k"), "", "", HOUR)
        .await;
    let error = signed.expect_err("not possible");
    assert_eq!(*error.kind(), ErrorKind::NotImplemented);
    assert!(!error.to_string().contains("sig="), "{error}");
}
