//! Listening sockets.

use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::time::Duration;

use landfall_http::{ConnectionLimits, Listener, NetStats, Shutdown, serve};
use tokio::net::{TcpStream, UnixStream};

use crate::harness::{Client, Probe, TIMEOUT, get};

/// Serves on these listeners while `body` runs.
async fn serving<T>(listeners: Vec<Listener>, body: impl Future<Output = T>) -> T {
    let shutdown = Shutdown::new(Duration::ZERO);
    let stats = Arc::new(NetStats::default());
    let task = tokio::spawn(serve(
        listeners,
        Probe,
        ConnectionLimits::default(),
        shutdown.clone(),
        stats,
        async {},
    ));
    let out = body.await;
    shutdown.start();
    tokio::time::timeout(TIMEOUT, task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    out
}

async fn answers(address: &str) -> bool {
    let Ok(stream) = TcpStream::connect(address).await else {
        return false;
    };
    Client::new(stream).ask(get("/")).await.text() == "hello"
}

#[tokio::test]
async fn the_unspecified_address_listens_on_both_ip_versions() {
    let v6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    for host in ["0.0.0.0", "", "[::]"] {
        if host == "[::]" && !v6 {
            continue;
        }
        let listener = Listener::tcp(host, 0).unwrap();
        let port = listener.local_addr().unwrap().port();
        serving(vec![listener], async {
            assert!(answers(&format!("127.0.0.1:{port}")).await, "{host:?}");
            assert_eq!(answers(&format!("[::1]:{port}")).await, v6, "{host:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn ipv4_clients_of_a_dual_stack_socket_have_ipv4_addresses() {
    let listener = Listener::tcp("0.0.0.0", 0).unwrap();
    let port = listener.local_addr().unwrap().port();
    serving(vec![listener], async {
        let mut client = Client::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        let answer = client.ask(get("/peer")).await;
        assert!(answer.text().starts_with("127.0.0.1:"), "{}", answer.text());
    })
    .await;
}

#[tokio::test]
async fn a_specific_address_listens_only_there() {
    let listener = Listener::tcp("127.0.0.2", 0).unwrap();
    let port = listener.local_addr().unwrap().port();
    serving(vec![listener], async {
        assert!(answers(&format!("127.0.0.2:{port}")).await);
        assert!(!answers(&format!("127.0.0.1:{port}")).await);
    })
    .await;
}

#[tokio::test]
async fn a_name_is_resolved() {
    let listener = Listener::tcp("localhost", 0).unwrap();
    let address = listener.local_addr().unwrap();
    assert!(address.ip().is_loopback());
    assert!(Listener::tcp("no.such.host.invalid", 0).is_err());
}

#[tokio::test]
async fn a_port_in_use_is_an_error() {
    let listener = Listener::tcp("127.0.0.1", 0).unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(
        Listener::tcp("127.0.0.1", port).unwrap_err().kind(),
        ErrorKind::AddrInUse
    );
}

#[tokio::test]
async fn several_listeners_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let tcp = Listener::tcp("127.0.0.1", 0).unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let unix = Listener::unix(&path).unwrap();
    assert_eq!(unix.local_addr(), None);
    serving(vec![tcp, unix], async {
        assert!(answers(&address).await);
        let mut client = Client::new(UnixStream::connect(&path).await.unwrap());
        assert_eq!(client.ask(get("/peer")).await.text(), "@");
        assert_eq!(client.ask(get("/")).await.text(), "hello");
    })
    .await;
    assert!(!path.exists(), "the socket file is left behind");
}

#[tokio::test]
async fn a_stale_socket_file_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.metadata().unwrap().file_type().is_socket());
    let unix = Listener::unix(&path).unwrap();
    serving(vec![unix], async {
        let mut client = Client::new(UnixStream::connect(&path).await.unwrap());
        assert_eq!(client.ask(get("/")).await.text(), "hello");
    })
    .await;
}

#[tokio::test]
async fn a_socket_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let first = Listener::unix(&path).unwrap();
    assert_eq!(
        Listener::unix(&path).unwrap_err().kind(),
        ErrorKind::AddrInUse
    );
    assert!(path.exists());
    drop(first);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    std::fs::write(&path, "precious").unwrap();
    let error = Listener::unix(&path).unwrap_err();
    assert!(
        error.to_string().contains("specified path is not a socket"),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn a_replaced_socket_file_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let ours = Listener::unix(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(ours);
    assert!(path.exists());
}
