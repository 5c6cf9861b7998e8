//! Notifications of systemd over its socket.

use std::{fs, os::unix::net::UnixDatagram, path::Path};

use rustix::process::Signal;

use crate::serve_harness::{Landfall, Request, TIMEOUT, program};

/// Starts a server with a socket in `NOTIFY_SOCKET`.
fn start(dir: &Path, variables: &[(&str, &str)]) -> (Landfall, UnixDatagram) {
    let path = dir.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let config = dir.join("landfall.toml");
    fs::write(&config, "").unwrap();
    let mut command = program();
    command.args(["-host=127.0.0.1", "-port=0", "-upload-dir"]);
    command.arg(dir.join("uploads")).arg("-config").arg(config);
    command
        .env_remove("WATCHDOG_PID")
        .env_remove("WATCHDOG_USEC");
    command.env("NOTIFY_SOCKET", path);
    command.envs(variables.iter().copied());
    (Landfall::spawn(command, dir), socket)
}

fn next(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let count = socket.recv(&mut buffer).expect("no notification");
    String::from_utf8(buffer[..count].to_vec()).unwrap()
}

/// Two messages: that a reload has begun, with the time, and what has become of it.
fn next_reload(socket: &UnixDatagram) -> String {
    let begun = next(socket);
    let time = begun.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    let time = time.unwrap_or_else(|| panic!("{begun:?}")).trim_end();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let age = now.tv_sec - time.parse::<i64>().unwrap() / 1_000_000;
    assert!((0..60).contains(&age), "{begun:?} at {now:?}");
    next(socket)
}

#[test]
fn systemd_is_told_of_the_start_each_reload_and_the_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    let (mut server, socket) = start(dir.path(), &[]);
    assert_eq!(next(&socket), "READY=1\nSTATUS=Serving uploads\n");
    let mut client = server.client();
    let path = client.create(10);
    client.begin(Request::patch(&path, 0), 10);

    let config = dir.path().join("landfall.toml");
    fs::write(&config, "log-level = \"debug\"").unwrap();
    server.signal(Signal::HUP);
    assert_eq!(next_reload(&socket), "READY=1\nSTATUS=Serving uploads\n");
    fs::write(&config, "no-such-setting = 1\nlog-level = 7").unwrap();
    server.signal(Signal::HUP);
    let failed = next_reload(&socket);
    let start = "READY=1\nSTATUS=Settings not reloaded: ";
    assert!(failed.starts_with(start), "{failed}");
    assert!(failed.contains("no-such-setting"), "{failed}");
    assert_eq!(failed.lines().count(), 2, "{failed}");

    // STOPPING=1 is sent while requests still run.
    server.signal(Signal::TERM);
    let stopping = "STOPPING=1\nSTATUS=Finishing running requests\n";
    assert_eq!(next(&socket), stopping);
    client.send(b"0123456789");
    assert_eq!(client.answer().status, 204);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn an_idle_server_reports_its_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    let (server, socket) = start(dir.path(), &[]);
    assert!(next(&socket).starts_with("READY=1\n"));
    server.stop();
    assert!(next(&socket).starts_with("STOPPING=1\n"));
}

#[test]
fn the_watchdog_is_told_that_the_server_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (server, socket) = start(dir.path(), &[("WATCHDOG_USEC", "200000")]);
    assert!(next(&socket).starts_with("READY=1\n"));
    for _ in 0..3 {
        assert_eq!(next(&socket), "WATCHDOG=1\n");
    }
    server.stop();
    let other = tempfile::tempdir().unwrap();
    let foreign = [("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")];
    let (server, socket) = start(other.path(), &foreign);
    assert!(next(&socket).starts_with("READY=1\n"));
    server.stop();
    assert!(next(&socket).starts_with("STOPPING=1\n"), "no watchdog");
}

#[test]
fn a_socket_that_cannot_be_reached_does_not_stop_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let missing = [("NOTIFY_SOCKET", "/nonexistent/notify")];
    let (server, _socket) = start(dir.path(), &missing);
    server.says("failed to notify systemd");
    server.stop();
}
