//! The connection of a client that sends little has no buffer between its pieces, and the request continues.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::harness::{Client, Server, get, pattern, pause};

fn head(path: &str, length: usize) -> String {
    format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
}

/// A generator of Lehmer's kind.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0xda94_2042_e4dd_58b5) | 1;
        (self.0 >> 33) % limit
    }
}

#[tokio::test]
async fn single_bytes_bursts_and_the_next_request_are_separated() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    let body = pattern(400_100);
    client.send(head("/pattern", body.len())).await;
    let (bytes, rest) = body.split_at(50);
    for byte in bytes {
        client.send([*byte]).await;
        sleep(Duration::from_millis(5)).await;
    }
    let (burst, bytes) = rest.split_at(400_000);
    client.send(burst).await;
    for byte in &bytes[..49] {
        client.send([*byte]).await;
        sleep(Duration::from_millis(5)).await;
    }
    client
        .send([&bytes[49..], get("/").as_bytes()].concat())
        .await;
    let text = client.answer().await.unwrap();
    assert!(text.text().starts_with("400100 "), "{}", text.text());
    assert_eq!(client.answer().await.unwrap().text(), "hello");
    server.stop().await;
}

/// Pieces and pauses of random length, sized and chunked, on reused connections.
#[tokio::test]
async fn bodies_in_random_pieces_arrive_unchanged() {
    let server = Server::start(|_| {});
    let mut clients = Vec::new();
    for seed in 1..=24 {
        let client = server.connect().await;
        clients.push(tokio::spawn(random_bodies(
            client,
            Random(seed * 0x9e37_79b9),
        )));
    }
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(server.stats.rejected.load(Relaxed), 0);
    server.stop().await;
}

async fn random_bodies(mut client: Client<TcpStream>, mut random: Random) {
    for round in 0..6 {
        let is_chunked = round % 3 == 2;
        let body = pattern(1 + random.below(60_000) as usize);
        if is_chunked {
            let head = "PUT /pattern HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            client.send(head).await;
        } else {
            client.send(head("/pattern", body.len())).await;
        }
        let mut rest = &body[..];
        while !rest.is_empty() {
            let limit = [3, 200, 4_097, 9_000, 30_000][random.below(5) as usize];
            let (piece, left) = rest.split_at(rest.len().min(1 + random.below(limit) as usize));
            if is_chunked {
                client.send(format!("{:x}\r\n", piece.len())).await;
            }
            client.send(piece).await;
            if is_chunked {
                client.send("\r\n").await;
            }
            rest = left;
            let pause = [0, 0, 10, 40, 100][random.below(5) as usize];
            sleep(Duration::from_millis(pause)).await;
        }
        if is_chunked {
            client.send("0\r\n\r\n").await;
        }
        let answer = client.answer().await.unwrap();
        let expected = format!("{} ", body.len());
        assert!(answer.text().starts_with(&expected), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_response_before_the_end_of_a_slow_body_is_sent() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    client.send(head("/until/10", 50)).await;
    client.send("12345").await;
    pause().await;
    client.send("678901").await;
    assert_eq!(client.answer().await.unwrap().text(), "enough");
    // The small rest is discarded.
    client.send([b'x'; 39]).await;
    assert_eq!(client.ask(get("/")).await.text(), "hello");
    pause().await;

    client.send(head("/until/10", 1 << 20)).await;
    client.send("12345").await;
    pause().await;
    client.send("678901").await;
    let answer = client.answer().await.unwrap();
    assert_eq!(answer.text(), "enough");
    assert_eq!(answer.header("connection"), Some("close"));
    server.stop().await;
}

/// The service answers while its client is silent.
#[tokio::test]
async fn a_response_wakes_a_slow_body() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    client.send(head("/impatient/300", 1 << 20)).await;
    client.send("12345").await;
    pause().await;
    assert_eq!(client.answer().await.unwrap().text(), "5 late");
    server.stop().await;
}

#[tokio::test]
async fn a_slow_body_ends_with_its_client() {
    let server = Server::start(|limits| {
        limits.body_timeout = Duration::from_millis(600);
    });
    for (length, is_shut_down, expected) in [
        (100, true, "5 UnexpectedEnd"),
        (6, true, "5 UnexpectedEnd"),
        (100, false, "5 Timeout"),
    ] {
        let mut client = server.connect().await;
        client.send(head("/sink", length)).await;
        client.send("123").await;
        pause().await;
        client.send("45").await;
        if is_shut_down {
            client.stream.shutdown().await.unwrap();
        }
        assert_eq!(client.answer().await.unwrap().text(), expected);
    }
    // Its response has nowhere to go, but the connection ends.
    let mut client = server.connect().await;
    client.send(head("/sink", 100)).await;
    client.send("123").await;
    pause().await;
    client.stream.set_zero_linger().unwrap();
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_shutdown_lets_a_slow_body_end() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    client.send(head("/sink", 10)).await;
    client.send("12345").await;
    pause().await;
    let stopped = tokio::spawn(server.stop());
    sleep(Duration::from_millis(100)).await;
    client.send("67890").await;
    let answer = client.answer().await.unwrap();
    assert_eq!(answer.text(), "10 complete");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.closed().await);
    stopped.await.unwrap();
}
