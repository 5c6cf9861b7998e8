//! Content that nobody reads: how much a client may send of it, and what is left when the client has gone.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::Method;
use landfall_test_services::until;

use crate::harness::{Server, pause};
use crate::http2_frames::{
    ACK, CANCEL, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, Http2Server, PING,
    RST_STREAM, RawClient, SETTINGS, WINDOW_UPDATE, encode, field, head,
};
use crate::http3::Http3Server;

const WHOLE: u8 = END_STREAM | END_HEADERS;

/// Of a service that does not read; longer than any test.
const LATE: &str = "/late/30000";

/// What all clients together may send besides 64 KiB each.
const MEMORY: u64 = 4 << 20;

fn held(server: &Server) -> u64 {
    server.stats.held_bytes.load(Relaxed)
}

fn reserved(server: &Server) -> u64 {
    server.stats.unread_bytes.load(Relaxed)
}

/// Waits until the held bytes do not change.
async fn settled(server: &Server) -> u64 {
    loop {
        let before = held(server);
        pause().await;
        pause().await;
        if held(server) == before {
            return before;
        }
    }
}

/// What a client may send.
struct Windows {
    of_connection: usize,
    of_streams: usize,
}

impl Windows {
    fn receive(&mut self, frame: &Frame) {
        assert_ne!(frame.kind, GOAWAY);
        if frame.kind == SETTINGS && frame.flags & ACK == 0 {
            self.of_streams = frame.setting(4).unwrap() as usize;
        } else if frame.kind == WINDOW_UPDATE && frame.stream == 0 {
            self.of_connection += frame.number() as usize;
        }
    }
}

/// Sends on all streams as much as their windows, and that of the connection, allow. Nobody else sends.
async fn send_all_it_may(server: &Server, client: &mut RawClient, streams: u32) -> usize {
    let before = held(server) as usize;
    let mut windows = Windows {
        of_connection: 65_535,
        of_streams: 0,
    };
    while windows.of_streams == 0 {
        windows.receive(&client.frame().await.unwrap());
    }
    let mut left = Vec::new();
    for stream in 0..streams {
        let stream = 1 + 2 * stream;
        client.send(HEADERS, END_HEADERS, stream, &head(LATE)).await;
        left.push((stream, windows.of_streams));
    }
    let mut sent = 0;
    loop {
        let sent_before = sent;
        for (stream, left) in &mut left {
            while *left > 0 && windows.of_connection > 0 {
                let len = windows.of_connection.min(16_384).min(*left);
                client.send(DATA, 0, *stream, &vec![7; len]).await;
                *left -= len;
                windows.of_connection -= len;
                sent += len;
            }
        }
        if sent == sent_before {
            return sent;
        }
        until(async || held(server) as usize == before + sent).await;
        // The connection has told its window before it answers the second one.
        for _ in 0..2 {
            client.send(PING, 0, 0, &[0; 8]).await;
            loop {
                let frame = client.frame().await.unwrap();
                if frame.kind == PING {
                    break;
                }
                windows.receive(&frame);
            }
        }
    }
}

/// The content of 40 requests whose services do not read, and whose clients leave in three ways.
#[tokio::test]
async fn content_goes_with_its_client() {
    const CLIENTS: usize = 40;
    for leave in ["connection", "stream", "whole body"] {
        let http2 = Http2Server::start(false, |limits| limits.unread_memory = MEMORY);
        let server = &http2.server;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = http2.connect().await;
            client.send(HEADERS, END_HEADERS, 1, &head(LATE)).await;
            for n in 0..3 {
                let flags = if leave == "whole body" && n == 2 {
                    END_STREAM
                } else {
                    0
                };
                client.send(DATA, flags, 1, &[1; 16_384]).await;
            }
            clients.push(client);
        }
        let all = (CLIENTS * 3 * 16_384) as u64;
        until(async || held(server) == all).await;
        let begin = Instant::now();
        match leave {
            "stream" => {
                for client in &mut clients {
                    client.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()).await;
                }
            }
            _ => clients.clear(),
        }
        until(async || held(server) == 0).await;
        drop(clients);
        until(async || reserved(server) == 0).await;
        assert!(begin.elapsed() < Duration::from_secs(5));
        // The services still run.
        assert_eq!(server.stats.open.load(Relaxed), CLIENTS as u64);
        http2.server.shutdown.start();
    }
}

