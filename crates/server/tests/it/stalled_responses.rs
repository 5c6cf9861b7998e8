//! Event streams, the dashboard's stream and downloads from a bucket whose clients stop reading: each holds little
//! memory, and is closed, at the latest by the minimum rate.

use std::{
    io::{self, Read as _},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use socket2::SockRef;

use crate::{
    grants_harness::{Caller, add_key},
    s3_harness::Bucket,
    serve_harness::{Client, Landfall, MIB, Request, TIMEOUT, content, eventually},
    serve_memory::{resident_kib, settles},
};

const CLIENTS: usize = 60;
/// Of a response, and of its connections in a debug build.
const STALLED_KIB: u64 = 64 + 48;
const ADMIN_KEY: &str = "0123456789abcdef";
const STUCK: &str = "landfall_timeouts_total{timer=\"write\"}";
const SLOW: &str = "landfall_timeouts_total{timer=\"rate\"}";

/// Clients may take nothing for two seconds, however much they take then.
const STUCK_LIMITS: [&str; 2] = ["-network-timeout=1s", "-min-rate=0"];
/// The rate that clients must reach on average.
const SLOW_LIMITS: [&str; 2] = ["-network-timeout=1s", "-min-rate=64MiB"];

/// Responses longer than what the kernel stores of them.
struct Subject<'a> {
    server: &'a Landfall,
    request: Request,
}

impl Subject<'_> {
    fn open(&self) -> Client {
        let mut client = self.server.client();
        client.send(self.request.bytes());
        client
    }

    /// Nothing more arrives, and the server writes to none of them.
    fn are_stalled(&self, clients: &[Client]) {
        let mut space = vec![0; usize::try_from(8 * MIB).unwrap()];
        let mut arrived = || -> Vec<usize> {
            let arrived = clients.iter().map(|client| client.stream.peek(&mut space));
            arrived.map(|count| count.unwrap_or(0)).collect()
        };
        let sent = || self.server.metric("landfall_network_bytes_out_total");
        let (mut before, mut sent_before) = (arrived(), sent());
        eventually("they never stall", || {
            thread::sleep(Duration::from_millis(500));
            let (now, sent_now) = (arrived(), sent());
            // The page of metrics itself was sent.
            let is_quiet = now == before && sent_now - sent_before < 100_000.0;
            (before, sent_before) = (now, sent_now);
            is_quiet && before.iter().all(|count| *count > 1000)
        });
    }

    fn hold_little_memory(&self) {
        let idle = resident_kib(self.server);
        let clients: Vec<_> = (0..CLIENTS).map(|_| self.open()).collect();
        self.are_stalled(&clients);
        let limit = CLIENTS as u64 * STALLED_KIB;
        settles(self.server, idle, limit, "stalled");
    }

    fn are_closed(&self) {
        let before = closed(self, STUCK);
        let clients: Vec<_> = (0..CLIENTS).map(|_| self.open()).collect();
        eventually("they stay open", || closed(self, STUCK) >= before + CLIENTS);
        for mut client in clients {
            // The kernel still has stored bytes.
            if let Err(error) = client.stream.read_to_end(&mut Vec::new()) {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            }
        }
    }

    /// It takes some all the time. Its kernel stores little: with a large buffer it would ask for more in steps of
    /// megabytes, and between two of them it looks as if it took nothing. It takes less than the busiest server
    /// sends, so that the response lasts.
    fn a_slow_one_is_closed(&self) {
        let before = closed(self, SLOW);
        let mut client = self.server.client();
        let socket = SockRef::from(&client.stream);
        socket.set_recv_buffer_size(64 << 10).unwrap();
        client.send(self.request.bytes());
        let mut space = vec![0; 16 << 10];
        let begun = Instant::now();
        while let Ok(1..) = client.stream.read(&mut space) {
            assert!(begun.elapsed() < TIMEOUT, "it is still open");
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(closed(self, SLOW), before + 1);
    }
}

/// Connections that a timer has closed.
fn closed(subject: &Subject<'_>, timer: &str) -> usize {
    subject.server.metric(timer) as usize
}

/// Each event has nearly as many bytes as one may have.
fn with_events(args: &[&str]) -> (Landfall, String) {
    let mut all = vec!["-grants", "-admin-key", ADMIN_KEY];
    all.extend_from_slice(args);
    let server = Landfall::start(&all);
    let key = add_key(server.dir(), &["app", "-subject=ann"]);
    let app = Caller::new(&server, &key);
    let note = "x".repeat(16_000);
    for id in 0..500 {
        let asked = json!({"id": id.to_string(), "filename": "a", "filesize": 3, "note": note});
        let (status, told) = app.grant(&asked);
        assert_eq!(status, 201, "{told}");
        assert_eq!(app.ask("DELETE", &format!("/uploadjobs/{id}")).status, 200);
    }
    (server, key)
}

fn stream(path: &str, key: &str) -> Request {
    let request = Request::get(path).with("Last-Event-ID", 0);
    request.with("Authorization", format!("Bearer {key}"))
}

fn both<'a>(server: &'a Landfall, key: &str) -> [Subject<'a>; 2] {
    let api = stream("/uploadjobs/events", key);
    let dashboard = stream("/admin/api/events", ADMIN_KEY);
    [api, dashboard].map(|request| Subject { server, request })
}

#[test]
fn event_streams_hold_little_memory() {
    let (server, key) = with_events(&[]);
    for subject in both(&server, &key) {
        subject.hold_little_memory();
    }
}

#[test]
fn event_streams_that_are_read_slowly_are_closed() {
    let (server, key) = with_events(&SLOW_LIMITS);
    for subject in both(&server, &key) {
        subject.a_slow_one_is_closed();
    }
}

#[test]
fn event_streams_that_are_not_read_are_closed() {
    let (server, key) = with_events(&STUCK_LIMITS);
    for subject in both(&server, &key) {
        subject.are_closed();
        // Their places are free.
        let again: Vec<_> = (0..CLIENTS).map(|_| subject.open()).collect();
        for mut client in again {
            let mut head = [0; 12];
            client.stream.read_exact(&mut head).unwrap();
            assert_eq!(&head, b"HTTP/1.1 200");
        }
    }
}

fn download<'a>(server: &'a Landfall) -> Subject<'a> {
    let path = server.client().upload(&content(1, 16 * MIB));
    let request = Request::get(&path);
    Subject { server, request }
}

#[test]
fn downloads_from_a_bucket_hold_little_memory() {
    let server = Bucket::on_garage().server(&[]);
    download(&server).hold_little_memory();
}

#[test]
fn downloads_from_a_bucket_that_are_read_slowly_are_closed() {
    let server = Bucket::on_garage().server(&SLOW_LIMITS);
    download(&server).a_slow_one_is_closed();
}

#[test]
fn downloads_from_a_bucket_that_are_not_read_are_closed() {
    let server = Bucket::on_garage().server(&STUCK_LIMITS);
    download(&server).are_closed();
}
