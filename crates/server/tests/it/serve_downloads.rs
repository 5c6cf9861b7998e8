//! Downloads.

use crate::serve_harness::{Landfall, MIB, Request, assert_same, content};

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
