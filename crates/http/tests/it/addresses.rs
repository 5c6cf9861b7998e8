//! ConnectionLimits of each client address.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::Method;
use landfall_http::{ConnectionLimits, Function};
use landfall_test_services::until;

use crate::harness::{Server, get};
use crate::http3::{Http3Server, answer};

#[tokio::test]
async fn connections_over_the_limit_of_an_address_are_rejected() {
    let server = Server::start(|limits| {
        limits.addresses.connections.set(3);
        limits.addresses.client = Function(std::sync::Arc::new(|_, peer| peer));
    });
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = server.connect().await;
        assert_eq!(client.ask(get("/")).await.status, 200);
        clients.push(client);
    }
    let mut over = server.connect().await;
    let answer = over.ask(get("/")).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(over.closed().await);
    assert_eq!(server.stats.address_connections.load(Relaxed), 1);
    // Those within the limit are served on, and there is room for another one later.
    assert_eq!(clients[0].ask(get("/")).await.status, 200);
    drop((over, clients.pop()));
    loop {
        let mut client = server.connect().await;
        if client.ask(get("/")).await.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Far over the limit, nothing is said.
    let silent: Vec<_> = futures_connect(&server, 4).await;
    let mut last = server.connect().await;
    assert!(last.closed().await);
    drop((clients, silent));
    server.stop().await;
}

#[tokio::test]
async fn downloads_of_an_address_are_limited_while_they_are_sent() {
    let server = Server::start(|limits| {
        limits.addresses.downloads.set(2);
        limits.addresses.client = Function(std::sync::Arc::new(|_, peer| peer));
    });
    let mut reading = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.send(get("/bytes/100000000")).await;
        reading.push(client);
    }
    server.until_requests(2).await;
    let answer = server.connect().await.ask(get("/")).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(
        answer.text(),
        "too many concurrent downloads from this address\n"
    );
    assert_eq!(server.stats.address_downloads.load(Relaxed), 1);
    // Uploads and other requests have their own limits.
    let put = "PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(server.connect().await.ask(put).await.text(), "5 complete");
    reading.pop();
    until(async || server.connect().await.ask(get("/")).await.status == 200).await;
    drop(reading);
    server.stop().await;
}

async fn futures_connect(
    server: &Server,
    count: usize,
) -> Vec<crate::harness::Client<tokio::net::TcpStream>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(server.connect().await);
    }
    clients
}

/// Every request is over the limit, and a response says which origin asked.
fn no_request(limits: &mut ConnectionLimits) {
    limits.addresses.requests.set(1);
    limits.addresses.client = Function(std::sync::Arc::new(|_, peer| peer));
    limits.rejection_fields = Function(std::sync::Arc::new(|request, fields| {
        if let Some(origin) = request.get("origin") {
            fields.insert("access-control-allow-origin", origin.clone());
        }
    }));
}

/// For clients of tus, other errors of HEAD mean that the upload is gone.
#[tokio::test]
async fn clients_of_tus_are_told_to_wait() {
    let server = Server::start(no_request);
    assert_eq!(server.connect().await.ask(get("/")).await.status, 200);
    for (method, status) in [("GET", 503), ("HEAD", 423), ("PATCH", 503), ("POST", 503)] {
        let mut statuses = Vec::new();
        // One request a second passes.
        for _ in 0..2 {
            let mut client = server.connect().await;
            client.send(get("/").replace("GET", method)).await;
            let answer = client.answer_to(method).await.unwrap();
            assert!(answer.status == 200 || answer.header("retry-after") == Some("1"));
            statuses.push(answer.status);
        }
        assert!(statuses.contains(&status), "{method}: {statuses:?}");
        assert!(
            statuses.iter().all(|s| [status, 200].contains(s)),
            "{method}: {statuses:?}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn pages_can_read_every_rejection_and_ask_before_a_request() {
    let server = Server::start(|limits| {
        no_request(limits);
        limits.max_head = 8192;
    });
    let origin = "Origin: https://a.example\r\n";
    let preflight = format!(
        "OPTIONS / HTTP/1.1\r\nHost: a\r\n{origin}Access-Control-Request-Method: PATCH\r\n\r\n"
    );
    let mut client = server.connect().await;
    for _ in 0..5 {
        assert_eq!(client.ask(&preflight).await.text(), "hello");
    }
    let request = |more: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{origin}{more}\r\n");
    let long = format!("X: {}\r\n", "x".repeat(10_000));
    for (more, status) in [("", 503), ("X : y\r\n", 400), (&long, 431)] {
        let mut statuses = Vec::new();
        for _ in 0..2 {
            let answer = server.connect().await.ask(request(more)).await;
            let allowed = answer.header("access-control-allow-origin");
            assert_eq!(allowed.is_some(), answer.status != 200, "{answer:?}");
            statuses.push(answer.status);
        }
        assert!(statuses.contains(&status), "{statuses:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn clients_of_http_3_are_told_to_wait_too() {
    let http3 = Http3Server::start(no_request);
    let mut client = http3.connect().await;
    let origin = [("origin", "https://a.example")];
    let mut statuses = Vec::new();
    for method in [Method::HEAD, Method::HEAD, Method::GET, Method::GET] {
        let mut exchange = client.begin(method, "/", &origin).await;
        exchange.finish().await.unwrap();
        let answer = answer(&mut exchange).await;
        let allowed = answer.headers.get("access-control-allow-origin");
        assert_eq!(allowed.is_some(), answer.status != 200, "{}", answer.status);
        statuses.push(answer.status.as_u16());
    }
    // One request a second passes.
    assert!(statuses[..2].contains(&423), "{statuses:?}");
    assert!(statuses[2..].contains(&503), "{statuses:?}");
    drop(client);
    http3.server.stop().await;
}
