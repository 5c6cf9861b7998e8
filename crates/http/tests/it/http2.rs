//! HTTP/2 with prior knowledge, besides HTTP/1.1 on the same port.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use landfall_test_services::until;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::harness::{Server, TIMEOUT, get};

type Sent = http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>;

async fn connect(server: &Server) -> SendRequest<Sent> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn put(path: &str, body: Sent) -> Request<Sent> {
    Request::put(format!("http://test{path}"))
        .body(body)
        .unwrap()
}

fn full(data: impl Into<Bytes>) -> Sent {
    Full::new(data.into()).boxed_unsync()
}

fn empty() -> Sent {
    Empty::new().boxed_unsync()
}

/// A body whose frames the test sends.
fn by_hand() -> (mpsc::Sender<Frame<Bytes>>, Sent) {
    let (sender, mut receiver) = mpsc::channel::<Frame<Bytes>>(1);
    let frames = futures_stream(move |cx| receiver.poll_recv(cx).map(|frame| frame.map(Ok)));
    (sender, StreamBody::new(frames).boxed_unsync())
}

fn futures_stream<T>(
    poll: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Unpin,
) -> impl futures_core::Stream<Item = T> {
    struct PollFn<F>(F);
    impl<T, F> futures_core::Stream for PollFn<F>
    where
        F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Unpin,
    {
        type Item = T;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<T>> {
            (self.0)(cx)
        }
    }
    PollFn(poll)
}

async fn text(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let body = tokio::time::timeout(TIMEOUT, response.into_body().collect())
        .await
        .unwrap();
    (
        status,
        String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap(),
    )
}

async fn ask(sender: &mut SendRequest<Sent>, request: Request<Sent>) -> (StatusCode, String) {
    let response = tokio::time::timeout(TIMEOUT, sender.send_request(request))
        .await
        .unwrap();
    text(response.unwrap()).await
}

