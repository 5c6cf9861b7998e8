//! Joining large files while others upload.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use crate::serve_harness::{KIB, Landfall, MIB, Over, Request, assert_same, content};

const PART: u64 = 24 * MIB;

#[test]
fn concatenating_large_parts_does_not_delay_other_uploads() {
    let server = Landfall::start(&["-durability", "none"]);
    let whole = content(1, 4 * PART);
    let parts: Vec<String> = whole
        .chunks(PART as usize)
        .map(|part| {
            let mut client = server.client();
            let request = Request::post()
                .with("Upload-Concat", "partial")
                .with("Upload-Length", PART);
            let path = client.ask(request).created();
            assert_eq!(client.patch(&path, 0, part).status, 204);
            path
        })
        .collect();
    let list = format!("final;{}", parts.join(" "));

    let joined = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = Over(&joined);
        // Measures the longest wait for an acknowledged chunk of another upload.
        let beside = scope.spawn(|| {
            let mut client = server.client();
            let piece = content(2, 256 * KIB);
            let path = client
                .ask(Request::post().with("Upload-Defer-Length", 1))
                .created();
            let (mut offset, mut longest) = (0, Duration::ZERO);
            while !joined.load(Relaxed) {
                let begun = Instant::now();
                assert_eq!(client.patch(&path, offset, &piece).status, 204);
                longest = longest.max(begun.elapsed());
                offset += piece.len() as u64;
            }
            let stored = std::fs::read(server.file(&path)).unwrap();
            for found in stored.chunks(piece.len()) {
                assert_same(found, &piece);
            }
            (offset, longest)
        });
        let begun = Instant::now();
        let mut client = server.client();
        let path = client
            .ask(Request::post().with("Upload-Concat", &list))
            .created();
        let took = begun.elapsed();
        assert_eq!(client.offset(&path), 4 * PART);
        drop(over);
        let (bytes, longest) = beside.join().unwrap();
        println!("joined in {took:?}; beside it {bytes} bytes, longest wait {longest:?}");
        assert!(bytes > 0);
        assert!(longest < Duration::from_secs(5), "{longest:?}");
        client.holds(&path, &whole);
        // The parts are unchanged, and terminating them does not affect the final upload.
        for (part, bytes) in parts.iter().zip(whole.chunks(PART as usize)) {
            client.holds(part, bytes);
            assert_eq!(client.ask(Request::new("DELETE", part)).status, 204);
        }
        client.holds(&path, &whole);
    });
}
