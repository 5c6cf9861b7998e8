//! Request smuggling: rejected by the whole program, without side effects.

use std::io::Read;

use crate::serve_harness::{Landfall, Request};

/// A request that would remove an upload if it were executed.
fn smuggled(path: &str) -> String {
    format!("DELETE {path} HTTP/1.1\r\nHost: a\r\nTus-Resumable: 1.0.0\r\n\r\n")
}

#[test]
fn smuggled_requests_are_not_executed() {
    let server = Landfall::start(&["-behind-proxy"]);
    let victim = server.client().upload(b"precious");
    let target = server.client().create(1000);
    let inner = smuggled(&victim);
    let length = inner.len();
    let lines = "Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n\
                 Content-Type: application/offset+octet-stream\r\n";
    let patch = |headers: &str, body: &str| {
        format!("PATCH {target} HTTP/1.1\r\nHost: a\r\n{lines}{headers}\r\n{body}")
    };
    let shapes = [
        (
            "a length and chunks",
            patch(
                &format!(
                    "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n",
                    length + 5
                ),
                &format!("0\r\n\r\n{inner}"),
            ),
        ),
        (
            "two lengths",
            patch(
                &format!("Content-Length: 0\r\nContent-Length: {length}\r\n"),
                &inner,
            ),
        ),
        (
            "a list of lengths",
            patch("Content-Length: 0, 5\r\n", &inner),
        ),
        ("a signed length", patch("Content-Length: +0\r\n", &inner)),
        (
            "an unknown coding",
            patch(
                "Transfer-Encoding: chunked, identity\r\n",
                &format!("0\r\n\r\n{inner}"),
            ),
        ),
        (
            "a coding in disguise",
            patch(
                "Transfer-Encoding: \x0bchunked\r\n",
                &format!("0\r\n\r\n{inner}"),
            ),
        ),
        (
            "a space before the colon",
            patch(
                &format!("Content-Length: {length}\r\nTransfer-Encoding : chunked\r\n"),
                &format!("0\r\n\r\n{inner}"),
            ),
        ),
        (
            "a folded line",
            patch(
                "X-A: b\r\n Transfer-Encoding: chunked\r\n",
                &format!("0\r\n\r\n{inner}"),
            ),
        ),
        (
            "a bare line feed",
            patch("X-A: b\nContent-Length: 0\r\n", &inner),
        ),
        (
            "two hosts",
            patch("Host: b\r\nContent-Length: 0\r\n", &inner),
        ),
        (
            "a chunk size with a sign",
            patch(
                "Transfer-Encoding: chunked\r\n",
                &format!("+0\r\n\r\n{inner}"),
            ),
        ),
        (
            "a chunk size past 64 bits",
            patch(
                "Transfer-Encoding: chunked\r\n",
                &format!("10000000000000000\r\n\r\n{inner}"),
            ),
        ),
        (
            "a chunk longer than it says",
            patch(
                "Transfer-Encoding: chunked\r\n",
                &format!("1\r\nxy\r\n0\r\n\r\n{inner}"),
            ),
        ),
        (
            "chunks in HTTP/1.0",
            format!(
                "PATCH {target} HTTP/1.0\r\nHost: a\r\n{lines}Transfer-Encoding: chunked\r\n\r\n\
                 0\r\n\r\n{inner}"
            ),
        ),
    ];
    for (name, bytes) in &shapes {
        let mut client = server.client();
        client.send(bytes);
        let answer = client.answer();
        assert!((400..=501).contains(&answer.status), "{name}: {answer:?}");
        assert_ne!(answer.status, 404, "{name}");
        assert_eq!(answer.header("Connection"), Some("close"), "{name}");
        // Nothing more is answered on this connection.
        let mut more = Vec::new();
        let _ = client.stream.read_to_end(&mut more);
        assert_eq!(String::from_utf8_lossy(&more), "", "{name}");
        server.client().holds(&victim, b"precious");
    }
    assert!(server.client().offset(&target) <= 1);
    assert!(server.metric("landfall_invalid_requests_total") >= 9.0);
}

#[test]
fn bytes_after_a_body_are_the_next_request() {
    // The control of the test above: rightly framed, the second request is done.
    let server = Landfall::start(&[]);
    let victim = server.client().upload(b"precious");
    let mut client = server.client();
    let target = client.create(1000);
    let inner = smuggled(&victim);
    client.send(format!(
        "PATCH {target} HTTP/1.1\r\nHost: a\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n\
         Content-Type: application/offset+octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
         5;ext=1\r\nhello\r\n0\r\n\r\n{inner}"
    ));
    assert_eq!(client.answer().offset(), 5);
    assert_eq!(client.answer().status, 204);
    assert_eq!(client.head(&victim).status, 404);
    client.holds(&target, b"hello");
}

#[test]
fn body_bytes_that_look_like_a_request_are_data() {
    let server = Landfall::start(&[]);
    let victim = server.client().upload(b"precious");
    let inner = smuggled(&victim);
    let path = server.client().upload(inner.as_bytes());
    let mut client = server.client();
    client.holds(&path, inner.as_bytes());
    client.holds(&victim, b"precious");
    // Refused before its body is read: the body isn't taken for the next request.
    let answer = client.patch(&path, 3, inner.as_bytes());
    assert!((400..500).contains(&answer.status), "{answer:?}");
    server.client().holds(&victim, b"precious");
}

#[test]
fn an_unknown_path_is_a_plain_404() {
    let server = Landfall::start(&[]);
    let mut client = server.client();
    for path in [
        "/filesystem",
        "/file",
        "/files/../metrics",
        "/.git/config",
        "//files/",
    ] {
        let answer = client.ask(Request::get(path));
        assert_eq!(answer.status, 404, "{path}");
    }
}