#[tokio::test]
async fn both_protocols_on_one_port() {
    let server = Server::start(|limits| limits.http2 = true);
    let mut http2 = connect(&server).await;
    let mut http1 = server.connect().await;
    assert_eq!(ask(&mut http2, put("/", empty())).await.1, "hello");
    assert_eq!(http1.ask(get("/")).await.text(), "hello");
    // A head in pieces, or one with the same first bytes, is not taken for HTTP/2.
    let mut slow = server.connect().await;
    for piece in ["P", "R", "I /", " HTTP/1.1\r\nHost: a", "\r\n\r\n"] {
        slow.send(piece).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(slow.answer().await.unwrap().text(), "hello");
    assert_eq!(slow.ask(get("/bytes/3")).await.text(), "xxx");
    drop((http1, slow, http2));
    server.stop().await;
}

#[tokio::test]
async fn smuggling_is_rejected_with_http2_enabled() {
    let server = Server::start(|limits| limits.http2 = true);
    let mut client = server.connect().await;
    let answer = client.ask("G / HTTP/1.1\r\n\r\n").await;
    assert_eq!(
        (answer.status, answer.as_text()),
        (400, "the request has no Host header\n")
    );
    assert!(client.closed().await);
    server.stop().await;
}

#[tokio::test]
async fn bodies_and_trailers_arrive() {
    let server = Server::start(|limits| limits.http2 = true);
    let mut sender = connect(&server).await;
    let size = 5_000_000;
    let answer = ask(&mut sender, put("/sink", full(vec![1; size]))).await;
    assert_eq!(answer.1, format!("{size} complete"));

    let (frames, body) = by_hand();
    let sending = async {
        frames.send(Frame::data("hello".into())).await.unwrap();
        let trailers = [("x-sum".parse().unwrap(), "1".parse().unwrap())]
            .into_iter()
            .collect();
        frames.send(Frame::trailers(trailers)).await.unwrap();
        drop(frames);
    };
    let request = put("/sink", body);
    let (answer, ()) = tokio::join!(ask(&mut sender, request), sending);
    assert_eq!(answer.1, "5 complete {\"x-sum\": \"1\"}");
    drop(sender);
    server.stop().await;
}

#[tokio::test]
async fn one_stalled_stream_does_not_affect_others() {
    let short = Duration::from_millis(300);
    let server = Server::start(|limits| {
        limits.http2 = true;
        limits.body_timeout = short;
    });
    let mut sender = connect(&server).await;
    let (frames, body) = by_hand();
    frames.send(Frame::data("abc".into())).await.unwrap();
    let begin = Instant::now();
    let mut other = sender.clone();
    let busy = async {
        while begin.elapsed() < short * 4 {
            assert_eq!(ask(&mut other, put("/", empty())).await.1, "hello");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (answer, ()) = tokio::join!(ask(&mut sender, put("/sink", body)), busy);
    assert_eq!(
        answer,
        (StatusCode::REQUEST_TIMEOUT, "3 Timeout".to_owned())
    );
    assert_eq!(server.stats.body_timeouts.load(Relaxed), 1);
    drop((frames, sender, other));
    server.stop().await;
}

#[tokio::test]
async fn a_connection_without_streams_is_closed_and_one_with_streams_is_not() {
    let short = Duration::from_secs(1);
    let server = Server::start(|limits| {
        limits.http2 = true;
        limits.idle_timeout = short;
        limits.header_timeout = short;
    });
    let mut sender = connect(&server).await;
    assert_eq!(ask(&mut sender, put("/late/2500", empty())).await.1, "late");
    until(async || sender.is_closed()).await;
    assert_eq!(server.stats.idle_timeouts.load(Relaxed), 1);
    server.stop().await;
}

#[tokio::test]
async fn differing_hosts_are_rejected() {
    let server = Server::start(|limits| limits.http2 = true);
    let mut sender = connect(&server).await;
    let mut request = put("/", empty());
    request
        .headers_mut()
        .insert("host", "other".parse().unwrap());
    let answer = ask(&mut sender, request).await;
    assert_eq!(answer.0, StatusCode::BAD_REQUEST);
    assert_eq!(answer.1, "the Host header and :authority differ\n");
    assert_eq!(ask(&mut sender, put("/", empty())).await.1, "hello");
    drop(sender);
    server.stop().await;
}

#[tokio::test]
async fn a_shutdown_aborts_bodies_with_a_response() {
    let server = Server::with_grace(Duration::from_millis(200), |limits| limits.http2 = true);
    let mut sender = connect(&server).await;
    let (frames, body) = by_hand();
    frames.send(Frame::data("abc".into())).await.unwrap();
    let shutdown = server.shutdown.clone();
    let ending = async {
        server.until_requests(1).await;
        shutdown.start();
    };
    let (answer, ()) = tokio::join!(ask(&mut sender, put("/sink", body)), ending);
    assert_eq!(
        answer,
        (StatusCode::SERVICE_UNAVAILABLE, "3 ShuttingDown".to_owned())
    );
    drop((frames, sender));
    server.stop().await;
}

/// A client without a flow-control window: neither pings nor silence keep its responses open.
#[tokio::test]
async fn a_stream_that_reads_no_bytes_is_reset() {
    let server = Server::start(|limits| {
        limits.http2 = true;
        limits.write_timeout = Duration::from_millis(400);
    });
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) = Builder::new(TokioExecutor::new())
        .initial_stream_window_size(0)
        .keep_alive_interval(Duration::from_millis(50))
        .timer(hyper_util::rt::TokioTimer::new())
        .handshake::<_, Sent>(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut responses = Vec::new();
    for _ in 0..20 {
        responses.push(
            sender
                .send_request(put("/bytes/1000000", empty()))
                .await
                .unwrap(),
        );
    }
    for response in responses {
        let body = tokio::time::timeout(TIMEOUT, response.into_body().collect()).await;
        assert!(body.unwrap().is_err(), "a body without a window came whole");
    }
    assert_eq!(server.stats.write_timeouts.load(Relaxed), 20);
    drop(sender);
    server.stop().await;
}

/// A slow reader, with pauses shorter than the timeout, gets the whole response.
#[tokio::test]
async fn a_stream_that_is_read_slowly_is_not_reset() {
    let server = Server::start(|limits| {
        limits.http2 = true;
        limits.write_timeout = Duration::from_secs(2);
    });
    let mut sender = connect(&server).await;
    let response = sender
        .send_request(put("/bytes/9000000", empty()))
        .await
        .unwrap();
    let mut body = response.into_body();
    let (mut got, begin) = (0, Instant::now());
    while let Some(frame) = body.frame().await {
        got += frame.unwrap().data_ref().map_or(0, Bytes::len);
        if begin.elapsed() < Duration::from_secs(3) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert_eq!(got, 9_000_000);
    assert_eq!(server.stats.write_timeouts.load(Relaxed), 0);
    drop((sender, body));
    server.stop().await;
}

#[tokio::test]
async fn user_information_in_the_authority_is_rejected() {
    let server = Server::start(|limits| limits.http2 = true);
    let mut sender = connect(&server).await;
    let request = Request::put("http://a@test/").body(empty()).unwrap();
    let answer = ask(&mut sender, request).await;
    assert_eq!(answer.0, StatusCode::BAD_REQUEST);
    drop(sender);
    server.stop().await;
}
