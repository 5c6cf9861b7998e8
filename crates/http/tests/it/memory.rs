//! The connection of a stalled client releases the read buffer that a fast body has grown, and the
//! request continues.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use landfall_test_services::until;
use tokio::io::AsyncWriteExt;

use crate::harness::{Server, get, pattern, pause};

/// Enough for a buffer to grow well past its first size.
const BURST: usize = 400_000;

fn burst() -> Vec<u8> {
    vec![b'x'; BURST]
}

#[tokio::test]
async fn a_sized_body_continues_after_its_buffer_is_released() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    let total = 3 * BURST;
    let head = format!("PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: {total}\r\n\r\n");
    client.send(head).await;
    for _ in 0..3 {
        pause().await;
        client.send(burst()).await;
    }
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.as_text()), (200, "1200000 complete"));
    // Requests before and after the handover are still separated.
    for _ in 0..2 {
        assert_eq!(client.ask(get("/")).await.text(), "hello");
    }
    server.until_requests(3).await;
    assert_eq!(server.stats.requests.load(Relaxed), 3);
    assert_eq!(server.stats.rejected.load(Relaxed), 0);
    server.stop().await;
}

/// A connection has no buffer while it waits for the next request, or for the rest of a head.
#[tokio::test]
async fn an_idle_connection_holds_no_buffer_and_serves_the_next_request() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    for _ in 1..=3 {
        client.send("GET / HT").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(
            client.ask("TP/1.1\r\nHost: a\r\n\r\n").await.text(),
            "hello"
        );
        pause().await;
    }
    assert_eq!(client.ask("nonsense\r\n\r\n").await.status, 400);

    let mut idle = server.connect().await;
    assert_eq!(idle.ask(get("/")).await.text(), "hello");
    pause().await;
    let (kept, _silent) = (server.connect().await, server.connect().await);
    drop(kept);
    server.stop().await;
    assert!(idle.answer().await.is_none());
}

/// Many clients that send half of a large head.
#[tokio::test]
async fn unfinished_heads_share_a_bounded_memory() {
    let server = Server::start(|limits| {
        limits.head_memory = 150_000;
        limits.max_head = 64 * 1024;
    });
    let counted = async |bytes: std::ops::RangeInclusive<u64>| {
        until(async || bytes.contains(&server.stats.head_bytes.load(Relaxed))).await;
    };
    let half = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(60_000));
    let mut first = server.connect().await;
    first.send(&half).await;
    counted(60_000..=66_000).await;
    // Twice: a reused connection is counted again.
    let mut second = server.connect().await;
    assert_eq!(second.ask(get("/")).await.text(), "hello");
    second.send(&half).await;
    counted(120_000..=132_000).await;

    let mut third = server.connect().await;
    let answer = third.ask(&half).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(answer.text().contains("large request headers"));
    // Its memory is free at once, not when the client has gone.
    counted(120_000..=132_000).await;
    let mut small = server.connect().await;
    small.send("GET / HTTP/1.1\r\nHost: a\r\nX: y").await;
    assert_eq!(small.ask("\r\n\r\n").await.text(), "hello");

    assert_eq!(first.ask("\r\n\r\n").await.text(), "hello");
    counted(60_000..=66_000).await;
    drop(second);
    counted(0..=0).await;
    let mut fourth = server.connect().await;
    fourth.send(&half).await;
    counted(60_000..=66_000).await;
    // A rejected head is not kept while the connection lingers.
    let answer = fourth.ask("x".repeat(10_000)).await;
    assert_eq!(answer.status, 431);
    counted(0..=0).await;
    server.stop().await;
}

