//! Answers given before the request has been read reach the client.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::harness::Server;

const MIB: usize = 1 << 20;

/// The client sends all of its 50 MB before it looks for an answer. Without the lingering close the
/// kernel would answer its data with a reset, and the 413 would be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_response_reaches_a_sending_client() {
    let server = Server::start(|_| {});
    for _ in 0..5 {
        let mut client = server.connect().await;
        let total = 50_000_000;
        client
            .send(format!(
                "PUT /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: {total}\r\n\r\n"
            ))
            .await;
        let block = vec![0; MIB];
        let mut sent = 0;
        while sent < total {
            let n = block.len().min(total - sent);
            client.send(&block[..n]).await;
            sent += n;
        }
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.as_text()), (413, "too much"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.closed().await);
    }
    server.stop().await;
}

/// The same for a head that the service never sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejection_reaches_a_sending_client() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    client
        .send("PUT /sink HTTP/1.1\r\nContent-Length: 4000000\r\n\r\n")
        .await;
    client.send(vec![0; 4_000_000]).await;
    let answer = client.answer().await.unwrap();
    assert_eq!(
        (answer.status, answer.as_text()),
        (400, "the request has no Host header\n")
    );
    assert!(client.closed().await);
    server.stop().await;
}

#[tokio::test]
async fn lingering_ends_when_the_client_falls_silent() {
    let server = Server::start(|limits| limits.linger_idle = Duration::from_millis(1500));
    let mut client = server.connect().await;
    client
        .send("PUT /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.unwrap().status, 413);
    // The sending side of the server is closed at once; its socket is gone a little later.
    assert!(client.closed().await);
    client.send(b"still taken").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.send(b"still taken").await;
    tokio::time::sleep(Duration::from_millis(3500)).await;
    // The first write makes the reset come, the second meets it.
    let mut outcome = Ok(());
    for _ in 0..2 {
        outcome = client.stream.write_all(b"too late").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(outcome.is_err());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lingering_ends_after_its_time_and_after_its_bytes() {
    for by_time in [true, false] {
        let server = Server::start(|limits| {
            if by_time {
                limits.linger_total = Duration::from_millis(400);
            } else {
                limits.linger_bytes = 3 * MIB as u64;
            }
        });
        let mut client = server.connect().await;
        client
            .send("PUT /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n")
            .await;
        assert_eq!(client.answer().await.unwrap().status, 413);
        let begin = Instant::now();
        // One keeps the time limit from being met by silence, the other fills the byte limit.
        let (block, pause) = if by_time { (100, 10) } else { (100_000, 0) };
        while client.stream.write_all(&vec![0; block]).await.is_ok() {
            assert!(
                begin.elapsed() < Duration::from_secs(4),
                "the server never stops reading"
            );
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        server.stop().await;
    }
}
