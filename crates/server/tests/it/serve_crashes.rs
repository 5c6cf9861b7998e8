//! SIGKILL in the middle: what was acknowledged is there after a restart, and going on from there
//! gives the original bytes.

use std::{thread, time::Duration};

use crate::serve_harness::{Client, Landfall, MIB, Request, content};

/// Sends uploads, and kills the server repeatedly until all are complete.
fn survives_kills(durability: &str) {
    const SIZE: u64 = 24 * MIB;
    const PIECE: u64 = 4 * MIB;
    let dir = tempfile::tempdir().unwrap();
    let args = ["-durability", durability];
    let mut server = Landfall::on(dir.path(), &args);
    let wholes: Vec<Vec<u8>> = (0..3).map(|seed| content(seed, SIZE)).collect();
    let mut client = server.client();
    let paths: Vec<String> = wholes.iter().map(|_| client.create(SIZE)).collect();
    let mut kills = 0;
    let mut acknowledged = vec![0; paths.len()];
    while acknowledged.iter().any(|offset| *offset < SIZE) {
        let address = server.address();
        let senders: Vec<_> = paths
            .iter()
            .zip(&wholes)
            .zip(&acknowledged)
            .map(|((path, whole), known)| {
                let (path, whole, known) = (path.clone(), whole.clone(), *known);
                thread::spawn(move || send_until_cut(address, &path, &whole, known))
            })
            .collect();
        // Kill when the slowest has received another chunk, unless that is the end.
        let mut looker = server.client();
        let goals: Vec<u64> = acknowledged.iter().map(|n| (n + PIECE).min(SIZE)).collect();
        let mut told = acknowledged.clone();
        while told.iter().zip(&goals).any(|(offset, goal)| offset < goal) {
            for (path, told) in paths.iter().zip(&mut told) {
                let offset = looker.offset(path);
                assert!(offset >= *told, "{path} went back from {told} to {offset}");
                *told = offset;
            }
        }
        server.kill();
        kills += 1;
        for (sender, told) in senders.into_iter().zip(&mut told) {
            *told = (*told).max(sender.join().unwrap());
        }

        server = Landfall::on(dir.path(), &args);
        let mut looker = server.client();
        for (path, (told, known)) in paths.iter().zip(told.iter().zip(&mut acknowledged)) {
            let offset = looker.offset(path);
            assert!(
                offset >= *told,
                "{path}: {told} acknowledged, {offset} kept"
            );
            *known = offset;
        }
    }
    assert!(kills >= 2, "it was too fast to be killed in the middle");
    let mut client = server.client();
    for (path, whole) in paths.iter().zip(&wholes) {
        client.holds(path, whole);
    }
    server.stop();
}

/// Sends the rest of an upload by one PATCH, or by many; returns the last offset acknowledged.
fn send_until_cut(address: std::net::SocketAddr, path: &str, whole: &[u8], known: u64) -> u64 {
    let mut client = Client::connect(address);
    let mut offset = known;
    // The last half in pieces, each acknowledged by an answer.
    let half = (whole.len() / 2) as u64;
    while offset < whole.len() as u64 {
        let end = if offset < half {
            half
        } else {
            (offset + MIB).min(whole.len() as u64)
        };
        let piece = &whole[offset as usize..end as usize];
        match client.try_ask(Request::patch(path, offset).body(piece)) {
            Ok(Some(answer)) => {
                assert_eq!(answer.status, 204, "{answer:?}");
                offset = answer.offset();
                // Time for the kill to come in the middle, also on a busy machine.
                thread::sleep(Duration::from_millis(40));
            }
            _ => break,
        }
    }
    offset
}

#[test]
fn nothing_acknowledged_is_lost_by_sigkill_with_durability_none() {
    survives_kills("none");
}

#[test]
fn nothing_acknowledged_is_lost_by_sigkill_with_durability_complete() {
    survives_kills("complete");
}

#[test]
fn nothing_acknowledged_is_lost_by_sigkill_with_durability_every() {
    survives_kills("every");
}

#[test]
fn unverified_bytes_are_dropped_after_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(7, 8 * MIB);
    let server = Landfall::on(dir.path(), &[]);
    let mut client = server.client();
    let path = client.create(8 * MIB);
    assert_eq!(client.patch(&path, 0, &bytes[..1000]).status, 204);
    let request = Request::patch(&path, 1000).with(
        "Upload-Checksum",
        "sha256 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    );
    client.begin(request, 8 * MIB - 1000);
    client.send(&bytes[1000..6_000_000]);
    // They are on the disk, and still don't count.
    crate::serve_harness::eventually("nothing is stored", || {
        std::fs::metadata(server.file(&path)).unwrap().len() > 2_000_000
    });
    assert_eq!(server.client().offset(&path), 1000);
    server.kill();

    let server = Landfall::on(dir.path(), &[]);
    let mut client = server.client();
    assert_eq!(client.offset(&path), 1000);
    client.resumes_to(&path, &bytes);
    server.stop();
}

#[test]
fn a_preallocated_upload_keeps_its_offset_through_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(8, 32 * MIB);
    let server = Landfall::on(dir.path(), &["-preallocate"]);
    let mut client = server.client();
    let path = client.create(32 * MIB);
    client.begin(Request::patch(&path, 0), 32 * MIB);
    client.send(&bytes[..5_000_001]);
    server.client().reaches(&path, 5_000_001);
    server.kill();

    let server = Landfall::on(dir.path(), &["-preallocate"]);
    let mut client = server.client();
    assert_eq!(client.offset(&path), 5_000_001);
    client.resumes_to(&path, &bytes);
    server.stop();
}
