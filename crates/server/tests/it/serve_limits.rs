//! Limits: further requests wait or are rejected, and no received byte is lost.

use std::{
    io::{ErrorKind, Read},
    thread,
    time::{Duration, Instant},
};

use crate::serve_harness::{
    KIB, Landfall, MIB, Request, base64, content, crc32, eventually, remove_settings,
};

#[test]
fn connections_above_the_limit_wait() {
    let server = Landfall::start(&["-max-connections", "3"]);
    let mut open: Vec<_> = (0..3).map(|_| server.client()).collect();
    for client in &mut open {
        assert_eq!(client.ask(Request::get("/healthz")).status, 200);
    }
    let mut waiting = server.client();
    waiting.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    waiting
        .stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let early = waiting.stream.read(&mut [0]).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::WouldBlock);
    waiting
        .stream
        .set_read_timeout(Some(crate::serve_harness::TIMEOUT))
        .unwrap();
    drop(open.pop());
    assert_eq!(waiting.answer().status, 200);
    server.says("connection limit reached");
    for client in &mut open {
        assert_eq!(client.ask(Request::get("/healthz")).status, 200);
    }
}

#[test]
fn uploads_above_the_limit_get_retry_after() {
    let server = Landfall::start(&["-max-uploads-in-flight", "2"]);
    let bytes = content(1, 1000);
    let whole = content(2, MIB);
    let mut running: Vec<_> = (0..2)
        .map(|_| {
            let mut client = server.client();
            let path = client.create(MIB);
            client.begin(Request::patch(&path, 0), MIB);
            client.send(&whole[..500]);
            server.client().reaches(&path, 500);
            client
        })
        .collect();
    let mut client = server.client();
    let path = client.create(1000);
    let mut sent = 500;
    for _ in 0..3 {
        // They move, so they keep their permits.
        for other in &mut running {
            other.send(&whole[sent..sent + 100_000]);
        }
        sent += 100_000;
        let answer = client.patch(&path, 0, &bytes);
        answer.refuses(503, "ERR_TOO_MANY_UPLOADS");
        assert!(answer.number("Retry-After") > 0);
    }
    let request = Request::post()
        .with("Upload-Length", 1000)
        .with("Content-Type", "application/offset+octet-stream")
        .body(&bytes);
    client.ask(request).refuses(503, "ERR_TOO_MANY_UPLOADS");
    // Requests other than transfers continue.
    assert_eq!(client.offset(&path), 0);
    for other in &mut running {
        other.send(&whole[sent..]);
        assert_eq!(other.answer().status, 204);
    }
    client.resumes_to(&path, &bytes);
}

#[test]
fn a_slow_head_ends_its_connection() {
    let server = Landfall::start(&[]);
    let mut silent = server.client();
    let mut slow = server.client();
    let begun = Instant::now();
    // Occasional bytes do not extend the timeout.
    slow.send("GET /healthz HTTP/1.1\r\nHost: a\r\nX-Fill: ");
    while slow.try_send("x").is_ok() {
        thread::sleep(Duration::from_millis(500));
    }
    let mut rest = Vec::new();
    let _ = slow.stream.read_to_end(&mut rest);
    let _ = silent.stream.read_to_end(&mut rest);
    let took = begun.elapsed();
    // The minimum, which is a quarter of the default of --network-timeout.
    assert!(took >= Duration::from_secs(15), "{took:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert!(server.metric("landfall_timeouts_total{timer=\"header\"}") >= 2.0);
}

#[test]
fn a_large_head_gets_431() {
    let server = Landfall::start(&[]);
    let fits = Request::get("/healthz").with("X-Fill", "x".repeat((1 << 20) - 1024));
    assert_eq!(server.client().ask(fits).status, 200);
    let large = Request::get("/healthz").with("X-Fill", "x".repeat((1 << 20) + 1024));
    assert_eq!(server.client().ask(large).status, 431);
}

#[test]
fn a_stalled_body_ends_and_its_bytes_are_kept() {
    // Without a minimum rate, so that the inactivity timeout applies.
    let server = Landfall::start(&["-network-timeout", "500ms", "-min-rate", "0"]);
    let bytes = content(2, MIB);
    let mut client = server.client();
    let path = client.create(MIB);
    client.begin(Request::patch(&path, 0), MIB);
    client.send(&bytes[..300_000]);
    let answer = client.answer();
    answer.refuses(500, "ERR_READ_TIMEOUT");
    assert_eq!(answer.header("Connection"), Some("close"));
    let mut client = server.client();
    assert_eq!(client.offset(&path), 300_000);
    client.resumes_to(&path, &bytes);
    assert!(server.metric("landfall_timeouts_total{timer=\"body\"}") >= 1.0);
}

#[test]
fn low_buffer_memory_slows_clients_without_data_loss() {
    let server = Landfall::start(&["-max-buffered-bytes", "1MiB", "-durability", "none"]);
    let wholes: Vec<_> = (0..12).map(|seed| content(seed, 4 * MIB)).collect();
    thread::scope(|scope| {
        for whole in &wholes {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                let path = client.create(4 * MIB);
                client.resumes_to(&path, whole);
            });
        }
    });
    // Also with a checksum, whose bytes are buffered.
    let digest = "Upload-Checksum";
    let mut client = server.client();
    let path = client.create(300 * KIB);
    let whole = content(99, 300 * KIB);
    let value = format!("crc32 {}", base64(&crc32(&whole).to_be_bytes()));
    let request = Request::patch(&path, 0).with(digest, value).body(&whole);
    let answer = client.ask(request);
    assert_eq!(answer.status, 204, "{}", answer.text());
    client.holds(&path, &whole);
}

#[test]
fn a_thousand_slow_clients_do_not_block_a_fast_one() {
    let server = Landfall::start(&["-durability", "none"]);
    let slow: Vec<_> = (0..1000)
        .map(|_| {
            let mut client = server.client();
            let path = client.create(1000);
            client.begin(Request::patch(&path, 0), 1000);
            client.send([1; 10]);
            (client, path)
        })
        .collect();
    eventually("not all are writing", || {
        server.metric("landfall_uploads_live") == 1000.0
    });
    let whole = content(8, 32 * MIB);
    let mut fast = server.client();
    let path = fast.create(32 * MIB);
    fast.resumes_to(&path, &whole);
    for (_, path) in slow.iter().step_by(100) {
        assert_eq!(fast.offset(path), 10);
    }
}

#[test]
fn the_open_file_limit_is_raised_to_the_hard_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("sh");
    remove_settings(&mut command);
    command
        .args(["-c", "ulimit -Sn 40; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_landfall"))
        .args(["-host", "127.0.0.1", "-port", "0", "-upload-dir"])
        .arg(dir.path());
    let server = Landfall::spawn(command, dir.path());
    let mut clients: Vec<_> = (0..100).map(|_| server.client()).collect();
    for client in &mut clients {
        let path = client.create(10);
        client.begin(Request::patch(&path, 0), 10);
        client.send(b"hello");
    }
    for client in &mut clients {
        client.send(b"world");
        assert_eq!(client.answer().status, 204);
    }
}
