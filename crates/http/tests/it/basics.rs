//! Requests, bodies, keep-alive.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::harness::{Server, get};

#[tokio::test]
async fn many_requests_on_one_connection() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    for _ in 0..3 {
        let answer = client.ask(get("/")).await;
        assert_eq!((answer.status, answer.as_text()), (200, "hello"));
        assert!(answer.header("date").is_some());
    }
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    let chunked = "POST /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5;x=y\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n";
    let sized = "POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    client
        .send([&get("/"), chunked, sized, &get("/bytes/3")].concat())
        .await;
    assert_eq!(client.answer().await.unwrap().text(), "hello");
    assert_eq!(
        client.answer().await.unwrap().text(),
        "5 complete {\"x-sum\": \"1\"}"
    );
    assert_eq!(client.answer().await.unwrap().text(), "4 complete");
    assert_eq!(client.answer().await.unwrap().text(), "xxx");
    server.stop().await;
}

#[tokio::test]
async fn the_service_gets_the_address_of_the_client() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    let expected = client.stream.local_addr().unwrap().to_string();
    assert_eq!(client.ask(get("/peer")).await.text(), expected);
    server.stop().await;
}

#[tokio::test]
async fn http_1_0_closes_without_keep_alive() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    assert_eq!(client.ask("GET / HTTP/1.0\r\n\r\n").await.status, 200);
    assert!(client.closed().await);

    let mut client = server.connect().await;
    let kept = client
        .ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .await;
    assert_eq!(kept.header("connection"), Some("keep-alive"));
    assert_eq!(client.ask("GET / HTTP/1.0\r\n\r\n").await.text(), "hello");
    assert!(client.closed().await);
    server.stop().await;
}

#[tokio::test]
async fn connection_close_is_honored() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    let answer = client
        .ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.closed().await);
    server.stop().await;
}

#[tokio::test]
async fn a_large_body_is_received_completely() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    let size = 20_000_000;
    client
        .send(format!(
            "PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
        ))
        .await;
    client.send(vec![7; size]).await;
    assert_eq!(
        client.answer().await.unwrap().text(),
        format!("{size} complete")
    );
    // The connection has released its grown buffer meanwhile, and still works.
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(client.ask(get("/")).await.text(), "hello");
    server.stop().await;
}

#[tokio::test]
async fn a_half_closed_client_gets_its_response() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    client.send(get("/late/200")).await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.answer().await.unwrap().text(), "late");
    assert!(client.closed().await);
    server.stop().await;
}

#[tokio::test]
async fn a_truncated_body_is_an_error() {
    let server = Server::start(|_| {});
    for framing in [
        "Content-Length: 10\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
    ] {
        let mut client = server.connect().await;
        client
            .send(format!("PUT /sink HTTP/1.1\r\nHost: a\r\n{framing}"))
            .await;
        client.stream.shutdown().await.unwrap();
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.as_text()), (400, "3 UnexpectedEnd"));
        assert!(client.closed().await);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_malformed_chunk_differs_from_a_lost_connection() {
    let server = Server::start(|_| {});
    for bad in [
        "xyz\r\n",
        "5\r\nhelloXX",
        "-1\r\n",
        "\r\n",
        "11111111111111111\r\n",
        "5\nhello",
    ] {
        let mut client = server.connect().await;
        client
            .send(format!(
                "PUT /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{bad}"
            ))
            .await;
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.status, 400, "{bad:?}");
        assert!(
            answer.text().ends_with(" Malformed"),
            "{bad:?} {}",
            answer.text()
        );
        assert!(client.closed().await);
    }
    server.stop().await;
}

#[tokio::test]
async fn continue_is_sent_when_the_body_is_read() {
    let server = Server::start(|_| {});
    let head = |path| {
        format!(
            "PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n"
        )
    };
    let mut client = server.connect().await;
    assert_eq!(client.ask(head("/sink")).await.status, 100);
    assert_eq!(client.ask("hello").await.text(), "5 complete");

    assert_eq!(client.ask(head("/refuse")).await.status, 413);
    server.stop().await;
}

#[tokio::test]
async fn a_small_unread_body_keeps_the_connection() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    let answer = client
        .ask("PUT /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    assert_eq!((answer.status, answer.header("connection")), (413, None));
    assert_eq!(client.ask(get("/")).await.text(), "hello");
    server.stop().await;
}

#[tokio::test]
async fn a_panic_ends_one_connection_only() {
    let server = Server::start(|_| {});
    let mut victim = server.connect().await;
    let mut other = server.connect().await;
    victim.send(get("/panic")).await;
    assert!(victim.closed().await);
    assert_eq!(other.ask(get("/")).await.text(), "hello");
    drop(other);
    server.stop().await;
}

#[tokio::test]
async fn requests_and_bytes_are_counted() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    let request = get("/");
    client.ask(&request).await;
    client.ask(&request).await;
    assert_eq!(server.stats.open.load(Relaxed), 1);
    server.until_requests(2).await;
    // The next tick counts the last response's bytes.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stats = server.stats.clone();
    assert_eq!(stats.accepted.load(Relaxed), 1);
    assert_eq!(stats.requests.load(Relaxed), 2);
    assert_eq!(stats.bytes_in.load(Relaxed), 2 * request.len() as u64);
    assert!(stats.bytes_out.load(Relaxed) > 2 * "hello".len() as u64);
    drop(client);
    server.stop().await;
    assert_eq!(stats.open.load(Relaxed), 0);
}

#[tokio::test]
async fn above_the_connection_limit_clients_wait() {
    let server = Server::start(|limits| limits.max_connections = 2);
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    first.ask(get("/")).await;
    second.ask(get("/")).await;
    let mut third = server.connect().await;
    third.send(get("/")).await;
    assert!(third.quiet(Duration::from_millis(300)).await);
    drop(first);
    assert_eq!(third.answer().await.unwrap().text(), "hello");
    assert!(server.stats.limit_reached.load(Relaxed) >= 1);
    drop((second, third));
    server.stop().await;
}
