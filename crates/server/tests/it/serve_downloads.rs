//! Downloads.

use std::thread;

use crate::serve_harness::{Landfall, MIB, Request, assert_same, content};

/// An upload with this metadata.
fn upload(server: &Landfall, metadata: &str, bytes: &[u8]) -> String {
    let request = Request::post()
        .with("Upload-Length", bytes.len())
        .with("Upload-Metadata", metadata)
        .with("Content-Type", "application/offset+octet-stream")
        .body(bytes);
    server.client().ask(request).created()
}

#[test]
fn ranges_are_served_by_the_byte() {
    let server = Landfall::start(&[]);
    let bytes = content(1, 3 * MIB + 5);
    let mut client = server.client();
    let path = client.upload(&bytes);
    let size = bytes.len();
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, size),
        ("bytes=1000000-2999999", 1_000_000, 3_000_000),
        ("bytes=-7", size - 7, size),
        ("bytes=3145720-99999999999", 3_145_720, size),
        ("Bytes=5-9", 5, 10),
    ] {
        let answer = client.ask(Request::get(&path).with("Range", range));
        assert_eq!(answer.status, 206, "{range}");
        let wanted = format!("bytes {from}-{}/{size}", to - 1);
        assert_eq!(answer.header("Content-Range"), Some(&*wanted), "{range}");
        assert_same(&answer.body, &bytes[from..to]);
    }
    for range in ["bytes=5-2", "bytes=1-2,5-6", "lines=1-2", "bytes=a-b"] {
        let answer = client.ask(Request::get(&path).with("Range", range));
        assert_eq!(answer.status, 200, "{range}");
        assert_same(&answer.body, &bytes);
    }
    for range in [format!("bytes={size}-"), "bytes=-0".into()] {
        let answer = client.ask(Request::get(&path).with("Range", &range));
        assert_eq!(answer.status, 416, "{range}");
        let wanted = format!("bytes */{size}");
        assert_eq!(answer.header("Content-Range"), Some(&*wanted));
    }
    assert_eq!(
        client.ask(Request::get(&path)).header("Accept-Ranges"),
        Some("bytes")
    );
}

#[test]
fn cached_downloads_get_304() {
    let server = Landfall::start(&[]);
    let bytes = content(2, 1000);
    let mut client = server.client();
    let path = client.upload(&bytes);
    let first = client.ask(Request::get(&path));
    let etag = first.header("ETag").unwrap().to_owned();
    let date = first.header("Last-Modified").unwrap().to_owned();
    let head = client.head(&path);
    assert_eq!(head.header("ETag"), Some(&*etag));
    assert_eq!(head.header("Last-Modified"), Some(&*date));
    let mut status = |headers: &[(&str, &str)]| {
        let request = headers
            .iter()
            .fold(Request::get(&path), |request, (name, value)| {
                request.with(name, value)
            });
        let answer = client.ask(request);
        let wanted: &[u8] = match answer.status {
            200 => &bytes,
            206 => &bytes[..10],
            _ => b"",
        };
        assert_same(&answer.body, wanted);
        answer.status
    };
    let weak = format!("W/{etag}");
    let range = ("Range", "bytes=0-9");
    let old = "Sun, 06 Nov 1994 08:49:37 GMT";
    assert_eq!(status(&[("If-None-Match", &etag)]), 304);
    assert_eq!(status(&[("If-None-Match", &weak)]), 304);
    assert_eq!(status(&[("If-None-Match", "\"other\"")]), 200);
    assert_eq!(status(&[("If-None-Match", "*")]), 304);
    assert_eq!(status(&[("If-Modified-Since", &date)]), 304);
    assert_eq!(status(&[("If-Modified-Since", old)]), 200);
    assert_eq!(status(&[("If-Match", &etag)]), 200);
    assert_eq!(status(&[("If-Match", "\"other\"")]), 412);
    assert_eq!(status(&[("If-Unmodified-Since", old)]), 412);
    assert_eq!(status(&[range, ("If-Range", &etag)]), 206);
    assert_eq!(status(&[range, ("If-Range", &date)]), 206);
    assert_eq!(status(&[range, ("If-Range", "\"other\"")]), 200);
    assert_eq!(status(&[range, ("If-Range", &weak)]), 200);
    assert_eq!(status(&[range, ("If-Range", old)]), 200);
}

#[test]
fn uploaded_content_cannot_run_as_a_script() {
    let server = Landfall::start(&[]);
    // Name (such as a"b.html) in base64; type; expected headers.
    for (metadata, kind, disposition) in [
        (
            "filename YS5wbmc=,filetype aW1hZ2UvcG5n",
            "image/png",
            "inline;filename=\"a.png\"",
        ),
        (
            "filename YS5odG1s,filetype dGV4dC9odG1s",
            "application/octet-stream",
            "attachment;filename=\"a.html\"",
        ),
        (
            "filetype aW1hZ2Uvc3ZnK3htbA==",
            "application/octet-stream",
            "attachment",
        ),
        ("", "application/octet-stream", "attachment"),
        // text/plain;,text/html and text/javascript
        (
            "filetype dGV4dC9wbGFpbjssdGV4dC9odG1s",
            "application/octet-stream",
            "attachment",
        ),
        (
            "filetype dGV4dC9qYXZhc2NyaXB0",
            "application/octet-stream",
            "attachment",
        ),
        // "text/html\r\nX-Evil: 1"
        (
            "filetype dGV4dC9odG1sDQpYLUV2aWw6IDE=",
            "application/octet-stream",
            "attachment",
        ),
        // "a\"; filename=\"b.exe"
        (
            "filename YSI7IGZpbGVuYW1lPSJiLmV4ZQ==",
            "application/octet-stream",
            "attachment;filename=\"a\\\"; filename=\\\"b.exe\"",
        ),
        // "é\r\nX-Evil: 1"
        (
            "filename w6kNClgtRXZpbDogMQ==",
            "application/octet-stream",
            "attachment;filename=\"___X-Evil: 1\";filename*=UTF-8''%C3%A9%0D%0AX-Evil%3A%201",
        ),
    ] {
        let path = upload(&server, metadata, b"<script>alert(1)</script>");
        for method in ["GET", "HEAD"] {
            let answer = server.client().ask(Request::new(method, &path));
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("Content-Type"), Some(kind), "{metadata}");
            assert_eq!(answer.header("Content-Disposition"), Some(disposition));
            assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
            assert_eq!(answer.header("X-Evil"), None);
            let policy = answer.header("Content-Security-Policy").unwrap();
            assert!(policy.contains("sandbox"), "{policy}");
        }
    }
}