/// All clients share a memory, besides the window that every connection of HTTP/2 has, and each has some of it.
#[tokio::test]
async fn unread_content_of_all_clients_is_limited() {
    const CLIENTS: usize = 24;
    const BASE: usize = 65_535;
    let http2 = Http2Server::start(false, |limits| limits.unread_memory = MEMORY);
    let mut clients = Vec::new();
    let mut sent = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = http2.connect().await;
        sent.push(send_all_it_may(&http2.server, &mut client, 20).await);
        clients.push(client);
    }
    let total: usize = sent.iter().sum();
    // A quarter of the memory is for content that is not read.
    let most = CLIENTS * BASE + MEMORY as usize / 4;
    assert!(
        total <= most && reserved(&http2.server) <= MEMORY / 4,
        "{total} {sent:?}"
    );
    assert_eq!(settled(&http2.server).await, total as u64);
    assert!(sent.iter().all(|sent| *sent >= BASE), "{sent:?}");
    // The first one took half of what was free.
    assert!(
        sent[0] <= BASE + MEMORY as usize / 8 && sent[0] > 2 * BASE,
        "{sent:?}"
    );
    drop(clients);
    until(async || (held(&http2.server), reserved(&http2.server)) == (0, 0)).await;
    http2.still_serves().await;
    http2.server.shutdown.start();
}

/// Requests on other streams are served while some are not read.
#[tokio::test]
async fn an_unread_stream_does_not_stop_its_connection() {
    let http2 = Http2Server::start(false, |_| {});
    let mut client = http2.connect().await;
    let sent = send_all_it_may(&http2.server, &mut client, 10).await;
    assert_eq!(sent, 10 * 65_536);
    client.send(HEADERS, END_HEADERS, 101, &head("/sink")).await;
    for _ in 0..3 {
        client.send(DATA, 0, 101, &[1; 16_384]).await;
    }
    client.send(DATA, END_STREAM, 101, b"").await;
    assert_eq!(client.next(DATA).await.payload, b"49152 complete");
    drop(client);
    http2.server.shutdown.start();
}

/// A frame of 256 bytes keeps no buffer of 64 KiB, and many of one byte take little more than their bytes.
#[tokio::test]
async fn small_frames_are_held_in_their_own_memory() {
    let http2 = Http2Server::start(false, |_| {});
    let mut client = http2.connect().await;
    client
        .send(HEADERS, END_HEADERS, 1, &head("/impatient/300"))
        .await;
    for _ in 0..2_000 {
        client.send(DATA, 0, 1, b"x").await;
    }
    client
        .send(HEADERS, END_HEADERS, 3, &head("/late/100"))
        .await;
    for _ in 0..2_000 {
        client.send(DATA, 0, 3, b"x").await;
    }
    client.send(DATA, END_STREAM, 3, b"x").await;
    assert_eq!(client.next(DATA).await.payload, b"late");
    assert_eq!(client.next(DATA).await.payload, b"2000 late");
    drop(client);
    http2.server.stop().await;
}

/// Those of a stream are in no window.
#[tokio::test]
async fn unread_trailers_are_heads() {
    let http2 = Http2Server::start(false, |limits| limits.head_memory = 25_000);
    let server = &http2.server;
    let fields = |count| field(0, "x-field", &"x".repeat(200)).repeat(count);
    let mut clients = Vec::new();
    // 12 KiB each, and then too much.
    for (n, count) in [40, 40, 40, 70].into_iter().enumerate() {
        let mut client = http2.connect().await;
        client.send(HEADERS, END_HEADERS, 1, &head(LATE)).await;
        client.send(HEADERS, WHOLE, 1, &fields(count)).await;
        clients.push(client);
        server.until_requests(n as u64 + 1).await;
    }
    until(async || server.stats.head_bytes.load(Relaxed) > 24_000).await;
    pause().await;
    let counted = server.stats.head_bytes.load(Relaxed);
    assert!((24_000..50_000).contains(&counted), "{counted}");
    drop(clients);
    until(async || server.stats.head_bytes.load(Relaxed) == 0).await;
    http2.server.shutdown.start();

    let http2 = Http2Server::start(false, |_| {});
    let mut client = http2.connect().await;
    for (stream, count, expected) in [(1, 40, "200"), (3, 70, "0 Malformed")] {
        client
            .send(HEADERS, END_HEADERS, stream, &head("/sink"))
            .await;
        client.send(HEADERS, WHOLE, stream, &fields(count)).await;
        let text = client.next(DATA).await.payload;
        let text = String::from_utf8_lossy(&text);
        assert!(
            text.contains(expected) || count == 40 && text.starts_with("0 complete {"),
            "{text}"
        );
    }
    drop(client);
    http2.server.stop().await;
}

#[tokio::test]
async fn heads_of_http_2_share_the_memory_of_heads() {
    let http2 = Http2Server::start(false, |limits| limits.head_memory = 30_000);
    let mut client = http2.connect().await;
    let long = [head(LATE), field(0, "x-field", &"x".repeat(200)).repeat(45)].concat();
    for stream in [1, 3] {
        client.send(HEADERS, END_HEADERS, stream, &long).await;
    }
    http2.server.until_requests(2).await;
    let counted = http2.server.stats.head_bytes.load(Relaxed);
    assert!((18_000..30_000).contains(&counted), "{counted}");
    client.send(HEADERS, WHOLE, 5, &long).await;
    let text = client.next(DATA).await.payload;
    assert!(String::from_utf8_lossy(&text).contains("large request headers"));
    // Small ones are not counted.
    client.send(HEADERS, WHOLE, 7, &head("/")).await;
    assert_eq!(client.next(DATA).await.payload, b"hello");
    drop(client);
    http2.server.shutdown.start();
}

