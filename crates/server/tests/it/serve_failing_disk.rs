//! A disk that fails: the client gets a 5xx, the log names the cause and the upload, and nothing that
//! was acknowledged is lost.

use std::{path::Path, process::Command, thread};

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use crate::serve_harness::{KIB, Landfall, Request, content, id_of, program};

/// System calls that fail with EIO, always or depending on an argument.
type FailingCalls = Vec<(libc::c_long, Vec<SeccompRule>)>;

/// Makes every write at or after an offset fail.
fn bad_sectors_from(offset: u64) -> FailingCalls {
    // The offset is the fourth argument of both.
    let beyond = || {
        let condition =
            SeccompCondition::new(3, SeccompCmpArgLen::Qword, SeccompCmpOp::Ge, offset).unwrap();
        vec![SeccompRule::new(vec![condition]).unwrap()]
    };
    vec![
        (libc::SYS_pwrite64, beyond()),
        (libc::SYS_pwritev, beyond()),
        (libc::SYS_pwritev2, beyond()),
    ]
}

/// Makes every sync fail.
fn failing_syncs() -> FailingCalls {
    vec![(libc::SYS_fdatasync, vec![]), (libc::SYS_fsync, vec![])]
}

/// A server for which these calls fail.
fn on_a_failing_disk(dir: &Path, calls: FailingCalls, args: &[&str]) -> Landfall {
    let mut command: Command = program();
    command
        .args(["-host", "127.0.0.1", "-port", "0", "-upload-dir"])
        .arg(dir)
        .args(args);
    let filter: BpfProgram = SeccompFilter::new(
        calls.into_iter().collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EIO.cast_unsigned()),
        std::env::consts::ARCH.try_into().unwrap(),
    )
    .unwrap()
    .try_into()
    .unwrap();
    // A filter applies to the thread that sets it and its child processes.
    thread::scope(|scope| {
        let start = || {
            apply_filter(&filter).unwrap();
            Landfall::spawn(command, dir)
        };
        scope.spawn(start).join().unwrap()
    })
}

/// Waits for the log line about a failed request, which names the upload and the cause.
fn logs_the_failure_of(server: &Landfall, path: &str) {
    let line = server.says(&format!(" requestId=\"\" id={} error=", id_of(path)));
    for part in ["level=ERROR event=InternalServerError", "os error 5"] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn a_failed_write_returns_5xx_and_keeps_acknowledged_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(1, 256 * KIB);
    let good = 64 * KIB;
    let server = on_a_failing_disk(dir.path(), bad_sectors_from(good), &[]);
    let mut client = server.client();
    let path = client.create(256 * KIB);
    let sound = client.upload(&bytes[..1000]);
    let answer = client.patch(&path, 0, &bytes[..good as usize]);
    assert_eq!(answer.status, 204, "{answer:?}");

    for _ in 0..2 {
        let answer = server.client().patch(&path, good, &bytes[good as usize..]);
        assert_eq!(answer.status, 500, "{answer:?}");
        assert_eq!(client.offset(&path), good);
    }
    logs_the_failure_of(&server, &path);
    client.holds(&path, &bytes[..good as usize]);
    // Uploads without bad sectors are unaffected.
    client.holds(&sound, &bytes[..1000]);
    client.upload(&bytes[..good as usize]);
    server.stop();

    let server = Landfall::on(dir.path(), &[]);
    let mut client = server.client();
    assert_eq!(client.offset(&path), good);
    client.resumes_to(&path, &bytes);
    client.holds(&sound, &bytes[..1000]);
}

#[test]
fn a_failed_sync_acknowledges_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(2, 64 * KIB);
    let server = Landfall::on(dir.path(), &["-durability", "every"]);
    let mut client = server.client();
    let path = client.create(64 * KIB);
    assert_eq!(client.patch(&path, 0, &bytes[..1000]).status, 204);
    server.stop();

    let server = on_a_failing_disk(dir.path(), failing_syncs(), &["-durability", "every"]);
    let answer = server.client().patch(&path, 1000, &bytes[1000..]);
    assert_eq!(answer.status, 500, "{answer:?}");
    logs_the_failure_of(&server, &path);
    let before = files(dir.path());
    let answer = server
        .client()
        .ask(Request::post().with("Upload-Length", 10));
    assert_eq!(answer.status, 500, "{answer:?}");
    assert_eq!(
        files(dir.path()),
        before,
        "a failed creation left something"
    );
    server.kill();

    let server = Landfall::on(dir.path(), &["-durability", "every"]);
    let mut client = server.client();
    let kept = client.offset(&path);
    assert!(kept >= 1000, "{kept} is less than what was acknowledged");
    client.holds(&path, &bytes[..kept as usize]);
    client.resumes_to(&path, &bytes);
}

/// The names in an upload directory.
fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