#[test]
fn concurrent_downloads_of_one_upload_work() {
    let server = Landfall::start(&[]);
    let bytes = content(3, 8 * MIB);
    let path = server.client().upload(&bytes);
    // A reader that stops in the middle does not delay others.
    let mut stuck = server.client();
    stuck.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    thread::scope(|scope| {
        for n in 0..12_usize {
            let (server, path, bytes) = (&server, &path, &bytes);
            scope.spawn(move || {
                let mut client = server.client();
                client.holds(path, bytes);
                let from = n * 500_000;
                let range = format!("bytes={from}-");
                let answer = client.ask(Request::get(path).with("Range", range));
                assert_eq!(answer.status, 206);
                assert_same(&answer.body, &bytes[from..]);
            });
        }
    });
    assert_same(&stuck.answer().body, &bytes);
}

#[test]
fn downloads_and_uploads_run_concurrently() {
    let server = Landfall::start(&["-durability", "none"]);
    let finished = content(4, 4 * MIB);
    let path = server.client().upload(&finished);
    let coming = content(5, 32 * MIB);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = server.client();
            let path = client.create(32 * MIB);
            client.resumes_to(&path, &coming);
        });
        let mut downloads = 0;
        let mut client = server.client();
        while !writer.is_finished() || downloads == 0 {
            client.holds(&path, &finished);
            downloads += 1;
        }
    });
}

#[test]
fn a_running_download_finishes_after_termination() {
    let server = Landfall::start(&[]);
    // More than the sockets' buffers take.
    let bytes = content(8, 32 * MIB);
    let path = server.client().upload(&bytes);
    let mut reader = server.client();
    reader.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    // It has begun when the first byte is here.
    assert_eq!(reader.stream.peek(&mut [0]).unwrap(), 1);
    let mut client = server.client();
    assert_eq!(client.ask(Request::new("DELETE", &path)).status, 204);
    assert_eq!(client.ask(Request::get(&path)).status, 404);
    let answer = reader.answer();
    assert_eq!(answer.status, 200);
    assert_same(&answer.body, &bytes);
}

#[test]
fn an_unfinished_upload_is_served_as_far_as_it_is_stored() {
    let server = Landfall::start(&[]);
    let bytes = content(6, 1000);
    let mut client = server.client();
    let path = client.create(1000);
    let empty = client.ask(Request::get(&path));
    assert_eq!((empty.status, empty.body.len()), (200, 0));
    assert_eq!(client.patch(&path, 0, &bytes[..400]).status, 204);
    let part = client.ask(Request::get(&path));
    assert_eq!(part.status, 200);
    assert_same(&part.body, &bytes[..400]);
    let etag = part.header("ETag").unwrap().to_owned();
    client.resumes_to(&path, &bytes);
    // A cached part does not substitute the whole.
    let answer = client.ask(Request::get(&path).with("If-None-Match", etag));
    assert_eq!(answer.status, 200);
    assert_same(&answer.body, &bytes);
}

#[test]
fn downloads_can_be_disabled() {
    let server = Landfall::start(&["-disable-download"]);
    let mut client = server.client();
    let path = client.upload(b"hello");
    let answer = client.ask(Request::get(&path));
    assert_eq!(
        (answer.status, &*answer.text()),
        (405, "method not allowed")
    );
    assert!(answer.header("Allow").is_some());
    // Everything else works, and HEAD has no download headers.
    let head = client.head(&path);
    assert_eq!((head.status, head.offset()), (200, 5));
    assert_eq!(head.header("ETag"), None);
    let bytes = content(7, 1000);
    let path = client.create(1000);
    assert_eq!(client.patch(&path, 0, &bytes).status, 204);
}

#[test]
fn termination_and_concatenation_can_be_disabled() {
    let server = Landfall::start(&["-disable-termination", "-disable-concatenation"]);
    let mut client = server.client();
    let options = client.ask(Request::new("OPTIONS", "/files/"));
    let extensions = options.header("Tus-Extension").unwrap();
    assert!(!extensions.contains("termination"), "{extensions}");
    assert!(!extensions.contains("concatenation"), "{extensions}");
    let path = client.upload(b"hello");
    let answer = client.ask(Request::new("DELETE", &path));
    assert_eq!(
        (answer.status, &*answer.text()),
        (405, "method not allowed")
    );
    let request = Request::post()
        .with("Upload-Concat", "partial")
        .with("Upload-Length", 5);
    client
        .ask(request)
        .refuses(400, "ERR_CONCATENATION_UNSUPPORTED");
    client.holds(&path, b"hello");
}
