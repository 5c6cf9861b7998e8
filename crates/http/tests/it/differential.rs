//! Random streams of pieces of requests, to our edge and to hyper alone.
//!
//! The edge must find no request that hyper alone would not have found.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Server, TIMEOUT};

fn piece() -> impl Strategy<Value = &'static [u8]> {
    prop::sample::select(vec![
        &b"GET /bytes/1 HTTP/1.1\r\n"[..],
        b"PUT /sink HTTP/1.1\r\n",
        b"PUT /sink HTTP/1.1\r\nHost: a\r\n",
        b"PUT /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        b"PUT /sink HTTP/1.0\r\nConnection: keep-alive\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"Host: a\r\n",
        b"host: b\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"content-length : 3\r\n",
        b"Content-Length:\t5\r\n",
        b"Content-Length: 5\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity, chunked\r\n",
        b"Transfer-Encoding: chunked\n",
        b"transfer-encoding:\x0bchunked\r\n",
        b" folded\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b"hello",
        b"5\r\nhello\r\n",
        b"5;x=\"\r\n\"\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"005\nhello\r\n",
        b"0\r\n\r\n",
        b"0\r\nX: y\r\n\r\n",
        b"0\r\nX: y\n\n",
        b"\0",
    ])
}

/// Valid requests, so that requests after one are tested too.
fn whole() -> impl Strategy<Value = &'static [u8]> {
    prop::sample::select(vec![
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"PUT /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhi\r\n0\r\n\r\n",
        b"PUT /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
    ])
}

/// Returns all output of the server until it closes the connection, given all of `input`.
async fn talk(address: SocketAddr, input: &[u8], cut: usize) -> String {
    let talk = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (first, second) = input.split_at(cut.min(input.len()));
        // The server may have closed the connection before it has taken everything.
        let _ = stream.write_all(first).await;
        if !second.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let _ = stream.write_all(second).await;
        }
        let _ = stream.shutdown().await;
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        String::from_utf8_lossy(&said).into_owned()
    };
    tokio::time::timeout(TIMEOUT, talk)
        .await
        .expect("the connection is never closed")
}

/// hyper alone, with the responses that this test compares.
async fn hyper_alone() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service =
                hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async {
                    let whole = request.into_body().collect().await.is_ok();
                    let status = if whole { 200 } else { 400 };
                    let response = Response::builder().status(status);
                    Ok::<_, std::convert::Infallible>(
                        response.body(Full::<bytes::Bytes>::default()).unwrap(),
                    )
                });
            let io = hyper_util::rt::TokioIo::new(stream);
            let mut http1 = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http1.half_close(true).serve_connection(io, service));
        }
    });
    address
}

fn accepted(said: &str) -> usize {
    said.matches("HTTP/1.1 200 OK\r\n").count() + said.matches("HTTP/1.0 200 OK\r\n").count()
}

#[test]
fn validator_and_hyper_find_the_same_requests() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (server, alone) = runtime.block_on(async { (Server::start(|_| {}), hyper_alone().await) });
    let some = Cell::new(0);
    let mut runner = TestRunner::new(Config {
        cases: 1500,
        ..Config::default()
    });
    let input = (
        prop::collection::vec(prop_oneof![2 => piece(), 1 => whole()], 1..12),
        0..120_usize,
    );
    runner
        .run(&input, |(pieces, cut)| {
            let input = pieces.concat();
            let (ours, theirs) = runtime.block_on(async {
                tokio::join!(talk(server.address, &input, cut), talk(alone, &input, cut))
            });
            prop_assert!(!ours.contains("not clear where"), "{:?}", ours);
            prop_assert!(
                accepted(&ours) <= accepted(&theirs),
                "{:?}\n{:?}",
                ours,
                theirs
            );
            some.set(some.get() + accepted(&ours));
            Ok(())
        })
        .unwrap();
    assert!(
        some.get() > 100,
        "only {} requests were good: the pieces prove nothing",
        some.get()
    );
    runtime.block_on(server.stop());
}
