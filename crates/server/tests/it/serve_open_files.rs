//! A server without file descriptors: connections wait, requests get 503 with `Retry-After`, a failed
//! creation leaves nothing, and everything works again once files are closed.

use std::{
    collections::BTreeSet,
    fs, thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, prlimit};

use crate::serve_harness::{
    Answer, Client, KIB, Landfall, Request, TIMEOUT, URL_LINE, content, eventually, program,
};

/// Sets the limit of open files of a running server.
fn allow_files(server: &Landfall, more: Option<usize>) {
    let limit = prlimit(None, Resource::Nofile, current_limit())
        .unwrap()
        .maximum;
    let current = more.map(|more| {
        let open: BTreeSet<u64> = fs::read_dir(format!("/proc/{}/fd", server.pid().as_raw_pid()))
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        (0..).filter(|fd| !open.contains(fd)).nth(more).unwrap()
    });
    let new = Rlimit {
        current: current.or(limit),
        maximum: limit,
    };
    prlimit(Some(server.pid()), Resource::Nofile, new).unwrap();
}

/// Returns the limit of this process.
fn current_limit() -> Rlimit {
    rustix::process::getrlimit(Resource::Nofile)
}

fn uploads(server: &Landfall) -> BTreeSet<String> {
    fs::read_dir(server.dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect()
}

#[track_caller]
fn asks_to_retry(answer: &Answer) {
    answer.refuses(503, "ERR_STORAGE_UNAVAILABLE");
    assert!(answer.number("Retry-After") > 0);
}

#[test]
fn requests_without_a_file_descriptor_are_answered_503_and_leave_nothing() {
    for leases in ["store", "memory"] {
        let server = Landfall::start(&["-lease", leases]);
        let bytes = content(1, 64 * KIB);
        let mut client = server.client();
        let path = client.create(64 * KIB);
        assert_eq!(client.patch(&path, 0, &bytes[..1000]).status, 204);
        let finished = client.upload(&bytes[..5000]);

        allow_files(&server, Some(0));
        let before = uploads(&server);
        let creation = Request::post()
            .with("Upload-Length", 1000)
            .with("Content-Type", "application/offset+octet-stream")
            .body(&bytes[..1000]);
        asks_to_retry(&client.ask(creation.clone()));
        asks_to_retry(&client.ask(Request::get(&finished)));
        assert_eq!(uploads(&server), before);
        let answer = client.patch(&path, 1000, &bytes[1000..]);
        asks_to_retry(&answer);

        // With a few descriptors: a creation must clean up when the next file is denied.
        for more in 1..5 {
            allow_files(&server, Some(more));
            let before = uploads(&server);
            // A refused body may have closed the connection.
            let Ok(mut client) = crate::serve_harness::Client::try_connect(server.address()) else {
                continue;
            };
            client
                .stream
                .set_read_timeout(Some(Duration::from_millis(300)))
                .unwrap();
            match client.try_ask(creation.clone()) {
                Ok(Some(answer)) if answer.status == 201 => {}
                Ok(Some(answer)) => {
                    asks_to_retry(&answer);
                    assert_eq!(uploads(&server), before, "with {more} files");
                }
                // Not accepted yet.
                Ok(None) | Err(_) => {}
            }
        }

        allow_files(&server, None);
        let mut client = server.client();
        assert_eq!(client.offset(&path), 1000);
        client.resumes_to(&path, &bytes);
        client.holds(&finished, &bytes[..5000]);
        client.upload(&bytes);
        server.stop();
    }
}

/// Creates an upload with its bytes, and retries while requested.
fn eventually_creates(server: &Landfall, bytes: &[u8]) -> String {
    let end = Instant::now() + TIMEOUT;
    loop {
        assert!(Instant::now() < end, "it is not created");
        let creation = Request::post()
            .with("Upload-Length", bytes.len())
            .with("Content-Type", "application/offset+octet-stream")
            .body(bytes);
        if let Ok(Some(answer)) = server.client().try_ask(creation) {
            if answer.status == 201 {
                return answer.created();
            }
            asks_to_retry(&answer);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn connections_wait_without_file_descriptors() {
    let server = Landfall::start(&[]);
    let bytes = content(2, 64 * KIB);
    let mut kept = server.client();
    let path = kept.create(64 * KIB);
    assert_eq!(kept.patch(&path, 0, &bytes[..1000]).status, 204);

    allow_files(&server, Some(0));
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| eventually_creates(&server, &bytes)))
            .collect();
        // Connected clients are served. A waiting one may have taken the last descriptor.
        let errors = "landfall_accept_errors_total ";
        let read = |client: &mut Client| {
            let text = client.ask(Request::get("/metrics")).text();
            let line = text.lines().find(|line| line.starts_with(errors));
            line.map_or(0.0, |line| line[errors.len()..].parse::<f64>().unwrap())
        };
        eventually("all are accepted", || read(&mut kept) >= 1.0);
        assert_eq!(kept.ask(Request::get("/healthz")).status, 200);
        // The client may continue, or is asked to retry.
        let answer = kept.patch(&path, 1000, &bytes[1000..]);
        if answer.status != 204 {
            asks_to_retry(&answer);
        }

        allow_files(&server, None);
        for upload in waiting {
            let path = upload.join().unwrap();
            server.client().holds(&path, &bytes);
        }
    });
    server.client().resumes_to(&path, &bytes);
    server.stop();
}

#[test]
fn connections_are_limited_by_open_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("sh");
    let serve = program();
    command
        .args(["-c", "ulimit -n 128; exec \"$@\"", "sh"])
        .arg(serve.get_program())
        .args([
            "-host",
            "127.0.0.1",
            "-port",
            "0",
            "-expose-metrics",
            "-upload-dir",
        ])
        .arg(dir.path());
    let server = Landfall::spawn(command, dir.path());
    server.says(URL_LINE);
    server.says(
        "Accepting up to 32 connections: --max-connections 10000 does not fit 128 open files",
    );
    let bytes = content(1, 10 * KIB);
    // Each connection writes an upload, as far as its last byte.
    let mut clients: Vec<_> = (0..32).map(|_| server.client()).collect();
    let paths: Vec<String> = clients
        .iter_mut()
        .map(|client| client.create(10 * KIB))
        .collect();
    for (client, path) in clients.iter_mut().zip(&paths) {
        client.begin(Request::patch(path, 0), 10 * KIB);
        client.send(&bytes[..bytes.len() - 1]);
    }
    eventually("the bytes don't arrive", || {
        let size = |path| fs::metadata(server.file(path)).map_or(0, |data| data.len());
        paths.iter().all(|path| size(path) == 10 * KIB - 1)
    });
    // One more waits, and is served when there is room for it.
    thread::scope(|scope| {
        let one_more = scope.spawn(|| server.client().upload(&bytes));
        thread::sleep(Duration::from_millis(50));
        assert!(!one_more.is_finished(), "served beyond the limit");
        for client in &mut clients {
            client.send(&bytes[bytes.len() - 1..]);
            assert_eq!(client.answer().status, 204);
        }
        clients.clear();
        let path = one_more.join().unwrap();
        server.client().holds(&path, &bytes);
    });
    for path in &paths {
        server.client().holds(path, &bytes);
    }
    assert!(
        !server.log().contains("InternalServerError"),
        "{}",
        server.log()
    );
    server.stop();
}
