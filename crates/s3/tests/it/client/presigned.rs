//! URLs that carry their signature, used by a program that knows nothing of S3.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use landfall_s3::client::ObjectHeaders;

use super::{Bucket, on_both, plain::send};

on_both!(objects_are_written_and_read, a_part_is_uploaded);

const HOUR: Duration = Duration::from_secs(3_600);

async fn objects_are_written_and_read(bucket: Bucket) {
    let place = bucket.place("folder/a b+ü%");
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/x-test"));
    let url = bucket
        .client
        .presign(Method::PUT, &place, &[], &headers, HOUR)
        .await
        .unwrap();
    let (status, _, body) = send(Method::PUT, &url, &headers, "hello").await;
    assert_eq!(status, 200, "{body:?}");
    let head = bucket.client.head_object(&place).await.unwrap();
    assert_eq!(head.content_type.as_deref(), Some("text/x-test"));

    let disposition = "attachment; filename=\"a b&c.txt\"";
    let query = [("response-content-disposition", disposition)];
    let none = HeaderMap::new();
    let url = bucket
        .client
        .presign(Method::GET, &place, &query, &none, HOUR)
        .await
        .unwrap();
    let (status, answered, body) = send(Method::GET, &url, &none, "").await;
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"hello"[..]));
    assert_eq!(answered["content-disposition"], disposition);
}

async fn a_part_is_uploaded(bucket: Bucket) {
    let place = bucket.place("by part");
    let id = bucket
        .client
        .create_multipart(&place, &ObjectHeaders::default())
        .await
        .unwrap();
    let query = [("uploadId", id.as_str()), ("partNumber", "1")];
    let none = HeaderMap::new();
    let url = bucket
        .client
        .presign(Method::PUT, &place, &query, &none, HOUR)
        .await
        .unwrap();
    let (status, answered, body) = send(Method::PUT, &url, &none, "part").await;
    assert_eq!(status, 200, "{body:?}");
    let etag = answered["etag"].to_str().unwrap().to_owned();
    bucket
        .client
        .complete_multipart(&place, &id, &[(1, etag)])
        .await
        .unwrap();
    assert_eq!(bucket.client.head_object(&place).await.unwrap().size, 4);
}

/// Only Garage checks signatures.
#[tokio::test]
async fn what_was_signed_must_be_sent() {
    let bucket = Bucket::garage();
    let place = bucket.place("pinned");
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("image/png"));
    headers.insert("content-length", HeaderValue::from_static("5"));
    let url = bucket
        .client
        .presign(Method::PUT, &place, &[], &headers, HOUR)
        .await
        .unwrap();
    let none = HeaderMap::new();
    for (method, headers, body) in [
        (Method::PUT, &none, "hello"),
        (Method::PUT, &headers, "hell"),
        (Method::GET, &headers, "hello"),
    ] {
        // A length that isn't that of the body would not be sent.
        let mut headers = headers.clone();
        headers.remove("content-length");
        let (status, _, _) = send(method, &url, &headers, body).await;
        assert!(status.is_client_error(), "{status}");
    }
    let changed = url.replace("pinned", "another");
    let (status, _, _) = send(Method::PUT, &changed, &headers, "hello").await;
    assert_eq!(status, 403);
    let (status, _, body) = send(Method::PUT, &url, &headers, "hello").await;
    assert_eq!(status, 200, "{body:?}");
}
