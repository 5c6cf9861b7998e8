//! ConnectionLimits of each client address.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use landfall_http::ClientAddress;

use crate::harness::{Server, get};

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
) -> Vec<crate::harness::Client<tokio::net::TcpStream>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(server.connect().await);
    }
    clients
}
