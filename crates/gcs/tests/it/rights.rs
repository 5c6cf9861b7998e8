use std::{io::Read as _, net::TcpStream};

use http::{HeaderMap, Method};
use landfall_objects::{Condition, ErrorKind, ObjectHeaders};
use serde_json::json;

use super::*;

#[tokio::test]
async fn missing_rights_and_buckets_have_sentences() {
    let service = Service::start();
    let client = service.client();
    let put = async |object: &ObjectRef| {
        let headers = ObjectHeaders::default();
        let put = client.put_object(object, payload("x"), &headers, Condition::None, None);
        put.await.unwrap_err()
    };
    let error = put(&ObjectRef::new("missing", "p/id")).await;
    assert_eq!(*error.kind(), ErrorKind::NoSuchBucket);
    assert!(
        error.to_string().contains("create the bucket \"missing\""),
        "{error}"
    );
    service.fake.deny(&["storage.objects.create"]);
    let error = put(&object("p/id")).await;
    assert_eq!(*error.kind(), ErrorKind::AccessDenied);
    let wanted =
        "grant the role Storage Object User (roles/storage.objectUser) on the bucket \"bucket\"";
    assert!(error.to_string().contains(wanted), "{error}");
}

#[tokio::test]
async fn bucket_is_inspected() {
    let service = Service::start();
    let client = service.client();
    let report = client.inspect_bucket(BUCKET).await.unwrap();
    assert!(report.missing_permissions.is_empty());
    assert_eq!(report.settings.unwrap().retention_seconds, 0);
    service.fake.set_bucket_field(
        BUCKET,
        "softDeletePolicy",
        json!({"retentionDurationSeconds": "604800"}),
    );
    service.fake.deny(&["storage.objects.delete"]);
    let report = client.inspect_bucket(BUCKET).await.unwrap();
    assert_eq!(report.missing_permissions, ["storage.objects.delete"]);
    assert_eq!(report.settings.unwrap().soft_delete_seconds, 604_800);
    service.fake.deny(&["storage.buckets.get"]);
    let report = client.inspect_bucket(BUCKET).await.unwrap();
    assert_eq!(report.settings, None);
    let error = client.inspect_bucket("missing").await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NoSuchBucket);
}

/// Sends a request to a presigned URL.
fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let rest = url.strip_prefix("http://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    let mut request = format!(
        "{method} /{path} HTTP/1.0\r\nhost: {authority}\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut stream = TcpStream::connect(authority).unwrap();
    stream
        .write_all(format!("{request}\r\n{body}").as_bytes())
        .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

#[tokio::test]
async fn presigned_urls_read_and_write() {
    let service = Service::start();
    let client = service.client();
    let id = object("p/a b/é");
    let lifetime = Duration::from_secs(60);
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "text/plain".parse().unwrap());
    headers.insert("x-goog-if-generation-match", "0".parse().unwrap());
    let url = client
        .presign(Method::PUT, &id, &[], &headers, lifetime)
        .await
        .unwrap();
    let sent = [
        ("content-type", "text/plain"),
        ("x-goog-if-generation-match", "0"),
    ];
    let (status, body) = send("PUT", &url, &sent, "hello");
    assert_eq!(status, 200, "{body}");
    let (status, _) = send("PUT", &url, &sent, "again");
    assert_eq!(status, 412);
    let url = client.presign_download(&id, "text/html", "attachment; filename=\"a&b\"", lifetime);
    let (status, body) = send("GET", &url.await.unwrap(), &[], "");
    assert_eq!((status, &*body), (200, "hello"));
    let signed = service.fake.signed_requests();
    let keys: Vec<_> = signed.iter().map(|one| (&*one.name, one.expires)).collect();
    assert_eq!(keys, [("p/a b/é", 60), ("p/a b/é", 60), ("p/a b/é", 60)]);
    for lifetime in [Duration::ZERO, Duration::from_secs(604_801)] {
        let refused = client
            .presign(Method::GET, &id, &[], &HeaderMap::new(), lifetime)
            .await;
        assert_eq!(*refused.unwrap_err().kind(), ErrorKind::Other);
    }
}
