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
fn a_slow_body_ends_and_its_bytes_are_kept() {
    let server = Landfall::start(&["-network-timeout", "1s", "-min-rate", "100KiB"]);
    let bytes = content(3, MIB);
    let mut client = server.client();
    let path = client.create(MIB);
    client.begin(Request::patch(&path, 0), MIB);
    let mut sent = 0;
    client.stream.set_nonblocking(true).unwrap();
    // Never silent for long, so that only the minimum rate applies.
    let end = Instant::now() + crate::serve_harness::TIMEOUT;
    while let Err(error) = client.stream.peek(&mut [0]) {
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(Instant::now() < end, "never ended");
        if client.try_send(&bytes[sent..sent + 100]).is_ok() {
            sent += 100;
        }
        thread::sleep(Duration::from_millis(50));
    }
    client.stream.set_nonblocking(false).unwrap();
    client.answer().refuses(500, "ERR_READ_TIMEOUT");
    assert!(sent < 100_000, "{sent}");
    let mut client = server.client();
    let kept = client.offset(&path) as usize;
    // The last ones may have come after the end.
    assert!(kept <= sent && kept + 1000 >= sent, "{kept} of {sent}");
    client.resumes_to(&path, &bytes);
    assert!(server.metric("landfall_timeouts_total{timer=\"rate\"}") >= 1.0);
}

#[test]
fn an_oversized_upload_is_rejected_at_creation() {
    let server = Landfall::start(&["-max-size", "1MiB"]);
    let mut client = server.client();
    let options = client.ask(Request::new("OPTIONS", "/files/"));
    assert_eq!(options.number("Tus-Max-Size"), MIB);
    let post = |n| Request::post().with("Upload-Length", n);
    client
        .ask(post(MIB + 1))
        .refuses(413, "ERR_MAX_SIZE_EXCEEDED");
    client.ask(post(MIB)).created();

    // A deferred length cannot bypass it, with or without Content-Length.
    let deferred = client
        .ask(Request::post().with("Upload-Defer-Length", 1))
        .created();
    let late = Request::patch(&deferred, 0).with("Upload-Length", MIB + 1);
    client
        .ask(late.body(b""))
        .refuses(413, "ERR_MAX_SIZE_EXCEEDED");
    let answer = server.client().patch(&deferred, 0, &content(4, MIB + 1));
    answer.refuses(413, "ERR_UPLOAD_SIZE_EXCEEDED");
    let mut chunked = server.client();
    chunked.send(format!(
        "PATCH {deferred} HTTP/1.1\r\nHost: a\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n\
         Content-Type: application/offset+octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    ));
    let _ = chunked.try_send(format!("{:x}\r\n", MIB + 1));
    let _ = chunked.try_send(content(4, MIB + 1));
    let _ = chunked.try_send("\r\n0\r\n\r\n");
    chunked.answer().refuses(413, "ERR_UPLOAD_SIZE_EXCEEDED");
    let kept = client.offset(&deferred);
    assert!(kept <= MIB, "{kept}");
}

#[test]
fn a_rejection_reaches_a_client_that_is_still_sending() {
    let server = Landfall::start(&["-max-size", "1MiB"]);
    let body = content(5, 32 * MIB);
    for n in 0..5 {
        let mut client = server.client();
        let path = client.create(1000);
        // More than the sockets' buffers take: with a reset, the answer would be lost.
        let request = if n % 2 == 0 {
            Request::patch(&path, 0).body(&body)
        } else {
            Request::post()
                .with("Upload-Length", body.len())
                .with("Content-Type", "application/offset+octet-stream")
                .body(&body)
        };
        let answer = client.ask(request);
        assert_eq!(answer.status, 413, "{answer:?}");
        assert!(answer.text().ends_with('\n'), "{answer:?}");
        client.is_closed();
        assert_eq!(server.client().offset(&path), 0);
    }
}

#[test]
fn a_client_waiting_for_100_continue_is_rejected_without_sending() {
    let server = Landfall::start(&[]);
    let mut client = server.client();
    let path = client.create(1000);
    client.begin(
        Request::patch(&path, 7).with("Expect", "100-continue"),
        1000,
    );
    client.answer().refuses(409, "ERR_MISMATCHED_OFFSET");
    let mut client = server.client();
    client.begin(
        Request::patch(&path, 0).with("Expect", "100-continue"),
        1000,
    );
    assert_eq!(client.answer().status, 100);
    client.send(content(6, 1000));
    assert_eq!(client.answer().status, 204);
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
fn a_wrong_checksum_keeps_the_offset() {
    let server = Landfall::start(&[]);
    let whole = content(7, 2 * MIB);
    let mut client = server.client();
    let path = client.create(2 * MIB);
    assert_eq!(client.patch(&path, 0, &whole[..1000]).status, 204);
    for size in [10, 100_000, MIB as usize] {
        let piece = &whole[1000..1000 + size];
        let value = format!("crc32 {}", base64(&(!crc32(piece)).to_be_bytes()));
        let request = Request::patch(&path, 1000).with("Upload-Checksum", value);
        let answer = client.ask(request.body(piece));
        answer.refuses(460, "ERR_CHECKSUM_MISMATCH");
        client = server.client();
        assert_eq!(client.offset(&path), 1000);
    }
    assert_eq!(server.metric("landfall_checksum_mismatches_total"), 3.0);
    client.resumes_to(&path, &whole);
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
