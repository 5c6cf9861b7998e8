//! Listening: UNIX sockets, sockets of systemd, HTTP/2 with prior knowledge.

use std::{
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::Path,
    process::{ChildStdin, Command},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use rustix::process::Signal;

use crate::serve_harness::{
    Client, Landfall, MIB, Over, Request, TIMEOUT, URL_LINE, content, program, remove_settings, run,
};

fn at_socket(path: &Path) -> Client<UnixStream> {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    Client::new(stream)
}

#[test]
fn a_unix_socket_accepts_uploads_and_is_removed_on_exit() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, socket) = (parent.path().join("up"), parent.path().join("socket"));
    // A socket file left by a killed process is replaced.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let start = || {
        let mut command = program();
        command
            .arg("-upload-dir")
            .arg(&dir)
            .arg("-unix-sock")
            .arg(&socket);
        Landfall::launch(command, &dir)
    };
    let mut server = start();
    server.says(&format!("Using {} as socket to listen.", socket.display()));
    server.says("Dashboard: off");
    let bytes = content(1, MIB);
    let mut client = at_socket(&socket);
    let created = client.ask(Request::post().with("Upload-Length", MIB));
    let location = created.header("Location").unwrap();
    assert!(
        location.starts_with("http://landfall.test/files/"),
        "{location}"
    );
    let path = created.created();
    assert_eq!(client.patch(&path, 0, &bytes[..1000]).status, 204);
    client.resumes_to(&path, &bytes);

    // A second one on the same socket finds it taken, and leaves it alone.
    let mut command = program();
    command
        .arg("-upload-dir")
        .arg(&dir)
        .arg("-unix-sock")
        .arg(&socket);
    let (code, _, err) = run(&mut command);
    assert_eq!(code, Some(1));
    assert!(err.contains("another process listens on"), "{err}");
    at_socket(&socket).holds(&path, &bytes);

    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!server.log().contains(URL_LINE), "{}", server.log());
    assert!(!socket.exists());

    // Other files are never removed.
    std::fs::write(&socket, "precious").unwrap();
    let mut command = program();
    command
        .arg("-upload-dir")
        .arg(&dir)
        .arg("-unix-sock")
        .arg(&socket);
    let (code, _, err) = run(&mut command);
    assert_eq!(code, Some(1));
    assert!(err.contains("exists and is not a socket"), "{err}");
    assert_eq!(std::fs::read(&socket).unwrap(), b"precious");
}

/// Acts as systemd: binds two sockets and starts the program with them at descriptors 3 and 4; when
/// that ends, starts it again with the same ones after a line of input.
const SYSTEMD: &str = r#"
import os, signal, socket, sys
tcp = socket.create_server(("127.0.0.1", 0))
unix = socket.socket(socket.AF_UNIX)
unix.bind(sys.argv[1])
unix.listen()
print("port", tcp.getsockname()[1], flush=True)
runs = int(sys.argv[2])
for run in range(runs):
    child = os.fork()
    if child == 0:
        # By way of high numbers, so that one can't overwrite the other.
        high = [os.dup2(s.fileno(), n) for s, n in ((tcp, 50), (unix, 51))]
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)
        os.closerange(50, 52)
        os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()))
        os.execv(sys.argv[3], sys.argv[3:])
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    print("child", child, flush=True)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        sys.exit(status)
    print("ended", run, flush=True)
    if run + 1 < runs:
        # Nobody accepts now; a client that connects waits.
        sys.stdin.readline()
"#;

fn activated(socket: &Path, dir: &Path, runs: u32) -> (Landfall, ChildStdin) {
    let mut command = Command::new("python3");
    remove_settings(&mut command);
    command
        .args(["-c", SYSTEMD])
        .arg(socket)
        .arg(runs.to_string())
        .arg(env!("CARGO_BIN_EXE_landfall"))
        // These would be used if systemd's sockets did not take precedence.
        .args(["-host", "127.0.0.1", "-port", "1", "-upload-dir"])
        .arg(dir);
    Landfall::spawn_with_input(command, dir)
}

