//! Requests and responses of HTTP/2, with single frames.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::http2_frames::{
    CANCEL, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, Http2Server, NO_ERROR, PROTOCOL_ERROR,
    RST_STREAM, RawClient, field, head,
};

const WHOLE: u8 = END_STREAM | END_HEADERS;

/// The frames of a response, up to the end of its stream.
async fn response(client: &mut RawClient) -> Vec<Frame> {
    let mut frames = Vec::new();
    loop {
        let frame = client.frame().await.expect("the connection has ended");
        if ![HEADERS, DATA, RST_STREAM].contains(&frame.kind) {
            continue;
        }
        let is_last = frame.kind == RST_STREAM || frame.flags & END_STREAM != 0;
        frames.push(frame);
        if is_last {
            return frames;
        }
    }
}

fn text(frames: &[Frame]) -> String {
    let data = frames.iter().filter(|frame| frame.kind == DATA);
    let bytes = data.flat_map(|frame| frame.payload.clone()).collect();
    String::from_utf8(bytes).unwrap()
}

/// RFC 9110 section 15.2, and section 4.4 of the draft Resumable Uploads for HTTP.
#[tokio::test]
async fn interim_responses_leave_while_the_body_is_received() {
    for with_tls in [false, true] {
        let http2 = Http2Server::start(with_tls, |_| {});
        let mut client = http2.connect().await;
        for stream in [1, 3, 5] {
            client
                .send(HEADERS, END_HEADERS, stream, &head("/interim/frames"))
                .await;
            let first = client.next(HEADERS).await;
            assert_eq!((first.stream, first.flags), (stream, END_HEADERS));
            client.send(DATA, 0, stream, b"12345").await;
            assert_eq!(client.next(HEADERS).await.flags, END_HEADERS);
            client.send(DATA, END_STREAM, stream, b"").await;
            assert_eq!(text(&response(&mut client).await), "5 true");
        }
        // A request whose content is there at once is announced, too.
        client
            .send(HEADERS, END_HEADERS, 7, &head("/interim/frames"))
            .await;
        client.send(DATA, END_STREAM, 7, b"12345").await;
        let frames = response(&mut client).await;
        let heads = frames.iter().filter(|frame| frame.kind == HEADERS);
        assert!((2..=3).contains(&heads.count()), "{frames:?}");
        // Without content there is none.
        client
            .send(HEADERS, WHOLE, 9, &head("/interim/frames"))
            .await;
        let frames = response(&mut client).await;
        assert_eq!((frames.len(), &*text(&frames)), (2, "0 false"));
        drop(client);
        http2.server.stop().await;
    }
}

/// RFC 9110 section 10.1.1.
#[tokio::test]
async fn a_client_that_expects_100_gets_it_when_its_content_is_wanted() {
    let http2 = Http2Server::start(false, |_| {});
    let mut client = http2.connect().await;
    let expects = |path| [head(path), field(0, "expect", "100-continue")].concat();
    client
        .send(HEADERS, END_HEADERS, 1, &expects("/sink"))
        .await;
    let first = client.next(HEADERS).await;
    assert_eq!(first.flags, END_HEADERS, "it is final");
    client.send(DATA, END_STREAM, 1, b"hello").await;
    assert_eq!(text(&response(&mut client).await), "5 complete");
    // With another interim response.
    client
        .send(HEADERS, END_HEADERS, 3, &expects("/interim/frames"))
        .await;
    for _ in 0..2 {
        assert_eq!(client.next(HEADERS).await.flags, END_HEADERS);
    }
    client.send(DATA, END_STREAM, 3, b"hello").await;
    assert_eq!(text(&response(&mut client).await), "5 true");
    // It is not wanted.
    client
        .send(HEADERS, END_HEADERS, 5, &expects("/refuse"))
        .await;
    let frames = response(&mut client).await;
    let heads = frames.iter().filter(|frame| frame.kind == HEADERS);
    assert_eq!((heads.count(), &*text(&frames)), (1, "too much"));
    drop(client);
    http2.server.stop().await;
}

