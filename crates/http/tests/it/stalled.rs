//! Clients that take nothing of their responses, or next to nothing.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::Method;
use landfall_test_services::until;
use tokio::io::AsyncReadExt as _;
use tokio::time::{sleep, timeout};

use crate::harness::{KEPT, MOST_KEPT, Server, TIMEOUT, get};
use crate::http2_frames::{
    END_HEADERS, END_STREAM, HEADERS, Http2Server, RST_STREAM, RawClient, SETTINGS, WINDOW_UPDATE,
    head,
};
use crate::http3::Http3Server;

const WHOLE: u8 = END_STREAM | END_HEADERS;

/// Of `SETTINGS`: the window of new streams.
fn initial_window(bytes: u32) -> Vec<u8> {
    [&4_u16.to_be_bytes()[..], &bytes.to_be_bytes()].concat()
}

async fn set_windows(client: &mut RawClient, of_streams: u32) {
    client
        .send(SETTINGS, 0, 0, &initial_window(of_streams))
        .await;
    let of_connection = (1_u32 << 30).to_be_bytes();
    client.send(WINDOW_UPDATE, 0, 0, &of_connection).await;
}

async fn all_are_released() {
    until(async || KEPT.load(Relaxed) == 0).await;
}

/// Returns how many bytes are kept when nothing more is.
async fn kept() -> usize {
    MOST_KEPT.store(KEPT.load(Relaxed), Relaxed);
    loop {
        let before = MOST_KEPT.load(Relaxed);
        sleep(Duration::from_millis(300)).await;
        if before == MOST_KEPT.load(Relaxed) {
            return before;
        }
    }
}

/// One test, since the counter is that of the process.
#[tokio::test]
async fn a_stalled_response_keeps_at_most_64_kib() {
    const LIMIT: usize = 64 * 1024;
    const FRAME: usize = 32 * 1024;
    let path = "/counted/100000000";

    let server = Server::start(|_| {});
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = server.connect().await;
        client.send(get(path)).await;
        clients.push(client);
    }
    server.until_requests(20).await;
    let most = kept().await;
    assert!((1..=20 * LIMIT).contains(&most), "HTTP/1.1: {most}");
    drop(clients);
    server.stop().await;
    all_are_released().await;

    for with_tls in [false, true] {
        // Windows at zero, and open ones while the socket is not read.
        for window in [0, 1 << 20] {
            let http2 = Http2Server::start(with_tls, |_| {});
            let mut client = http2.connect().await;
            set_windows(&mut client, window).await;
            for stream in 0..100 {
                client
                    .send(HEADERS, WHOLE, 1 + 2 * stream, &head(path))
                    .await;
            }
            http2.server.until_requests(100).await;
            let most = kept().await;
            // And the frame that the connection is writing.
            assert!(most <= 100 * LIMIT + FRAME, "HTTP/2: {most}");
            for stream in 0..100 {
                let one = 1_u32.to_be_bytes();
                client.send(WINDOW_UPDATE, 0, 1 + 2 * stream, &one).await;
            }
            let most = kept().await;
            assert!(most <= 100 * LIMIT + FRAME, "HTTP/2, trickling: {most}");
            drop(client);
            http2.server.stop().await;
            all_are_released().await;
        }
    }

    let http3 = Http3Server::start(|_| {});
    let mut client = http3.connect().await;
    let mut exchanges = Vec::new();
    for _ in 0..50 {
        let mut exchange = client.begin(Method::GET, path, &[]).await;
        exchange.finish().await.unwrap();
        exchanges.push(exchange);
    }
    http3.server.until_requests(50).await;
    let most = kept().await;
    assert!((1..=50 * LIMIT).contains(&most), "HTTP/3: {most}");
    drop((exchanges, client));
    http3.server.stop().await;
    all_are_released().await;
}

/// A byte now and then keeps nothing open.
#[tokio::test]
async fn a_response_below_the_minimum_rate_is_cut() {
    let http2 = Http2Server::start(false, |limits| {
        limits.min_rate = 100;
        limits.write_timeout = Duration::from_secs(2);
    });
    let mut client = http2.connect().await;
    set_windows(&mut client, 1).await;
    client
        .send(HEADERS, WHOLE, 1, &head("/bytes/100000000"))
        .await;
    let begin = Instant::now();
    loop {
        assert!(begin.elapsed() < TIMEOUT, "still open");
        let frames = client.frames_within(Duration::from_millis(50)).await;
        if frames.iter().any(|frame| frame.kind == RST_STREAM) {
            break;
        }
        let one = 1_u32.to_be_bytes();
        client.send(WINDOW_UPDATE, 0, 1, &one).await;
    }
    assert_eq!(http2.server.stats.too_slow.load(Relaxed), 1);
    assert_eq!(http2.server.stats.write_timeouts.load(Relaxed), 0);
    http2.still_serves().await;
    drop(client);
    http2.server.stop().await;
}

#[tokio::test]
async fn a_response_of_http1_below_the_minimum_rate_is_cut() {
    let server = Server::start(|limits| {
        limits.min_rate = 1 << 40;
        limits.write_timeout = Duration::from_secs(2);
    });
    let mut client = server.connect().await;
    client.send(get("/bytes/1000000000")).await;
    let (mut got, mut space) = (0, vec![0; 100_000]);
    // It takes some all the time.
    let reading = async {
        while let Ok(n @ 1..) = client.stream.read(&mut space).await {
            got += n;
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TIMEOUT, reading).await.expect("still open");
    assert!(got < 1_000_000_000);
    assert_eq!(server.stats.too_slow.load(Relaxed), 1);
    assert_eq!(server.stats.write_timeouts.load(Relaxed), 0);
    server.stop().await;
}

/// Over HTTP/3.
#[tokio::test]
async fn a_slow_response_above_the_minimum_rate_comes_whole() {
    let http3 = Http3Server::start(|limits| {
        limits.min_rate = 100;
        limits.write_timeout = Duration::from_secs(5);
    });
    let mut client = http3.connect().await;
    let mut exchange = client.begin(Method::GET, "/bytes/3000000", &[]).await;
    exchange.finish().await.unwrap();
    exchange.recv_response().await.unwrap();
    let mut got = 0;
    while let Some(data) = timeout(TIMEOUT, exchange.recv_data())
        .await
        .unwrap()
        .unwrap()
    {
        got += bytes::Buf::remaining(&data);
        sleep(Duration::from_millis(3)).await;
    }
    assert_eq!(got, 3_000_000);
    drop((exchange, client));
    http3.server.stop().await;
}
