//! Memory of the program while many fast clients stall, and afterwards.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use crate::serve_harness::{Landfall, MIB, Request, TIMEOUT};

const CLIENTS: u64 = 300;

/// What the process has allocated and touched. Pages of the program itself do not count: they enter memory as code
/// runs for the first time, and leave it when other processes need it.
pub(crate) fn resident_kib(server: &Landfall) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap()
}

/// Waits until resident memory is at most `limit` KiB over `idle`.
pub(crate) fn settles(server: &Landfall, idle: u64, limit: u64, what: &str) {
    let end = Instant::now() + TIMEOUT / 3;
    loop {
        let more = resident_kib(server).saturating_sub(idle);
        if more <= limit {
            return;
        }
        assert!(
            Instant::now() < end,
            "{what}: {more} KiB, at most {limit} expected"
        );
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn stalled_clients_release_memory() {
    let server = Landfall::start(&["-durability", "none"]);
    assert_eq!(server.client().ask(Request::get("/healthz")).status, 200);
    let idle = resident_kib(&server);
    let bytes = vec![7; 600_000];
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = server.client();
            client.begin(
                Request::post()
                    .with("Upload-Length", MIB)
                    .with("Content-Type", "application/offset+octet-stream"),
                MIB,
            );
            client.send(&bytes);
            client
        })
        .collect();
    // Debug builds have larger futures than what is released has; without the release of buffers
    // it would be 300 KiB and more.
    settles(&server, idle, CLIENTS * 120, "stalled");
    drop(clients);
    settles(&server, idle, 30 * 1024, "left");
}