/// RFC 9113 section 8.1.
#[tokio::test]
async fn an_early_response_arrives_and_the_rest_is_refused() {
    let http2 = Http2Server::start(false, |_| {});
    let mut client = http2.connect().await;
    client.send(HEADERS, END_HEADERS, 1, &head("/refuse")).await;
    client.send(DATA, 0, 1, &[1; 1000]).await;
    assert_eq!(text(&response(&mut client).await), "too much");
    for _ in 0..5 {
        client.send(DATA, 0, 1, &[1; 16_000]).await;
    }
    let refused = client.next(RST_STREAM).await;
    assert_eq!((refused.stream, refused.number()), (1, NO_ERROR));
    // A small rest that ends is discarded, without a reset.
    client.send(HEADERS, END_HEADERS, 3, &head("/refuse")).await;
    assert_eq!(text(&response(&mut client).await), "too much");
    client.send(DATA, END_STREAM, 3, &[1; 1000]).await;
    client.send(HEADERS, WHOLE, 5, &head("/")).await;
    assert_eq!(text(&response(&mut client).await), "hello");
    let later = client.frames_within(Duration::from_millis(100)).await;
    assert!(
        !later.iter().any(|frame| frame.kind == RST_STREAM),
        "{later:?}"
    );
    drop(client);
    http2.server.stop().await;
}

#[tokio::test]
async fn content_agrees_with_its_length() {
    let http2 = Http2Server::start(false, |_| {});
    let mut client = http2.connect().await;
    let long = |length| [head("/sink"), field(0, "content-length", length)].concat();
    client.send(HEADERS, END_HEADERS, 1, &long("5")).await;
    client.send(DATA, END_STREAM, 1, b"hello").await;
    assert_eq!(text(&response(&mut client).await), "5 complete");
    for (stream, length) in [(3, "6"), (5, "4")] {
        client
            .send(HEADERS, END_HEADERS, stream, &long(length))
            .await;
        client.send(DATA, END_STREAM, stream, b"hello").await;
        let reset = client.next(RST_STREAM).await;
        assert_eq!((reset.stream, reset.number()), (stream, PROTOCOL_ERROR));
    }
    drop(client);
    http2.server.stop().await;
}

#[tokio::test]
async fn responses_have_what_their_request_allows() {
    let http2 = Http2Server::start(false, |_| {});
    let mut client = http2.connect().await;
    let mut head_request = head("/bytes/3000000");
    // `PUT` is the value of the first field.
    head_request.splice(..5, field(2, ":", "HEAD"));
    client.send(HEADERS, WHOLE, 1, &head_request).await;
    let frames = response(&mut client).await;
    assert_eq!((frames.len(), frames[0].flags), (1, WHOLE));
    client.send(HEADERS, WHOLE, 3, &head("/bytes/0")).await;
    assert_eq!(response(&mut client).await.len(), 1);
    drop(client);
    http2.server.stop().await;
}

/// The service still responds, for its effects; its client gets nothing.
#[tokio::test]
async fn a_reset_ends_the_response() {
    let http2 = Http2Server::start(false, |_| {});
    let mut client = http2.connect().await;
    client
        .send(HEADERS, WHOLE, 1, &head("/bytes/10000000000"))
        .await;
    client.next(DATA).await;
    client.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()).await;
    client.send(HEADERS, END_HEADERS, 3, &head("/sink")).await;
    client.send(DATA, 0, 3, b"hello").await;
    client.send(RST_STREAM, 0, 3, &NO_ERROR.to_be_bytes()).await;
    http2.server.until_requests(2).await;
    client.send(HEADERS, WHOLE, 5, &head("/")).await;
    assert_eq!(client.next(HEADERS).await.stream, 5);
    drop(client);
    // No stream is left, so this does not wait.
    let start = std::time::Instant::now();
    assert_eq!(http2.server.stats.write_timeouts.load(Relaxed), 0);
    http2.server.stop().await;
    assert!(start.elapsed() < Duration::from_secs(4));
}
