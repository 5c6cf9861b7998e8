//! Ending in steps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use landfall_http::{ConnectionLimits, Listener, NetStats, Shutdown, serve};
use tokio::sync::oneshot;

use crate::harness::{Probe, Server, TIMEOUT, get};

#[tokio::test]
async fn shutdown_waits_for_work_that_outlives_its_requests() {
    for (grace, releases) in [(TIMEOUT, true), (Duration::ZERO, false)] {
        let shutdown = Shutdown::new(grace).with_response_timeout(Duration::from_millis(50));
        let (release, released) = oneshot::channel::<()>();
        let mut task = tokio::spawn(serve(
            vec![Listener::tcp("127.0.0.1", 0).unwrap()],
            Probe,
            ConnectionLimits::default(),
            shutdown.clone(),
            Arc::new(NetStats::default()),
            async { drop(released.await) },
        ));
        shutdown.start();
        if releases {
            let early = tokio::time::timeout(Duration::from_millis(200), &mut task).await;
            assert!(early.is_err(), "the work is not done");
            release.send(()).unwrap();
        }
        // The phases of the shutdown limit it.
        let ended = tokio::time::timeout(TIMEOUT, task).await;
        ended.expect("the end never comes").unwrap().unwrap();
    }
}

#[tokio::test]
async fn idle_connections_are_closed_at_once_and_unused_ones_soon() {
    let server = Server::start(|_| {});
    let mut used = server.connect().await;
    assert_eq!(used.ask(get("/")).await.status, 200);
    let mut unused = server.connect().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begin = Instant::now();
    let address = server.address;
    server.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(4));
    assert!(used.closed().await);
    assert!(unused.closed().await);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_further_request_that_has_arrived_is_answered() {
    for _ in 0..20 {
        let server = Server::start(|_| {});
        let mut client = server.connect().await;
        assert_eq!(client.ask(get("/")).await.status, 200);
        // The task of the connection sees both at once.
        client.stream.try_write(get("/").as_bytes()).unwrap();
        server.shutdown.start();
        assert_eq!(client.answer().await.unwrap().status, 200);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_first_request_on_its_way_is_answered() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.shutdown.start();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let answer = client.ask(get("/")).await;
    assert_eq!(answer.status, 200);
    assert!(client.closed().await);
    server.stop().await;
}

#[tokio::test]
async fn a_running_request_may_finish_within_the_grace_time() {
    let server = Server::start(|_| {});
    let mut client = server.connect().await;
    client
        .send("PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        .await;
    server.until_requests(1).await;
    server.shutdown.start();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let answer = client.ask("def").await;
    assert_eq!((answer.status, answer.as_text()), (200, "6 complete"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.closed().await);
    server.stop().await;
}

#[tokio::test]
async fn after_the_grace_time_bodies_end_with_a_response() {
    let server = Server::with_grace(Duration::from_millis(300), |_| {});
    let mut client = server.connect().await;
    client
        .send("PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        .await;
    server.until_requests(1).await;
    let begin = Instant::now();
    server.shutdown.start();
    let answer = client.answer().await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(290));
    assert_eq!((answer.status, answer.as_text()), (503, "3 ShuttingDown"));
    assert!(client.closed().await);
    server.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn connections_that_do_not_end_are_closed() {
    let server = Server::with_grace(Duration::from_millis(100), |_| {});
    let mut client = server.connect().await;
    client.send(get("/late/60000")).await;
    server.until_requests(1).await;
    let begin = Instant::now();
    server.stop().await;
    // Grace and answer time (2 s in these tests).
    assert!(begin.elapsed() >= Duration::from_secs(2));
    assert!(begin.elapsed() < Duration::from_secs(15));
    assert!(client.closed().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_connections_are_closed_gracefully() {
    let server = Server::with_grace(Duration::from_secs(1), |_| {});
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    for n in 0..2000 {
        let mut client = server.connect().await;
        if n % 2 == 0 {
            assert_eq!(client.ask(get("/")).await.status, 200);
            idle.push(client);
        } else {
            client
                .send("PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
                .await;
            busy.push(client);
        }
    }
    server.until_requests(2000).await;
    server.shutdown.start();
    for client in &mut idle {
        assert!(client.closed().await);
    }
    for client in &mut busy {
        assert_eq!(client.answer().await.unwrap().text(), "3 ShuttingDown");
        assert!(client.closed().await);
    }
    tokio::time::timeout(TIMEOUT, server.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}
