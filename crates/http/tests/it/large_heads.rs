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
