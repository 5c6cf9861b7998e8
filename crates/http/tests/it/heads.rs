//! Heads that must not reach the service: each gets a 4xx with a reason, and the connection ends.

use crate::harness::{Server, get};

const HOST: &str = "Host: test\r\n";

/// Sends a head whole, and again byte by byte in pieces, behind a good request on the same
/// connection; expects `status` with a sentence containing `reason`.
async fn refused(head: impl AsRef<[u8]>, status: u16, reason: &str) {
    let head = head.as_ref();
    let server = Server::start(|limits| limits.max_head = 8192);
    let shown = String::from_utf8_lossy(head).into_owned();
    for pieces in [1, 7, head.len().min(300)] {
        let mut client = server.connect().await;
        assert_eq!(client.ask(get("/")).await.status, 200);
        for piece in head.chunks(head.len().div_ceil(pieces)) {
            client.send(piece).await;
            tokio::task::yield_now().await;
        }
        let answer = client
            .answer()
            .await
            .unwrap_or_else(|| panic!("no answer to {shown:?}"));
        assert_eq!(answer.status, status, "{shown:?} in {pieces}: {answer:?}");
        assert!(
            answer.text().contains(reason),
            "{shown:?} in {pieces}: {:?}",
            answer.text()
        );
        assert_eq!(answer.header("connection"), Some("close"), "{shown:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(client.closed().await, "{shown:?}");
    }
    server.stop().await;
}

macro_rules! refuses {
    ($($name:ident: $head:expr => $status:literal $reason:literal;)*) => {
        $(#[tokio::test]
        async fn $name() {
            refused($head, $status, $reason).await;
        })*
    };
}

refuses! {
    length_and_chunked:
        format!("POST /sink HTTP/1.1\r\n{HOST}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n")
        => 400 "both Transfer-Encoding and Content-Length";
    chunked_and_length:
        format!("POST /sink HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n")
        => 400 "both Transfer-Encoding and Content-Length";
    two_lengths_that_differ:
        format!("POST /sink HTTP/1.1\r\n{HOST}Content-Length: 4\r\nContent-Length: 5\r\n\r\n")
        => 400 "more than one Content-Length";
    two_lengths_that_agree:
        format!("POST /sink HTTP/1.1\r\n{HOST}Content-Length: 4\r\ncontent-length: 4\r\n\r\n")
        => 400 "more than one Content-Length";
    a_list_of_lengths:
        format!("POST /sink HTTP/1.1\r\n{HOST}Content-Length: 4, 4\r\n\r\n")
        => 400 "not a decimal number";
    a_signed_length:
        format!("POST /sink HTTP/1.1\r\n{HOST}Content-Length: +4\r\n\r\n")
        => 400 "not a decimal number";
    a_hexadecimal_length:
        format!("POST /sink HTTP/1.1\r\n{HOST}Content-Length: 0x4\r\n\r\n")
        => 400 "not a decimal number";
    an_empty_length:
        format!("POST /sink HTTP/1.1\r\n{HOST}Content-Length:\r\n\r\n")
        => 400 "not a decimal number";
    a_length_past_64_bits:
        format!("POST /sink HTTP/1.1\r\n{HOST}Content-Length: 18446744073709551616\r\n\r\n")
        => 400 "too large";
    another_transfer_encoding:
        format!("POST /sink HTTP/1.1\r\n{HOST}Transfer-Encoding: gzip, chunked\r\n\r\n")
        => 400 "a single \"chunked\"";
    identity_transfer_encoding:
        format!("POST /sink HTTP/1.1\r\n{HOST}Transfer-Encoding: identity\r\n\r\n")
        => 400 "a single \"chunked\"";
    transfer_encoding_with_a_parameter:
        format!("POST /sink HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked;q=1\r\n\r\n")
        => 400 "a single \"chunked\"";
    transfer_encoding_with_a_vertical_tab:
        format!("POST /sink HTTP/1.1\r\n{HOST}Transfer-Encoding: \x0bchunked\r\n\r\n")
        => 400 "control character";
    two_transfer_encodings:
        format!("POST /sink HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n")
        => 400 "a single \"chunked\"";
    chunked_in_http_1_0:
        format!("POST /sink HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n")
        => 400 "HTTP/1.0 has no Transfer-Encoding";
    a_tls_handshake:
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        => 400 "write http:// instead of https://";
    a_folded_header:
        format!("GET / HTTP/1.1\r\n{HOST}X-A: b\r\n c\r\n\r\n")
        => 400 "folded";
    a_folded_first_header:
        "GET / HTTP/1.1\r\n Host: test\r\n\r\n"
        => 400 "folded";
    a_bare_cr_in_a_value:
        format!("GET / HTTP/1.1\r\n{HOST}X-A: b\rc\r\n\r\n")
        => 400 "control character";
    a_bare_lf_after_a_header:
        format!("GET / HTTP/1.1\r\n{HOST}X-A: b\n\r\n")
        => 400 "LF instead of CR LF";
    a_bare_lf_after_the_request_line:
        format!("GET / HTTP/1.1\n{HOST}\r\n")
        => 400 "LF instead of CR LF";
    a_head_ended_by_bare_lf:
        "GET / HTTP/1.1\r\nHost: test\n\n"
        => 400 "LF instead of CR LF";
    a_nul_in_a_value:
        format!("GET / HTTP/1.1\r\n{HOST}X-A: b\0c\r\n\r\n")
        => 400 "control character";
    a_nul_in_a_name:
        format!("GET / HTTP/1.1\r\n{HOST}X\0A: b\r\n\r\n")
        => 400 "not a token";
    a_nul_in_the_target:
        format!("GET /\0 HTTP/1.1\r\n{HOST}\r\n")
        => 400 "METHOD TARGET HTTP/1.1";
    a_space_before_the_colon:
        format!("POST /sink HTTP/1.1\r\n{HOST}Content-Length : 4\r\n\r\n")
        => 400 "white space between";
    a_tab_before_the_colon:
        format!("POST /sink HTTP/1.1\r\n{HOST}Transfer-Encoding\t: chunked\r\n\r\n")
        => 400 "white space between";
    a_header_without_a_colon:
        format!("GET / HTTP/1.1\r\n{HOST}nonsense\r\n\r\n")
        => 400 "no colon";
    a_header_without_a_name:
        format!("GET / HTTP/1.1\r\n{HOST}: b\r\n\r\n")
        => 400 "not a token";
    no_host:
        "GET / HTTP/1.1\r\n\r\n"
        => 400 "no Host";
    two_hosts:
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"
        => 400 "more than one Host";
    a_host_with_a_path:
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"
        => 400 "not a host name";
    a_host_with_credentials:
        "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n"
        => 400 "not a host name";
    a_target_on_another_host:
        "GET http://evil/ HTTP/1.1\r\nHost: good\r\n\r\n"
        => 400 "differ";
    a_target_with_another_scheme:
        "GET ftp://test/ HTTP/1.1\r\nHost: test\r\n\r\n"
        => 400 "neither a path nor an http URL";
    a_target_that_is_an_authority:
        "GET test:80 HTTP/1.1\r\nHost: test:80\r\n\r\n"
        => 400 "neither a path nor an http URL";
    a_tunnel:
        "CONNECT test:80 HTTP/1.1\r\nHost: test:80\r\n\r\n"
        => 501 "no proxy";
    a_request_line_of_two_words:
        "GET /\r\nHost: test\r\n\r\n"
        => 400 "METHOD TARGET HTTP/1.1";
    a_request_line_with_two_spaces:
        "GET  / HTTP/1.1\r\nHost: test\r\n\r\n"
        => 400 "METHOD TARGET HTTP/1.1";
    a_method_that_is_no_token:
        "GE(T / HTTP/1.1\r\nHost: test\r\n\r\n"
        => 400 "not a token";
    another_version:
        "GET / HTTP/3.0\r\nHost: test\r\n\r\n"
        => 505 "use HTTP/1.1";
    an_http_2_preface_where_it_is_off:
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        => 505 "use HTTP/1.1";
    another_expectation:
        format!("POST /sink HTTP/1.1\r\n{HOST}Content-Length: 2\r\nExpect: 200-ok\r\n\r\n")
        => 417 "100-continue";
    a_head_that_is_too_long:
        format!("GET / HTTP/1.1\r\n{HOST}X-A: {}\r\n\r\n", "a".repeat(9000))
        => 431 "larger";
    a_head_without_an_end:
        format!("GET / HTTP/1.1\r\n{HOST}X-A: {}", "a".repeat(20_000))
        => 431 "larger";
    too_many_headers:
        format!("GET / HTTP/1.1\r\n{HOST}{}\r\n", "a: b\r\n".repeat(100))
        => 431 "more than 100";
}

#[tokio::test]
async fn unusual_valid_heads_are_accepted() {
    let server = Server::start(|_| {});
    for head in [
        "\r\n\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET http://Test:80/ HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET https://test?x HTTP/1.1\r\nHost: test\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]:8080\r\nX-Empty:\r\nX-Tab:\t a\tb \r\n\r\n",
        "POST / HTTP/1.1\r\nhOST: test\r\ncontent-LENGTH:  2 \r\n\r\nab",
        "POST /sink HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "GET / HTTP/1.0\r\nExpect: anything\r\nConnection: keep-alive\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        assert_eq!(client.ask(head).await.status, 200, "{head:?}");
        assert_eq!(client.ask(get("/")).await.status, 200, "after {head:?}");
    }
    server.stop().await;
}

/// Classic request smuggling: a body that contains a second request, which one of two parsers would see.
#[tokio::test]
async fn nothing_is_smuggled_in_a_body() {
    let server = Server::start(|_| {});
    let inner = get("/bytes/7");
    let mut client = server.connect().await;
    client
        .send(format!(
            "POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{inner}{}",
            inner.len(),
            get("/")
        ))
        .await;
    let first = client.answer().await.unwrap();
    assert_eq!(first.text(), format!("{} complete", inner.len()));
    assert_eq!(client.answer().await.unwrap().text(), "hello");
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn ambiguous_targets_are_rejected_with_a_reason() {
    let server = Server::start(|_| {});
    for (target, reason) in [
        ("/metrics#x", "fragment"),
        ("/a?b#", "fragment"),
        ("http://a/b#c", "fragment"),
        ("/a\"b<c>", "not a valid URI"),
        ("/\u{7f}", "request line"),
    ] {
        let mut client = server.connect().await;
        let answer = client
            .ask(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        assert_eq!(answer.status, 400, "{target}");
        assert!(
            answer.text().contains(reason),
            "{target}: {}",
            answer.text()
        );
    }
    let mut client = server.connect().await;
    client
        .send(b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let answer = client.answer().await.unwrap();
    assert_eq!(
        (answer.status, answer.as_text()),
        (400, "the request target is not a valid URI\n")
    );
    server.stop().await;
}

/// The next request must not be taken for a part of the trailers.
#[tokio::test]
async fn trailers_with_a_bare_line_feed_end_the_body() {
    let server = Server::start(|_| {});
    for trailers in [
        "X: 1\nY: 2\r\n\r\n",
        "X: 1\n\r\n",
        "X: 1\r\n\n",
        "\n",
        "X: 1\n",
    ] {
        for split in [false, true] {
            let mut client = server.connect().await;
            client
                .send("PUT /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await;
            client.send("5\r\nhello\r\n0\r\n").await;
            if split {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            client.send(format!("{trailers}{}", get("/"))).await;
            let answer = client.answer().await.unwrap();
            assert_eq!(
                (answer.status, answer.as_text()),
                (400, "5 Malformed"),
                "{trailers:?}"
            );
            assert!(client.closed().await);
        }
    }
    server.stop().await;
}
