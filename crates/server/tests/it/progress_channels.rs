//! Progress of clients that send in chunks, in every channel of the real program.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    grants_harness::{Caller, add_key},
    hooks_endpoint::Endpoint,
    serve_harness::{Client, Landfall, Request, eventually, path_of},
};

const CHUNK: usize = 1000;
const CHUNKS: usize = 30;
const PAUSE: Duration = Duration::from_millis(200);

/// A stream of server-sent events, read in the background.
struct EventStream(Arc<Mutex<String>>);

impl EventStream {
    fn open(server: &Landfall, path: &str, key: &str) -> Self {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: landfall.test\r\nAuthorization: Bearer {key}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let text = Arc::new(Mutex::new(String::new()));
        let received = text.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                let read = String::from_utf8_lossy(&buffer[..read]);
                received.lock().unwrap().push_str(&read);
            }
        });
        let stream = Self(text);
        eventually("the stream doesn't begin", || {
            stream.text().contains("retry:")
        });
        stream
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    /// Event names and offsets so far.
    fn events(&self) -> Vec<(String, u64)> {
        let text = self.text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter_map(|data| serde_json::from_str::<Value>(data).ok())
            .map(|event| {
                let offset = &event["upload"]["offset"];
                let kind = event["type"].as_str().unwrap().to_owned();
                (kind, offset.as_u64().unwrap())
            })
            .collect()
    }
}

/// Creates a granted upload and sends it in chunks.
fn send_in_chunks(server: &Landfall, app: &Caller<'_>) {
    let size = CHUNK * CHUNKS;
    let (_, granted) = app.grant(&json!({"id": "1", "filename": "a.bin", "filesize": size}));
    let token = granted["upload_token"].as_str().unwrap();
    let create = Request::post()
        .with("Upload-Length", size)
        .with("Upload-Token", token);
    let made = server.client().ask(create);
    let path = path_of(made.header("Location").unwrap());
    let mut client: Client = server.client();
    let started = Instant::now();
    for n in 0..CHUNKS {
        let due = started + PAUSE * u32::try_from(n).unwrap();
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let offset = (n * CHUNK) as u64;
        assert_eq!(client.patch(&path, offset, &[b'x'; CHUNK]).status, 204);
    }
}

/// Checks that progress was reported, including the last offset before the end.
#[track_caller]
fn check(channel: &str, events: &[(String, u64)], progress: &str, end: &str) {
    let size = (CHUNK * CHUNKS) as u64;
    let end = events.iter().position(|(kind, _)| kind == end).unwrap();
    let offsets: Vec<u64> = events
        .iter()
        .filter(|(kind, _)| kind == progress)
        .map(|(_, offset)| *offset)
        .collect();
    assert!(offsets.len() >= 3, "{channel}: {events:?}");
    assert!(offsets.len() <= 12, "{channel}: {events:?}");
    assert!(offsets.is_sorted(), "{channel}: {events:?}");
    let last = (progress.to_owned(), size);
    assert_eq!(events[..end].last(), Some(&last), "{channel}: {events:?}");
}

#[test]
fn progress_of_chunked_uploads_reaches_every_channel() {
    let application = Endpoint::agreeing();
    let admin_key = "0123456789abcdef";
    let args = [
        "-require-grant",
        "-admin-key=0123456789abcdef",
        "-hooks-http",
        &application.url(),
        "-hooks-enabled-events=post-receive,post-finish,UploadProgress,UploadCompleted",
    ];
    let server = Landfall::start(&args);
    let key = add_key(server.dir(), &["app", "-subject=ann"]);
    let app = Caller::new(&server, &key);
    let jobs = EventStream::open(&server, "/uploadjobs/events", &key);
    let dashboard = EventStream::open(&server, "/admin/api/events", admin_key);
    send_in_chunks(&server, &app);
    application.waits_for("post-finish", 1);
    application.waits_for("UploadCompleted", 1);
    let has_ended = |stream: &EventStream| {
        let events = stream.events();
        events.iter().any(|(kind, _)| kind == "UploadCompleted")
    };
    eventually("a stream has no end", || {
        has_ended(&jobs) && has_ended(&dashboard)
    });

    let calls = |hooks: [&str; 2], offset: fn(&Value) -> &Value| -> Vec<(String, u64)> {
        let calls = application.calls().into_iter();
        calls
            .filter(|call| hooks.contains(&&*call.hook))
            .map(|call| (call.hook, offset(&call.body).as_u64().unwrap()))
            .collect()
    };
    let hooks = calls(["post-receive", "post-finish"], |body| {
        &body["Event"]["Upload"]["Offset"]
    });
    check("hooks", &hooks, "post-receive", "post-finish");
    let queue = calls(["UploadProgress", "UploadCompleted"], |body| {
        &body["Event"]["Job"]["Offset"]
    });
    let (progress, end) = ("UploadProgress", "UploadCompleted");
    check("queue", &queue, progress, end);
    check("jobs", &jobs.events(), progress, end);
    check("dashboard", &dashboard.events(), progress, end);
    server.stop();
}

