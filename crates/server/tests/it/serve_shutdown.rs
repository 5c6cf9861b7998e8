//! Ending on a signal without losing a byte.

use std::io::{self, BufRead as _, BufReader};

use rustix::process::{Pid, Signal, kill_process};

use crate::serve_harness::{
    Landfall, MIB, Request, URL_LINE, assert_same, content, eventually, program,
};

#[test]
fn after_sigterm_a_running_patch_finishes() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Landfall::start(&["-shutdown-timeout", "60s"]);
        let bytes = content(1, 2 * MIB);
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let mut client = server.client();
        let path = client.create(2 * MIB);
        client.begin(Request::patch(&path, 0), 2 * MIB);
        client.send(first);
        server.client().reaches(&path, MIB);

        server.signal(signal);
        server.refuses_connections();
        client.send(second);
        let answer = client.answer();
        assert_eq!((answer.status, answer.offset()), (204, 2 * MIB));
        assert_eq!(answer.header("Connection"), Some("close"));
        client.is_closed();
        assert_eq!(server.wait().code(), Some(0));
        server.says("Shutdown completed. Goodbye!");
        assert_same(&std::fs::read(server.file(&path)).unwrap(), &bytes);
    }
}

#[test]
fn a_slow_client_gets_503_and_no_byte_is_lost() {
    for timeout in ["300ms", "0"] {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Landfall::on(dir.path(), &["-shutdown-timeout", timeout]);
        let bytes = content(2, 3 * MIB);
        let sent = 2 * MIB + 12_345;
        let mut client = server.client();
        let path = client.create(3 * MIB);
        client.begin(Request::patch(&path, 0), 3 * MIB);
        client.send(&bytes[..sent as usize]);
        server.client().reaches(&path, sent);

        server.signal(Signal::TERM);
        let answer = client.answer();
        answer.refuses(503, "ERR_SERVER_SHUTDOWN");
        assert!(answer.number("Retry-After") > 0);
        assert_eq!(answer.header("Connection"), Some("close"));
        assert_eq!(server.wait().code(), Some(0));

        let server = Landfall::on(dir.path(), &[]);
        let mut client = server.client();
        assert_eq!(client.offset(&path), sent);
        client.resumes_to(&path, &bytes);
        server.stop();
    }
}

#[test]
fn a_second_signal_exits_at_once_with_status_1() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Landfall::on(dir.path(), &["-shutdown-timeout", "10m"]);
    let bytes = content(4, 2 * MIB);
    let mut client = server.client();
    let path = client.create(2 * MIB);
    client.begin(Request::patch(&path, 0), 2 * MIB);
    client.send(&bytes[..MIB as usize]);
    server.client().reaches(&path, MIB);

    server.signal(Signal::TERM);
    server.refuses_connections();
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(1), "{}", server.log());

    let server = Landfall::on(dir.path(), &[]);
    let mut client = server.client();
    assert_eq!(client.offset(&path), MIB);
    client.resumes_to(&path, &bytes);
    server.stop();
}

/// `landfall 2>&1 | head`: `tracing` panicked in the task that waits for signals, and only SIGKILL ended the server.
#[test]
fn a_signal_ends_a_server_whose_log_nobody_reads() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = io::pipe().unwrap();
    let mut command = program();
    command.args(["-host", "127.0.0.1", "-port", "0", "-upload-dir"]);
    command.arg(dir.path()).stdout(writer.try_clone().unwrap());
    let mut child = command.stderr(writer).spawn().unwrap();
    let mut log = BufReader::new(reader).lines().map(Result::unwrap);
    log.find(|line| line.contains(URL_LINE)).unwrap();
    drop(log);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    eventually("it does not end", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
