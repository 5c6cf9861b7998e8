//! Heads of 16 KiB in each version of HTTP, twice on a connection.

use http::Method;

use crate::harness::{Server, get};
use crate::http2_frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Http2Server, field, head,
};
use crate::http3::{Http3Server, answer};

fn fields() -> Vec<(String, String)> {
    let field = |n| (format!("x-field-{n:02}"), "x".repeat(194));
    (0..80).map(field).collect()
}

#[tokio::test]
async fn http_1_1_has_long_heads() {
    let server = Server::start(|_| {});
    let mut request = get("/");
    request.truncate(request.len() - 2);
    for (name, value) in fields() {
        request += &format!("{name}: {value}\r\n");
    }
    request += "\r\n";
    assert!(request.len() > 16 * 1024);
    let mut client = server.connect().await;
    for _ in 0..2 {
        assert_eq!(client.ask(&request).await.text(), "hello");
    }
    server.stop().await;
}

#[tokio::test]
async fn http_2_has_long_heads() {
    for with_tls in [false, true] {
        let http2 = Http2Server::start(with_tls, |_| {});
        let mut client = http2.connect().await;
        let fields = fields();
        let fields = fields.iter().map(|(name, value)| field(0, name, value));
        let block = [head("/"), fields.collect::<Vec<_>>().concat()].concat();
        let (first, rest) = block.split_at(16 * 1024);
        for stream in [1, 3] {
            client.send(HEADERS, END_STREAM, stream, first).await;
            client.send(CONTINUATION, END_HEADERS, stream, rest).await;
            assert_eq!(client.next(DATA).await.payload, b"hello");
        }
        drop(client);
        http2.server.stop().await;
    }
}

#[tokio::test]
async fn http_3_has_long_heads() {
    let http3 = Http3Server::start(|_| {});
    let mut client = http3.connect().await;
    let fields = fields();
    let fields = fields.iter().map(|(name, value)| (&**name, &**value));
    let fields: Vec<_> = fields.collect();
    for _ in 0..2 {
        let mut exchange = client.begin(Method::GET, "/", &fields).await;
        exchange.finish().await.unwrap();
        assert_eq!(answer(&mut exchange).await.text(), "hello");
    }
    drop(client);
    http3.server.stop().await;
}

/// The list of parts of a final upload.
#[tokio::test]
async fn http_1_1_has_heads_of_a_mebibyte_between_small_ones() {
    let long = |bytes: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "x".repeat(bytes)
        )
    };
    for read_buffer in [64, 256] {
        let server = Server::start(|limits| limits.read_buffer = read_buffer * 1024);
        let mut client = server.connect().await;
        for bytes in [70_000, 10, 1_000_000, 300_000, 65_500, 10, 1_000_000] {
            let answer = client.ask(long(bytes)).await;
            assert_eq!((answer.status, answer.as_text()), (200, "hello"), "{bytes}");
        }
        // After a body, in the same packets.
        let body = format!(
            "PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello{}",
            long(900_000)
        );
        assert_eq!(client.ask(body).await.text(), "5 complete");
        assert_eq!(client.answer().await.unwrap().text(), "hello");
        let answer = client.ask(long(1 << 20)).await;
        assert_eq!(answer.status, 431);
        server.stop().await;
    }
}

/// As long as the request runs.
#[tokio::test]
async fn large_heads_of_running_requests_share_the_memory() {
    let server = Server::start(|limits| limits.head_memory = 700_000);
    let begin = |bytes: usize| {
        format!(
            "PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX: {}\r\n\r\nhell",
            "x".repeat(bytes)
        )
    };
    let mut first = server.connect().await;
    first.send(begin(300_000)).await;
    server.until_requests(1).await;
    let mut second = server.connect().await;
    assert_eq!(second.ask(begin(300_000)).await.status, 503);
    let mut small = server.connect().await;
    assert_eq!(small.ask(get("/")).await.text(), "hello");
    assert_eq!(first.ask("o").await.text(), "5 complete");
    drop(first);
    let mut third = server.connect().await;
    loop {
        third.send(begin(300_000)).await;
        third.send("o").await;
        match third.answer().await.unwrap().status {
            200 => break,
            _ => third = server.connect().await,
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn large_heads_of_streams_share_the_memory() {
    let http3 = Http3Server::start(|limits| limits.head_memory = 150_000);
    let mut client = http3.connect().await;
    let value = "x".repeat(100_000);
    let large = [("x-field", value.as_str())];
    let mut first = client.begin(Method::PUT, "/sink", &large).await;
    http3.server.until_requests(1).await;
    let mut second = client.begin(Method::GET, "/", &large).await;
    second.finish().await.unwrap();
    assert_eq!(answer(&mut second).await.status, 503);
    let mut small = client.begin(Method::GET, "/", &[]).await;
    small.finish().await.unwrap();
    assert_eq!(answer(&mut small).await.text(), "hello");
    first.finish().await.unwrap();
    assert_eq!(answer(&mut first).await.text(), "0 complete");
    let mut third = client.begin(Method::GET, "/", &large).await;
    third.finish().await.unwrap();
    assert_eq!(answer(&mut third).await.text(), "hello");
    drop(client);
    http3.server.stop().await;
}
