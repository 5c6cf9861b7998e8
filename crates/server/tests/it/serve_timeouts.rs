//! Silent and slow clients release resources for others.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use crate::serve_harness::{
    Answer, Client, KIB, Landfall, MIB, Over, Request, TIMEOUT, base64, content, crc32, eventually,
};

/// Returns a request whose body, of this length, has a checksum.
fn verified(path: &str, length: u64) -> Request {
    Request::patch(path, 0)
        .with("Upload-Checksum", "sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00=")
        .with("Content-Length", length)
}

/// Starts a request with a checksum on a new upload, and sends one byte of its body.
fn silent(server: &Landfall, length: u64) -> (Client, String) {
    let mut client = server.client();
    let path = client.create(length);
    client.send(verified(&path, length).bytes());
    client.send([1]);
    (client, path)
}

/// Sends a byte now and then until it is time to stop or the server has enough.
fn trickle(clients: &mut [(Client, String)], pause: Duration, is_over: &AtomicBool) {
    while !is_over.load(Relaxed) {
        for (client, _) in &mut *clients {
            let _ = client.try_send([2]);
        }
        thread::sleep(pause);
    }
}

/// Sends a whole upload, and retries while the server is full.
fn uploads(server: &Landfall, whole: &[u8]) {
    let end = Instant::now() + TIMEOUT;
    let path = server.client().create(whole.len() as u64);
    loop {
        let answer = server.client().patch(&path, 0, whole);
        if answer.status == 204 {
            return server.client().holds(&path, whole);
        }
        is_full(&answer);
        assert!(Instant::now() < end, "no permit came free");
        thread::sleep(Duration::from_millis(100));
    }
}

fn is_full(answer: &Answer) {
    answer.refuses(503, "ERR_TOO_MANY_UPLOADS");
    assert!(answer.number("Retry-After") > 0);
}

#[test]
fn silent_clients_with_checksums_release_memory_for_others() {
    // Memory for two writes, and half a MiB for unverified bytes.
    let server = Landfall::start(&["-max-buffered-bytes", "1MiB", "-durability", "none"]);
    let mut clients: Vec<_> = (0..150)
        .map(|n| silent(&server, [256, 1, 64][n % 3] * KIB))
        .collect();
    eventually("not all are writing", || {
        server.metric("landfall_uploads_live") == 150.0
    });
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Over(&is_over);
        let (trickling, _) = clients.split_at_mut(50);
        scope.spawn(|| trickle(trickling, Duration::from_millis(20), &is_over));

        let begun = Instant::now();
        uploads(&server, &content(1, 16 * MIB));
        for size in [100, 100 * KIB, 300 * KIB] {
            let whole = content(2, size);
            let mut client = server.client();
            let path = client.create(size);
            let value = format!("crc32 {}", base64(&crc32(&whole).to_be_bytes()));
            let request = Request::patch(&path, 0).with("Upload-Checksum", value);
            let answer = client.ask(request.body(&whole));
            assert_eq!(answer.status, 204, "{answer:?}");
            client.holds(&path, &whole);
        }
        // Otherwise the silent ones would have to time out first.
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(30), "{took:?}");
    });
    // They are still there, and yield when they are to.
    let (mut client, path) = clients.pop().unwrap();
    let answer = server
        .client()
        .patch(&path, 0, &content(3, 256 * KIB)[..1000]);
    assert_eq!(answer.status, 204, "{answer:?}");
    client.answer().refuses(423, "ERR_UPLOAD_INTERRUPTED");
}

fn uploads_on_disk(server: &Landfall) -> usize {
    let names = std::fs::read_dir(server.dir()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".info")).count()
}

#[test]
fn a_silent_client_loses_its_permit_to_a_waiting_one() {
    let plain = |server: &Landfall| {
        let mut client = server.client();
        let path = client.create(MIB);
        client.begin(Request::patch(&path, 0), MIB);
        client.send(&content(4, MIB)[..300_000]);
        server.client().reaches(&path, 300_000);
        (client, Some((path, 300_000)))
    };
    let creating = |server: &Landfall| {
        let mut client = server.client();
        let request = Request::post()
            .with("Upload-Length", MIB)
            .with("Content-Type", "application/offset+octet-stream");
        client.begin(request, MIB);
        client.send([1; 1000]);
        (client, None)
    };
    let checked = |server: &Landfall| {
        let (client, path) = silent(server, 1000);
        (client, Some((path, 0)))
    };
    let kinds: [&(dyn Fn(&Landfall) -> _ + Sync); 3] = [&plain, &creating, &checked];
    thread::scope(|scope| {
        for begin in kinds {
            scope.spawn(move || {
                let server = Landfall::start(&["-max-uploads-in-flight", "1"]);
                let (mut client, path): (Client, Option<(String, u64)>) = begin(&server);
                eventually("it is not writing", || {
                    server.metric("landfall_uploads_live") == 1.0
                });
                uploads(&server, &content(5, MIB));
                is_full(&client.answer());
                assert_eq!(server.metric("landfall_evictions_total"), 1.0);
                match path {
                    // Verified bytes, and those without a checksum, are kept.
                    Some((path, offset)) => assert_eq!(server.client().offset(&path), offset),
                    // Nothing is kept of an upload whose URL the client does not know.
                    None => assert_eq!(uploads_on_disk(&server), 1),
                }
            });
        }
    });
}

#[test]
fn silent_connections_are_evicted_at_the_limit() {
    let server = Landfall::start(&["-max-connections", "4", "-durability", "none"]);
    let whole = content(10, 64 * MIB);
    let mut moving = server.client();
    let path = moving.create(64 * MIB);
    moving.begin(Request::patch(&path, 0), 64 * MIB);
    let mut idle = server.client();
    assert_eq!(idle.ask(Request::get("/healthz")).status, 200);
    let (mut quiet, _) = silent(&server, 100_000);
    let mut slow = [silent(&server, 100_000)];

    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut sent = 0;
    thread::scope(|scope| {
        let _over = Over(&is_over);
        scope.spawn(|| trickle(&mut slow, Duration::from_millis(50), &is_over));
        for _ in 0..3 {
            scope.spawn(|| {
                // It waits in the queue of the socket, and is never idle for long.
                let mut client = server.client();
                assert_eq!(client.ask(Request::get("/healthz")).status, 200);
                served.fetch_add(1, Relaxed);
                while !is_over.load(Relaxed) {
                    assert_eq!(client.ask(Request::get("/healthz")).status, 200);
                    thread::sleep(Duration::from_millis(20));
                }
            });
        }
        let end = Instant::now() + TIMEOUT;
        while served.load(Relaxed) < 3 {
            assert!(Instant::now() < end, "they were not served");
            moving.send(&whole[sent..sent + 32 * 1024]);
            sent += 32 * 1024;
            thread::sleep(Duration::from_millis(50));
        }
    });
    idle.is_closed();
    for client in [&mut quiet, &mut slow[0].0] {
        client.answer().refuses(500, "ERR_READ_TIMEOUT");
    }
    moving.send(&whole[sent..]);
    assert_eq!(moving.answer().status, 204);
    assert!(server.metric("landfall_connections_evicted_total") >= 3.0);
}
