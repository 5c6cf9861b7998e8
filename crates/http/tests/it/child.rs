//! Tests that need a separate process: inherited sockets, signals, a lack of file descriptors. The
//! process is this test binary, which runs only the test [`child`].

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use landfall_http::{ConnectionLimits, Listener, NetStats, Shutdown, serve};
use tokio::net::{TcpStream, UnixStream};

use crate::harness::{Client, Probe, TIMEOUT, get};

/// Serves until a signal or the end of standard input; does nothing unless it is the child.
#[test]
fn child() {
    let Ok(role) = std::env::var("LANDFALL_TEST_CHILD") else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listeners = match role.as_str() {
            "systemd" => Listener::from_systemd().unwrap(),
            _ => vec![Listener::tcp("127.0.0.1", 0).unwrap()],
        };
        assert!(std::env::var_os("LISTEN_FDS").is_none());
        let shutdown = Shutdown::new(Duration::from_secs(10));
        tokio::spawn(shutdown.clone().on_signals().unwrap());
        let port = listeners[0].local_addr().unwrap().port();
        println!("\nserving {} on {port}", listeners.len());
        let end = shutdown.clone();
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            end.start();
        });
        let stats = Arc::new(NetStats::default());
        serve(
            listeners,
            Probe,
            ConnectionLimits::default(),
            shutdown,
            stats,
            async {},
        )
        .await
        .unwrap();
    });
}

struct Served {
    process: Child,
    listeners: usize,
    port: u16,
}

impl Served {
    /// `run` gets the child's command line appended.
    fn start(run: &mut Command, role: &str) -> Self {
        let mut process = run
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "child::child", "--nocapture", "--test-threads=1"])
            .env("LANDFALL_TEST_CHILD", role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let said = lines.find_map(|line| line.unwrap().strip_prefix("serving ").map(str::to_owned));
        let said = said.expect("the child does not serve");
        let (listeners, port) = said.split_once(" on ").unwrap();
        let (listeners, port) = (listeners.parse().unwrap(), port.parse().unwrap());
        // Drain the rest of the child's output.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            process,
            listeners,
            port,
        }
    }

    async fn connect(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(("127.0.0.1", self.port)).await.unwrap())
    }

    fn terminate(&self) {
        let id = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
    }

    async fn status(mut self) -> ExitStatus {
        let waiting = tokio::task::spawn_blocking(move || self.process.wait());
        tokio::time::timeout(TIMEOUT, waiting)
            .await
            .expect("the child goes on")
            .unwrap()
            .unwrap()
    }
}

/// `env` runs a command as it is.
fn plainly() -> Command {
    Command::new("env")
}

#[tokio::test]
async fn a_first_signal_lets_requests_finish() {
    let server = Served::start(&mut plainly(), "tcp");
    let mut busy = server.connect().await;
    busy.send("PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        .await;
    // Answered on another connection: so the first one has been accepted.
    assert_eq!(server.connect().await.ask(get("/")).await.status, 200);
    server.terminate();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(busy.ask("def").await.text(), "6 complete");
    assert!(busy.closed().await);
    assert!(server.status().await.success());
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let server = Served::start(&mut plainly(), "tcp");
    let mut busy = server.connect().await;
    busy.send(get("/late/60000")).await;
    assert_eq!(server.connect().await.ask(get("/")).await.status, 200);
    server.terminate();
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.terminate();
    assert!(busy.closed().await);
    assert_eq!(server.status().await.code(), Some(1));
}

/// Simulates systemd: binds two sockets to descriptors 3 and 4, and becomes the server.
const SYSTEMD: &str = r#"
import os, socket, sys
tcp = socket.create_server(("127.0.0.1", 0))
unix = socket.socket(socket.AF_UNIX)
unix.bind(sys.argv[1])
unix.listen()
# By way of high numbers, so that one can't overwrite the other.
high = [os.dup2(s.fileno(), n) for s, n in ((tcp, 50), (unix, 51))]
os.dup2(high[0], 3)
os.dup2(high[1], 4)
os.closerange(50, 52)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"#;

fn systemd(socket: &Path) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", SYSTEMD]).arg(socket);
    command
}

#[tokio::test]
async fn sockets_passed_by_systemd_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let mut server = Served::start(&mut systemd(&path), "systemd");
    assert_eq!(server.listeners, 2);
    assert_eq!(server.connect().await.ask(get("/")).await.text(), "hello");
    let mut client = Client::new(UnixStream::connect(&path).await.unwrap());
    assert_eq!(client.ask(get("/peer")).await.text(), "@");
    drop(client);
    drop(server.process.stdin.take());
    assert!(server.status().await.success());
    assert!(
        path.exists(),
        "a socket of systemd's is systemd's to remove"
    );
}

#[tokio::test]
async fn accepting_resumes_after_a_lack_of_file_descriptors() {
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 40; exec \"$@\"", "sh"]);
    let mut server = Served::start(&mut limited, "tcp");
    let mut clients = Vec::new();
    for _ in 0..60 {
        let mut client = server.connect().await;
        client.send(get("/")).await;
        clients.push(client);
    }
    // Accepted ones are served; the others wait.
    assert_eq!(clients[0].answer().await.unwrap().text(), "hello");
    assert!(clients[59].quiet(Duration::from_millis(300)).await);
    let last = clients.pop().unwrap();
    drop(clients);
    let mut last = last;
    assert_eq!(last.answer().await.unwrap().text(), "hello");
    drop(last);
    drop(server.process.stdin.take());
    assert!(server.status().await.success());
}
