//! Presigned URLs, used by a plain HTTP client.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use landfall_objects::Cloud as _;
use landfall_s3::client::{Client, ObjectHeaders};

use landfall_test_services::http1::send;

use super::{Bucket, on_each, where_verified};
use crate::support;

on_each!(objects_are_written_and_read, a_part_is_uploaded);
where_verified!(
    only_the_signed_request_is_accepted,
    presigned_part_accepts_only_its_number,
    expired_url_is_rejected,
);

const HOUR: Duration = Duration::from_secs(3_600);

async fn objects_are_written_and_read(bucket: Bucket) {
    let object_ref = bucket.object_ref("folder/a b+ü%");
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/x-test"));
    let url = bucket
        .client
        .presign(Method::PUT, &object_ref, &[], &headers, HOUR)
        .await
        .unwrap();
    let (status, _, body) = send(Method::PUT, &url, &headers, "hello").await;
    assert_eq!(status, 200, "{body:?}");
    let head = bucket.client.head_object(&object_ref).await.unwrap();
    assert_eq!(head.content_type.as_deref(), Some("text/x-test"));

    let disposition = "attachment; filename=\"a b&c.txt\"";
    let query = [("response-content-disposition", disposition)];
    let none = HeaderMap::new();
    let url = bucket
        .client
        .presign(Method::GET, &object_ref, &query, &none, HOUR)
        .await
        .unwrap();
    let (status, answered, body) = send(Method::GET, &url, &none, "").await;
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"hello"[..]));
    assert_eq!(answered["content-disposition"], disposition);
}

async fn a_part_is_uploaded(bucket: Bucket) {
    let object_ref = bucket.object_ref("by part");
    let id = bucket
        .client
        .create_multipart(&object_ref, &ObjectHeaders::default())
        .await
        .unwrap();
    let query = [("uploadId", id.as_str()), ("partNumber", "1")];
    let none = HeaderMap::new();
    let url = bucket
        .client
        .presign(Method::PUT, &object_ref, &query, &none, HOUR)
        .await
        .unwrap();
    let (status, answered, body) = send(Method::PUT, &url, &none, "part").await;
    assert_eq!(status, 200, "{body:?}");
    let etag = answered["etag"].to_str().unwrap().to_owned();
    bucket
        .client
        .complete_multipart(&object_ref, &id, &[(1, etag)], &ObjectHeaders::default())
        .await
        .unwrap();
    assert_eq!(
        bucket.client.head_object(&object_ref).await.unwrap().size,
        4
    );
}

async fn only_the_signed_request_is_accepted(bucket: Bucket) {
    let object_ref = bucket.object_ref("pinned");
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("image/png"));
    headers.insert("content-length", HeaderValue::from_static("5"));
    let url = bucket
        .client
        .presign(Method::PUT, &object_ref, &[], &headers, HOUR)
        .await
        .unwrap();
    // The connection enforces the length.
    headers.remove("content-length");
    let mut other = headers.clone();
    other.insert("content-type", HeaderValue::from_static("text/html"));
    let none = HeaderMap::new();
    let (start, signature) = url.rsplit_once("X-Amz-Signature=").unwrap();
    let forged = if signature.starts_with('0') { "1" } else { "0" };
    let forged = format!("{start}X-Amz-Signature={forged}{}", &signature[1..]);
    for (why, method, url, headers, body) in [
        ("no type", Method::PUT, url.clone(), &none, "hello"),
        ("another type", Method::PUT, url.clone(), &other, "hello"),
        ("too short", Method::PUT, url.clone(), &headers, "hell"),
        ("too long", Method::PUT, url.clone(), &headers, "hello!"),
        (
            "another method",
            Method::GET,
            url.clone(),
            &headers,
            "hello",
        ),
        ("deletion", Method::DELETE, url.clone(), &headers, "hello"),
        (
            "another key",
            Method::PUT,
            url.replace("pinned", "other"),
            &headers,
            "hello",
        ),
        ("another signature", Method::PUT, forged, &headers, "hello"),
        (
            "a longer life",
            Method::PUT,
            url.replace("X-Amz-Expires=3600", "X-Amz-Expires=7200"),
            &headers,
            "hello",
        ),
        (
            "an extra parameter",
            Method::PUT,
            url.replace("?", "?x-amz-acl=public-read&"),
            &headers,
            "hello",
        ),
    ] {
        let (status, _, answer) = send(method, &url, headers, body).await;
        // A request without a signed header is invalid.
        let fits = status == 403 || (why == "no type" && status == 400);
        assert!(fits, "{why}: {status} {answer:?}");
    }
    let listed = bucket.client.list_objects(&bucket.name, "", None, 10);
    assert_eq!(listed.await.unwrap().objects, []);
    let (status, _, body) = send(Method::PUT, &url, &headers, "hello").await;
    assert_eq!(status, 200, "{body:?}");
}

