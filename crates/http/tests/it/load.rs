//! Many connections at once.

use crate::harness::{Server, get};

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Prints what connections cost in memory, client side included: a number to look at, which other
/// tests in the same process disturb. What is asserted is that all of them are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_at_once() {
    let server = Server::start(|_| {});
    let mut clients = Vec::with_capacity(2000);
    let at_first = resident_kib();
    for _ in 0..1000 {
        let mut client = server.connect().await;
        assert_eq!(client.ask(get("/")).await.status, 200);
        clients.push(client);
    }
    let idle = resident_kib();
    for _ in 0..1000 {
        let mut client = server.connect().await;
        client
            .send("PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
            .await;
        clients.push(client);
    }
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let slow = resident_kib();
    println!(
        "KiB per connection: {:.1} idle, {:.1} in a body",
        idle.saturating_sub(at_first) as f64 / 1000.0,
        slow.saturating_sub(idle) as f64 / 1000.0
    );
    for client in &mut clients[1000..] {
        assert_eq!(client.ask("def").await.text(), "6 complete");
    }
    for client in &mut clients {
        assert_eq!(client.ask(get("/")).await.text(), "hello");
    }
    server.stop().await;
}