/// Stalls at every position of the framing.
#[tokio::test]
async fn a_chunked_body_continues_after_its_buffer_is_released_at_any_position() {
    let server = Server::start(|_| {});
    let whole = [
        format!("{BURST:x};ext=\"a\"\r\n").as_bytes(),
        &burst(),
        b"\r\n00005;b\r\nhello\r\n00\r\nX-Sum: 1\r\n\r\n",
    ]
    .concat();
    let tail = whole.len() - (BURST + 17 + 1);
    assert!(tail > 0);
    // After the burst: before its CR, before its LF, within and after every following byte.
    let data_end = whole.len() - b"\r\n00005;b\r\nhello\r\n00\r\nX-Sum: 1\r\n\r\n".len();
    for place in data_end - 1..whole.len() {
        let mut client = server.connect().await;
        client
            .send("PUT /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        client.send(&whole[..place]).await;
        pause().await;
        client.send(&whole[place..]).await;
        let answer = client.answer().await.unwrap();
        assert_eq!(
            answer.text(),
            "400005 complete {\"x-sum\": \"1\"}",
            "stalled at {place}"
        );
        assert_eq!(client.ask(get("/")).await.text(), "hello");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_connection_closes_as_requested_by_the_original_head() {
    let server = Server::start(|_| {});
    for (version, header, closes) in [
        ("1.1", "", false),
        ("1.1", "Connection: TE, close\r\n", true),
        ("1.0", "", true),
        ("1.0", "Connection: keep-alive\r\n", false),
    ] {
        let mut client = server.connect().await;
        let head = format!(
            "PUT /sink HTTP/{version}\r\nHost: a\r\n{header}Content-Length: {}\r\n\r\n",
            BURST + 1
        );
        client.send(head).await;
        client.send(burst()).await;
        pause().await;
        client.send("x").await;
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.text(), "400001 complete");
        assert!(answer.head.starts_with(&format!("HTTP/{version} 200")));
        if closes {
            assert!(client.closed().await);
        } else {
            assert_eq!(client.ask(get("/")).await.text(), "hello");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_gets_100_continue_once() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    let length = BURST + 1;
    client
        .send(format!(
            "PUT /sink HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        ))
        .await;
    assert_eq!(client.answer().await.unwrap().status, 100);
    client.send(burst()).await;
    pause().await;
    client.send("x").await;
    assert_eq!(client.answer().await.unwrap().text(), "400001 complete");
    server.stop().await;
}

#[tokio::test]
async fn a_body_ends_normally_after_the_release() {
    let server = Server::start(|limits| {
        limits.body_timeout = Duration::from_millis(600);
    });
    // Silence, the end of the connection, and broken chunks.
    for (head, last, expected) in [
        ("Content-Length: 500000", None, "400000 Timeout"),
        ("Content-Length: 500000", Some(""), "400000 UnexpectedEnd"),
        ("Transfer-Encoding: chunked", Some("zz"), "400000 Malformed"),
    ] {
        let mut client = server.connect().await;
        client
            .send(format!("PUT /sink HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n"))
            .await;
        if head.starts_with('T') {
            client.send(format!("{BURST:x}\r\n")).await;
        }
        client.send(burst()).await;
        pause().await;
        match last {
            Some("") => client.stream.shutdown().await.unwrap(),
            Some(bytes) => client.send(bytes).await,
            None => {}
        }
        assert_eq!(client.answer().await.unwrap().text(), expected);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_shutdown_aborts_a_stalled_body_after_its_buffer_is_released() {
    let server = Server::with_grace(Duration::from_millis(50), |_| {});
    let mut client = server.connect().await;
    client
        .send("PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n")
        .await;
    client.send(burst()).await;
    pause().await;
    server.shutdown.start();
    let answer = client.answer().await.unwrap();
    assert_eq!(
        (answer.status, answer.as_text()),
        (503, "400000 ShuttingDown")
    );
    server.stop().await;
}

/// As many fast clients as may have larger buffers get them while they send a long body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_bodies_are_read_with_larger_buffers() {
    const LENGTH: usize = 32 * 1024 * 1024;
    let body = pattern(LENGTH);
    let head = format!("PUT /pattern HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n");
    for large_reads in [0, 1] {
        let server = Server::start(|limits| limits.large_reads = large_reads);
        // One after the other, each on a connection that stays open.
        let mut clients = Vec::new();
        for _ in 0..2 {
            let mut client = server.connect().await;
            client.send(&head).await;
            client.send(&body).await;
            let answer = client.answer().await.unwrap();
            let (received, largest) = answer.as_text().split_once(' ').unwrap();
            assert_eq!(received, LENGTH.to_string());
            let largest: usize = largest.parse().unwrap();
            assert!(largest <= 1024 * 1024, "{largest}");
            assert_eq!(largest > 256 * 1024, large_reads == 1, "{largest}");
            clients.push(client);
        }
        for client in &mut clients {
            assert_eq!(client.ask(get("/")).await.text(), "hello");
        }
        server.stop().await;
    }
}