async fn presigned_part_accepts_only_its_number(bucket: Bucket) {
    let object_ref = bucket.object_ref("by part");
    let begin = async || {
        let headers = ObjectHeaders::default();
        let started = bucket.client.create_multipart(&object_ref, &headers).await;
        started.unwrap()
    };
    let (id, other) = (begin().await, begin().await);
    let query = [("uploadId", id.as_str()), ("partNumber", "1")];
    let mut headers = HeaderMap::new();
    headers.insert("content-length", HeaderValue::from_static("4"));
    let url = bucket
        .client
        .presign(Method::PUT, &object_ref, &query, &headers, HOUR)
        .await
        .unwrap();
    let none = HeaderMap::new();
    for (why, url, body) in [
        (
            "another number",
            url.replace("partNumber=1", "partNumber=2"),
            "part",
        ),
        ("another upload", url.replace(&id, &other), "part"),
        ("no part at all", url.replace("partNumber=1&", ""), "part"),
        ("another length", url.clone(), "parts"),
    ] {
        let (status, _, answer) = send(Method::PUT, &url, &none, body).await;
        assert_eq!(status, 403, "{why}: {answer:?}");
    }
    let (status, answered, body) = send(Method::PUT, &url, &none, "part").await;
    assert_eq!(status, 200, "{body:?}");
    // Only this part exists.
    let etag = answered["etag"].to_str().unwrap().to_owned();
    let parts = [(1, etag)];
    bucket
        .client
        .complete_multipart(&object_ref, &id, &parts, &ObjectHeaders::default())
        .await
        .unwrap();
    assert_eq!(
        bucket.client.head_object(&object_ref).await.unwrap().size,
        4
    );
}

async fn expired_url_is_rejected(bucket: Bucket) {
    let mut settings = support::settings(&bucket.access);
    settings.clock = || SystemTime::now() - HOUR;
    let early = Client::new(settings).unwrap();
    let object_ref = bucket.object_ref("late");
    let none = HeaderMap::new();
    for (expires, good) in [(HOUR / 2, false), (2 * HOUR, true)] {
        let url = early.presign(Method::PUT, &object_ref, &[], &none, expires);
        let (status, _, body) = send(Method::PUT, &url.await.unwrap(), &none, "hello").await;
        assert_eq!(status.is_success(), good, "{status}: {body:?}");
        assert!(good || status.is_client_error(), "{status}");
    }
}

#[tokio::test]
async fn session_token_is_part_of_url() {
    let bucket = Bucket::moto();
    let client = super::with_token(&bucket.access, "a token/+=");
    let object_ref = bucket.object_ref("by token");
    let none = HeaderMap::new();
    let url = client.presign(Method::PUT, &object_ref, &[], &none, HOUR);
    let url = url.await.unwrap();
    assert!(
        url.contains("&X-Amz-Security-Token=a%20token%2F%2B%3D&"),
        "{url}"
    );
    let (status, _, body) = send(Method::PUT, &url, &none, "hello").await;
    assert_eq!(status, 200, "{body:?}");
}
