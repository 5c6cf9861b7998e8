//! Clients of HTTP/2 that try to exhaust the server, with single frames, with and without TLS.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use landfall_test_services::until;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::FLOODS;
use crate::http2_frames::{
    ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frame, GOAWAY,
    HEADERS, Http2Server, NO_ERROR, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, encode, field, head,
};

const WHOLE: u8 = END_STREAM | END_HEADERS;

/// CVE-2023-44487: each stream is reset as soon as it is open. A service that still runs counts.
#[tokio::test]
async fn rapid_resets_end_the_connection() {
    for with_tls in [false, true] {
        let http2 = Http2Server::start(with_tls, |limits| limits.max_streams = 4);
        let mut client = http2.connect().await;
        let mut frames = Vec::new();
        // Few: when the server closes with unread bytes, the kernel may drop its last frame.
        for stream in (1..80).step_by(2) {
            frames.extend(encode(HEADERS, WHOLE, stream, &head("/late/300")));
            frames.extend(encode(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        }
        client.write(&frames).await.unwrap();
        let (last, error) = client.next(GOAWAY).await.goaway();
        assert_eq!(error, ENHANCE_YOUR_CALM);
        assert!(last < 100, "{last}");
        // They are counted later.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let requests = http2.server.stats.requests.load(Relaxed);
        assert!(requests <= 4, "{requests}");
        http2.still_serves().await;
        http2.server.stop().await;
    }
}

/// They get a place when a service has ended.
#[tokio::test]
async fn reset_streams_count_while_the_service_runs() {
    let http2 = Http2Server::start(false, |limits| limits.max_streams = 2);
    let mut client = http2.connect().await;
    for stream in [1, 3] {
        client
            .send(HEADERS, WHOLE, stream, &head("/late/400"))
            .await;
    }
    http2.server.until_requests(2).await;
    for stream in [1, 3] {
        client
            .send(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
            .await;
    }
    let start = Instant::now();
    client.send(HEADERS, WHOLE, 5, &head("/")).await;
    assert_eq!(client.next(DATA).await.payload, b"hello");
    assert!(
        start.elapsed() > Duration::from_millis(200),
        "a third one ran"
    );
    drop(client);
    http2.server.stop().await;
}

#[tokio::test]
async fn a_head_without_end_ends_the_connection() {
    for with_tls in [false, true] {
        let http2 = Http2Server::start(with_tls, |limits| limits.max_head = 16 * 1024);
        // Fields, and empty frames.
        for payload in [
            field(0, "x-field", &"x".repeat(100)).repeat(100),
            Vec::new(),
        ] {
            let mut client = http2.connect().await;
            client.send(HEADERS, 0, 1, &head("/")).await;
            let frame = encode(CONTINUATION, 0, 1, &payload);
            let flood = async {
                let mut sent = 0;
                while client.write(&frame).await.is_ok() {
                    sent += frame.len();
                    assert!(sent < 64 << 20, "the head may be longer");
                }
            };
            // A closed socket may still take some.
            drop(timeout(Duration::from_secs(5), flood).await);
            let ended = async { while client.frame().await.is_some() {} };
            timeout(Duration::from_secs(5), ended)
                .await
                .expect("it is still open");
        }
        assert_eq!(http2.server.stats.requests.load(Relaxed), 0);
        http2.still_serves().await;
        http2.server.stop().await;
    }
}

/// Longer than `max_head`, but not without end: RFC 6585 section 5.
#[tokio::test]
async fn a_long_head_is_rejected() {
    let http2 = Http2Server::start(false, |limits| limits.max_head = 8 * 1024);
    let mut client = http2.connect().await;
    let long = [head("/"), field(0, "x-field", &"x".repeat(100)).repeat(100)].concat();
    client.send(HEADERS, WHOLE, 1, &long).await;
    // `:status` 431 is not in the static table: written out, with Huffman coding.
    let response = client.next(HEADERS).await;
    assert_eq!((response.stream, response.flags), (1, WHOLE));
    client.send(HEADERS, WHOLE, 3, &head("/")).await;
    assert_eq!(client.next(DATA).await.payload, b"hello");
    drop(client);
    http2.server.stop().await;
}

/// The answers to a client that does not read fill no memory: the server stops reading, and closes.
#[tokio::test]
async fn pings_and_settings_are_answered_while_the_client_reads() {
    let http2 = Http2Server::start(false, |limits| {
        limits.write_timeout = Duration::from_millis(300);
    });
    for frame in [encode(PING, 0, 0, &[0; 8]), encode(SETTINGS, 0, 0, &[])] {
        let before = http2.server.stats.write_timeouts.load(Relaxed);
        let mut client = http2.connect().await;
        let frames = frame.repeat(10_000);
        let flood = async {
            let mut sent = 0;
            while client.write(&frames).await.is_ok() {
                sent += frames.len();
                assert!(sent < 256 << 20, "it still reads");
            }
        };
        timeout(Duration::from_secs(15), flood)
            .await
            .expect("it is still open");
        assert_eq!(http2.server.stats.write_timeouts.load(Relaxed), before + 1);
    }
    http2.still_serves().await;
    http2.server.stop().await;
}

/// A client that reads nothing gets few of 2,000 interim responses of 8 kB, later.
#[tokio::test]
async fn interim_responses_wait_for_the_client() {
    let http2 = Http2Server::start(false, |limits| limits.write_timeout = Duration::ZERO);
    let mut client = http2.connect().await;
    let floods = FLOODS.load(Relaxed);
    client
        .send(HEADERS, END_HEADERS, 1, &head("/interim/flood"))
        .await;
    until(async || FLOODS.load(Relaxed) != floods).await;
    client.send(DATA, END_STREAM, 1, b"12345").await;
    let (mut interim, mut bytes) = (0, 0);
    loop {
        let frame = client.frame().await.unwrap();
        match frame.kind {
            DATA => break assert_eq!(frame.payload, b"5 true"),
            HEADERS => interim += 1,
            _ => {}
        }
        bytes += frame.payload.len();
    }
    assert!(
        interim > 1 && bytes < 12_000_000,
        "{interim}, {bytes} bytes"
    );
    drop(client);
    http2.server.stop().await;
}

/// A service that is slow to reject uploads does not stop the other requests of a connection.
#[tokio::test]
async fn a_long_rest_is_discarded_while_the_service_runs() {
    let http2 = Http2Server::start(false, |_| {});
    let mut client = http2.connect().await;
    for stream in [1, 3] {
        let long = [head("/late/5000"), field(0, "content-length", "9000000")].concat();
        client.send(HEADERS, END_HEADERS, stream, &long).await;
    }
    http2.server.until_requests(2).await;
    for stream in [1, 3] {
        for _ in 0..3 {
            client.send(DATA, 0, stream, &[1; 16_384]).await;
        }
        // The window of the connection does not end.
        while client.next(WINDOW_UPDATE).await.stream != 0 {}
    }
    client.send(HEADERS, END_HEADERS, 5, &head("/sink")).await;
    client.send(DATA, END_STREAM, 5, b"hello").await;
    let start = Instant::now();
    assert_eq!(client.next(DATA).await.payload, b"5 complete");
    assert!(start.elapsed() < Duration::from_secs(4));
    drop(client);
    http2.server.shutdown.start();
}

/// What a client may send, and has sent.
struct Windows {
    /// Of the connection and of stream 1.
    left: [i64; 2],
    /// Of new streams.
    initial: i64,
}

impl Windows {
    fn receive(&mut self, frame: &Frame) {
        if frame.kind == WINDOW_UPDATE {
            self.left[frame.stream as usize] += i64::from(frame.number());
        } else if frame.kind == SETTINGS
            && frame.flags & ACK == 0
            && let Some(initial) = frame.setting(4)
        {
            self.left[1] += i64::from(initial) - self.initial;
            self.initial = initial.into();
        }
    }
}

/// A path of 100 ms and 1 Gb/s needs 12 MiB.
#[tokio::test]
async fn a_long_fast_body_has_a_large_window() {
    let http2 = Http2Server::start(false, |limits| limits.large_reads = 1);
    let mut client = http2.connect().await;
    client.send(HEADERS, END_HEADERS, 1, &head("/sink")).await;
    let initial = 64 << 10;
    let mut windows = Windows {
        left: [65_535, initial],
        initial,
    };
    let mut sent = 0;
    while windows.initial != 16 << 20 || windows.left[0] < 12 << 20 {
        while windows.left.iter().all(|window| *window >= 16_384) {
            client.send(DATA, 0, 1, &[1; 16_384]).await;
            windows.left = windows.left.map(|window| window - 16_384);
            sent += 16_384;
        }
        windows.receive(&client.frame().await.unwrap());
        assert!(sent < 64 << 20, "{:?}", windows.left);
    }
    client.send(DATA, END_STREAM, 1, b"").await;
    // Then another body may have it.
    let text = loop {
        let frame = client.frame().await.unwrap();
        windows.receive(&frame);
        if frame.kind == DATA {
            break String::from_utf8(frame.payload).unwrap();
        }
    };
    assert_eq!(text, format!("{sent} complete"));
    while windows.initial != 1 << 20 {
        windows.receive(&client.frame().await.unwrap());
    }
    client.send(HEADERS, WHOLE, 3, &head("/")).await;
    assert_eq!(client.next(DATA).await.payload, b"hello");
    drop(client);
    http2.server.stop().await;
}

#[tokio::test]
async fn a_shutdown_says_goodbye_and_lets_requests_finish() {
    for with_tls in [false, true] {
        let http2 = Http2Server::start(with_tls, |_| {});
        let mut client = http2.connect().await;
        client.send(HEADERS, WHOLE, 1, &head("/late/400")).await;
        http2.server.until_requests(1).await;
        http2.server.shutdown.start();
        // A notice, and after a round trip the last stream (RFC 9113 section 6.8).
        assert_eq!(
            client.next(GOAWAY).await.goaway(),
            (i32::MAX as u32, NO_ERROR)
        );
        let ping = client.next(PING).await;
        // In transit while the server sent its notice.
        client.send(HEADERS, WHOLE, 3, &head("/")).await;
        client.send(PING, ACK, 0, &ping.payload).await;
        let (mut texts, mut last) = (Vec::new(), None);
        while let Some(frame) = client.frame().await {
            match frame.kind {
                DATA => texts.push(String::from_utf8(frame.payload).unwrap()),
                GOAWAY => last = Some(frame.goaway()),
                _ => {}
            }
        }
        assert_eq!(
            (texts.join(" "), last),
            ("hello late".into(), Some((3, NO_ERROR)))
        );
        http2.server.stop().await;
    }
}

/// Such as one that a browser opens in advance.
#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_silent_connection() {
    for with_tls in [false, true] {
        let http2 = Http2Server::start(with_tls, |_| {});
        let _without_preface = http2.connect_silently().await;
        // With TLS, without a handshake.
        let _silent = TcpStream::connect(http2.server.address).await.unwrap();
        http2.still_serves().await;
        let begin = Instant::now();
        http2.server.stop().await;
        assert!(
            begin.elapsed() < Duration::from_secs(4),
            "{with_tls}: {:?}",
            begin.elapsed()
        );
    }
}
