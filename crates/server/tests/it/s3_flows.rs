//! tus over S3, from the client's side and from the bucket's.

use crate::{
    s3_harness::{Bucket, id_of},
    serve_harness::{KIB, Request, assert_same, base64, content},
};

#[test]
fn plain_ids_and_key_templates_work() {
    let bucket = Bucket::on_garage();
    let server = bucket.server(&[
        "-s3-upload-ids=plain",
        "-s3-object-prefix=in",
        "-s3-key={meta:team}/{id}-{filename}",
        "-s3-headers=Cache-Control: no-store, Content-Type: text/x-own",
    ]);
    let mut client = server.client();
    let metadata = format!("filename {},team {}", base64(b"a.txt"), base64(b"video"));
    let request = Request::post()
        .with("Upload-Length", 5)
        .with("Upload-Metadata", metadata)
        .with("Content-Type", "application/offset+octet-stream")
        .body(b"hello");
    let path = client.ask(request).created();
    let id = id_of(&path);
    assert!(!id.contains('+'), "{id}");
    let key = format!("in/video/{id}-a.txt");
    assert_eq!(
        bucket.object(&key).as_deref(),
        Some(&b"hello"[..]),
        "{:?}",
        bucket.keys()
    );
    assert_eq!(
        bucket.head(&key).content_type.as_deref(),
        Some("text/x-own")
    );
    client.holds(&path, b"hello");
    assert_eq!(client.ask(Request::new("DELETE", &path)).status, 204);
    assert_eq!(bucket.keys().len(), 0);
    server.stop();
}

#[test]
fn downloads_can_be_redirected_to_s3() {
    for bucket in Bucket::on_each() {
        let server = bucket.server(&["-s3-download=redirect"]);
        let mut client = server.client();
        let bytes = content(5, 100 * KIB);
        let path = client.upload(&bytes);
        let answer = client.ask(Request::get(&path));
        assert!(matches!(answer.status, 302 | 307), "{answer:?}");
        let url = answer.header("Location").unwrap();
        let rest = url.strip_prefix(&bucket.access.endpoint).unwrap();
        assert!(rest.contains("X-Amz-Expires=900"), "{url}");
        let authority = bucket.access.authority();
        let mut service = crate::serve_harness::Client::connect(authority.parse().unwrap());
        service.send(format!("GET {rest} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
        let object = service.answer();
        assert_eq!(object.status, 200);
        assert_same(&object.body, &bytes);
        server.stop();
    }
}