#[test]
fn sockets_of_systemd_are_served_and_outlive_a_restart() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, socket) = (parent.path().join("up"), parent.path().join("socket"));
    let (mut server, mut go_on) = activated(&socket, &dir, 2);
    let port = server.says("port ");
    assert_eq!(port, format!("port {}", server.address().port()));

    let bytes = content(2, MIB);
    let mut client = server.client();
    let path = client.create(MIB);
    assert_eq!(client.patch(&path, 0, &bytes[..500_000]).status, 204);
    assert_eq!(at_socket(&socket).offset(&path), 500_000);

    server.signal(Signal::TERM);
    server.says("ended 0");
    // The socket is there while the program isn't: this client is not refused, it waits.
    let address = server.address();
    let waiting = thread::spawn(move || {
        Client::connect(address).resumes_to(&path, &bytes);
        (path, bytes)
    });
    std::io::Write::write_all(&mut go_on, b"\n").unwrap();
    let (path, bytes) = waiting.join().unwrap();
    at_socket(&socket).holds(&path, &bytes);

    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(
        socket.exists(),
        "a socket of systemd's is systemd's to remove"
    );
}

/// Uploads in small pieces, over a new connection after each interruption; returns their number.
fn upload_through_restarts(address: SocketAddr, whole: &[u8]) -> (String, u32) {
    let path = Client::connect(address).create(whole.len() as u64);
    let mut interruptions = 0;
    loop {
        let mut client = Client::connect(address);
        let mut offset = client.offset(&path) as usize;
        while offset < whole.len() {
            let piece = &whole[offset..whole.len().min(offset + 64 * 1024)];
            let request = Request::patch(&path, offset as u64).body(piece);
            match client.try_ask(request) {
                Ok(Some(answer)) if answer.status == 204 => offset = answer.offset() as usize,
                _ => break,
            }
            thread::sleep(Duration::from_millis(10));
        }
        if offset == whole.len() {
            return (path, interruptions);
        }
        interruptions += 1;
    }
}

#[test]
fn ten_restarts_lose_no_connection_attempt() {
    const RESTARTS: u32 = 10;
    let parent = tempfile::tempdir().unwrap();
    let (dir, socket) = (parent.path().join("up"), parent.path().join("socket"));
    let (mut server, mut go_on) = activated(&socket, &dir, RESTARTS + 1);
    let address = server.address();
    let is_over = AtomicBool::new(false);
    let (wholes, attempts) = thread::scope(|scope| {
        let over = Over(&is_over);
        let uploads: Vec<_> = (0..3)
            .map(|seed| {
                let is_over = &is_over;
                scope.spawn(move || {
                    let (mut uploads, mut interruptions) = (Vec::new(), 0);
                    while !is_over.load(Relaxed) {
                        let whole = content(seed, 4 * MIB);
                        let (path, interrupted) = upload_through_restarts(address, &whole);
                        interruptions += interrupted;
                        uploads.push((path, whole));
                    }
                    assert!(interruptions > 0, "no restart interrupted an upload");
                    uploads
                })
            })
            .collect();
        let visitors: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut attempts = 0;
                    while !is_over.load(Relaxed) {
                        // A refused connection, or one without a response, fails the test.
                        let answer =
                            Client::connect(address).ask(Request::new("OPTIONS", "/files/"));
                        assert_eq!(answer.status, 200);
                        attempts += 1;
                    }
                    attempts
                })
            })
            .collect();
        for run in 0..RESTARTS {
            // Waits in the queue of the socket until the program serves.
            Client::connect(address).ask(Request::new("OPTIONS", "/files/"));
            thread::sleep(Duration::from_millis(200));
            server.signal(Signal::TERM);
            server.says(&format!("ended {run}"));
            std::io::Write::write_all(&mut go_on, b"\n").unwrap();
        }
        drop(over);
        let wholes: Vec<_> = uploads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect();
        let attempts: u32 = visitors.into_iter().map(|t| t.join().unwrap()).sum();
        (wholes, attempts)
    });
    assert!(attempts > RESTARTS, "{attempts} attempts");
    let mut client = server.client();
    for (path, whole) in &wholes {
        client.holds(path, whole);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[test]
fn an_inherited_descriptor_that_is_no_socket_exits_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let script = "exec 3</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";
    let mut command = Command::new("sh");
    remove_settings(&mut command);
    command
        .args([
            "-c",
            script,
            "sh",
            env!("CARGO_BIN_EXE_landfall"),
            "-upload-dir",
        ])
        .arg(dir.path());
    let (code, _, err) = run(&mut command);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("cannot use the sockets of systemd"), "{err}");
}

#[test]
fn http2_is_rejected_unless_enabled() {
    let server = Landfall::start(&[]);
    let mut client = server.client();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let answer = client.answer();
    assert!((400..506).contains(&answer.status), "{answer:?}");
    assert_eq!(server.client().ask(Request::get("/healthz")).status, 200);
}
