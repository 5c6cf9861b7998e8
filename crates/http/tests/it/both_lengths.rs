//! Requests with `Content-Length` and chunks: chunks decide, and the connection ends with the response.

use crate::harness::{Server, get, pause};

const HEADS: [&str; 2] = [
    "POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
];

#[tokio::test]
async fn chunks_decide_and_the_connection_closes() {
    let server = Server::start(|limits| limits.both_lengths = true);
    for head in HEADS {
        let mut client = server.connect().await;
        assert_eq!(client.ask(get("/")).await.header("connection"), None);
        // A proxy that trusts the length would take the rest for the next request.
        let smuggled = "GET /bytes/1 HTTP/1.1\r\nHost: a\r\n\r\n";
        let answer = client
            .ask(format!("{head}5\r\nhello\r\n0\r\n\r\n{smuggled}"))
            .await;
        assert_eq!(
            (answer.status, answer.as_text()),
            (200, "5 complete"),
            "{head}"
        );
        assert_eq!(answer.header("connection"), Some("close"), "{head}");
        assert!(client.closed().await, "{head}");
    }
    assert_eq!(
        server
            .stats
            .rejected
            .load(std::sync::atomic::Ordering::Relaxed),
        0
    );
    server.stop().await;
}

/// The connection gives its buffer back in the middle of such a body.
#[tokio::test]
async fn a_slow_body_with_both_lengths_ends_the_connection_too() {
    let server = Server::start(|limits| {
        limits.both_lengths = true;
    });
    let mut client = server.connect().await;
    client.send(format!("{}5\r\nhe", HEADS[0])).await;
    pause().await;
    let answer = client.ask("llo\r\n0\r\n\r\n").await;
    assert_eq!((answer.status, answer.as_text()), (200, "5 complete"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.closed().await);
    server.stop().await;
}

#[tokio::test]
async fn http_1_0_has_no_chunks() {
    let server = Server::start(|limits| limits.both_lengths = true);
    let mut client = server.connect().await;
    let answer = client.ask(HEADS[0].replace("1.1", "1.0")).await;
    assert_eq!(answer.status, 400);
    server.stop().await;
}
