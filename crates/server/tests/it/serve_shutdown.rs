//! Ending on a signal without losing a byte.

use std::{thread, time::Duration};

use rustix::process::Signal;

use crate::serve_harness::{Client, KIB, Landfall, MIB, Request, assert_same, content, eventually};

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
fn an_aborted_creation_with_upload_keeps_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Landfall::on(dir.path(), &["-shutdown-timeout", "0"]);
    let bytes = content(3, MIB);
    let mut client = server.client();
    let request = Request::post()
        .with("Upload-Length", MIB)
        .with("Content-Type", "application/offset+octet-stream");
    client.begin(request, MIB);
    client.send(&bytes[..300_000]);
    let stored = || {
        std::fs::read_dir(dir.path()).unwrap().any(|entry| {
            entry.is_ok_and(|entry| entry.metadata().is_ok_and(|meta| meta.len() == 300_000))
        })
    };
    eventually("the bytes are not stored", stored);
    server.signal(Signal::TERM);
    client.answer().refuses(503, "ERR_SERVER_SHUTDOWN");
    assert_eq!(server.wait().code(), Some(0));
    assert!(stored());
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

#[test]
fn new_requests_during_shutdown_are_rejected() {
    let mut server = Landfall::start(&["-shutdown-timeout", "60s"]);
    // Keeps the server up.
    let mut busy = server.client();
    let path = busy.create(5);
    busy.begin(Request::patch(&path, 0), 5);
    busy.send("he");
    server.client().reaches(&path, 2);
    // A request without a complete head has not started.
    let mut late = server.client();
    assert_eq!(late.ask(Request::get("/readyz")).status, 200);
    late.send("GET /readyz HTTP/1.1\r\nHost: a\r\n");

    server.signal(Signal::TERM);
    late.is_closed();
    // A readiness probe is refused, which shows that it is not ready.
    server.refuses_connections();
    // A pipelined request behind a running one has not started.
    busy.send(format!("llo{}", "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"));
    let answer = busy.answer();
    assert_eq!(
        (answer.status, answer.header("Connection")),
        (204, Some("close"))
    );
    busy.is_closed();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn shutdown_with_200_open_connections() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Landfall::on(dir.path(), &["-shutdown-timeout", "500ms"]);
    let bytes = content(5, 64 * KIB);
    let mut idle = Vec::new();
    let mut busy: Vec<(Client, String, usize)> = Vec::new();
    for n in 0..100 {
        let mut client = server.client();
        let path = client.create(64 * KIB);
        idle.push(client);
        let mut client = server.client();
        client.begin(Request::patch(&path, 0), 64 * KIB);
        let sent = n * 600;
        client.send(&bytes[..sent]);
        busy.push((client, path, sent));
    }
    let mut looker = server.client();
    for (_, path, sent) in &busy {
        looker.reaches(path, *sent as u64);
    }
    drop(looker);

    server.signal(Signal::TERM);
    for client in &mut idle {
        client.is_closed();
    }
    for (client, _, _) in &mut busy {
        client.answer().refuses(503, "ERR_SERVER_SHUTDOWN");
        client.is_closed();
    }
    assert_eq!(server.wait().code(), Some(0));

    let server = Landfall::on(dir.path(), &[]);
    let mut client = server.client();
    for (_, path, sent) in &busy {
        assert_eq!(client.offset(path), *sent as u64);
        client.resumes_to(path, &bytes);
    }
    server.stop();
}

#[test]
fn a_running_download_finishes() {
    let mut server = Landfall::start(&["-shutdown-timeout", "60s"]);
    // More than the sockets' buffers take.
    let bytes = content(6, 32 * MIB);
    let mut client = server.client();
    let path = client.upload(&bytes);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    thread::sleep(Duration::from_millis(50));
    server.signal(Signal::TERM);
    server.refuses_connections();
    let answer = client.answer();
    assert_eq!(answer.status, 200);
    assert_same(&answer.body, &bytes);
    assert_eq!(server.wait().code(), Some(0));
}
