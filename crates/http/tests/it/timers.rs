//! Slow, silent and stuck clients.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;

use crate::harness::{Server, get};

const SHORT: Duration = Duration::from_millis(300);

/// A timer of 300 ms fires before this, ticks and a loaded machine included.
const LATE: Duration = Duration::from_secs(10);

/// For timeouts that must not fire: far longer than a test pauses, even on a busy machine.
const LONG: Duration = Duration::from_secs(2);

fn in_time(begin: Instant) {
    let took = begin.elapsed();
    assert!(
        took >= SHORT - Duration::from_millis(10) && took < LATE,
        "{took:?}"
    );
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let server = Server::start(|limits| limits.header_timeout = SHORT);
    let mut client = server.connect().await;
    let begin = Instant::now();
    assert!(client.closed().await);
    in_time(begin);
    assert_eq!(server.stats.header_timeouts.load(Relaxed), 1);
    server.stop().await;
}

/// Slowloris: a byte of the head now and then keeps nothing open.
#[tokio::test]
async fn a_trickling_head_times_out() {
    let server = Server::start(|limits| limits.header_timeout = SHORT);
    // On a new connection and on a reused one.
    for used in [false, true] {
        let mut client = server.connect().await;
        if used {
            assert_eq!(client.ask(get("/")).await.status, 200);
            tokio::time::sleep(SHORT * 2).await;
        }
        let begin = Instant::now();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n").await;
        while client.quiet(Duration::from_millis(50)).await {
            assert!(begin.elapsed() < LATE, "still open");
            client.send("X").await;
        }
        in_time(begin);
    }
    assert_eq!(server.stats.header_timeouts.load(Relaxed), 2);
    server.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = Server::start(|limits| limits.idle_timeout = SHORT);
    let mut client = server.connect().await;
    assert_eq!(client.ask(get("/")).await.status, 200);
    let begin = Instant::now();
    assert!(client.closed().await);
    in_time(begin);
    assert_eq!(server.stats.idle_timeouts.load(Relaxed), 1);
    server.stop().await;
}

#[tokio::test]
async fn requests_reset_the_idle_timeout() {
    let server = Server::start(|limits| limits.idle_timeout = LONG);
    let mut client = server.connect().await;
    for _ in 0..8 {
        assert_eq!(client.ask(get("/")).await.status, 200);
        tokio::time::sleep(LONG / 5).await;
    }
    drop(client);
    server.stop().await;
}

/// A half-open connection looks the same: the client has vanished.
#[tokio::test]
async fn a_stalled_body_ends_after_the_received_bytes() {
    let server = Server::start(|limits| limits.body_timeout = SHORT);
    // Nothing follows the response, also when little of the body is missing.
    for head in [
        "Content-Length: 10\r\n\r\nabc",
        "Content-Length: 10000000\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
    ] {
        let mut client = server.connect().await;
        let begin = Instant::now();
        client
            .send(format!("PUT /sink HTTP/1.1\r\nHost: a\r\n{head}"))
            .await;
        let answer = client.answer().await.unwrap();
        in_time(begin);
        assert_eq!((answer.status, answer.as_text()), (408, "3 Timeout"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.closed().await);
    }
    assert_eq!(server.stats.body_timeouts.load(Relaxed), 3);
    server.stop().await;
}

#[tokio::test]
async fn a_body_with_progress_does_not_time_out() {
    let server = Server::start(|limits| limits.body_timeout = LONG);
    let mut client = server.connect().await;
    client
        .send("PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
        .await;
    for _ in 0..10 {
        tokio::time::sleep(LONG / 5).await;
        client.send("x").await;
    }
    assert_eq!(client.answer().await.unwrap().text(), "10 complete");
    server.stop().await;
}

/// Time in which the server is busy does not count against the client.
#[tokio::test]
async fn a_slow_service_does_not_time_out_the_client() {
    let server = Server::start(|limits| {
        limits.body_timeout = SHORT;
        limits.header_timeout = SHORT;
        limits.idle_timeout = SHORT;
        limits.min_rate = 1_000_000;
        limits.rate_window = SHORT;
    });
    let mut client = server.connect().await;
    client
        .send("PUT /late/1200 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
        .await;
    assert_eq!(client.answer().await.unwrap().text(), "late");
    server.stop().await;
}

#[tokio::test]
async fn a_body_below_the_minimum_rate_ends() {
    let server = Server::start(|limits| {
        limits.header_timeout = Duration::from_millis(200);
        limits.min_rate = 100;
        limits.rate_window = SHORT;
    });
    let mut client = server.connect().await;
    client
        .send("PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        .await;
    let begin = Instant::now();
    while client.quiet(Duration::from_millis(100)).await {
        assert!(begin.elapsed() < LATE, "still open");
        client.send("x").await;
    }
    in_time(begin);
    assert!(client.answer().await.unwrap().text().ends_with("TooSlow"));
    assert_eq!(server.stats.too_slow.load(Relaxed), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_body_above_the_minimum_rate_continues() {
    let server = Server::start(|limits| {
        limits.header_timeout = LONG;
        limits.min_rate = 100;
        limits.rate_window = LONG;
    });
    let mut client = server.connect().await;
    client
        .send("PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n")
        .await;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.send([b'x'; 50]).await;
    }
    assert_eq!(client.answer().await.unwrap().text(), "3000 complete");
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_no_response_is_disconnected() {
    let server = Server::start(|limits| limits.write_timeout = SHORT);
    let mut client = server.connect().await;
    client.send(get("/bytes/100000000")).await;
    let begin = Instant::now();
    while server.stats.write_timeouts.load(Relaxed) == 0 {
        assert!(begin.elapsed() < LATE, "still sending");
        tokio::time::sleep(SHORT / 10).await;
    }
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(server.stats.write_timeouts.load(Relaxed), 1);
    let mut rest = Vec::new();
    let _ = client.stream.read_to_end(&mut rest).await;
    assert!(rest.len() < 100_000_000);
    server.stop().await;
}

/// Slowly is not the same as not at all.
#[tokio::test]
async fn a_slow_reader_gets_the_whole_response() {
    let server = Server::start(|limits| limits.write_timeout = LONG);
    let mut client = server.connect().await;
    let total = 12_000_000;
    client.send(get(&format!("/bytes/{total}"))).await;
    let (mut got, mut space) = (0, vec![0; 1_000_000]);
    while got < total {
        match client.stream.read(&mut space).await.unwrap() {
            0 => panic!("cut after {got}"),
            n => got += n,
        }
        tokio::time::sleep(SHORT / 6).await;
    }
    server.stop().await;
}

/// A timeout fires at most half a second late; the bound here allows for a busy machine.
#[tokio::test]
async fn a_long_timeout_fires_promptly() {
    let server = Server::start(|limits| {
        limits.body_timeout = Duration::from_secs(3);
        limits.header_timeout = Duration::from_secs(3);
        limits.linger_idle = Duration::from_secs(5);
    });
    let mut client = server.connect().await;
    client
        .send("PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        .await;
    let begin = Instant::now();
    assert_eq!(client.answer().await.unwrap().text(), "3 Timeout");
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(2990), "{took:?}");
    // With a tick of a quarter of the timer it would be 4.5 s at worst.
    assert!(took < Duration::from_millis(3900), "{took:?}");
    server.stop().await;
}
