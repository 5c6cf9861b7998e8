//! Where the server can listen.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::unix::fs::FileTypeExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use landfall_server::net::{Limits, Listener, NetStats, Shutdown, serve};
use tokio::net::{TcpStream, UnixStream};

use crate::net_kit::{Client, PATIENCE, Probe, get};

/// Serves on these listeners while `body` runs.
async fn serving<T>(listeners: Vec<Listener>, body: impl Future<Output = T>) -> T {
    let shutdown = Shutdown::new(Duration::ZERO);
    let stats = Arc::new(NetStats::default());
    let task = tokio::spawn(serve(
        listeners,
        Probe,
        Limits::default(),
        shutdown.clone(),
        stats,
    ));
    let out = body.await;
    shutdown.begin();
    tokio::time::timeout(PATIENCE, task)
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
async fn all_addresses_means_both_ip_versions() {
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
        assert!(
            answer.text().contains(&format!(" 127.0.0.1:{port} ")),
            "{}",
            answer.text()
        );
    })
    .await;
}

#[tokio::test]
async fn one_address_means_one_address() {
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
        assert_eq!(client.ask(get("/peer")).await.text(), "@ @ http");
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
async fn a_socket_put_in_place_of_ours_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let ours = Listener::unix(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(ours);
    assert!(path.exists());
}

/// What the child process of the next test does; nothing when run by itself.
///
/// The environment is that of one process, so the protocol can only be tried in a process of its
/// own: this very test binary, told to run this test alone.
#[test]
fn systemd_child() {
    if std::env::var_os("LANDFALL_TEST_SYSTEMD").is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listeners = Listener::from_systemd().unwrap();
        assert!(std::env::var_os("LISTEN_FDS").is_none());
        println!("listening on {}", listeners.len());
        serving(listeners, async {
            // Until the parent closes our standard input.
            let end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
            end.await.unwrap().unwrap();
        })
        .await;
    });
}

/// Plays systemd: binds two sockets, puts them at descriptors 3 and 4, and becomes the server.
const SYSTEMD: &str = r#"
import os, socket, sys
tcp = socket.create_server(("127.0.0.1", 0))
unix = socket.socket(socket.AF_UNIX)
unix.bind(sys.argv[1])
unix.listen()
print("port", tcp.getsockname()[1], flush=True)
# By way of high numbers, so that one can't overwrite the other.
high = [os.dup2(s.fileno(), n) for s, n in ((tcp, 50), (unix, 51))]
os.dup2(high[0], 3)
os.dup2(high[1], 4)
os.closerange(50, 52)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()), LANDFALL_TEST_SYSTEMD="1")
os.execv(sys.argv[2], sys.argv[2:])
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_handed_over_by_systemd_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let mut child = Command::new("python3")
        .args(["-c", SYSTEMD])
        .arg(&path)
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "net_listen::systemd_child",
            "--nocapture",
            "--test-threads=1",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let port = lines
        .find_map(|line| line.strip_prefix("port ").map(str::to_owned))
        .unwrap();
    let said = lines.find(|line| line.contains("listening on")).unwrap();
    assert!(said.contains("listening on 2"), "{said}");

    assert!(answers(&format!("127.0.0.1:{port}")).await);
    let mut client = Client::new(UnixStream::connect(&path).await.unwrap());
    assert_eq!(client.ask(get("/")).await.text(), "hello");

    drop(child.stdin.take());
    // Whatever else the test harness of the child prints must find a reader.
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    assert!(
        path.exists(),
        "a socket of systemd's is systemd's to remove"
    );
}
