//! ConnectionLimits of each client address.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use landfall_server::net::ClientAddress;

use crate::net_harness::{Server, get};
use crate::serve_harness::{Landfall, Request};

#[tokio::test]
async fn connections_over_the_limit_of_an_address_are_rejected() {
    let server = Server::start(|limits| {
        limits.addresses.connections.set(3);
        limits.addresses.client = ClientAddress(std::sync::Arc::new(|_, peer| peer));
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
        (429, Some("1"))
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

async fn futures_connect(
    server: &Server,
    count: usize,
) -> Vec<crate::net_harness::Client<tokio::net::TcpStream>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(server.connect().await);
    }
    clients
}

fn from(request: Request, address: &str) -> Request {
    request.with("X-Forwarded-For", address)
}

#[test]
fn requests_and_uploads_of_one_forwarded_address_are_limited() {
    let server = Landfall::start(&[
        "-behind-proxy",
        "-max-requests-per-address=20",
        "-max-uploads-per-address=2",
    ]);
    let mut client = server.client();
    let path = client.create(1000);
    let mut running = Vec::new();
    for _ in 0..2 {
        let path = server.client().create(1000);
        let mut client = server.client();
        client.begin(from(Request::patch(&path, 0), "192.0.2.1"), 1000);
        client.send([1; 10]);
        running.push((client, path));
    }
    for (_, path) in &running {
        server.client().reaches(path, 10);
    }
    let patch = |address| from(Request::patch(&path, 0).body(b"hello"), address);
    let answer = server.client().ask(patch("192.0.2.1"));
    assert_eq!(
        (answer.status, answer.header("Retry-After")),
        (429, Some("1"))
    );
    assert_eq!(
        server.metric("landfall_address_uploads_rejected_total"),
        1.0
    );
    assert_eq!(server.client().ask(patch("192.0.2.2")).status, 204);
    drop(running);

    let head = || from(Request::new("HEAD", &path), "192.0.2.3");
    let statuses: Vec<_> = (0..60)
        .map(|_| server.client().ask(head()).status)
        .collect();
    assert!(
        statuses[..20].iter().all(|status| *status == 200),
        "{statuses:?}"
    );
    assert!(statuses.contains(&429), "{statuses:?}");
    let other = from(Request::new("HEAD", &path), "192.0.2.4");
    assert_eq!(server.client().ask(other).status, 200);
    assert!(server.metric("landfall_address_requests_rejected_total") >= 1.0);
}