#[tokio::test]
async fn trailers_of_http_1_are_heads() {
    let server = Server::start(|limits| limits.head_memory = 40_000);
    let begin = |bytes: usize| {
        let head = "PUT /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ";
        format!("{head}{}", "x".repeat(bytes))
    };
    let mut clients = Vec::new();
    for n in 1..=2 {
        let mut client = server.connect().await;
        client.send(begin(10_000)).await;
        clients.push(client);
        server.until_requests(n).await;
    }
    until(async || server.stats.head_bytes.load(Relaxed) == 2 * 16_384).await;
    let mut third = server.connect().await;
    let answer = third.ask(begin(10_000)).await;
    assert_eq!(answer.as_text(), "0 Failed");
    // Small ones are not counted.
    let mut small = server.connect().await;
    assert!(
        small
            .ask(begin(2_000) + "\r\n\r\n")
            .await
            .text()
            .starts_with("0 complete {")
    );
    assert!(
        clients[0]
            .ask("\r\n\r\n")
            .await
            .text()
            .starts_with("0 complete {")
    );
    until(async || server.stats.head_bytes.load(Relaxed) == 16_384).await;
    drop(clients);
    until(async || server.stats.head_bytes.load(Relaxed) == 0).await;
    let mut long = server.connect().await;
    assert_eq!(long.ask(begin(17_000)).await.text(), "0 Malformed");
    server.stop().await;
}

/// Those that their user cancels at once, with a page.
#[tokio::test]
async fn as_many_cancelled_requests_as_streams_do_not_end_the_connection() {
    for path in ["/", LATE] {
        let http2 = Http2Server::start(false, |_| {});
        let mut client = http2.connect().await;
        client.send(HEADERS, END_HEADERS, 1, &head("/sink")).await;
        client.send(DATA, 0, 1, b"hel").await;
        let streams = (3..).step_by(2).take(127);
        let mut frames = Vec::new();
        for stream in streams.clone() {
            frames.extend(encode(HEADERS, END_HEADERS, stream, &head(path)));
        }
        for stream in streams {
            frames.extend(encode(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        }
        client.write(&frames).await.unwrap();
        client.send(DATA, END_STREAM, 1, b"lo").await;
        loop {
            let frame = client.frame().await.expect("the connection has ended");
            assert_ne!(frame.kind, GOAWAY);
            if frame.kind == DATA && frame.stream == 1 {
                break assert_eq!(frame.payload, b"5 complete");
            }
        }
        drop(client);
        http2.server.shutdown.start();
    }
}

/// Over HTTP/3.
#[tokio::test]
async fn content_of_http_3_is_limited_and_goes_with_its_client() {
    const CLIENTS: usize = 8;
    let http3 = Http3Server::start(|limits| limits.unread_memory = MEMORY);
    let server = &http3.server;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = http3.connect().await;
        let mut exchange = client.begin(Method::PUT, LATE, &[]).await;
        let sending = tokio::spawn(async move {
            while exchange.send_data(vec![1; 10_000].into()).await.is_ok() {}
        });
        clients.push((client, sending));
    }
    server.until_requests(CLIENTS as u64).await;
    until(async || held(server) >= 8 * 60_000).await;
    let most = settled(server).await;
    assert!(
        most <= MEMORY / 4 && reserved(server) <= MEMORY / 4,
        "{most}"
    );
    for (client, sending) in clients.drain(..) {
        client.quic.close(0_u32.into(), b"");
        sending.abort();
    }
    until(async || (held(server), reserved(server)) == (0, 0)).await;
    assert_eq!(server.stats.open.load(Relaxed), CLIENTS as u64);
    http3.server.shutdown.start();
}

/// Over HTTP/3: of one request, while its connection stays.
#[tokio::test]
async fn content_of_http_3_goes_with_its_stream() {
    let http3 = Http3Server::start(|_| {});
    let mut client = http3.connect().await;
    let mut exchange = client.begin(Method::PUT, LATE, &[]).await;
    exchange.send_data(vec![1; 30_000].into()).await.unwrap();
    until(async || held(&http3.server) == 30_000).await;
    exchange.stop_stream(h3::error::Code::H3_REQUEST_CANCELLED);
    until(async || held(&http3.server) == 0).await;
    assert_eq!(client.get("/").await.text(), "hello");
    drop((exchange, client));
    http3.server.shutdown.start();
}
