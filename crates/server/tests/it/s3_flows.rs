//! tus over S3, from the client's side and from the bucket's.

use crate::{
    s3_harness::{Bucket, id_of, object_of},
    serve_harness::{KIB, MIB, Request, assert_same, base64, content},
};

#[test]
fn an_upload_in_pieces_becomes_an_object() {
    for bucket in Bucket::on_each() {
        let server = bucket.server(&[]);
        let whole = content(1, 20 * MIB + 123);
        let mut client = server.client();
        let metadata = format!(
            "filename {},filetype {}",
            base64(b"a.png"),
            base64(b"image/png")
        );
        let request = Request::post()
            .with("Upload-Length", whole.len())
            .with("Upload-Metadata", metadata);
        let path = client.ask(request).created();
        let mut offset = 0;
        // Less than a part, more than one, a byte, the rest.
        for end in [3 * MIB, 15 * MIB + 1, 15 * MIB + 2, whole.len() as u64] {
            let answer = client.patch(&path, offset, &whole[offset as usize..end as usize]);
            assert_eq!((answer.status, answer.offset()), (204, end), "{answer:?}");
            assert_eq!(server.client().offset(&path), end);
            offset = end;
        }
        client.holds(&path, &whole);
        let some = client.ask(Request::get(&path).with("Range", "bytes=5000000-5000099"));
        assert_eq!(some.status, 206);
        assert_same(&some.body, &whole[5_000_000..5_000_100]);

        let id = id_of(&path);
        let object = object_of(&id);
        assert_ne!(object, id, "ids are as tusd has them");
        assert_same(&bucket.object(object).unwrap(), &whole);
        let head = bucket.head(object);
        assert_eq!(head.content_type.as_deref(), Some("image/png"));
        assert_eq!(head.metadata["filename"], "a.png");
        let keys: Vec<String> = bucket.keys().into_keys().collect();
        assert_eq!(keys, [object.to_owned(), format!("{object}.info")]);
        assert_eq!(bucket.multiparts(), Vec::<String>::new());

        let gone = client.ask(Request::new("DELETE", &path));
        assert_eq!(gone.status, 204);
        assert_eq!(bucket.keys().len(), 0);
        assert_eq!(client.head(&path).status, 404);
        server.stop();
    }
}

#[test]
fn an_unfinished_upload_leaves_nothing_when_it_is_terminated() {
    for bucket in Bucket::on_each() {
        let server = bucket.server(&[]);
        let bytes = content(2, 9 * MIB);
        let mut client = server.client();
        let path = client.create(20 * MIB);
        assert_eq!(client.patch(&path, 0, &bytes).status, 204);
        assert_eq!(bucket.multiparts().len(), 1);
        assert_eq!(client.ask(Request::new("DELETE", &path)).status, 204);
        assert_eq!(bucket.keys().len(), 0, "{:?}", bucket.keys());
        assert_eq!(bucket.multiparts(), Vec::<String>::new());
        server.stop();
    }
}

#[test]
fn uploads_of_every_kind_complete() {
    for bucket in Bucket::on_each() {
        let server = bucket.server(&["-s3-object-prefix", "in"]);
        let mut client = server.client();

        let empty = client.upload(b"");
        client.holds(&empty, b"");
        let small = client.upload(b"hello");
        client.holds(&small, b"hello");

        // Its length is declared last.
        let request = Request::post().with("Upload-Defer-Length", 1);
        let deferred = client.ask(request).created();
        let bytes = content(3, 6 * MIB);
        assert_eq!(client.patch(&deferred, 0, &bytes[..6_000_000]).status, 204);
        let rest = Request::patch(&deferred, 6_000_000)
            .with("Upload-Length", bytes.len())
            .body(&bytes[6_000_000..]);
        assert_eq!(client.ask(rest).status, 204);
        client.holds(&deferred, &bytes);

        for path in [empty, small, deferred] {
            let key = format!("in/{}", object_of(&id_of(&path)));
            assert!(bucket.object(&key).is_some(), "{key}: {:?}", bucket.keys());
        }
        assert_eq!(bucket.multiparts(), Vec::<String>::new());
        server.stop();
    }
}

#[test]
fn partial_uploads_of_any_length_are_concatenated() {
    for bucket in Bucket::on_each() {
        let server = bucket.server(&[]);
        let mut client = server.client();
        let whole = content(4, 13 * MIB);
        let parts: Vec<String> = [0..7 * MIB, 7 * MIB..7 * MIB + 5, 7 * MIB + 5..13 * MIB]
            .into_iter()
            .map(|range| {
                let bytes = &whole[range.start as usize..range.end as usize];
                let request = Request::post()
                    .with("Upload-Concat", "partial")
                    .with("Upload-Length", bytes.len());
                let path = client.ask(request).created();
                assert_eq!(client.patch(&path, 0, bytes).status, 204);
                path
            })
            .collect();
        let request = Request::post()
            .with("Upload-Concat", format!("final;{}", parts.join(" ")))
            .with(
                "Upload-Metadata",
                format!("filetype {}", base64(b"text/plain")),
            );
        let path = client.ask(request).created();
        client.holds(&path, &whole);
        let head = bucket.head(object_of(&id_of(&path)));
        assert_eq!(head.size, whole.len() as u64);
        assert_eq!(head.content_type.as_deref(), Some("text/plain"));
        assert_eq!(bucket.multiparts(), Vec::<String>::new());
        server.stop();
    }
}

#[test]
fn plain_ids_and_key_templates_work() {
    let bucket = Bucket::on_garage();
    let server = bucket.server(&[
        "-s3-upload-ids=plain",
        "-s3-object-prefix=in",
        "-s3-key={meta:team}/{id}-{filename}",
        "-s3-cache-control=no-store",
        "-s3-content-type=text/x-own",
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
