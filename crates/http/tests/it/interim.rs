//! Interim responses arrive whole, in order, and before the final response of their request.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::Request;
use landfall::{Config, Handler, store::MemoryStore};
use landfall_http::{
    Body, ConnectionLimits, Listener, NetStats, OtherResponse, Routes, Shutdown, serve_uploads,
};
use landfall_test_services::until;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::harness::{Answer, Client, FLOODS, Server, TIMEOUT, get, pause};

fn head(mode: &str, length: usize, fields: &str) -> String {
    format!("PUT /interim/{mode} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {length}\r\n\r\n")
}

/// Reads the interim responses of a request, whose offsets must grow, and its final response.
async fn answers(client: &mut Client<TcpStream>) -> (Vec<u64>, Answer) {
    let mut offsets = Vec::new();
    loop {
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.header("too-late"), None);
        if answer.status != 104 {
            return (offsets, answer);
        }
        assert!(
            answer
                .head
                .starts_with("HTTP/1.1 104 Upload Resumption Supported\r\n"),
            "{answer:?}"
        );
        offsets.extend(offset(&answer));
        assert!(offsets.is_sorted_by(|one, next| one < next), "{offsets:?}");
    }
}

fn offset(answer: &Answer) -> Option<u64> {
    let value = answer.header("upload-offset")?;
    Some(value.split(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn they_leave_while_the_body_is_received() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.send(head("frames", 10, "")).await;
        let first = client.answer().await.unwrap();
        assert_eq!((first.status, first.header("location")), (104, Some("/a")));
        client.send("12345").await;
        assert_eq!(offset(&client.answer().await.unwrap()), Some(5));
        client.send("67890").await;
        let (_, last) = answers(&mut client).await;
        assert_eq!((last.status, last.as_text()), (200, "10 true"));
    }
    server.stop().await;
}

#[tokio::test]
async fn pipelined_requests_have_their_own() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    let one = head("frames", 5, "") + "12345";
    for _ in 0..20 {
        client.send([&*one, &one, &get("/"), &one].concat()).await;
        for expected in ["5 true", "5 true", "hello", "5 true"] {
            if expected != "hello" {
                let first = client.answer().await.unwrap();
                assert_eq!((first.status, first.header("location")), (104, Some("/a")));
            }
            let (_, last) = answers(&mut client).await;
            assert_eq!(last.text(), expected);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_expects_100_gets_both() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    client
        .send(head("frames", 5, "Expect: 100-continue\r\n"))
        .await;
    let mut first = [
        client.answer().await.unwrap().status,
        client.answer().await.unwrap().status,
    ];
    first.sort_unstable();
    assert_eq!(first, [100, 104]);
    client.send("12345").await;
    assert_eq!(answers(&mut client).await.1.text(), "5 true");
    server.stop().await;
}

#[tokio::test]
async fn http_1_0_and_requests_without_content_get_none() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    let old = head("frames", 5, "Connection: keep-alive\r\n").replace("HTTP/1.1", "HTTP/1.0");
    client.send(old + "12345").await;
    let last = client.answer().await.unwrap();
    assert_eq!((last.status, last.as_text()), (200, "5 false"));
    client.send(head("frames", 0, "")).await;
    let last = client.answer().await.unwrap();
    assert_eq!((last.status, last.as_text()), (200, "0 false"));
    server.stop().await;
}

/// The connection has given its buffer back.
#[tokio::test]
async fn they_leave_while_a_slow_body_has_no_buffer() {
    let server = Server::start(|_| {});
    for mode in ["frames", "ticks"] {
        let mut client = server.connect().await;
        client.send(head(mode, 20_010, "")).await;
        assert_eq!(
            client.answer().await.unwrap().header("location"),
            Some("/a")
        );
        client.send("12345").await;
        pause().await;
        if mode == "frames" {
            assert_eq!(offset(&client.answer().await.unwrap()), Some(5));
            client.send("6").await;
            assert_eq!(offset(&client.answer().await.unwrap()), Some(6));
        } else {
            client.send("6").await;
            for _ in 0..10 {
                assert!(offset(&client.answer().await.unwrap()).is_some());
            }
        }
        client.send([b'x'; 20_000]).await;
        client.send("7890").await;
        assert_eq!(answers(&mut client).await.1.text(), "20010 true");
        assert_eq!(client.ask(get("/")).await.text(), "hello");
    }
    server.stop().await;
}

/// Such a client gets the newest, and its upload continues.
#[tokio::test]
async fn a_client_that_does_not_read_gets_whole_responses_later() {
    let server = Server::start(|limits| {
        limits.write_timeout = Duration::from_secs(1);
    });
    let mut client = server.connect().await;
    client.send(head("flood", 10, "") + "12345").await;
    until(async || FLOODS.load(Relaxed) > 0).await;
    pause().await;
    // Longer than a response may wait for its client.
    sleep(Duration::from_millis(2_500)).await;
    client.send("67890").await;
    let (offsets, last) = answers(&mut client).await;
    assert_eq!((last.status, last.as_text()), (200, "10 true"));
    assert!(
        !offsets.is_empty() && offsets.len() < 2_000,
        "{}",
        offsets.len()
    );
    assert_eq!(client.ask(get("/")).await.text(), "hello");
    server.stop().await;
}

#[derive(Debug)]
struct UploadsOnly;

impl Routes for UploadsOnly {
    fn respond(&self, _request: &mut Request<Body>) -> Option<OtherResponse> {
        None
    }
}

#[tokio::test]
async fn a_running_upload_is_announced_and_resumed_elsewhere() {
    let listener = Listener::tcp("127.0.0.1", 0).unwrap();
    let address = listener.local_addr().unwrap();
    let handler = Handler::new(Config::new(MemoryStore::new())).unwrap();
    let shutdown = Shutdown::new(Duration::from_secs(5));
    let server = tokio::spawn(serve_uploads(
        vec![listener],
        handler,
        Arc::new(UploadsOnly),
        ConnectionLimits::default(),
        shutdown.clone(),
        Arc::new(NetStats::default()),
    ));
    let connect = async || Client::new(TcpStream::connect(address).await.unwrap());
    let version = "Host: a\r\nUpload-Draft-Interop-Version: 10\r\n";

    let mut first = connect().await;
    let creation = format!(
        "POST /files/ HTTP/1.1\r\n{version}Upload-Complete: ?1\r\nContent-Length: 10\r\n\r\n"
    );
    first.send(&creation).await;
    let announcement = first.answer().await.unwrap();
    assert_eq!(announcement.status, 104);
    assert_eq!(
        announcement.header("upload-draft-interop-version"),
        Some("10")
    );
    let location = announcement.header("location").unwrap();
    let path = location.strip_prefix("http://a").unwrap();
    first.send("hello").await;

    let mut second = connect().await;
    let start = Instant::now();
    loop {
        second
            .send(format!("HEAD {path} HTTP/1.1\r\n{version}\r\n"))
            .await;
        let state = second.answer_to("HEAD").await.unwrap();
        assert_eq!(state.status, 204);
        if state.header("upload-offset") == Some("5") {
            break;
        }
        assert!(start.elapsed() < TIMEOUT);
    }
    let append = format!(
        "PATCH {path} HTTP/1.1\r\n{version}Upload-Complete: ?1\r\nUpload-Offset: 5\r\n\
         Content-Type: application/partial-upload\r\nContent-Length: 5\r\n\r\nworld"
    );
    let last = second.ask(append).await;
    assert_eq!(
        (last.status, last.header("location")),
        (201, Some(location))
    );

    // Everything at once, on the same connection.
    for _ in 0..2 {
        second.send(format!("{creation}helloworld")).await;
        let announcement = second.answer().await.unwrap();
        assert_eq!(announcement.status, 104);
        let last = second.answer().await.unwrap();
        assert_eq!(last.status, 201);
        assert_eq!(last.header("location"), announcement.header("location"));
    }
    // A request of tus.
    let tus = creation.replacen(
        "Host",
        "Tus-Resumable: 1.0.0\r\nUpload-Length: 10\r\nHost",
        1,
    );
    assert_eq!(second.ask(tus + "helloworld").await.status, 201);
    drop((first, second));
    shutdown.start();
    server.await.unwrap().unwrap();
}