#[test]
fn an_expired_grant_reaches_an_open_stream_at_once() {
    let server = Landfall::start(&["-require-grant", "-grants-valid-for=2s"]);
    let key = add_key(server.dir(), &["app", "-subject=ann"]);
    let app = Caller::new(&server, &key);
    let jobs = EventStream::open(&server, "/uploadjobs/events", &key);
    let started = Instant::now();
    app.grant(&json!({"id": "1", "filename": "a.bin", "filesize": 3}));
    eventually("the grant doesn't expire", || {
        let events = jobs.events();
        events.iter().any(|(kind, _)| kind == "UploadExpired")
    });
    let elapsed = started.elapsed();
    println!("expired after {elapsed:?}");
    // Not with the next maintenance, which is half a minute after the start.
    assert!(elapsed < Duration::from_secs(15), "{elapsed:?}");
    server.stop();
}

#[test]
fn the_dashboard_is_reset_by_an_event_id_that_does_not_exist() {
    let server = Landfall::start(&["-grants", "-admin-key=0123456789abcdef"]);
    let path = "/admin/api/events?last_event_id=7";
    let events = EventStream::open(&server, path, "0123456789abcdef");
    eventually("the stream has no reset", || {
        events.text().contains("event: reset")
    });
    assert!(events.text().contains("id: 0"), "{}", events.text());
    server.stop();
}

#[test]
fn a_stop_response_reaches_a_client_between_two_chunks() {
    let endpoint = Endpoint::answering(|call| match call.hook.as_str() {
        "post-receive" => (200, json!({"StopUpload": true}).to_string()),
        _ => (200, "{}".to_owned()),
    });
    let server = Landfall::start(&[
        "-hooks-http",
        &endpoint.url(),
        "-hooks-enabled-events=post-receive,post-terminate",
        "-progress-hooks-interval=100ms",
    ]);
    let mut client = server.client();
    let path = client.create(10);
    assert_eq!(client.patch(&path, 0, b"hello").status, 204);
    let told = endpoint.waits_for("post-terminate", 1);
    assert_eq!(told[0].body["Event"]["Upload"]["Offset"], 5);
    client
        .patch(&path, 5, b"world")
        .refuses(404, "ERR_UPLOAD_NOT_FOUND");
    assert!(!server.file(&path).exists());
    says_who_stopped(&server);
    server.stop();
}

/// One line, as of an upload that another hook denies.
fn says_who_stopped(server: &Landfall) {
    let line = server.says("event=UploadDenied");
    let parts = ["level=INFO", " size=10 ", " seconds=", " by=post-receive"];
    for part in parts {
        assert!(line.contains(part), "no {part}: {line}");
    }
    assert_eq!(server.log().matches("event=UploadDenied").count(), 1);
}

#[test]
fn a_stop_or_cancel_ends_a_silent_request_at_once() {
    let endpoint = Endpoint::answering(|call| match call.hook.as_str() {
        "post-receive" => (200, json!({"StopUpload": true}).to_string()),
        _ => (200, "{}".to_owned()),
    });
    let url = endpoint.url();
    let server = Landfall::start(&[
        "-hooks-http",
        &url,
        "-hooks-enabled-events=post-receive",
        "-progress-hooks-interval=100ms",
    ]);
    let mut client = server.client();
    let path = client.create(10);
    client.begin(Request::patch(&path, 0), 10);
    client.send(b"hello");
    endpoint.waits_for("post-receive", 1);
    let stopped = Instant::now();
    assert_eq!(client.answer().status, 400);
    println!("a stop took {:?}", stopped.elapsed());
    assert!(stopped.elapsed() < Duration::from_secs(3));
    says_who_stopped(&server);
    server.stop();

    let server = Landfall::start(&["-grants"]);
    let key = add_key(server.dir(), &["app", "-subject=ann"]);
    let app = Caller::new(&server, &key);
    let (_, granted) = app.grant(&json!({"id": "1", "filename": "a.bin", "filesize": 10}));
    let token = granted["upload_token"].as_str().unwrap();
    let create = Request::post()
        .with("Upload-Length", 10)
        .with("Upload-Token", token);
    let mut client = server.client();
    let path = client.ask(create).created();
    client.begin(Request::patch(&path, 0), 10);
    client.send(b"hello");
    server.client().reaches(&path, 5);
    let cancelled = Instant::now();
    assert_eq!(app.ask("DELETE", "/uploadjobs/1").status, 200);
    let answer = client.answer();
    println!("a cancel took {:?}", cancelled.elapsed());
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert!(cancelled.elapsed() < Duration::from_secs(3));
    server.stop();
}
